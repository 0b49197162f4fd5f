"""Tests of caviar/data/sources.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from caviar.data import sources
from caviar.data.sources import SKLEARN, from_memory, read_source
from caviar.data.splits import split
from caviar.errors import DataError, StudyError

TABLE = pd.DataFrame(
    {"width": [1.5, 2.5, 3.5, 4.5], "label": ["cat", "dog", "cat", "dog"], "count": [1, 2, 3, 4]}
)


def refused(source: str | Path, target: str | None = None) -> str:
    """Return the message that refuses a source."""
    with pytest.raises(DataError) as error:
        read_source(source, target)
    assert str(error.value).startswith("data=")
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("digits", (1797, 64), 10),
        ("iris", (150, 4), 3),
        ("wine", (178, 13), 3),
        ("breast_cancer", (569, 30), 2),
    ],
)
def test_scikit_learn_data_sets_have_their_shapes(name: str, shape: tuple[int, int], classes: int) -> None:
    x, y, _ = read_source(f"sklearn:{name}")
    assert x.shape == shape
    assert y.shape == shape[:1]
    assert len(np.unique(y)) == classes


def test_scikit_learn_classes_have_names() -> None:
    assert split("iris", *read_source("sklearn:iris")).classes == ("setosa", "versicolor", "virginica")


def write(path: Path, table: pd.DataFrame) -> Path:
    """Write the table as a file of the path's format."""
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return path


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
@pytest.mark.parametrize("column", ["target", "label", "class"])
def test_table_gives_class_column_and_features_in_order(tmp_path: Path, kind: str, column: str) -> None:
    path = write(tmp_path / f"animals{kind}", TABLE.rename(columns={"label": column}))
    for source in (path, str(path)):
        x, y, _ = read_source(source)
        assert x.tolist() == [[1.5, 1.0], [2.5, 2.0], [3.5, 3.0], [4.5, 4.0]]
        assert list(y) == ["cat", "dog", "cat", "dog"]


def test_target_names_a_class_column_of_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "animals.csv", TABLE.drop(columns="label"))
    x, y, _ = read_source(path, target="count")
    assert x.tolist() == [[1.5], [2.5], [3.5], [4.5]]
    assert y.tolist() == [1, 2, 3, 4]


def test_table_can_be_split(tmp_path: Path) -> None:
    for kind in (".csv", ".parquet"):
        path = write(tmp_path / f"animals{kind}", pd.concat([TABLE] * 10))
        assert split("animals", *read_source(path)).classes == ("cat", "dog")


def test_npz_file_holds_x_and_y(tmp_path: Path) -> None:
    images, y = np.arange(24.0).reshape(6, 2, 2), np.arange(6) % 2
    np.savez(tmp_path / "images.npz", x=images, y=y, more=[1])
    read_x, read_y, columns = read_source(tmp_path / "images.npz")
    assert np.array_equal(read_x, images)
    assert np.array_equal(read_y, y)
    assert columns is None


def why_not_split(path: Path) -> str:
    """Return the message that refuses to split the rows of a file."""
    with pytest.raises(DataError) as error:
        split("holes", *read_source(path))
    return str(error.value)


def test_missing_value_is_located_by_column_name_and_line(tmp_path: Path) -> None:
    path = tmp_path / "holes.csv"
    path.write_text("a,label,b\n1,x,1\n2,y,\n3,x,3\n4,y,4\n")
    assert "1 value is missing or not finite: nan in row 1 (line 3 of the file), column b" in why_not_split(
        path
    )
    path.write_text("a,label,b\n1,x,1\n2,y,2\n3,x,inf\n,y,4\n")
    assert "the first is inf in row 2 (line 4 of the file), column b" in (why_not_split(path))
    pd.read_csv(path).to_parquet(tmp_path / "holes.parquet")
    assert "the first is inf in row 2, column b" in why_not_split(tmp_path / "holes.parquet")


def test_line_is_omitted_if_rows_are_not_lines(tmp_path: Path) -> None:
    path = tmp_path / "holes.csv"
    path.write_text("a,label\n1,x\n\n2,y\n3,x\n,y\n")
    assert "in row 3, column a" in why_not_split(path)
    path.write_text('a,label\n1,"x\nx"\n2,y\n3,x\n,y\n')
    assert "in row 3, column a" in why_not_split(path)


@pytest.mark.parametrize("kind", ["Int64", "double[pyarrow]"])
def test_missing_numbers_of_any_type_are_refused(tmp_path: Path, kind: Any) -> None:
    table = TABLE.assign(count=pd.array([1, None, 3, 4], dtype=kind))
    assert "in row 1, column count" in why_not_split(write(tmp_path / "holes.parquet", table))


def test_features_keep_their_column_names(tmp_path: Path) -> None:
    for kind in (".csv", ".parquet"):
        path = write(tmp_path / f"animals{kind}", pd.concat([TABLE] * 10))
        assert split("animals", *read_source(path)).feature_names == ("width", "count")
    x, y = TABLE[["count", "width"]], TABLE["label"]
    assert split("animals", *from_memory(pd.concat([x] * 10), [*y] * 10)).feature_names == ("count", "width")
    assert split("animals", *from_memory([[1], [2]] * 10, ["a", "b"] * 10)).feature_names is None
    iris = split("iris", *read_source("sklearn:iris")).feature_names
    assert iris is not None
    assert iris[0] == "sepal length (cm)"


