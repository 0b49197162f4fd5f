"""Conversion of features, given as an array or a table, to finite float64 numbers.

Numbers stay float64 until they are standardised: large features with small differences, such as Unix times, would
otherwise collapse to one value.

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
    """Names of a table's columns, and the position of its rows in a file."""

    features: tuple[str, ...]
    target: str | None = None
    first_line: int | None = None
    """Line number of the first row in its file; None if rows and lines do not correspond."""


def as_table(x: Any) -> "pd.DataFrame | None":
    """Return a table of any library as a pandas DataFrame, or None if x is no table, such as an array."""
    import pandas as pd

    if hasattr(x, "to_pandas"):
        x = x.to_pandas()
    return x if isinstance(x, pd.DataFrame) else None


def column_names(name: str, columns: Iterable[object]) -> tuple[str, ...]:
    """Return the names of a table's columns as strings.

    Args:
        name: the name of the data in error messages.
        columns: any names.

    Raises:
        DataError: two columns have the same name.
    """
    names = tuple(map(str, columns))
    duplicates = [column for column, count in Counter(names).items() if count > 1]
    if duplicates:
        raise DataError(
            f"{name}: several columns are called {join_names(duplicates)}; give each column its own name"
        )
    return names


def select_columns(name: str, table: "pd.DataFrame", wanted: Sequence[str]) -> "pd.DataFrame":
    """Return the wanted columns of a table in the wanted order.

    Args:
        name: the name of the data in error messages.
        table: any table; its other columns are ignored.
        wanted: names of columns.

    Raises:
        DataError: a wanted column is missing, or several columns have its name.
    """
    present = dict.fromkeys(str(column) for column in table.columns)
    missing = [column for column in wanted if column not in present]
    if missing:
        raise DataError(
            f"{name}: there is no column {join_names(missing)}; there are {join_names(present)} "
            "(or give an array whose columns are in the order of the data)"
        )
    found = table.loc[:, table.columns.map(str).isin(wanted)]
    positions = {column: position for position, column in enumerate(column_names(name, found.columns))}
    return found.iloc[:, [positions[column] for column in wanted]]


def table_to_array(name: str, table: "pd.DataFrame") -> npt.NDArray[np.float64]:
    """Return the numbers of a table; booleans become 0 and 1, and missing values NaN.

    Args:
        name: the name of the data in error messages.
        table: (N, D).

    Returns:
        Array (N, D), float64.

    Raises:
        DataError: a column is not numeric.
    """
    from pandas.api.types import is_numeric_dtype

    table = table.infer_objects()
    others = [str(column) for column, kind in table.dtypes.items() if not is_numeric_dtype(kind)]
    if others:
        raise DataError(f"{name}: columns that are not numbers: {join_names(others)}; encode or drop them")
    return table.to_numpy(dtype=np.float64, na_value=np.nan)


def require_finite(
    name: str, x: npt.NDArray[np.generic], columns: Columns | None = None
) -> npt.NDArray[np.float64]:
    """Flatten features to rows of finite float64 numbers.

    Args:
        name: the name of the data in error messages.
        x: (N, D), or (N, ...) such as images.
        columns: names of the table's columns, if x comes from a table.

    Returns:
        Array (N, D), float64.

    Raises:
        DataError: a value is not a real number, is missing, or is too large for float32.
    """
    x_ND = x.reshape(len(x), math.prod(x.shape[1:]))
    if x_ND.dtype.kind == "c":
        raise DataError(
            f"{name}: the features are complex numbers; give real and imaginary parts as features"
        )
    try:
        numbers_ND = x_ND.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: the features must be numbers ({error})") from error
    bad = np.argwhere(~(np.abs(numbers_ND) <= np.finfo(np.float32).max))
    if len(bad):
        row, column = bad[0]
        place = f"{row_text(row, columns)}, column {columns.features[column] if columns else column}"
        value = x_ND[row, column]
        raise DataError(
            f"{name}: 1 value is missing or not finite: {value} in {place}; fill it or drop its row"
            if len(bad) == 1
            else f"{name}: {len(bad)} values are missing or not finite, the first is {value} in {place}; "
            "fill them or drop their rows"
        )
    return numbers_ND


def row_text(row: int, columns: Columns | None) -> str:
    """Return the place of a row in words; rows count from 0, lines of a file from 1.

    Example:
        >>> row_text(7, Columns(("x",), first_line=2))
        'row 7 (line 9 of the file)'
    """
    if columns is None or columns.first_line is None:
        return f"row {row}"
    return f"row {row} (line {columns.first_line + row} of the file)"


def join_names(names: Iterable[object], most: int = 10) -> str:
    """Join the first names for a message, and count the others.

    Example:
        >>> join_names("abcde", most=3)
        'a, b, c and 2 more'
    """
    words = [str(name) for name in names]
    short = [word if len(word) <= 40 else f"{word[:37]}..." for word in words]
    more = len(short) - most
    return ", ".join(short[:most]) + (f" and {more} more" if more > 0 else "")
