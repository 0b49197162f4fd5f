"""Sessions for tests: in memory, and in run directories."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import caviar as cv
from caviar.panda import events
from caviar.panda.commands import say
from caviar.panda.driver import Driver
from caviar.panda.opening import Options, begun, resumed
from caviar.panda.rules import start_values
from caviar.panda.script import Script
from caviar.panda.session import Session, Trained
from caviar.records.frames import Run
from caviar.trial import Measurement, Outcome

STUDY = cv.Study(
    name="iris",
    objective=cv.Classifier(data="sklearn:iris", fixed={"layers": 1, "units": 8}),
    space=cv.Space(learning_rate=cv.log(1e-3, 1.0), momentum=cv.reverse_log(0.5, 0.99)),
    rounds=[cv.Round(4, epochs=12)],
)


def descend(params: dict[str, Any], trial: cv.TrialContext) -> None:
    """Minimise (x - 3)^2 by gradient descent with momentum."""
    x, velocity = trial.restore() or (0.0, 0.0)
    for epoch in trial.remaining():
        velocity = 0.5 * velocity - params["learning_rate"] * 2 * (x - 3)
        x += velocity
        if params.get("harm") == epoch:
            raise ArithmeticError("two and two are five")
        trial.report(epoch, loss=(x - 3) ** 2)
        trial.save((x, velocity))


def function_study(fn: Callable[..., Any] = descend, **more: Any) -> cv.Study:
    """Return a study of a function that minimises a loss."""
    return cv.Study(
        name="descent",
        objective=cv.Function(fn, metric="loss"),
        space=cv.Space(learning_rate=cv.log(1e-3, 1.0), **more),
        rounds=[cv.Round(4, epochs=8)],
    )


def new_session(study: cv.Study = STUDY, epochs: int = 12) -> Session:
    """Return a session before its first epoch."""
    return events.first_session(study, start_values(study, {}), epochs, 0.0)


def train(session: Session, *losses: float, outcome: Outcome = Outcome.COMPLETED) -> Session:
    """Return the session after epochs with these losses; the last one ends with an outcome."""
    for place, loss in enumerate(losses):
        is_last = place == len(losses) - 1
        metrics = dict.fromkeys(session.metrics, loss) | {"dev_accuracy": 1 - loss}
        measurement = Measurement(session.at.epoch + 1, {m: metrics[m] for m in session.metrics})
        session = session.after(Trained(measurement, outcome if is_last else Outcome.COMPLETED))
    return session


def say_all(session: Session, *lines: str) -> Session:
    """Return the session after commands."""
    for line in lines:
        session = say(session, line)
    return session


def run_script(
    text: str, runs: Path | str, study: cv.Study = STUDY, resume: Path | str | None = None, **options: Any
) -> Run:
    """Run a session by a script in this process, and return its run."""
    with open_session(runs, study, resume, script=Script.parse(text), **options) as driver:
        driver.run()
        location = driver.location
    return Run(location)


@contextmanager
def open_session(
    runs: Path | str, study: cv.Study = STUDY, resume: Path | str | None = None, **options: Any
) -> Iterator[Driver]:
    """Open a session that trains in this process."""
    chosen = Options(runs=runs, **{"is_local": True, "pace_s": 0.0, **options})
    with begun(study, chosen) if resume is None else resumed(study, resume, chosen) as driver:
        yield driver
