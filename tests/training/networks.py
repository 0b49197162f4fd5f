"""Small data sets and trials for tests of engines, and how far two trainings are apart."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from caviar.data.splits import Dataset, split
from caviar.engine import Checkpoint, Engine, Part, PartDone, Progress
from caviar.trial import Trial, Value


def blobs(rows: int = 100, features: int = 7, classes: int = 3) -> Dataset:
    """Overlapping clouds of points, one a class; 60 % are the train split."""
    rng = np.random.default_rng(0)
    y_N = np.arange(rows) % classes
    centres = rng.standard_normal((classes, features))
    x_ND = centres[y_N] + rng.standard_normal((rows, features))
    return split("blobs", x_ND, y_N)


def trial(epochs: int = 5, seed: int = 0, number: int = 0, **params: Value) -> Trial:
    """A trial of these hyperparameters."""
    return Trial(number=number, round=1, params=params, epochs=epochs, seed=seed)


def run(engine: Engine, what: Trial, **part: Any) -> tuple[list[dict[str, float]], PartDone]:
    """The metrics of each epoch, and how it ended, with its state."""
    *progress, trained = engine.train([Part(trial=what, keep_checkpoint=True, **part)])
    assert isinstance(trained, PartDone)
    metrics = [dict(p.measurement.metrics) for p in progress if isinstance(p, Progress)]
    return metrics, trained


def checkpoint_of(trained: PartDone) -> dict[str, Any]:
    """Its state."""
    assert trained.checkpoint is not None
    return dict(trained.checkpoint)


def curve_difference(a: list[dict[str, float]], b: list[dict[str, float]]) -> float:
    """The largest relative difference of two curves."""
    assert len(a) == len(b)
    return max(
        abs(x[name] - y[name]) / max(abs(y[name]), 1e-12) for x, y in zip(a, b, strict=True) for name in y
    )


def checkpoint_difference(a: Checkpoint | None, b: Checkpoint | None) -> float:
    """The largest difference of two states, relative to the largest number of each array (or 1e-6)."""
    assert a is not None
    assert b is not None
    assert set(a) == set(b)
    return max(_relative(a[name], b[name]) for name in b)


def same_checkpoint(a: Checkpoint | None, b: Checkpoint | None) -> bool:
    """Whether two states are equal bit for bit."""
    assert a is not None
    assert b is not None
    return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in b)


def with_arrays(checkpoint: Checkpoint, **arrays: Any) -> Mapping[str, Any]:
    """The state with some arrays in the place of others; `hidden_0_weight` stands for `hidden.0.weight`."""
    return {**checkpoint, **{name.replace("_", "."): value for name, value in arrays.items()}}


def with_train(dataset: Dataset, x: Any, y: Any) -> Dataset:
    """The data set with another train split."""
    return dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, x=x, y=y))


def products(**options: tuple[Value, ...]) -> Iterator[dict[str, Any]]:
    """Every combination of options."""
    for values in itertools.product(*options.values()):
        yield dict(zip(options, values, strict=True))


def _relative(a: Any, b: Any) -> float:
    assert a.shape == b.shape
    if a.size == 0:
        return 0.0
    return float(np.abs(a - b).max()) / max(float(np.abs(b).max()), 1e-6)
