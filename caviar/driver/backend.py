"""The interface between the loop and the workers: submit, poll, close."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caviar.data.splits import Split
from caviar.driver.messages import ChunkDone, Task, WorkerJoined, WorkerLost
from caviar.engine import Progress
from caviar.trial import Trial


@dataclass(frozen=True, slots=True)
class Measured:
    """New measurements of trials that are still running. Some may be skipped: the final result has them all."""

    worker: str
    progress: tuple[Progress, ...]


@dataclass(frozen=True, slots=True)
class TrialFailed:
    """A trial that has failed while others of its chunk are still running. Its result comes later, with theirs."""

    trial: Trial
    failure: str


BackendEvent = WorkerJoined | WorkerLost | ChunkDone | Measured | TrialFailed


class Backend(ABC):
    """Workers of a study. Every submitted chunk comes back as `ChunkDone`, or its worker as `WorkerLost`."""

    @property
    def expected_workers(self) -> Mapping[str, int]:
        """Number of its workers, present and expected, for each of their devices: "cpu", "cuda" or both."""
        return {"cpu": 1}

    @property
    def devices(self) -> frozenset[str]:
        """Devices of its workers, present and expected."""
        return frozenset(self.expected_workers)

    @abstractmethod
    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        """Send a chunk to a worker that has joined. Return at once, even if the worker has just died.

        Args:
            worker: its name.
            chunk: the chunk's number, unique in the study.
            tasks: what to train.
            test: the test split, with the final trial only.
        """

    @abstractmethod
    def poll(self, timeout_s: float) -> list[BackendEvent]:
        """Return the events since the last call; wait up to `timeout_s` seconds for the first."""

    def clock(self) -> float:
        """Return the seconds of a monotonic clock."""
        return time.monotonic()

    @abstractmethod
    def close(self) -> None:
        """Stop all workers and discard all running chunks."""
