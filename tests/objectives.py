"""Objectives that cost next to nothing, so that whole studies can be tested, and harmful ones."""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caviar.data.splits import Dataset, Split
from caviar.engine import Checkpoint, Engine, Part, PartDone, Progress
from caviar.objective import Objective
from caviar.rounds import Confirmation, Halving, Round, Search
from caviar.space import Space, choice, linear, log, when
from caviar.study import Study
from caviar.trial import Measurement, Outcome, Trial, Value, derive_seed

METRICS = ("loss", "speed")


class BowlEngine(Engine):
    """An engine that measures a bowl with its minimum at rate = 0.01; noise comes from the trial's seed alone."""

    def __init__(self, harm: str | None, harmed: frozenset[int]) -> None:
        self._harm, self._harmed = harm, harmed

    @property
    def name(self) -> str:
        return "bowl"

    def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        for part in parts:
            started = time.perf_counter()
            try:
                if part.trial.number in self._harmed:
                    self._do_harm()
                begun = int(part.checkpoint["epoch"]) if part.checkpoint else 0
                for epoch in range(begun, part.trial.epochs if part.until is None else part.until):
                    yield Progress(part.trial.number, self._measure(part.trial, epoch))
            except ArithmeticError as error:
                yield PartDone(
                    trial=part.trial.number, outcome=Outcome.FAILED, failure=f"ArithmeticError: {error}"
                )
            else:
                checkpoint = None
                if part.keep_checkpoint:
                    rate = np.array(part.trial.params["rate"])
                    checkpoint = {"rate": rate, "epoch": np.array(epoch + 1)}
                train_s = time.perf_counter() - started
                yield PartDone(
                    trial=part.trial.number, outcome=Outcome.COMPLETED, checkpoint=checkpoint, train_s=train_s
                )

    def evaluate(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> Mapping[str, float]:
        del checkpoint, split
        return {"accuracy": float(trial.params["rate"]), "loss": 0.0}  # type: ignore[arg-type]

    def _measure(self, trial: Trial, epoch: int) -> Measurement:
        rate = float(trial.params["rate"])  # type: ignore[arg-type]
        noise = derive_seed(trial.seed, epoch) / 2**63
        loss = (np.log10(rate) + 2) ** 2 + 0.1 * noise + 1 / (epoch + 1)
        return Measurement(epoch + 1, {"loss": float(loss), "speed": float(trial.params.get("beta") or 0.0)})

    def _do_harm(self) -> None:
        if self._harm == "raise":
            raise ArithmeticError("two and two are five")
        if self._harm == "exit":
            os._exit(3)
        if self._harm == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)


@dataclass(frozen=True)
class Bowl(Objective):
    """The bowl; trials with the numbers in `harmed` raise, exit or segfault instead."""

    harm: str | None = None
    harmed: frozenset[int] = frozenset()
    metric: str = "loss"

    @property
    def maximize(self) -> bool:
        return False

    @property
    def metric_names(self) -> tuple[str, ...]:
        return METRICS

    @property
    def has_checkpoints(self) -> bool:
        return True

    def adapt(self, space: Space) -> Space:
        return space

    def load(self) -> Dataset | None:
        return None

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        del dataset, device
        return BowlEngine(self.harm, self.harmed)

    def costs(self, params: Mapping[str, Value], epochs: int, dataset: Dataset | None) -> Mapping[str, float]:
        del params, dataset
        return {"cpu": 1e-4 * epochs, "cuda": 1e-4 * epochs}

    def describe(self) -> dict[str, Any]:
        return {"kind": "bowl", "metric": self.metric}


def bowl_study(
    *,
    rounds: Sequence[int | Round | Search] = (30, 20),
    epochs: int = 3,
    seed: int = 0,
    objective: Objective | None = None,
    halving: Halving | None = None,
    confirmation: Confirmation | None = None,
) -> Study:
    """Return a study that trains in milliseconds, with every kind of parameter.

    Args:
        rounds: whole rounds, or their numbers of trials.
        epochs: epochs of a round that is given by its number of trials.
        seed: the study's seed.
        objective: an objective with the bowl's parameters; the bowl by default.
        halving: halving of a round that is given by its number of trials.
        confirmation: the study's confirmation; of the best 3 with 2 seeds by default.
    """
    return Study(
        name="bowl",
        objective=objective or Bowl(),
        space=Space(
            rate=log(1e-4, 1.0),
            method=choice("plain", "heavy", None),
            beta=when(linear(0.0, 1.0), method="heavy"),
        ),
        rounds=[
            *(Round(r, epochs, halving) if isinstance(r, int) else r for r in rounds),
            confirmation or Confirmation(top=3, seeds=2),
        ],
        seed=seed,
    )


class SlowEngine(BowlEngine):
    """A bowl that pauses before each trial, until the file `hurry` exists."""

    def __init__(self, harm: str | None, harmed: frozenset[int], pause_s: float, hurry: str | None) -> None:
        super().__init__(harm, harmed)
        self._pause_s, self._hurry = pause_s, hurry

    def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        for part in parts:
            if self._hurry is None or not os.path.exists(self._hurry):
                time.sleep(self._pause_s)
            yield from super().train([part])


@dataclass(frozen=True)
class Slow(Bowl):
    """The bowl with pauses, so that something can happen while a study runs."""

    pause_s: float = 0.03
    """Seconds before each trial."""
    hurry: str | None = None
    """Path of a file: once it exists, there are no more pauses."""
    crew: str | None = None
    """Folder that the workers share: none is ready before two of them are there. One alone could train all trials."""

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        del dataset, device
        if self.crew is not None:
            _wait_for_another(Path(self.crew))
        return SlowEngine(self.harm, self.harmed, self.pause_s, self.hurry)


def _wait_for_another(crew: Path) -> None:
    """Wait until another process has left its mark in the folder, too."""
    crew.mkdir(exist_ok=True)
    (crew / str(os.getpid())).touch()
    deadline = time.monotonic() + 120
    while len(list(crew.iterdir())) < 2:
        assert time.monotonic() < deadline, "no other worker has started"
        time.sleep(0.02)
