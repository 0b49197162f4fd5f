"""Tables that only grow: a folder of Parquet segments, each written once and never changed.

    part-00000007.6ca13d52ca70c883.parquet             the eighth segment
    part-00000000-00000199.a5f3c6a11b03839d.parquet    the first two hundred, merged into one file

The files that a merged one replaces are deleted after it is written. Any Parquet reader reads the folder as one table,
for example `pd.read_parquet("runs/digits/trials")`. The name of a file ends with the first 16 hexadecimal digits of
the SHA-256 of its content, which reveal each flipped bit and each truncation. Parquet's own checksums cover the pages
but not the footer, where a flipped bit can turn a column into zeros or drop rows. The numbers have no gaps, which
reveals a lost file; `ledger.json` says how many there are.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import pyarrow as pa
from pyarrow import compute, parquet

from caviar.errors import DamagedError, RunError
from caviar.records import schema
from caviar.records.json_files import checksum
from caviar.records.run_files import StudyFile, repair_hint
from caviar.storage.location import Location

MAX_MERGED_BYTES = 2**20
"""Bytes beyond which a file is not merged again: they limit the memory of a merge, and the trials lost to damage."""
_ATTEMPTS = 5
"""Number of times that a table is read while another process merges its files."""
_LISTING_S = 0.02
"""Seconds between listings of a folder from which a file is missing."""
_NAME = re.compile(r"part-(\d{8})(?:-(\d{8}))?(?:\.[0-9a-f]+)?\.parquet")


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A file that holds the segments from `first` to `last`."""

    first: int
    last: int
    name: str

    def overlaps(self, other: Self) -> bool:
        """Return True if both hold a segment of the same number."""
        return self.first <= other.last and other.first <= self.last


