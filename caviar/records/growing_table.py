"""A table in memory to which rows are appended, at a cost that hardly depends on how many it has."""

import pyarrow as pa


class GrowingTable:
    """The rows appended so far, in few and compact pieces.

    Example:
        >>> growing = GrowingTable(pa.table({"trial": [0, 1]}))
        >>> growing.append(pa.table({"trial": [2]}))
        >>> growing.rows["trial"].to_pylist()
        [0, 1, 2]
    """

    def __init__(self, rows: pa.Table) -> None:
        self._pieces: list[pa.Table] = [rows.combine_chunks()]

    def append(self, rows: pa.Table) -> None:
        """Append rows.

        Pieces that are no larger than what follows them are joined, so each row is copied a few times at most: as
        often as the number of rows can be halved.
        """
        self._pieces.append(rows)
        while len(self._pieces) > 1 and len(self._pieces[-2]) <= len(self._pieces[-1]):
            self._pieces[-2:] = [pa.concat_tables(self._pieces[-2:]).combine_chunks()]

    @property
    def rows(self) -> pa.Table:
        """All rows, in the order in which they were appended."""
        return pa.concat_tables(self._pieces)
