"""Sources of rows: data sets of scikit-learn, files, and arrays or tables in memory.

Shape legend: N rows, D features.
"""

import difflib
import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from caviar.data.features import Columns, as_table, column_names, join_names, table_to_array
from caviar.errors import DataError, StudyError

Rows = tuple[npt.NDArray[np.generic], npt.NDArray[np.generic], Columns | None]
"""Features (N, D) or (N, ...), classes (N,), and the names of a table's columns."""
SKLEARN = ("digits", "iris", "wine", "breast_cancer")
_UNNAMED = re.compile(r"(Unnamed: \d+|__index_level_\d+__|)")
"""Names that readers and writers of tables give to columns without a name."""


def read_source(source: str | Path, target: str | None = None) -> Rows:
    """Read the features and classes of a named source.

    Args:
        source: "sklearn:digits" (or iris, wine, breast_cancer), or the path of a .csv, .parquet or .npz file, or of a
            folder of .parquet files with the same columns. An .npz file holds arrays x and y.
        target: the column of a table that holds the class; by default the one called "target", "label" or "class".
            All other columns are features.

    Returns:
        Features (N, D) or (N, ...), classes (N,), and the names of a table's columns.

    Raises:
        StudyError: the source is neither a name nor a path.
        DataError: there is no such source, file or column, or a column has no name or is not numeric.
    """
    if not isinstance(source, str | Path):
        raise StudyError(
            f"data=<{type(source).__name__}>: must be the name of a source, a path, or a pair of arrays "
            "in parentheses: data=(x, y)"
        )
    name = str(source)
    if name.startswith("sklearn:"):
        return _load_sklearn(name.removeprefix("sklearn:"))
    path = Path(source).expanduser()
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".npz": _read_npz}
    has_parts = path.is_dir() and any(path.glob("*.parquet"))
    kind = ".parquet" if has_parts else path.suffix.lower()
    if kind not in readers:
        raise DataError(
            f"data={name!r}: use sklearn:{{{','.join(SKLEARN)}}} or a .csv, .parquet or .npz file"
        )
    if not (path.is_file() or has_parts):
        raise DataError(f"data={name!r}: there is no such file (looked in {Path.cwd()})")
    try:
        return readers[kind](path, target)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"data={name!r}: cannot be read: {error}") from error


def from_memory(x: Any, y: Any) -> Rows:
    """Return the features and classes of arrays or of a DataFrame.

    Args:
        x: array (N, D) or (N, ...), or a DataFrame, whose columns keep their names.
        y: classes (N,).

    Returns:
        Features, classes, and the names of a DataFrame's columns.

    Raises:
        DataError: two columns have the same name, or a column is not numeric.
    """
    table = as_table(x)
    if table is None:
        return np.asarray(x), np.asarray(y), None
    return table_to_array("arrays", table), np.asarray(y), Columns(column_names("arrays", table.columns))


def _load_sklearn(name: str) -> Rows:
    if name not in SKLEARN:
        raise DataError(f"data='sklearn:{name}': there are {', '.join(SKLEARN)}")
    if name == "digits" and (file := _sklearn_file("digits.csv.gz")).is_file():
        return _read_digits(file)
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    columns = Columns(tuple(map(str, bunch.feature_names)))
    return bunch.data, np.asarray(bunch.target_names)[bunch.target], columns


def _sklearn_file(name: str) -> Path:
    """Return the path of a data file in scikit-learn without importing it, which takes a second."""
    spec = importlib.util.find_spec("sklearn")
    folders = spec.submodule_search_locations if spec is not None else None
    return Path(*(folders or [""])[:1], "datasets", "data", name)


def _read_digits(file: Path) -> Rows:
    """Read the digits as scikit-learn does: 8 by 8 pixels and the digit in each line."""
    table = np.loadtxt(file, delimiter=",")
    pixels = Columns(tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8)))
    return table[:, :-1], table[:, -1].astype(np.int64), pixels


def _read_csv(path: Path, target: str | None) -> Rows:
    from caviar.data.csv_files import read_csv

    name, table = f"data={str(path)!r}", read_csv(path)
    names = column_names(name, table.cells.column_names)
    target = _find_target(name, names, target)
    _require_names(name, names)
    features = table.numbers(name, target)
    columns = Columns(tuple(features.columns), target, table.first_line)
    return features.to_numpy(np.float64), table.classes(target), columns


def _read_parquet(path: Path, target: str | None) -> Rows:
    import pandas as pd

    name, table = f"data={str(path)!r}", pd.read_parquet(path)
    names = column_names(name, table.columns)
    table = table.set_axis(names, axis=1)  # columns of Parquet files may be called by numbers
    target = _find_target(name, names, target)
    _require_names(name, names)
    features = table.drop(columns=target)
    columns = Columns(column_names(name, features.columns), target)
    return table_to_array(name, features), table[target].to_numpy(), columns


def _require_names(name: str, names: tuple[str, ...]) -> None:
    """Refuse a column without a name, which often holds row numbers."""
    unnamed = [position for position, column in enumerate(names, 1) if _UNNAMED.fullmatch(column)]
    if unnamed:
        raise DataError(
            f"{name}: column {unnamed[0]} has no name. If it holds row numbers, which pandas writes by default, "
            "drop it (to_csv(..., index=False)), because it would leak the order of the rows into the features; "
            "if it is a feature, name it"
        )


def _find_target(name: str, columns: tuple[str, ...], target: str | None) -> str:
    """Return the column that holds the class."""
    if target and target not in columns:
        close = difflib.get_close_matches(target, columns, n=1)
        hint = f": did you mean {close[0]!r}?" if close else ""
        raise DataError(f"{name}: there is no column {target!r}{hint} (there are {join_names(columns)})")
    usual = [target] if target else [column for column in ("target", "label", "class") if column in columns]
    if len(usual) != 1:
        raise DataError(
            f"{name}: name the column that holds the class with target=...; there are {join_names(columns)}"
        )
    return usual[0]


def _read_npz(path: Path, target: str | None) -> Rows:
    del target  # the class is the array y
    with np.load(path, allow_pickle=False) as arrays:
        if not {"x", "y"} <= set(arrays):
            raise DataError(f"data={str(path)!r}: must hold arrays x and y, not {', '.join(arrays)}")
        return arrays["x"], arrays["y"], None
