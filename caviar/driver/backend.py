"""The interface between the loop and whatever runs workers: submit, poll, close."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from caviar.backends.worker import Finished, Task
from caviar.data.splits import Split
from caviar.driver.messages import Joined, Lost
from caviar.engine import Progress


@dataclass(frozen=True, slots=True)
class Arrived:
    """A chunk came back from a worker."""

    worker: str
    chunk: int
    finished: tuple[Finished, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """Trials that are still under way were measured. Not all are told of: what arrives in the end is whole."""

    worker: str
    progress: tuple[Progress, ...]


Happening = Joined | Lost | Arrived | Measured


class Backend(ABC):
    """Workers, somewhere. Every chunk that is submitted comes back as `Arrived`, or its worker as `Lost`."""

    @property
    def devices(self) -> frozenset[str]:
        """What its workers train on, those too that have yet to join: "cpu", "cuda" or both."""
        return frozenset({"cpu"})

    @abstractmethod
    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        """Send a chunk to a worker that has joined; returns at once, also where the worker has just died."""

    @abstractmethod
    def poll(self, timeout_s: float) -> list[Happening]:
        """What has happened since the last call; waits for something to, but not longer than the timeout."""

    def clock(self) -> float:
        """Seconds, of a clock that only goes forward."""
        return time.monotonic()

    @abstractmethod
    def close(self) -> None:
        """Stop all workers and let go of what `submit` left under way."""
