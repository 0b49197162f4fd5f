"""When a chunk is overdue: its time runs while its worker is at it."""

from dataclasses import replace

import pytest

from caviar.backends.ray.actor import FETCH_S
from caviar.backends.ray.inflight import GRACE_S, NEVER, InflightChunks
from caviar.driver.messages import Task
from caviar.trial import Outcome, Result, Trial

TASKS = [Task(trial=Trial(number=0, round=1, params={}, epochs=1, seed=0))]


@pytest.fixture
def running() -> InflightChunks:
    """Two chunks at one worker, a third at another, sent at once."""
    chunks = InflightChunks(60.0)
    for number, worker in enumerate(("first", "first", "other")):
        chunks.add(f"stream {number}", worker, number, TASKS, now=100.0 + number)
    return chunks


def test_the_time_of_a_chunk_runs_from_when_its_worker_begins_it_and_no_longer(
    running: InflightChunks,
) -> None:
    assert running.next_deadline() == 100.0 + 60.0 + GRACE_S
    assert running["stream 1"].deadline == NEVER
    running.end("stream 0", now=150.0)
    assert running["stream 1"].deadline == 150.0 + 60.0 + GRACE_S
    assert running.next_deadline() == 102.0 + 60.0 + GRACE_S, "the other worker's"
    assert running.overdue(165.0) == []
    assert running.overdue(180.0) == ["stream 2"]
    assert running.overdue(300.0) == ["stream 1", "stream 2"]


def test_a_chunk_that_was_given_back_and_those_of_a_worker_that_has_gone_are_not_overdue(
    running: InflightChunks,
) -> None:
    assert running.chunks_of("first") == {0, 1}
    running.end("stream 2", now=150.0)
    running.drop("first")
    assert list(running) == []
    assert running.next_deadline() == NEVER
    assert running.overdue(1e9) == []


def test_without_a_limit_nothing_is_overdue() -> None:
    chunks = InflightChunks(None)
    chunks.add("stream", "worker", 0, TASKS, now=0.0)
    assert chunks.overdue(1e9) == []


def test_fetching_a_state_takes_its_time() -> None:
    chunks = InflightChunks(60.0)
    paused = Result(trial=TASKS[0].trial, outcome=Outcome.STOPPED, checkpoint="stored")
    chunks.add("stream", "worker", 0, [replace(TASKS[0], so_far=paused)], now=0.0)
    assert chunks.next_deadline() == 60.0 + FETCH_S + GRACE_S
