"""Train, dev and test splits of a data set, and their preprocessing.

Trials learn from `train` and are ranked on `dev`. Only the final trial is scored on `test` (law 5), so workers get a
`Dataset` without it.

Shape legend: N rows, D features.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from caviar.data.features import Columns, join_names, require_finite, row_text
from caviar.data.stratification import split_in_two
from caviar.errors import DataError

Preprocess = Literal["standardize", "scale", "none"]
_MANY_CLASSES = 10
"""Number of different numeric classes above which, if most of them are rare, y looks like a regression target."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Rows of one split and their classes."""

    x: npt.NDArray[Any]
    """(N, D), float32, C-contiguous. For a network of the user's (N, ...), float32 or int64."""
    y: npt.NDArray[Any]
    """(N,), int64: class numbers from 0. For a network of the user's also (N, ...) numbers, float32 or int64."""


@dataclass(frozen=True, slots=True, eq=False)
class Preprocessing:
    """The map x -> (x - shift) / scale of each feature, fitted on the train split alone."""

    shift: npt.NDArray[np.float64]
    """(D,), or the shape of a row."""
    scale: npt.NDArray[np.float64]
    """The same shape, never 0."""
    is_whole: bool = False
    """True if x holds whole numbers, such as token ids, which stay as they are."""

    def apply(self, x: npt.NDArray[np.generic]) -> npt.NDArray[Any]:
        """Return features as a network takes them.

        Args:
            x: (N, D), or rows of another shape; any numbers.

        Returns:
            Array of the same shape, float32, or int64 if they are whole; C-contiguous.
        """
        if self.is_whole:
            return np.ascontiguousarray(x, dtype=np.int64)
        scaled = (np.asarray(x, dtype=np.float64) - self.shift) / self.scale
        return np.ascontiguousarray(scaled, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Dataset:
    """A problem of classification, or of numbers to predict: its rows, split and preprocessed."""

    name: str
    train: Split
    dev: Split
    test: Split | None
    """None in the copy that workers get."""
    classes: tuple[str, ...]
    """The name of each class number; empty if y holds numbers to predict."""
    labels: npt.NDArray[Any]
    """The classes as they are in the data, (C,): numbers, booleans or strings; empty likewise."""
    preprocessing: Preprocessing
    feature_names: tuple[str, ...] | None = None
    """Names of a table's columns; None if the data are arrays."""
    fingerprint: str
    """SHA-256 of all rows, classes and splits; equal for equal data sets only."""

    @property
    def features(self) -> int:
        """Number of features, D; of a row with another shape, how many numbers it has."""
        return math.prod(self.train.x.shape[1:])

    def without_test(self) -> "Dataset":
        """Return a copy for workers, without the test split."""
        return replace(self, test=None)

    def with_dev_in_train(self) -> "Dataset":
        """Return a copy whose train split also has the rows of the dev split."""
        x_ND, y_N = (
            np.concatenate([getattr(part, name) for part in (self.train, self.dev)]) for name in "xy"
        )
        return replace(self, train=Split(x_ND, y_N))

    @property
    def frequent_class(self) -> int:
        """Number of the class that most rows of the train split have."""
        return int(np.bincount(self.train.y).argmax())


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
    """Split rows at random, stratified by class, and preprocess them.

    Args:
        name: the name of the data in messages and in `study.json`.
        x: features (N, D), finite numbers; images (N, ...) are flattened.
        y: classes (N,), of any type that can be sorted.
        columns: names of the table's columns, if x and y come from a table.
        shares: shares of train, dev and test, which sum to one.
        seed: seed of the split alone, so that studies with different seeds use the same splits.
        preprocess: "standardize" (mean 0, standard deviation 1), "scale" (divide by the largest magnitude of all
            features, which suits images), or "none".

    Returns:
        The splits, each with features (N, D) and class numbers (N,), and the preprocessing that was applied.

    Raises:
        DataError: shapes do not match, a value is missing or not finite, classes are of several types, there is
            only one class, or a class has too few rows.
    """
    x_ND, y_N, labels = _validate(name, x, y, columns)
    rows = stratified_rows(name, y_N, labels, columns, shares=shares, seed=seed)
    preprocessing = fit_preprocessing(name, x_ND[rows[0]], preprocess)
    return assemble(name, x_ND, y_N, labels, rows, preprocessing, preprocess, columns)


SplitRows = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Row numbers of train, dev and test."""


def assemble(
    name: str,
    x: npt.NDArray[np.generic],
    y: npt.NDArray[np.generic],
    labels: npt.NDArray[Any],
    rows: SplitRows,
    preprocessing: Preprocessing,
    preprocess: Preprocess,
    columns: Columns | None,
) -> Dataset:
    """Return the data set of checked rows, with its fingerprint.

    Args:
        name: the name of the data.
        x: features (N, D) or (N, ...).
        y: class numbers (N,), or numbers to predict (N, ...).
        labels: the classes (C,); empty if there are none.
        rows: the row numbers of each split.
        preprocessing: the map that is applied to x.
        preprocess: the name of its kind.
        columns: names of the table's columns, if there is one.
    """
    parts = {
        part: Split(preprocessing.apply(x[numbers]), np.ascontiguousarray(y[numbers]))
        for part, numbers in zip(("train", "dev", "test"), rows, strict=True)
    }
    classes = tuple(str(label) for label in labels)
    digest = hashlib.sha256(repr((x.shape, classes, preprocess)).encode())
    for array in (np.ascontiguousarray(x), y, *rows):
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


def require_shares(name: str, shares: Sequence[float]) -> None:
    """Raise a DataError unless there are three shares above 0 that sum to 1."""
    if len(shares) != 3 or not (min(shares) > 0 and abs(sum(shares) - 1) <= 1e-9):  # also refuses NaN
        raise DataError(f"{name}: split={tuple(shares)} must be three shares above 0 that sum to 1")


def stratified_rows(
    name: str,
    y_N: npt.NDArray[np.int64],
    labels: npt.NDArray[Any],
    columns: Columns | None,
    *,
    shares: Sequence[float],
    seed: int,
) -> SplitRows:
    """Divide rows at random into train, dev and test, each with the same shares of the classes.

    Args:
        name: the name of the data in error messages.
        y_N: class numbers (N,).
        labels: the classes as they are in the data (C,).
        columns: names of the table's columns, if there is one.
        shares: shares of train, dev and test.
        seed: seed of the draws.

    Raises:
        DataError: the shares do not sum to one, or a class has too few rows.
    """
    require_shares(name, shares)
    try:
        train, rest = split_in_two(y_N, shares[0], seed)
        dev, test = split_in_two(y_N[rest], shares[1] / (shares[1] + shares[2]), seed)
    except ValueError as error:
        subject = (columns and columns.target) or "y"
        raise DataError(f"{name}: {_explain_too_few(subject, labels, y_N, shares)}") from error
    return train, rest[dev], rest[test]


def _validate(
    name: str, x: npt.NDArray[np.generic], y: npt.NDArray[np.generic], columns: Columns | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Return features (N, D), class numbers (N,) and the classes (C,), or raise a DataError."""
    x, y = np.asarray(x), np.asarray(y)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim == 2 and len(y) == len(x):
        raise DataError(
            f"{name}: the classes have the shape {y.shape}, one column a class; give class numbers: y.argmax(axis=1)"
        )
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y):
        raise DataError(
            f"{name}: features must be (rows, columns) and classes (rows,), not {x.shape} and {y.shape}"
        )
    if x[:1].size == 0:
        raise DataError(f"{name}: there are no rows or no features: {x.shape}")
    return require_finite(name, x, columns), *encode_classes(name, y, columns)


