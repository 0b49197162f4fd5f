"""Train, dev and test: who may see which rows.

Trials learn from `train` and are ranked on `dev`. `test` is opened once, by the final trial (law 5), and so
travels apart: workers are given a `Dataset` without it.

Shape legend: N rows, D features.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from caviar.data.features import Columns, finite, listed, row_place
from caviar.errors import DataError

Preprocess = Literal["standardize", "scale", "none"]
_MANY = 10
"""More numbers than so, most of them rare, are hardly names of classes."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Rows and their classes."""

    x: npt.NDArray[np.float32]
    """(N, D), C-contiguous."""
    y: npt.NDArray[np.int64]
    """(N,), class numbers from 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Preprocessing:
    """x -> (x - shift) / scale for each feature, with numbers taken from the train split alone."""

    shift: npt.NDArray[np.float32]
    """(D,)"""
    scale: npt.NDArray[np.float32]
    """(D,), never 0."""

    def apply(self, x: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """The features as the network sees them: float32 (N, D)."""
        return np.ascontiguousarray((np.asarray(x, dtype=np.float32) - self.shift) / self.scale)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Dataset:
    """Split and preprocessed rows of a classification problem."""

    name: str
    train: Split
    dev: Split
    test: Split | None
    """None where it is not this reader's to see."""
    classes: tuple[str, ...]
    """The name of each class number."""
    labels: npt.NDArray[Any]
    """The same as they stood in the data: numbers, booleans or strings."""
    preprocessing: Preprocessing
    feature_names: tuple[str, ...] | None = None
    """What the columns of a table are called; None where the data were arrays."""
    fingerprint: str
    """SHA-256 over all rows, classes and splits: two data sets with the same one are the same."""

    @property
    def features(self) -> int:
        """D."""
        return int(self.train.x.shape[1])

    def without_test(self) -> "Dataset":
        """What workers get."""
        return replace(self, test=None)


def split(
    name: str,
    x: npt.NDArray[np.generic],
    y: npt.NDArray[np.generic],
    columns: Columns | None = None,
    *,
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    seed: int = 0,
    preprocess: Preprocess = "standardize",
) -> Dataset:
    """Split rows at random, each class in proportion, and preprocess them.

    Args:
        name: for messages and `study.json`.
        x: features (N, D), finite numbers; images of any shape (N, ...) are flattened.
        y: classes (N,), of any type that sorts.
        columns: of the table that both are from.
        shares: of train, dev and test; they sum to one.
        seed: of the split alone, so that studies with other seeds see the same splits.
        preprocess: "standardize" (mean 0, deviation 1), "scale" (into -1..1 or 0..1 by the largest
            magnitude of all features, which suits images), "none".

    Raises:
        DataError: shapes that do not fit, values that are not finite, classes that are missing or of
            several kinds, one class only, a class too rare.
    """
    x_ND, y_N, labels = _checked(name, x, y, columns)
    if len(shares) != 3 or not (min(shares) > 0 and abs(sum(shares) - 1) <= 1e-9):  # NaN is neither
        raise DataError(f"{name}: split={tuple(shares)} must be three shares above 0 that sum to 1")
    try:
        train, dev, test = _stratified(y_N, shares, seed)
    except ValueError as error:
        subject = (columns and columns.target) or "y"
        raise DataError(f"{name}: {_why_too_few(subject, labels, y_N, shares)}") from error
    preprocessing = _preprocessing(name, x_ND[train], preprocess)
    parts = {
        part: Split(preprocessing.apply(x_ND[rows]), np.ascontiguousarray(y_N[rows]))
        for part, rows in (("train", train), ("dev", dev), ("test", test))
    }
    classes = tuple(str(label) for label in labels)
    digest = hashlib.sha256(repr((x_ND.shape, classes, preprocess)).encode())
    for array in (np.ascontiguousarray(x_ND), y_N, train, dev, test):
        digest.update(array.tobytes())
    return Dataset(
        name=name,
        classes=classes,
        labels=labels,
        preprocessing=preprocessing,
        feature_names=columns.features if columns else None,
        fingerprint=digest.hexdigest(),
        **parts,
    )


