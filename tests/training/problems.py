"""A small problem and the jobs on it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from caviar.data.splits import Dataset, split
from caviar.engine import Checkpoint, Engine, Part, PartDone, Progress
from caviar.trial import Measurement, Trial


def blobs(rows: int = 100, features: int = 5, classes: int = 3, seed: int = 0) -> Dataset:
    """Overlapping clouds, one a class: 60, 20 and 20 % of the rows."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    x = rng.normal(size=(rows, features)) + 1.5 * rng.normal(size=(classes, features))[y]
    return split("blobs", x, y)


def trial(number: int = 0, *, epochs: int = 4, seed: int = 11, **params: Any) -> Trial:
    """A trial with these params."""
    return Trial(number=number, round=1, params=params, epochs=epochs, seed=seed)


def run(engine: Engine, *parts: Part) -> dict[int, tuple[list[Measurement], PartDone]]:
    """For each trial its measurements and its end."""
    curves: dict[int, list[Measurement]] = {part.trial.number: [] for part in parts}
    ends: dict[int, PartDone] = {}
    for event in engine.train(parts):
        assert event.trial not in ends, "nothing follows a trial's end"
        if isinstance(event, Progress):
            curves[event.trial].append(event.measurement)
        else:
            ends[event.trial] = event
    return {number: (curve, ends[number]) for number, curve in curves.items()}


def run_one(engine: Engine, part: Part) -> tuple[list[Measurement], PartDone]:
    """The measurements and the end of one trial."""
    return run(engine, part)[part.trial.number]


def checkpoint_of(engine: Engine, part: Part) -> dict[str, npt.NDArray[Any]]:
    """The network that a job leaves."""
    _, end = run_one(engine, part)
    assert end.checkpoint is not None, end
    return dict(end.checkpoint)


def equal_checkpoints(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two states are the same bit for bit."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )


def metric(curve: Sequence[Measurement], name: str) -> list[float]:
    """One metric, epoch by epoch."""
    return [measurement.metrics[name] for measurement in curve]
