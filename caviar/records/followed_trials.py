"""The trials of a run that another process records, read again and again."""

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa

from caviar.errors import RunError
from caviar.records.frames import Run
from caviar.records.schema import to_frame
from caviar.records.segments import Segment, open_tables

_ATTEMPTS = 5
"""Number of times that the trials are read while their files are merged."""


class FollowedTrials:
    """Columns of the recorded trials, at the cost of reading the new ones: a segment never changes.

    Args:
        run: the run.
        columns: names of columns.
    """

    def __init__(self, run: Run, columns: Sequence[str]) -> None:
        self._segments, _ = open_tables(run.location, run.study_file)
        self._columns = list(columns)
        self._tables: dict[Segment, pa.Table] = {}

    def read(self) -> pd.DataFrame:
        """Return the rows that are recorded by now, in the order in which they were recorded.

        Raises:
            DamagedError: a segment is missing, or cannot be read back.
            RunError: the disk or the store cannot be read.
        """
        for _ in range(_ATTEMPTS):
            try:
                self._tables = {segment: self._read(segment) for segment in self._segments.complete(0)}
            except FileNotFoundError:
                continue  # it was merged between listing and reading
            empty = self._segments.schema.empty_table().select(self._columns)
            return to_frame(pa.concat_tables([empty, *self._tables.values()]))
        raise RunError(
            f"{self._segments.folder}: files vanish while they are read; is the run being deleted?"
        )

    def _read(self, segment: Segment) -> pa.Table:
        known = self._tables.get(segment)
        return self._segments.read_segment(segment).select(self._columns) if known is None else known
