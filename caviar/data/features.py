"""Features as they are given: an array, or a table, whose columns have names.

Shape legend: N rows, D features.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from caviar.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a table are called, and where its rows stand."""

    features: tuple[str, ...]
    target: str | None = None
    first_line: int | None = None
    """Of its file; None where a row is not a line."""


def as_table(x: Any) -> "pd.DataFrame | None":
    """A table of any library as pandas has it; None for what is no table, such as an array."""
    import pandas as pd

    if hasattr(x, "to_pandas"):
        x = x.to_pandas()
    return x if isinstance(x, pd.DataFrame) else None


def column_names(name: str, table: "pd.DataFrame") -> tuple[str, ...]:
    """The names of a table's columns, each another one.

    Args:
        name: for messages.
        table: any.

    Raises:
        DataError: two columns have one name.
    """
    names = tuple(map(str, table.columns))
    twice = [column for column, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{name}: several columns are called {listed(twice)}; give each a name of its own")
    return names


def columns_by_name(name: str, table: "pd.DataFrame", wanted: Sequence[str]) -> "pd.DataFrame":
    """These columns of a table, in this order, wherever they stand in it, without the others.

    Args:
        name: for messages.
        table: any.
        wanted: names of columns.

    Raises:
        DataError: a column is missing, or there are several of a name.
    """
    there = dict.fromkeys(str(column) for column in table.columns)
    missing = [column for column in wanted if column not in there]
    if missing:
        raise DataError(
            f"{name}: there is no column {listed(missing)}; there are {listed(there)} "
            "(give an array where the columns stand as they did in the data)"
        )
    found = table.loc[:, table.columns.map(str).isin(wanted)]
    places = {column: place for place, column in enumerate(column_names(name, found))}
    return found.iloc[:, [places[column] for column in wanted]]


def table_values(name: str, table: "pd.DataFrame") -> npt.NDArray[np.float32]:
    """The numbers of a table; booleans are 0 and 1, and what is missing is NaN.

    Args:
        name: for messages.
        table: (N, D).

    Returns:
        (N, D).

    Raises:
        DataError: columns that are not numbers.
    """
    from pandas.api.types import is_numeric_dtype

    table = table.infer_objects()
    words = [str(column) for column, kind in table.dtypes.items() if not is_numeric_dtype(kind)]
    if words:
        raise DataError(f"{name}: columns that are not numbers: {listed(words)}; encode or drop them")
    with np.errstate(over="ignore"):  # what is too large for float32 is found by `finite`
        return table.to_numpy(dtype=np.float32, na_value=np.nan)


def finite(name: str, x: npt.NDArray[np.generic], columns: Columns | None = None) -> npt.NDArray[np.float32]:
    """Features as a network takes them.

    Args:
        name: for messages.
        x: (N, D), or images of any shape (N, ...), which are flattened.
        columns: of the table that they are from.

    Returns:
        (N, D).

    Raises:
        DataError: something that is no number, missing, or not finite in float32.
    """
    try:
        with np.errstate(over="ignore"):  # what is too large for float32 is found below
            x_ND = x.reshape(len(x), math.prod(x.shape[1:])).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: the features must be numbers ({error})") from error
    bad = np.argwhere(~np.isfinite(x_ND))
    if len(bad):
        row, column = bad[0]
        place = f"{row_place(row, columns)}, column {columns.features[column] if columns else column}"
        raise DataError(
            f"{name}: 1 value is missing or not finite, in {place}; fill it or drop its row first"
            if len(bad) == 1
            else f"{name}: {len(bad)} values are missing or not finite, the first in {place}; "
            "fill or drop them first"
        )
    return x_ND


def row_place(row: int, columns: Columns | None) -> str:
    """Where a row is, in words; rows count from 0, lines from 1, as in editors."""
    if columns is None or columns.first_line is None:
        return f"row {row}"
    return f"row {row} (line {columns.first_line + row} of the file)"


def listed(names: Iterable[object], most: int = 10) -> str:
    """Names in a sentence: the first few, and how many more there are.

    Example:
        >>> listed("abcde", most=3)
        'a, b, c and 2 more'
    """
    words = [str(name) for name in names]
    short = [word if len(word) <= 40 else f"{word[:37]}..." for word in words]
    more = len(short) - most
    return ", ".join(short[:most]) + (f" and {more} more" if more > 0 else "")
