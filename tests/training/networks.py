"""Small data sets and trials for tests of engines, and comparisons of trainings."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from caviar.data.splits import Dataset, split
from caviar.engine import Checkpoint, Engine, Part, PartDone, Progress
from caviar.trial import Measurement, Trial, Value


def blobs(rows: int = 100, features: int = 7, classes: int = 3) -> Dataset:
    """Return overlapping clouds of points, one a class; 60 % are the train split."""
    rng = np.random.default_rng(0)
    y_N = np.arange(rows) % classes
    centres = rng.standard_normal((classes, features))
    x_ND = centres[y_N] + rng.standard_normal((rows, features))
    return split("blobs", x_ND, y_N)


def with_train(dataset: Dataset, x: Any, y: Any) -> Dataset:
    """Return the data set with another train split."""
    return dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, x=x, y=y))


def trial(number: int = 0, *, epochs: int = 4, seed: int = 11, **params: Value) -> Trial:
    """Return a trial of these hyperparameters."""
    return Trial(number=number, round=1, params=params, epochs=epochs, seed=seed)


def products(**options: tuple[Value, ...]) -> Iterator[dict[str, Any]]:
    """Yield every combination of options."""
    for values in itertools.product(*options.values()):
        yield dict(zip(options, values, strict=True))


# Training


def run(engine: Engine, what: Trial, **part: Any) -> tuple[list[dict[str, float]], PartDone]:
    """Train a trial or a part of it; return the metrics of each epoch, and the end with a checkpoint."""
    curve, end = run_part(engine, Part(trial=what, keep_checkpoint=True, **part))
    return [dict(measurement.metrics) for measurement in curve], end


def run_part(engine: Engine, part: Part) -> tuple[list[Measurement], PartDone]:
    """Train a part; return its measurements and its end."""
    return run_parts(engine, part)[part.trial.number]


def run_parts(engine: Engine, *parts: Part) -> dict[int, tuple[list[Measurement], PartDone]]:
    """Train parts; return the measurements and the end of each by the number of its trial."""
    curves: dict[int, list[Measurement]] = {part.trial.number: [] for part in parts}
    ends: dict[int, PartDone] = {}
    for event in engine.train(parts):
        assert event.trial not in ends, "nothing follows a trial's end"
        if isinstance(event, Progress):
            curves[event.trial].append(event.measurement)
        else:
            ends[event.trial] = event
    return {number: (curve, ends[number]) for number, curve in curves.items()}


def checkpoint_of(end: PartDone) -> dict[str, Any]:
    """Return the checkpoint at the end of a part, which must have one."""
    assert end.checkpoint is not None, end
    return dict(end.checkpoint)


def metric(curve: Sequence[Measurement], name: str) -> list[float]:
    """Return one metric of each epoch."""
    return [measurement.metrics[name] for measurement in curve]


# Comparisons


def curve_difference(a: list[dict[str, float]], b: list[dict[str, float]]) -> float:
    """Return the largest relative difference of two curves."""
    assert len(a) == len(b)
    return max(
        abs(x[name] - y[name]) / max(abs(y[name]), 1e-12) for x, y in zip(a, b, strict=True) for name in y
    )


def checkpoint_difference(a: Checkpoint | None, b: Checkpoint | None) -> float:
    """Return the largest difference of two checkpoints, relative to the largest number of each array (or 1e-6)."""
    assert a is not None
    assert b is not None
    assert set(a) == set(b)
    return max(_relative(a[name], b[name]) for name in b)


def same_checkpoint(a: Checkpoint | None, b: Checkpoint | None) -> bool:
    """Return whether two checkpoints are equal bit for bit."""
    assert a is not None
    assert b is not None
    return set(a) == set(b) and all(
        a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]) for name in b
    )


def with_arrays(checkpoint: Checkpoint, **arrays: Any) -> Mapping[str, Any]:
    """Return the checkpoint with some arrays replaced; `hidden_0_weight` stands for `hidden.0.weight`."""
    return {**checkpoint, **{name.replace("_", "."): value for name, value in arrays.items()}}


def _relative(a: Any, b: Any) -> float:
    assert a.shape == b.shape
    if a.size == 0:
        return 0.0
    return float(np.abs(a - b).max()) / max(float(np.abs(b).max()), 1e-6)
