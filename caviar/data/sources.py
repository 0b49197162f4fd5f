"""Where rows come from: a data set inside scikit-learn, a file, or arrays."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from caviar.errors import DataError, StudyError

Arrays = tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]
SKLEARN = ("digits", "iris", "wine", "breast_cancer")
_NAMELESS = re.compile(r"(Unnamed: \d+|__index_level_\d+__|)")
"""What readers and writers of tables call a column without a name."""


def read(source: str | Path, target: str | None = None) -> Arrays:
    """Features and classes of a named source.

    Args:
        source: "sklearn:digits" (or iris, wine, breast_cancer), or a path to a .csv, .parquet or .npz file.
        target: for tables the column that holds the class (by default "target", "label" or "class",
            whichever there is); the other columns are features. An .npz file holds arrays x and y.

    Returns:
        x (N, D) and y (N,).

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


def _from_sklearn(name: str) -> Arrays:
    from sklearn import datasets

    if name not in SKLEARN:
        raise DataError(f"data='sklearn:{name}': there are {', '.join(SKLEARN)}")
    bunch = getattr(datasets, f"load_{name}")()
    return bunch.data, np.asarray(bunch.target_names)[bunch.target]


def _from_csv(path: Path, target: str | None) -> Arrays:
    import pandas as pd

    return _from_table(path, pd.read_csv(path), target)


def _from_parquet(path: Path, target: str | None) -> Arrays:
    import pandas as pd

    return _from_table(path, pd.read_parquet(path), target)


def _from_table(path: Path, table: Any, target: str | None) -> Arrays:
    names = [target] if target else [name for name in ("target", "label", "class") if name in table.columns]
    if len(names) != 1 or names[0] not in table.columns:
        raise DataError(
            f"data={str(path)!r}: say which column is the class with target=...; "
            f"there are {', '.join(map(str, table.columns))}"
        )
    features = table.drop(columns=names[0])
    nameless = [place for place, name in enumerate(table.columns, 1) if _NAMELESS.fullmatch(str(name))]
    if nameless:
        raise DataError(
            f"data={str(path)!r}: column {nameless[0]} has no name; row numbers (which pandas writes unless "
            "told index=False) would betray the order of the rows: drop it, or name it if it is a feature"
        )
    words = [str(name) for name in features.columns if not _is_numeric(features[name].to_numpy().dtype)]
    if words:
        raise DataError(
            f"data={str(path)!r}: columns that are not numbers: {', '.join(words)}; encode or drop them"
        )
    if table[names[0]].isna().any():
        raise DataError(f"data={str(path)!r}: the class column {names[0]} has missing values")
    return features.to_numpy(dtype=np.float32), table[names[0]].to_numpy()


def _is_numeric(dtype: np.dtype[Any]) -> bool:
    """Whether a column of it can be a feature; booleans are 0 and 1."""
    return np.issubdtype(dtype, np.number) or dtype == np.bool_


def _from_npz(path: Path, target: str | None) -> Arrays:
    del target  # its arrays have names
    with np.load(path, allow_pickle=False) as arrays:
        if not {"x", "y"} <= set(arrays):
            raise DataError(f"data={str(path)!r}: must hold arrays x and y, not {', '.join(arrays)}")
        return arrays["x"], arrays["y"]
