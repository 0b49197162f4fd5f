"""Data of the user's own networks: rows and targets of any shape and type, split and preprocessed.

Shape legend: N rows, ... the shape of one row.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from caviar.data import sources
from caviar.data.features import require_finite
from caviar.data.splits import (
    Dataset,
    Preprocess,
    Preprocessing,
    SplitRows,
    assemble,
    encode_classes,
    fit_preprocessing,
    require_shares,
    stratified_rows,
)
from caviar.errors import DataError, StudyError

Targets = Literal["classes", "numbers"]


def load_tensors(
    data: Any,
    *,
    target: str | None = None,
    targets: Targets = "classes",
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    seed: int = 0,
    preprocess: Preprocess = "none",
) -> Dataset:
    """Read rows of any shape, split them unless they are given apart, and preprocess them.

    Args:
        data: a named source or path (see `sources.read_source`); a pair (x, y) of arrays or tensors; an object with
            length whose items are pairs, such as a torch `Dataset`; or train, dev and test apart, each one of the last
            two.
        target: the column of a table that holds the target.
        targets: "classes", (N,) of any type, split in equal shares of each; or "numbers", (N, ...).
        shares: shares of train, dev and test, if they are not given apart.
        seed: seed of the split.
        preprocess: "standardize" or "scale", as for `splits.split`; or "none", which leaves whole numbers whole.

    Returns:
        The splits. x is float32, or int64 if it is whole and stays so; y is int64, or float32 if it holds fractions.

    Raises:
        StudyError: the data are of no such kind.
        DataError: they cannot be read or split, or hold something that is no finite number.

    Example:
        >>> import numpy as np
        >>> ids, lengths = np.arange(60).reshape(20, 3), np.linspace(0, 1, 20)
        >>> dataset = load_tensors((ids, lengths), targets="numbers")
        >>> dataset.train.x.shape, dataset.train.x.dtype, dataset.train.y.dtype
        ((12, 3), dtype('int64'), dtype('float32'))
    """
    name = data_name(data)
    if isinstance(data, tuple) and len(data) == 3:
        parts = [_read(f"{name}, {part}", rows, target) for part, rows in zip(_PARTS, data, strict=True)]
        given = _given_rows(name, parts)
        x, y = (np.concatenate([part[i] for part in parts]) for i in range(2))
        columns = parts[0][2]
    else:
        (x, y, columns), given = _read(name, data, target), None
    if len(x) != len(y) or len(x) == 0 or x[:1].size == 0:
        raise DataError(f"{name}: x and y must have the same number of rows, not {x.shape} and {y.shape}")
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if targets == "classes":
        if y.ndim != 1:
            raise DataError(
                f'{name}: the classes must be (rows,), not {y.shape}; give class numbers, or targets="numbers"'
            )
        y, labels = encode_classes(name, y, columns)
        rows = given or stratified_rows(name, y, labels, columns, shares=shares, seed=seed)
    else:
        y, labels = _numbers(name, y), np.zeros(0)
        rows = given or _random_rows(name, len(x), shares, seed)
    is_whole = preprocess == "none" and x.dtype.kind in "iu"
    if is_whole:
        preprocessing = Preprocessing(np.zeros(x.shape[1:]), np.ones(x.shape[1:]), is_whole=True)
    else:
        x = require_finite(name, x, columns).reshape(x.shape)
        preprocessing = fit_preprocessing(name, x[rows[0]], preprocess)
    return assemble(name, x, y, labels, rows, preprocessing, preprocess, columns)


_PARTS = ("train", "dev", "test")


def data_name(data: Any) -> str:
    """Return the name of data in messages and in `study.json`."""
    if isinstance(data, str | Path):
        return str(data)
    return "arrays" if isinstance(data, tuple) else type(data).__name__


def require_data(where: str, data: Any) -> None:
    """Raise a StudyError if data are of no kind that `load_tensors` reads, without reading them."""
    if isinstance(data, tuple) and len(data) == 3:
        for part in data:
            if not (_is_items(part) or (isinstance(part, tuple | list) and len(part) == 2)):
                raise StudyError(
                    f"{where}: of (train, dev, test) each must be a pair (x, y), or an object whose items are such "
                    f"pairs, not {type(part).__name__}"
                )
    elif not (
        isinstance(data, str | Path) or (isinstance(data, tuple) and len(data) == 2) or _is_items(data)
    ):
        raise StudyError(
            f"{where} must be the name of a source, a path, a pair (x, y), a torch Dataset, or (train, dev, test) "
            f"given apart, not {type(data).__name__}"
        )


def _is_items(data: Any) -> bool:
    """Return whether data are an object with length and items, such as a torch Dataset, and no array or table."""
    has_items = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    return has_items and not isinstance(data, str | list | tuple | dict) and not hasattr(data, "shape")


def _read(name: str, data: Any, target: str | None) -> sources.Rows:
    """Return x, y and the names of a table's columns."""
    if _is_items(data):
        pairs = [data[number] for number in range(len(data))]
        if not pairs or not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
            raise DataError(f"{name}: each item must be a pair (x, y), such as a torch TensorDataset returns")
        return _stacked(name, [x for x, _ in pairs]), _stacked(name, [y for _, y in pairs]), None
    if isinstance(data, tuple | list):
        x, y = data
        return sources.from_memory(_to_array(name, x), _to_array(name, y))
    return sources.read_source(data, target)


