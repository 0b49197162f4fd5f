"""Tests of caviar/data/csv_files.py: CSV files are read as they stand, or refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.data.sources import read_source
from caviar.errors import DataError


def write(folder: Path, text: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path: Path) -> str:
    with pytest.raises(DataError) as error:
        read_source(path)
    return str(error.value)


def test_rows_longer_than_the_header_are_refused(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "a,b,label\n1,2,x,0\n3,4,y,1\n"))
    assert "line 2 has 4 fields, but the header has 3 names" in message


def test_one_short_row_is_refused_by_its_line(tmp_path: Path) -> None:
    assert "line 3 has 2 fields" in refused(write(tmp_path, "a,b,label\n1,2,x\n3,y\n5,6,x\n"))


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (["0", "1", "10"], [0, 1, 10]),
        (["01", "1"], ["01", "1"]),
        (["1e5", "100000"], ["1e5", "100000"]),
        (["1.5", "2.0"], [1.5, 2.0]),
        (["1.50", "1.5"], ["1.50", "1.5"]),
        (["True", "False"], [True, False]),
        (["True", "true"], ["True", "true"]),
        (["NA", "None", "null", "nan"], ["NA", "None", "null", "nan"]),
        ([" x", "x"], [" x", "x"]),
    ],
)
def test_classes_are_the_texts_of_the_file(tmp_path: Path, texts: list[str], labels: list[object]) -> None:
    path = write(tmp_path, "a,label\n" + "".join(f"{n},{text}\n" for n, text in enumerate(texts)))
    _, y, _ = read_source(path)
    assert y.tolist() == labels


@given(
    st.lists(
        st.text("0123456789.eE+-TrueFalsna ", min_size=1, max_size=6), min_size=2, max_size=6, unique=True
    )
)
def test_different_texts_are_different_classes(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = write(
        tmp_path_factory.mktemp("texts"),
        "a,label\n" + "".join(f"{n},{text}\n" for n, text in enumerate(texts)),
    )
    _, y, _ = read_source(path)
    assert len(set(map(repr, y.tolist()))) == len(texts)


def test_an_empty_class_is_missing(tmp_path: Path) -> None:
    _, y, _ = read_source(write(tmp_path, "a,label\n1,x\n2,\n3,y\n"))
    assert list(pd.isna(y)) == [False, True, False]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_recognised(tmp_path: Path, separator: str) -> None:
    rows = ["a", "b", "label"], ["1.5", "2", "x"], ["3", "4", "y"]
    path = write(tmp_path, "\n".join(separator.join(row) for row in rows))
    x, y, _ = read_source(path)
    assert x.tolist() == [[1.5, 2.0], [3.0, 4.0]]
    assert list(y) == ["x", "y"]


def test_decimal_commas_are_refused_with_advice(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "a;label\n1,5;x\n2,5;y\n"))
    assert "'1,5' in row 0 (line 2 of the file), column a" in message
    assert "decimal points" in message


def test_text_that_is_not_utf8_is_refused_by_its_line(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "a,label\n1,x\n2,caf\xe9\n".encode("latin-1")))
    assert "line 3 is not UTF-8" in message
    assert "encoding=" in message


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    _, _, columns = read_source(write(tmp_path, "\ufeffa,label\n1,x\n2,y\n"))
    assert columns is not None
    assert columns.features == ("a",)


def test_numbers_are_read_exactly(tmp_path: Path) -> None:
    numbers = [1_700_000_159.25, 1e-300, -0.1, 1e20]
    x, _, _ = read_source(write(tmp_path, "a,label\n" + "".join(f"{n!r},x\n" for n in numbers)))
    assert x[:, 0].tolist() == numbers


def test_truth_values_are_zero_and_one(tmp_path: Path) -> None:
    x, _, _ = read_source(write(tmp_path, "a,b,label\nTrue,1,x\nfalse,2,y\n"))
    assert x[:, 0].tolist() == [1.0, 0.0]


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    x, y, columns = read_source(write(tmp_path, "a,label\r\n1,x\r\n2,y\r\n"))
    assert (x.tolist(), list(y), columns and columns.features) == ([[1.0], [2.0]], ["x", "y"], ("a",))


def test_the_ending_may_be_written_in_capitals(tmp_path: Path) -> None:
    assert len(read_source(write(tmp_path, "a,label\n1,x\n2,y\n", name="DATA.CSV"))[0]) == 2


def test_a_folder_of_parquet_files_is_one_table(tmp_path: Path) -> None:
    for part in range(2):
        table = pd.DataFrame({"a": np.arange(3) + 3 * part, "label": ["x", "y", "x"]})
        table.to_parquet(tmp_path / f"part-{part}.parquet")
    x, y, _ = read_source(tmp_path)
    assert x[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert list(y) == ["x", "y", "x"] * 2


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "a,label\n1,x\n2,y\n")
    assert len(read_source("~/data.csv")[0]) == 2