def test_dataframe_is_checked_like_a_file() -> None:
    with pytest.raises(DataError, match="columns that are not numbers: label"):
        from_memory(TABLE, TABLE["label"])
    with pytest.raises(DataError, match="several columns are called a"):
        from_memory(pd.DataFrame(np.zeros((4, 3)), columns=["a", "b", "a"]), TABLE["label"])


@pytest.mark.parametrize("source", ["digits", "rows.xlsx", "sklearn", "", "rows.csv.gz", "openml:61"])
def test_unknown_source_is_refused_with_the_known_ones(source: str) -> None:
    message = refused(source)
    assert repr(source) in message
    assert all(name in message for name in (*SKLEARN, ".csv", ".parquet", ".npz"))


def test_unknown_scikit_learn_data_set_is_refused() -> None:
    message = refused("sklearn:mnist")
    assert "sklearn:mnist" in message
    assert all(name in message for name in SKLEARN)


@pytest.mark.parametrize("name", ["none.csv", "none.parquet", "none.npz"])
def test_missing_file_is_refused_with_its_folder(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    message = refused(name)
    assert f"{name!r}: there is no such file" in message
    assert str(tmp_path) in message
    (tmp_path / name).mkdir()
    assert "no such file" in refused(name)


@pytest.mark.parametrize("name", ["broken.csv", "broken.parquet", "broken.npz"])
def test_unreadable_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"" if name.endswith("csv") else b"no such format")
    assert f"{str(path)!r}: " in refused(path)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", x=np.array([{}, []], dtype=object), y=np.arange(2))
    assert "cannot be read" in refused(tmp_path / "objects.npz")


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_class_column_must_exist_and_be_unambiguous(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"animals{kind}", TABLE)
    assert "there is no column 'species' (there are width, label, count)" in refused(path, target="species")
    assert "no column 'lable': did you mean 'label'? (there are width," in refused(path, target="lable")
    unclear = write(tmp_path / f"unclear{kind}", TABLE.assign(target=1))
    assert "name the column that holds the class" in refused(unclear)
    nameless = write(tmp_path / f"nameless{kind}", TABLE.rename(columns={"label": "kind"}))
    assert "name the column that holds the class" in refused(nameless)


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_columns_that_are_not_numeric_are_refused(kind: str, tmp_path: Path) -> None:
    table = TABLE.assign(colour=["r", "g", "b", "r"], day=pd.Timestamp("2026-01-01"))
    message = refused(write(tmp_path / f"animals{kind}", table))
    assert "columns that are not numbers: colour, day" in message


def test_column_without_a_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "animals.csv"
    TABLE.to_csv(path)
    assert "column 1 has no name" in refused(path)
    path.write_text("a,label,\n1,x,\n2,y,\n")  # a comma at the end of each line
    assert "column 3 has no name" in refused(path)


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_booleans_become_zero_and_one(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"animals{kind}", TABLE.assign(tame=[True, False, False, True]))
    x, _, _ = read_source(path)
    assert x[:, 2].tolist() == [1.0, 0.0, 0.0, 1.0]


def test_list_of_arrays_is_refused() -> None:
    arrays: Any = [np.zeros((4, 2)), np.arange(4)]
    with pytest.raises(StudyError, match=r"data=<list>: must be .* a pair of arrays.*data=\(x, y\)"):
        read_source(arrays)


def test_message_lists_the_first_ten_columns(tmp_path: Path) -> None:
    table = pd.DataFrame({f"c{number}": [1] for number in range(500)})
    message = refused(write(tmp_path / "wide.csv", table))
    assert message.endswith("there are c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 490 more")


@pytest.mark.parametrize(
    ("kind", "place"), [(".csv", r"row 1 \(line 3 of the file\)"), (".parquet", "row 1")]
)
def test_missing_classes_are_refused(kind: str, place: str, tmp_path: Path) -> None:
    table = TABLE.assign(label=pd.Series(["cat", None, "cat", "dog"]))
    with pytest.raises(DataError, match=f"1 class is missing, in {place};"):
        split("holes", *read_source(write(tmp_path / f"holes{kind}", table)))


def test_regression_target_is_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"rooms": random.integers(1, 9, 400), "price": random.normal(size=400)})
    path = write(tmp_path / "houses.csv", table)
    with pytest.raises(DataError, match="price looks like a number to predict"):
        split("houses.csv", *read_source(path, target="price"))


def test_npz_file_with_other_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", images=np.zeros((2, 2)), labels=np.arange(2))
    assert "must hold arrays x and y, not images, labels" in refused(tmp_path / "arrays.npz")


def test_digits_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, columns = read_source("sklearn:digits")
    monkeypatch.setattr(sources, "_sklearn_file", lambda name: Path("not", "there", name))
    there = read_source("sklearn:digits")
    np.testing.assert_array_equal(x, there[0])
    np.testing.assert_array_equal(y, there[1])
    assert (x.dtype, y.dtype, columns) == (there[0].dtype, there[1].dtype, there[2])