def _checked(
    name: str, x: npt.NDArray[np.generic], y: npt.NDArray[np.generic], columns: Columns | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[Any]]:
    import pandas as pd

    x, y = np.asarray(x), np.asarray(y)
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y):
        raise DataError(
            f"{name}: features must be (rows, columns) and classes (rows,), not {x.shape} and {y.shape}"
        )
    if x[:1].size == 0:
        raise DataError(f"{name}: there are no rows or no features: {x.shape}")
    x_ND = finite(name, x, columns)
    missing = np.flatnonzero(pd.isna(y))
    if len(missing):
        place = row_place(missing[0], columns)
        raise DataError(
            f"{name}: 1 class is missing, in {place}; drop the row"
            if len(missing) == 1
            else f"{name}: {len(missing)} classes are missing, the first in {place}; drop the rows"
        )
    try:
        names, y_N = np.unique(y, return_inverse=True)
    except TypeError as error:
        raise DataError(f"{name}: the classes must be of one kind ({error})") from error
    if len(names) < 2:
        raise DataError(f"{name}: there is only one class ({names[0]}); a classifier needs two")
    labels = names if names.dtype.kind in "biufU" else names.astype(str)
    return x_ND, y_N.astype(np.int64), labels


def _stratified(
    y_N: npt.NDArray[np.int64], shares: Sequence[float], seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Train, dev and test rows; a ValueError where there are too few."""
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(y_N))
    train, rest = train_test_split(rows, train_size=shares[0], stratify=y_N, random_state=seed)
    dev, test = train_test_split(
        rest, train_size=shares[1] / (shares[1] + shares[2]), stratify=y_N[rest], random_state=seed
    )
    return np.sort(train), np.sort(dev), np.sort(test)


def _why_too_few(
    subject: str, labels: npt.NDArray[Any], y_N: npt.NDArray[np.int64], shares: Sequence[float]
) -> str:
    """What keeps rows from being split, in words."""
    needed = [1 / share for share in shares] + [2 / (shares[1] + shares[2])]
    least = math.ceil(max(needed) - 1e-9)  # each part gets a row of a class, and dev and test together two
    counts = np.bincount(y_N)
    rare = np.flatnonzero(counts < least)
    if labels.dtype.kind in "iuf" and len(labels) > _MANY and len(rare) > len(labels) / 2:
        return (
            f"{subject} looks like a number to predict, not a class: "
            f"it has {len(labels)} different values in {len(y_N)} rows"
        )
    split = f"each class needs at least {least} to be split by split={tuple(shares)}"
    if len(rare) == 1:
        (count,) = counts[rare]
        return f"class {listed(labels[rare])} has only {count} row{'s' if count > 1 else ''}; {split}"
    if len(rare):
        return f"{len(rare)} classes have too few rows: {listed(labels[rare], most=3)}; {split}"
    return f"{len(y_N)} rows of {len(labels)} classes are too few to be split by split={tuple(shares)}"


def _preprocessing(name: str, x_ND: npt.NDArray[np.float32], kind: Preprocess) -> Preprocessing:
    n_features = x_ND.shape[1]
    shift, scale = np.zeros(n_features, np.float32), np.ones(n_features, np.float32)
    if kind == "standardize":
        shift = x_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
        deviation = x_ND.std(axis=0, dtype=np.float64).astype(np.float32)  # as it is divided by
        scale = np.where(deviation > 0, deviation, np.float32(1.0))
    elif kind == "scale":
        largest = float(np.abs(x_ND).max())
        scale = np.full(n_features, largest if largest > 0 else 1.0, np.float32)
    elif kind != "none":
        raise DataError(f'{name}: preprocess={kind!r} is unknown; use "standardize", "scale" or "none"')
    return Preprocessing(shift, scale)
