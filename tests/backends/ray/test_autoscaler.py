"""What a cluster that starts machines itself is asked for."""

import pytest

from caviar.backends.ray.autoscaler import missing
from caviar.backends.ray.placement import WorkerRequest
from caviar.resources import Resources

CORES = {"CPU": 4.0, "node:10.0.0.1": 1.0}
CARD = {"CPU": 2.0, "GPU": 1.0}
HEAD = {"memory": 8.0 * 2**30}


@pytest.mark.parametrize(
    ("machines", "workers", "gpus", "cores", "cards"),
    [
        ([CORES], None, None, 0, 0),
        ([CORES], 4, None, 0, 0),
        ([CORES], 6, None, 2, 0),
        ([CORES, CARD], 6, 3, 0, 2),
        ([CORES], 0, 2, 0, 2),
        ([HEAD], None, None, 1, 0),
        ([HEAD], None, 1, 0, 1),
        ([CARD], None, 0, 0, 0),
    ],
)
def test_cores_and_gpus_that_are_not_there_are_missing(
    machines: list[dict[str, float]], workers: int | None, gpus: int | None, cores: int, cards: int
) -> None:
    expected = [{"CPU": 1.0}] * cores + [{"GPU": 1.0}] * cards
    assert missing(WorkerRequest(None, workers, gpus), machines) == expected


@pytest.mark.parametrize(
    ("machines", "workers", "gpus", "count"),
    [
        ([CORES], None, None, 1),  # where not even one fits, one is asked for
        ([CARD], None, None, 0),
        ([CARD], 5, None, 3),
        ([CARD], None, 3, 4),
        ([CARD], None, 0, 0),
        ([CARD], 0, None, 0),
    ],
)
def test_workers_with_needs_of_their_own_are_missing_where_they_do_not_fit(
    machines: list[dict[str, float]], workers: int | None, gpus: int | None, count: int
) -> None:
    half = Resources(gpus=0.5)
    assert missing(WorkerRequest(half, workers, gpus), machines) == [half.needs()] * count
