"""Deadlines of chunks: a chunk's time runs while its worker trains it."""

from dataclasses import replace

import pytest

from caviar.backends.ray.actor import FETCH_S
from caviar.backends.ray.inflight import NEVER, InflightChunks
from caviar.driver.messages import Task
from caviar.trial import Outcome, Result, Trial

TASKS = [Task(trial=Trial(number=0, round=1, params={}, epochs=1, seed=0))]


@pytest.fixture
def inflight() -> InflightChunks:
    """Two chunks at one worker and a third at another, sent a second apart; each may take 65 seconds."""
    chunks = InflightChunks(60.0, grace_s=5.0)
    for number, worker in enumerate(("first", "first", "other")):
        chunks.add(f"stream {number}", worker, number, TASKS, now=100.0 + number)
    return chunks


def test_a_backend_without_chunks_knows_that(inflight: InflightChunks) -> None:
    assert not InflightChunks(60.0, grace_s=5.0)
    assert len(inflight) == 3


def test_time_runs_while_a_chunk_is_trained(inflight: InflightChunks) -> None:
    assert inflight.next_deadline() == 165.0
    assert inflight["stream 1"].deadline == NEVER
    inflight.end("stream 0", now=150.0)
    assert inflight["stream 1"].deadline == 215.0
    assert inflight.next_deadline() == 167.0, "the other worker's"
    assert inflight.overdue(165.0) == []
    assert inflight.overdue(180.0) == ["stream 2"]
    assert inflight.overdue(300.0) == ["stream 1", "stream 2"]


def test_returned_and_dropped_chunks_are_not_overdue(inflight: InflightChunks) -> None:
    assert inflight.chunks_of("first") == {0, 1}
    inflight.end("stream 2", now=150.0)
    inflight.drop("first")
    assert not inflight
    assert inflight.next_deadline() == NEVER
    assert inflight.overdue(1e9) == []


def test_without_a_limit_nothing_is_overdue() -> None:
    chunks = InflightChunks(None, grace_s=5.0)
    chunks.add("stream", "worker", 0, TASKS, now=0.0)
    assert chunks.overdue(1e9) == []


def test_fetching_a_checkpoint_has_its_own_time() -> None:
    chunks = InflightChunks(60.0, grace_s=5.0)
    paused = Result(trial=TASKS[0].trial, outcome=Outcome.STOPPED, checkpoint="stored")
    chunks.add("stream", "worker", 0, [replace(TASKS[0], so_far=paused)], now=0.0)
    assert chunks.next_deadline() == 65.0 + FETCH_S
