"""A run that has what exports must not stumble over."""

from typing import Any

import pytest

import caviar as cv
from caviar.records.frames import Run
from caviar.space import Domain, Parameter
from caviar.training.function.trial_context import TrialContext
from tests.runs import run_inline

HOSTILE = "<b onmouseover=alert(1)>a</b> \"'`,;=/\\%s{x}"
"""Text that a page, a shell, a format string or a path would misread."""
COMMAND = '=HYPERLINK("http://evil.example","click")'
"""Text that a spreadsheet would run."""
OPTIONS = (None, True, 2, 0.5, "2", HOSTILE, "line\nbreak \x1b[31m")


def learn(params: dict[str, Any], trial: TrialContext) -> None:
    velocity = params.get("momentum", 0.5)
    for epoch in trial.remaining():
        if params[HOSTILE] > 9:
            raise ValueError(f"{HOSTILE}\n\x1b[2J")
        if params["rate"] > 0.7:
            trial.report(epoch, **{"score": float("nan") if epoch == 2 else 0.5, "%loss </script>": 1.0})
        else:
            score = params["rate"] * epoch - (velocity - 0.95) ** 2
            trial.report(epoch, **{"score": score, "%loss </script>": 1 / epoch})
        trial.save(epoch)


PARAMETERS: dict[str, Domain | Parameter] = {
    "rate": cv.log(1e-3, 1.0),
    "kind": cv.choice("plain", "moving"),
    "momentum": cv.when(cv.reverse_log(0.5, 0.9999), kind="moving"),
    "mixed": cv.choice(*OPTIONS),
    "flag": cv.choice(False, True),
    "width": cv.integer(1, 64, scale="log"),
    "formula": cv.choice(COMMAND, "+1"),
    HOSTILE: cv.linear(-10, 10),
}
STUDY = cv.Study(
    name="exported",
    objective=cv.Function(learn, metric="score", metrics=("score", "%loss </script>"), maximize=True),
    space=cv.Space(**PARAMETERS),
    rounds=[cv.Round(40, 4, halving=cv.Halving()), cv.Round(20, 4), cv.Confirmation(3, 2)],
)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run with every outcome, kind of parameter and stage, and with hostile names and texts."""
    run = run_inline(STUDY, tmp_path_factory.mktemp("runs"))
    assert set(run.trials["outcome"]) == set(cv.Outcome)
    return run
