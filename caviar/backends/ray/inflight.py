"""The chunks that workers were sent and have not given back, and when each is overdue: pure bookkeeping."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from caviar.backends.ray.actor import FETCH_S
from caviar.backends.worker import Task

GRACE_S = 5.0
"""A chunk may take so much longer than its limit: to be sent and answered, and for those that a trial is beside, which
are expected to take half a second (`controller.CHUNK_S`). Its worker tells by itself which trial took too long."""
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Sent:
    """A chunk that is under way."""

    worker: str
    chunk: int
    allowance_s: float
    """How long it may take."""
    deadline: float
    """When it is overdue; never, as long as it waits behind another."""


class UnderWay:
    """Chunks by the streams on which they are answered. A worker has one after the other, as they were sent.

    Args:
        limit_s: how long a trial may take; None for any time.
    """

    def __init__(self, limit_s: float | None) -> None:
        self._limit_s = limit_s
        self._sent: dict[Any, Sent] = {}

    def __iter__(self) -> Iterator[Any]:
        return iter(self._sent)

    def __contains__(self, stream: Any) -> bool:
        return stream in self._sent

    def __getitem__(self, stream: Any) -> Sent:
        return self._sent[stream]

    def add(self, stream: Any, worker: str, chunk: int, tasks: Sequence[Task], now: float) -> None:
        """A chunk was sent; its time runs, unless its worker is still at another."""
        allowance_s = self._allowance_s(tasks)
        deadline = NEVER if self.chunks_of(worker) else now + allowance_s
        self._sent[stream] = Sent(worker, chunk, allowance_s, deadline)

    def end(self, stream: Any, now: float) -> None:
        """A chunk was given back: the time of the next runs."""
        ended = self._sent.pop(stream)
        for other, behind in self._sent.items():
            if behind.worker == ended.worker:
                self._sent[other] = replace(behind, deadline=now + behind.allowance_s)
                break

    def drop(self, worker: str) -> None:
        """A worker has gone."""
        self._sent = {stream: sent for stream, sent in self._sent.items() if sent.worker != worker}

    def chunks_of(self, worker: str) -> frozenset[int]:
        """The chunks that a worker has not given back."""
        return frozenset(sent.chunk for sent in self._sent.values() if sent.worker == worker)

    def next_deadline(self) -> float:
        """When one of them will be overdue."""
        return min((sent.deadline for sent in self._sent.values()), default=NEVER)

    def overdue(self, now: float) -> list[Any]:
        """The streams of those that take too long."""
        return [stream for stream, sent in self._sent.items() if sent.deadline <= now]

    def _allowance_s(self, tasks: Sequence[Task]) -> float:
        """How long a chunk may take: one trial its limit, beside others that are short or trained before."""
        if self._limit_s is None:
            return NEVER
        fetching_s = FETCH_S if any(task.state is not None for task in tasks) else 0.0
        return self._limit_s + fetching_s + GRACE_S
