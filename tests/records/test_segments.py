"""Which files make up a table."""

import time
from pathlib import Path

import pyarrow as pa
import pytest

from caviar.records.disk import Disk
from caviar.records.segments import Segments


@pytest.mark.parametrize(
    ("names", "current"),
    [
        (["00000000", "00000001", "00000000-00000001"], ["00000000-00000001"]),
        (["00000000-00000003", "00000000-00000001", "00000004"], ["00000000-00000003", "00000004"]),
        (["00000002", "00000001-00000003", "00000000"], ["00000000", "00000001-00000003"]),
        (["00000001-00000001", "00000001"], ["00000001-00000001"]),
        ([], []),
    ],
)
def test_files_that_a_merged_one_covers_do_not_count(
    tmp_path: Path, names: list[str], current: list[str]
) -> None:
    for name in names:
        (tmp_path / f"part-{name}.parquet").touch()
    listed = Segments(Disk(tmp_path), pa.schema([])).list()
    assert [segment.name for segment in listed] == [f"part-{name}.parquet" for name in current]


def test_listing_takes_time_in_proportion_to_the_files(tmp_path: Path) -> None:
    for number in range(5_000):
        (tmp_path / f"part-{number:08d}.parquet").touch()
    segments = Segments(Disk(tmp_path), pa.schema([]))
    began = time.perf_counter()
    assert len(segments.list()) == 5_000
    assert time.perf_counter() - began < 1


def filled(folder: Path, count: int, every: int = 4) -> Segments:
    """So many segments of one row each, merged now and then as the ledger does."""
    schema = pa.schema([("number", pa.int64())])
    segments = Segments(Disk(folder), schema)
    for number in range(count):
        segments.write(number, pa.table({"number": [number]}, schema=schema))
        if number % every == every - 1:
            segments.merge()
    return segments


def test_the_number_of_files_grows_with_the_logarithm_of_the_segments(tmp_path: Path) -> None:
    segments = filled(tmp_path, 300)
    assert len(list(tmp_path.iterdir())) == len(segments.list()) <= 9
    assert segments.read()["number"].to_pylist() == list(range(300))


def test_each_row_is_written_only_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    write = Segments._write

    def counting(self: Segments, name: str, table: pa.Table) -> None:
        written.append(table.num_rows)
        write(self, name, table)

    monkeypatch.setattr(Segments, "_write", counting)
    filled(tmp_path, 256)
    assert sum(written) <= 256 * 9


def test_large_files_are_merged_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caviar.records.segments.LARGE", 0)
    segments = filled(tmp_path, 64)
    assert len(segments.list()) == 16
    assert segments.read()["number"].to_pylist() == list(range(64))
