"""CSV files, as pandas reads them back and as a spreadsheet would."""

import csv
from pathlib import Path

import pandas as pd
import pytest

import caviar as cv
from caviar.exports.csv_files import CsvExport, write_csv
from caviar.records.frames import Run
from tests.exports.conftest import COMMAND, HOSTILE


@pytest.fixture(scope="module")
def folder(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("csv") / "made"
    assert CsvExport(folder).update(run) == len(run.trials)
    return folder


def test_files_have_the_numbers_of_the_frames(run: Run, folder: Path) -> None:
    for name in ("trials", "curves", "rounds", "confirmed"):
        frame, read = getattr(run, name), pd.read_csv(folder / f"{name}.csv")
        assert list(read.columns) == list(frame.columns)
        numbers = frame.select_dtypes(["int64", "float64"])
        pd.testing.assert_frame_equal(read[numbers.columns], numbers, check_exact=True, check_dtype=False)


def test_no_cell_is_run_as_a_formula(run: Run, folder: Path) -> None:
    for file in folder.iterdir():
        for row in csv.reader(file.open(newline="")):
            assert not [cell for cell in row if cell[:1] in tuple("=+@\t\r") and cell != "+1"]
    read = pd.read_csv(folder / "trials.csv", dtype={"params_formula": "str"})["params_formula"]
    assert set(read) == {f"'{COMMAND}", "+1"}


def test_names_and_messages_arrive_as_text(run: Run, folder: Path) -> None:
    read = pd.read_csv(folder / "trials.csv")
    assert read[f"params_{HOSTILE}"].equals(run.trials[f"params_{HOSTILE}"])
    assert read["failure"].dropna().tolist() == run.trials["failure"].dropna().tolist()


def test_headers_that_begin_as_formulas_are_text(tmp_path: Path) -> None:
    write_csv(pd.DataFrame({"=1+1": [1.5]}), tmp_path / "frame.csv")
    assert (tmp_path / "frame.csv").read_text() == "'=1+1\n1.5\n"


def test_a_copy_without_news_is_left_alone(run: Run, tmp_path: Path) -> None:
    export = CsvExport(tmp_path)
    export.update(run)
    (tmp_path / "trials.csv").write_text("untouched")
    assert export.update(Run(run.location)) == 0
    assert (tmp_path / "trials.csv").read_text() == "untouched"


def test_a_place_that_refuses_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(cv.RunError, match="file"):
        CsvExport(tmp_path / "file").update(run)
