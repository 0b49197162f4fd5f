"""When a chunk is overdue: its time runs while its worker is at it."""

from dataclasses import replace

import pytest

from caviar.backends.ray.actor import FETCH_S
from caviar.backends.ray.inflight import GRACE_S, NEVER, UnderWay
from caviar.backends.worker import Task
from caviar.trial import Trial

TASKS = [Task(trial=Trial(number=0, round=1, params={}, epochs=1, seed=0))]


@pytest.fixture
def under_way() -> UnderWay:
    """Two chunks at one worker, a third at another, sent at once."""
    chunks = UnderWay(60.0)
    for number, worker in enumerate(("first", "first", "other")):
        chunks.add(f"stream {number}", worker, number, TASKS, now=100.0 + number)
    return chunks


def test_the_time_of_a_chunk_runs_from_when_its_worker_begins_it_and_no_longer(under_way: UnderWay) -> None:
    assert under_way.next_deadline() == 100.0 + 60.0 + GRACE_S
    assert under_way["stream 1"].deadline == NEVER
    under_way.end("stream 0", now=150.0)
    assert under_way["stream 1"].deadline == 150.0 + 60.0 + GRACE_S
    assert under_way.next_deadline() == 102.0 + 60.0 + GRACE_S, "the other worker's"
    assert under_way.overdue(165.0) == []
    assert under_way.overdue(180.0) == ["stream 2"]
    assert under_way.overdue(300.0) == ["stream 1", "stream 2"]


def test_a_chunk_that_was_given_back_and_those_of_a_worker_that_has_gone_are_not_overdue(
    under_way: UnderWay,
) -> None:
    assert under_way.chunks_of("first") == {0, 1}
    under_way.end("stream 2", now=150.0)
    under_way.drop("first")
    assert list(under_way) == []
    assert under_way.next_deadline() == NEVER
    assert under_way.overdue(1e9) == []


def test_without_a_limit_nothing_is_overdue() -> None:
    chunks = UnderWay(None)
    chunks.add("stream", "worker", 0, TASKS, now=0.0)
    assert chunks.overdue(1e9) == []


def test_fetching_a_state_takes_its_time() -> None:
    chunks = UnderWay(60.0)
    chunks.add("stream", "worker", 0, [replace(TASKS[0], state="there")], now=0.0)
    assert chunks.next_deadline() == 60.0 + FETCH_S + GRACE_S
