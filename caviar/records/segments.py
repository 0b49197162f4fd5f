"""A table that only grows: a folder of Parquet segments, each written whole and never changed.

    part-00000007.parquet              the eighth segment
    part-00000000-00000199.parquet     the first two hundred, merged; those that it covers are deleted after

A folder read by any Parquet reader, such as `pd.read_parquet("runs/digits/trials")`, is the whole table. Each
segment is sealed, so that a damaged one is noticed rather than believed.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import parquet

from caviar.errors import DamagedError, RunError
from caviar.storage.location import Location

LARGE = 2**20
"""Bytes of a file that is merged with no other: this limits what a merge takes of memory, and what damage costs."""
_NAME = re.compile(r"part-(\d{8})(?:-(\d{8}))?\.parquet")


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A file that holds the segments from `first` to `last`."""

    first: int
    last: int
    name: str


class Segments:
    """The segments of one table.

    Args:
        folder: where they are.
        schema: of every segment.
    """

    def __init__(self, folder: Location, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, schema

    def list(self) -> list[Segment]:
        """The files that make up the table, in order; those that a merged one covers do not count."""
        found = []
        for name in self.folder.files():
            match = _NAME.fullmatch(name)
            if match:
                first = int(match[1])
                found.append(Segment(first, int(match[2] or first), name))
        current: list[Segment] = []
        for segment in sorted(found, key=lambda s: (s.first, -s.last)):  # a file before those that it covers
            if not current or segment.last > current[-1].last:
                current.append(segment)
        return current

    def write(self, number: int, table: pa.Table) -> None:
        """Add a segment; durable on return."""
        self._write(f"part-{number:08d}.parquet", table)

    def read(self) -> pa.Table:
        """The whole table, also while it grows and is merged by another process.

        Raises:
            DamagedError: a segment cannot be read back.
        """
        for _ in range(5):
            try:
                tables = self._tables(self.list())
            except FileNotFoundError:
                continue  # merged between listing and reading
            return pa.concat_tables(tables) if tables else self.schema.empty_table()
        raise RunError(f"{self.folder}: its files vanish while they are read; is it being deleted?")

    def read_segment(self, segment: Segment) -> pa.Table:
        """The table of one file, in the schema of this run."""
        return self._table(segment, (self.folder / segment.name).read())

    def merge(self) -> None:
        """Merge the single segments into one file, and with it those before that hold no more than it would.

        So their number grows with the logarithm of that of the segments, and each row is written as often; but a file
        of LARGE bytes is left as it is.
        """
        files = self.list()
        merged = [segment for segment in files if segment.first == segment.last]
        if len(merged) < 2:
            return
        for before in reversed([segment for segment in files if segment.last < merged[0].first]):
            too_many = before.last - before.first > merged[-1].last - merged[0].first
            if too_many or (self.folder / before.name).size() > LARGE:
                break
            merged.insert(0, before)
        name = f"part-{merged[0].first:08d}-{merged[-1].last:08d}.parquet"
        self._write(name, pa.concat_tables(self._tables(merged)))
        self.folder.remove(segment.name for segment in merged)
        pa.default_memory_pool().release_unused()

    def remove_covered(self) -> None:
        """Delete files whose segments are in a merged one, and what a killed process left half-written."""
        self.folder.tidy()
        current = {segment.name for segment in self.list()}
        self.folder.remove(
            name for name in self.folder.files() if _NAME.fullmatch(name) and name not in current
        )

    def _tables(self, segments: Sequence[Segment]) -> Sequence[pa.Table]:
        contents = self.folder.read_each(segment.name for segment in segments)
        return [self._table(segment, content) for segment, content in zip(segments, contents, strict=True)]

    def _table(self, segment: Segment, content: bytes) -> pa.Table:
        try:
            file = parquet.ParquetFile(pa.BufferReader(unsealed(content)))
            return file.read().select(self.schema.names).cast(self.schema)
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise DamagedError(
                f"{self.folder / segment.name} is damaged ({str(error).splitlines()[0]}); all else is intact: "
                f"`caviar resume {self.folder.parent.typed} --repair` sets it aside and trains its trials again"
            ) from error

    def _write(self, name: str, table: pa.Table) -> None:
        content = pa.BufferOutputStream()
        parquet.write_table(table, content, compression="zstd", write_statistics=False)
        (self.folder / name).write(sealed(content.getvalue().to_pybytes()))


def sealed(parquet_file: bytes) -> bytes:
    """A Parquet file with the digest of all its bytes in it.

    Parquet's own checksums are those of pages: a flipped bit in the footer can make a column zeros, or drop rows. The
    digest stands before the footer, where readers see nothing: they find the footer from the end, and all else by what
    that says, which is counted from the beginning.
    """
    footer = _footer(parquet_file)
    return parquet_file[:footer] + hashlib.sha256(parquet_file).digest() + parquet_file[footer:]


def unsealed(content: bytes) -> bytes:
    """The Parquet file that was sealed.

    Raises:
        ValueError: a bit of it is not what it was.
    """
    footer = _footer(content)
    seal = max(footer - hashlib.sha256().digest_size, 0)
    parquet_file = content[:seal] + content[footer:]
    if hashlib.sha256(parquet_file).digest() != content[seal:footer]:
        raise ValueError("its digest is that of another content")
    return parquet_file


def _footer(content: bytes) -> int:
    """Where the footer of a Parquet file begins: the file ends with the footer, its length, and PAR1."""
    length = int.from_bytes(content[-8:-4], "little")
    return max(len(content) - 8 - length, 0)
