"""The chunks that workers were sent and have not given back, with their deadlines: pure bookkeeping."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from caviar.backends.ray.actor import FETCH_S
from caviar.driver.messages import Task

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class InflightChunk:
    """A chunk that a worker was sent."""

    worker: str
    number: int
    allowance_s: float
    """Seconds that it may take."""
    deadline: float
    """Time at which it is overdue, in seconds of the driver's clock; NEVER while it waits behind another chunk."""


class InflightChunks(Mapping[Any, InflightChunk]):
    """The chunks that workers have not given back, by their answer streams. A worker trains one after the other.

    Args:
        limit_s: seconds that a trial may take; None for no limit.
        grace_s: seconds that a chunk may take beyond the limit of one trial.
    """

    def __init__(self, limit_s: float | None, grace_s: float) -> None:
        self._limit_s, self._grace_s = limit_s, grace_s
        self._chunks: dict[Any, InflightChunk] = {}

    def __iter__(self) -> Iterator[Any]:
        return iter(self._chunks)

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, stream: Any) -> InflightChunk:
        return self._chunks[stream]

    def add(self, stream: Any, worker: str, number: int, tasks: Sequence[Task], now: float) -> None:
        """Add a chunk that was sent. Its time runs from now, unless its worker is busy with another.

        Args:
            stream: the chunk's answer stream.
            worker: name of the worker.
            number: number of the chunk.
            tasks: the tasks of the chunk.
            now: the driver's clock, in seconds.
        """
        allowance_s = self._allowance_s(tasks)
        deadline = NEVER if self.chunks_of(worker) else now + allowance_s
        self._chunks[stream] = InflightChunk(worker, number, allowance_s, deadline)

    def end(self, stream: Any, now: float) -> None:
        """Remove a chunk that was given back, and start the time of the worker's next one."""
        ended = self._chunks.pop(stream)
        for other, chunk in self._chunks.items():
            if chunk.worker == ended.worker:
                self._chunks[other] = replace(chunk, deadline=now + chunk.allowance_s)
                break

    def drop(self, worker: str) -> None:
        """Remove the chunks of a worker that is gone."""
        self._chunks = {stream: chunk for stream, chunk in self._chunks.items() if chunk.worker != worker}

    def chunks_of(self, worker: str) -> frozenset[int]:
        """Return the numbers of the chunks that a worker has not given back."""
        return frozenset(chunk.number for chunk in self._chunks.values() if chunk.worker == worker)

    def next_deadline(self) -> float:
        """Return the earliest deadline."""
        return min((chunk.deadline for chunk in self._chunks.values()), default=NEVER)

    def overdue(self, now: float) -> list[Any]:
        """Return the streams of the chunks that are overdue."""
        return [stream for stream, chunk in self._chunks.items() if chunk.deadline <= now]

    def _allowance_s(self, tasks: Sequence[Task]) -> float:
        """Return the seconds that a chunk may take: the limit of one trial, beside others that are short."""
        if self._limit_s is None:
            return NEVER
        fetches = any(task.so_far is not None and task.so_far.checkpoint is not None for task in tasks)
        return self._limit_s + (FETCH_S if fetches else 0.0) + self._grace_s
