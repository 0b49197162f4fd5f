"""The files that make up a table, how they are merged, and how damage to them is detected."""

import os
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from caviar.errors import DamagedError
from caviar.records import schema
from caviar.records.segments import Segments
from caviar.storage.local import Disk
from caviar.storage.location import Location
from tests.object_store import in_memory
from tests.objectives import METRICS
from tests.records.ledgers import STUDY, result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a table."""
    folder = tmp_path / "trials"
    folder.mkdir()
    return folder


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
def test_files_replaced_by_merged_ones_are_ignored(
    folder: Path, names: list[str], current: list[str]
) -> None:
    for name in names:
        (folder / f"part-{name}.parquet").touch()
    listed = Segments(Disk(folder.parent), "trials", pa.schema([])).current()
    assert [segment.name for segment in listed] == [f"part-{name}.parquet" for name in current]


def test_listing_takes_linear_time() -> None:
    segments = Segments(in_memory(), "trials", pa.schema([]))
    for number in range(5_000):
        (segments.folder / f"part-{number:08d}.parquet").write(b"")
    began = time.process_time()
    assert len(segments.current()) == 5_000
    assert time.process_time() - began < 1


def filled(run: Location, count: int, every: int = 4) -> Segments:
    """Write segments of one row each, and merge them now and then, as the ledger does."""
    schema = pa.schema([("number", pa.int64())])
    segments = Segments(run, "trials", schema)
    for number in range(count):
        segments.write(number, pa.table({"number": [number]}, schema=schema))
        if number % every == every - 1:
            segments.merge()
    return segments


def test_the_number_of_files_grows_logarithmically() -> None:
    segments = filled(in_memory(), 300)
    assert len(segments.folder.files()) == len(segments.current()) <= 9
    assert segments.read()["number"].to_pylist() == list(range(300))


def test_rows_are_rewritten_a_logarithmic_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    write = Segments._write

    def counting(self: Segments, first: int, last: int, table: pa.Table) -> None:
        written.append(table.num_rows)
        write(self, first, last, table)

    monkeypatch.setattr(Segments, "_write", counting)
    filled(in_memory(), 256)
    assert sum(written) <= 256 * 9


def test_large_files_are_not_merged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caviar.records.segments.MAX_MERGED_BYTES", 0)
    segments = filled(in_memory(), 64)
    assert len(segments.current()) == 16
    assert segments.read()["number"].to_pylist() == list(range(64))


@pytest.fixture(params=["trials", "curves"])
def table(request: pytest.FixtureRequest) -> pa.Table:
    results = [result(number) for number in range(3)]
    if request.param == "trials":
        columns = schema.trials_schema(STUDY.space, METRICS)
        return schema.trials_table(results, STUDY.space, columns)
    return schema.curves_table(results, schema.curves_schema(METRICS))


def assert_damaged(segments: Segments) -> None:
    with pytest.raises(
        DamagedError, match=r"part-00000000.*\.parquet is damaged .*`caviar resume /.* --repair`"
    ):
        segments.read()


def test_every_flipped_bit_is_detected(folder: Path, table: pa.Table) -> None:
    segments = Segments(Disk(folder.parent), "trials", table.schema)
    segments.write(0, table)
    (segment,) = segments.current()
    detected = 0
    with (folder / segment.name).open("r+b", buffering=0) as file:
        content = file.read()
        for place, byte in enumerate(content):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), place)
                try:
                    segments.read_segment(segment)
                except DamagedError:
                    detected += 1
            os.pwrite(file.fileno(), bytes([byte]), place)
    assert detected == 8 * len(content)
    assert segments.read().equals(table)


def test_every_truncation_is_detected(folder: Path, table: pa.Table) -> None:
    segments = Segments(Disk(folder.parent), "trials", table.schema)
    segments.write(0, table)
    (file,) = folder.iterdir()
    for length in reversed(range(file.stat().st_size)):
        os.truncate(file, length)
        assert_damaged(segments)


@pytest.mark.parametrize("name", ["part-00000000.parquet", "part-00000000.0123456789abcdef.parquet"])
def test_segments_without_their_checksum_are_damaged(folder: Path, table: pa.Table, name: str) -> None:
    parquet.write_table(table, folder / name)
    assert_damaged(Segments(Disk(folder.parent), "trials", table.schema))


def test_merged_segments_have_checksums(folder: Path, table: pa.Table) -> None:
    segments = Segments(Disk(folder.parent), "trials", table.schema)
    for number in range(3):
        segments.write(number, table)
    segments.merge()
    (file,) = folder.iterdir()
    assert pd.read_parquet(folder).equals(segments.read().to_pandas())
    content = bytearray(file.read_bytes())
    content[content.index(b"parquet-cpp")] ^= 1  # in the footer, where it changes no value
    file.write_bytes(content)
    with pytest.raises(DamagedError, match=file.name):
        segments.read()
