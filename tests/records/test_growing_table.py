"""Tables that grow in memory."""

import pyarrow as pa

from caviar.records.growing_table import GrowingTable


def test_many_small_appends_leave_few_pieces() -> None:
    growing = GrowingTable(pa.table({"trial": pa.array([], pa.int64())}))
    for number in range(1_000):
        growing.append(pa.table({"trial": [number]}))
    assert growing.rows["trial"].to_pylist() == list(range(1_000))
    assert growing.rows["trial"].num_chunks <= 10
