"""Where rows come from: a data set inside scikit-learn, a file, or arrays."""

import difflib
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from caviar.data.features import Columns, as_table, column_names, listed, table_values
from caviar.errors import DataError, StudyError

Rows = tuple[npt.NDArray[np.generic], npt.NDArray[np.generic], Columns | None]
"""Features (N, D) or images (N, ...), classes (N,), and what the columns of a table are called."""
SKLEARN = ("digits", "iris", "wine", "breast_cancer")
_NAMELESS = re.compile(r"(Unnamed: \d+|__index_level_\d+__|)")
"""What readers and writers of tables call a column without a name."""


def read(source: str | Path, target: str | None = None) -> Rows:
    """Features and classes of a named source.

    Args:
        source: "sklearn:digits" (or iris, wine, breast_cancer), or a path to a .csv, .parquet or .npz file.
        target: for tables the column that holds the class (by default "target", "label" or "class",
            whichever there is); the other columns are features. An .npz file holds arrays x and y.

    Returns:
        Features, classes, and the names of a table's columns.

    Raises:
        StudyError: something that names no source.
        DataError: no such source or file, no such column, columns without a name or that are not numbers.
    """
    if not isinstance(source, str | Path):
        raise StudyError(
            f"data=<{type(source).__name__}>: must be the name of a source, a path, or a pair of arrays "
            "in round brackets: data=(x, y)"
        )
    name = str(source)
    if name.startswith("sklearn:"):
        return _from_sklearn(name.removeprefix("sklearn:"))
    path = Path(source)
    readers = {".csv": _from_csv, ".parquet": _from_parquet, ".npz": _from_npz}
    if path.suffix not in readers:
        raise DataError(
            f"data={name!r}: use sklearn:{{{','.join(SKLEARN)}}} or a .csv, .parquet or .npz file"
        )
    if not path.is_file():
        raise DataError(f"data={name!r}: there is no such file (looked in {Path.cwd()})")
    try:
        return readers[path.suffix](path, target)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"data={name!r}: cannot be read: {error}") from error


def given(x: Any, y: Any) -> Rows:
    """Features and classes that a program holds.

    Args:
        x: an array, or a DataFrame, whose columns keep their names.
        y: classes.

    Returns:
        Features, classes, and the names of a DataFrame's columns.

    Raises:
        DataError: columns of one name, or that are not numbers.
    """
    table = as_table(x)
    if table is None:
        return np.asarray(x), np.asarray(y), None
    return table_values("arrays", table), np.asarray(y), Columns(column_names("arrays", table))


def _from_sklearn(name: str) -> Rows:
    from sklearn import datasets

    if name not in SKLEARN:
        raise DataError(f"data='sklearn:{name}': there are {', '.join(SKLEARN)}")
    bunch = getattr(datasets, f"load_{name}")()
    names = Columns(tuple(map(str, bunch.feature_names)))
    return bunch.data, np.asarray(bunch.target_names)[bunch.target], names


def _from_csv(path: Path, target: str | None) -> Rows:
    import pandas as pd

    table = pd.read_csv(path)
    with path.open("rb") as file:
        lines = sum(1 for _ in file)
    return _from_table(path, table, target, first_line=2 if lines == len(table) + 1 else None)


def _from_parquet(path: Path, target: str | None) -> Rows:
    import pandas as pd

    return _from_table(path, pd.read_parquet(path), target)


def _from_table(path: Path, table: Any, target: str | None, first_line: int | None = None) -> Rows:
    name = f"data={str(path)!r}"
    names = column_names(name, table)
    table = table.set_axis(names, axis=1)  # Parquet can bring numbers
    target = _class_column(name, names, target)
    features = table.drop(columns=target)
    nameless = [place for place, column in enumerate(names, 1) if _NAMELESS.fullmatch(column)]
    if nameless:
        raise DataError(
            f"{name}: column {nameless[0]} has no name; row numbers (which pandas writes unless "
            "told index=False) would betray the order of the rows: drop it, or name it if it is a feature"
        )
    columns = Columns(column_names(name, features), target, first_line)
    return table_values(name, features), table[target].to_numpy(), columns


def _class_column(name: str, columns: tuple[str, ...], target: str | None) -> str:
    """Which column holds the class."""
    if target and target not in columns:
        close = difflib.get_close_matches(target, columns, n=1)
        hint = f": did you mean {close[0]!r}?" if close else ""
        raise DataError(f"{name}: there is no column {target!r}{hint} (there are {listed(columns)})")
    usual = [target] if target else [column for column in ("target", "label", "class") if column in columns]
    if len(usual) != 1:
        raise DataError(f"{name}: say which column is the class with target=...; there are {listed(columns)}")
    return usual[0]


def _from_npz(path: Path, target: str | None) -> Rows:
    del target  # its arrays have names
    with np.load(path, allow_pickle=False) as arrays:
        if not {"x", "y"} <= set(arrays):
            raise DataError(f"data={str(path)!r}: must hold arrays x and y, not {', '.join(arrays)}")
        return arrays["x"], arrays["y"], None