def _stacked(name: str, rows: list[Any]) -> npt.NDArray[Any]:
    try:
        return np.stack([np.asarray(_to_array(name, row)) for row in rows])
    except ValueError as error:
        raise DataError(f"{name}: all rows must have the same shape: pad or crop them ({error})") from error


def _to_array(name: str, thing: Any) -> Any:
    """Return a tensor of torch as an array, and anything else as it is."""
    if not hasattr(thing, "detach"):
        return thing
    try:
        return thing.detach().cpu().numpy()
    except TypeError as error:  # such as bfloat16, which NumPy does not know
        raise DataError(f"{name}: a tensor of {thing.dtype} cannot be read; convert it: x.float()") from error


def _numbers(name: str, y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return targets that are numbers: int64 if they are whole, else float32."""
    if y.dtype.kind in "iu":
        return y.astype(np.int64)
    try:
        numbers = y.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f'{name}: y must hold numbers ({error}); for classes, give targets="classes"'
        ) from error
    bad = np.argwhere(~(np.abs(numbers) <= np.finfo(np.float32).max))
    if len(bad):
        raise DataError(f"{name}: y is missing or not finite in row {bad[0][0]}; fill it or drop its row")
    return numbers.astype(np.float32)


def _given_rows(name: str, parts: Sequence[sources.Rows]) -> SplitRows:
    """Return the row numbers of splits that are given apart, one after the other."""
    shapes = {part[0].shape[1:] for part in parts}
    if len(shapes) > 1 or not all(len(part[0]) and len(part[0]) == len(part[1]) for part in parts):
        found = ", ".join(
            f"{n}: x {x.shape}, y {y.shape}" for n, (x, y, _) in zip(_PARTS, parts, strict=True)
        )
        raise DataError(
            f"{name}: train, dev and test need rows of one shape, and as many of y as of x, not {found}"
        )
    ends = np.cumsum([len(part[0]) for part in parts])
    train, dev, test = (np.arange(end - len(p[0]), end) for p, end in zip(parts, ends, strict=True))
    return train, dev, test


def _random_rows(name: str, count: int, shares: Sequence[float], seed: int) -> SplitRows:
    """Divide rows at random into train, dev and test."""
    require_shares(name, shares)
    first, second = int(shares[0] * count), int((shares[0] + shares[1]) * count)
    if not 2 <= first < second < count:
        raise DataError(f"{name}: {count} rows are too few for split={tuple(shares)}; add rows")
    order = np.random.RandomState(seed).permutation(count)
    train, dev, test = np.split(order, [first, second])
    return np.sort(train), np.sort(dev), np.sort(test)