def encode_classes(
    name: str, y: npt.NDArray[np.generic], columns: Columns | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Return class numbers (N,) and the classes (C,).

    Args:
        name: the name of the data in error messages.
        y: classes (N,), of any type that can be sorted.
        columns: names of the table's columns, if there is one.

    Raises:
        DataError: a class is missing, there is only one, or they are of several types.
    """
    missing = _find_missing(y)
    if len(missing):
        place = row_text(missing[0], columns)
        raise DataError(
            f"{name}: 1 class is missing, in {place}; fill it or drop its row"
            if len(missing) == 1
            else f"{name}: {len(missing)} classes are missing, the first in {place}; fill them or drop their rows"
        )
    try:
        names, y_N = np.unique(y, return_inverse=True)
    except TypeError as error:
        raise DataError(
            f"{name}: the classes must be of one type, such as all numbers or all strings ({error})"
        ) from error
    if len(names) < 2:
        raise DataError(f"{name}: there is only one class ({names[0]}); a classifier needs at least two")
    labels = names if names.dtype.kind in "biufU" else names.astype(str)
    return y_N.astype(np.int64), labels


def _find_missing(y: npt.NDArray[np.generic]) -> npt.NDArray[np.intp]:
    """Return the places of missing classes."""
    if y.dtype.kind in "biuU":  # none can be missing
        return np.array([], dtype=np.intp)
    import pandas as pd

    return np.flatnonzero(pd.isna(y))


def _explain_too_few(
    subject: str, labels: npt.NDArray[Any], y_N: npt.NDArray[np.int64], shares: Sequence[float]
) -> str:
    """Return the reason why rows cannot be split."""
    needed = [1 / share for share in shares] + [2 / (shares[1] + shares[2])]
    least = math.ceil(max(needed) - 1e-9)  # each split needs a row of each class, dev and test together two
    counts = np.bincount(y_N)
    rare = np.flatnonzero(counts < least)
    if labels.dtype.kind in "iuf" and len(labels) > _MANY_CLASSES and len(rare) > len(labels) / 2:
        return (
            f"{subject} looks like a number to predict, not a class: "
            f"it has {len(labels)} different values in {len(y_N)} rows; sort them into classes, or name another target"
        )
    split = f"each class needs at least {least} for split={tuple(shares)}; add rows, or merge or drop rare classes"
    if len(rare) == 1:
        (count,) = counts[rare]
        return f"class {join_names(labels[rare])} has only {count} row{'s' if count > 1 else ''}; {split}"
    if len(rare):
        return f"{len(rare)} classes have too few rows: {join_names(labels[rare], most=3)}; {split}"
    return f"{len(y_N)} rows of {len(labels)} classes are too few for split={tuple(shares)}; add rows"


def fit_preprocessing(name: str, x: npt.NDArray[np.float64], kind: Preprocess) -> Preprocessing:
    """Return the preprocessing that the rows of the train split ask for.

    Args:
        name: the name of the data in error messages.
        x: features of the train split, (N, D) or (N, ...).
        kind: "standardize", "scale" or "none".

    Raises:
        DataError: the kind is unknown.
    """
    shift, scale = np.zeros(x.shape[1:]), np.ones(x.shape[1:])
    if kind == "standardize":
        shift, deviation = x.mean(axis=0), x.std(axis=0)
        # Rounding alone can make the deviation of equal numbers positive
        scale = np.where(x.max(axis=0) > x.min(axis=0), deviation, 1.0)
    elif kind == "scale":
        largest = float(np.abs(x).max())
        scale = np.full(x.shape[1:], largest if largest > 0 else 1.0)
    elif kind != "none":
        raise DataError(f'{name}: preprocess={kind!r} is unknown; use "standardize", "scale" or "none"')
    return Preprocessing(shift, scale)