class Segments:
    """The segments of one table.

    Args:
        run: the run directory.
        table: the name of the table's folder.
        schema: the schema of every segment.
    """

    def __init__(self, run: Location, table: str, schema: pa.Schema) -> None:
        self._run, self.folder, self.schema = run, run / table, schema

    def current(self) -> list[Segment]:
        """Return the files that make up the table, in order, without those that a merged one replaces."""
        matches = filter(None, map(_NAME.fullmatch, self.folder.files()))
        found = [Segment(int(m[1]), int(m[2] or m[1]), m[0]) for m in matches]
        found.sort(key=lambda s: (s.first, -s.last, s.name))  # a merged file before those that it replaces
        current: list[Segment] = []
        for segment in found:
            if not current or segment.last > current[-1].last:
                current.append(segment)
        return current

    def write(self, number: int, table: pa.Table) -> None:
        """Write a segment; it is durable on return."""
        self._write(number, number, table)

    def read(
        self,
        recorded: int = 0,
        *,
        columns: Sequence[str] | None = None,
        rows: compute.Expression | None = None,
        within: Sequence[Segment] | None = None,
    ) -> pa.Table:
        """Return the table or a part of it, also while another process appends to it and merges it.

        Args:
            recorded: number of segments that it has at least.
            columns: the columns to read; by default all.
            rows: a condition on the rows to read, in these columns; by default all.
            within: segments of which one has the same numbers as each row to read. Other files are not opened.

        Raises:
            DamagedError: a segment is missing, or one that is read cannot be read back.
        """
        tables = self.read_files(recorded, columns=columns, rows=rows, within=within).values()
        return pa.concat_tables(tables) if tables else self._part_of_schema(columns).empty_table()

    def read_files(
        self,
        recorded: int = 0,
        *,
        columns: Sequence[str] | None = None,
        rows: compute.Expression | None = None,
        within: Sequence[Segment] | None = None,
    ) -> dict[Segment, pa.Table]:
        """Return what `read` does, by the file that holds it."""
        for _ in range(_ATTEMPTS):
            files = self.complete(recorded)
            if within is not None:
                files = [file for file in files if any(map(file.overlaps, within))]
            try:
                tables = self._tables(files, columns, rows)
            except FileNotFoundError:
                continue  # it was merged between listing and reading
            return dict(zip(files, tables, strict=True))
        raise RunError(f"{self.folder}: files vanish while they are read; is the run being deleted?")

    def complete(self, recorded: int) -> list[Segment]:
        """Return the files that make up the table, as `current` does.

        Args:
            recorded: number of segments that it has at least.

        Raises:
            DamagedError: a segment is missing.
        """
        for _ in range(_ATTEMPTS):
            segments = self.current()
            gaps = missing(segments, recorded)
            if not gaps:
                return segments
            # A merge while the folder is listed may hide both the old files and the new one
            time.sleep(_LISTING_S)
        with repair_hint(self._run):
            raise DamagedError(f"{self.folder} lacks {_numbers(gaps)}")

    def read_segment(self, segment: Segment) -> pa.Table:
        """Return the table of one file."""
        return self._table(segment, (self.folder / segment.name).read())

    def merge(self) -> None:
        """Merge the single segments, and the files before them that hold no more segments than they do together.

        So the number of files grows with the logarithm of the number of segments, and so does how often a row is
        written. Files of more than MAX_MERGED_BYTES are left as they are.
        """
        files, sizes = self.current(), self.folder.files()
        merged = [segment for segment in files if segment.first == segment.last]
        if len(merged) < 2:
            return
        for before in reversed([segment for segment in files if segment.last < merged[0].first]):
            too_many = before.last - before.first > merged[-1].last - merged[0].first
            if too_many or sizes[before.name] > MAX_MERGED_BYTES:
                break
            merged.insert(0, before)
        self._write(merged[0].first, merged[-1].last, pa.concat_tables(self._tables(merged)))
        self.folder.remove(segment.name for segment in merged)
        pa.default_memory_pool().release_unused()

    def fill(self, recorded: int) -> None:
        """Write empty segments in place of the missing ones."""
        for first, last in missing(self.current(), recorded):
            self._write(first, last, self.schema.empty_table())

    def remove_replaced(self) -> None:
        """Delete files that a merged one replaces."""
        current = {segment.name for segment in self.current()}
        self.folder.remove(
            name for name in self.folder.files() if _NAME.fullmatch(name) and name not in current
        )

    def _tables(
        self,
        segments: Sequence[Segment],
        columns: Sequence[str] | None = None,
        rows: compute.Expression | None = None,
    ) -> list[pa.Table]:
        contents = self.folder.read_each(segment.name for segment in segments)
        tables = []
        for segment, content in zip(segments, contents, strict=True):
            table = self._table(segment, content, columns)
            tables.append(table if rows is None else table.filter(rows))
        return tables

    def _table(self, segment: Segment, content: bytes, columns: Sequence[str] | None = None) -> pa.Table:
        wanted = self._part_of_schema(columns)
        with repair_hint(self._run):
            try:
                if f".{checksum(content)}." not in segment.name:
                    raise ValueError("its content does not match the checksum in its name")
                table = parquet.ParquetFile(pa.BufferReader(content)).read(wanted.names)
                return table.select(wanted.names).cast(wanted)
            except (OSError, pa.ArrowException, KeyError, ValueError) as error:
                why = str(error).splitlines()[0]
                raise DamagedError(f"{self.folder / segment.name} is damaged ({why})") from error

    def _part_of_schema(self, columns: Sequence[str] | None) -> pa.Schema:
        return self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])

    def _write(self, first: int, last: int, table: pa.Table) -> None:
        stream = pa.BufferOutputStream()
        parquet.write_table(table, stream, compression="zstd", write_statistics=False)
        content = stream.getvalue().to_pybytes()
        (self.folder / segment_name(first, last, content)).write(content)


def open_tables(run: Location, study_file: StudyFile) -> tuple[Segments, Segments]:
    """Return the segments of a run directory's two tables, trials and curves."""
    space, metrics = study_file.space(), study_file.metrics
    columns = schema.trials_schema(
        space, metrics, study_file.has_given, study_file.panda, study_file.has_origin
    )
    trials = Segments(run, "trials", columns)
    return trials, Segments(run, "curves", schema.curves_schema(metrics))


def missing(segments: Sequence[Segment], recorded: int) -> list[tuple[int, int]]:
    """Return the first and the last number of each row of segments that no file holds.

    Args:
        segments: the files of a table, in order.
        recorded: number of segments that the table has at least.

    Example:
        >>> missing([Segment(0, 3, ""), Segment(6, 6, "")], recorded=9)
        [(4, 5), (7, 8)]
    """
    gaps, expected = [], 0
    for first, last in [*((s.first, s.last) for s in segments), (recorded, recorded)]:
        if first > expected:
            gaps.append((expected, first - 1))
        expected = max(expected, last + 1)
    return gaps


def segment_name(first: int, last: int, content: bytes) -> str:
    """Return the name of the file that holds the segments from `first` to `last`, with its checksum in it."""
    numbers = f"{first:08d}" if first == last else f"{first:08d}-{last:08d}"
    return f"part-{numbers}.{checksum(content)}.parquet"


def _numbers(gaps: Sequence[tuple[int, int]]) -> str:
    """Return the numbers of missing segments in words."""
    ranges = [f"{first}" if first == last else f"{first} to {last}" for first, last in gaps]
    return f"segment{'s' if gaps[0][0] < gaps[-1][1] else ''} {', '.join(ranges)}"
