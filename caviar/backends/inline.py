"""Workers in this process, without Ray: for tiny studies, for a debugger, and for tests."""

import os
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from caviar.backends.objective_pickle import copy_objective
from caviar.backends.worker import Worker
from caviar.data.splits import Dataset, Split
from caviar.driver.backend import Backend, BackendEvent, Measured, TrialFailed
from caviar.driver.messages import ChunkDone, Task, WorkerJoined
from caviar.engine import Progress
from caviar.errors import ClusterError
from caviar.objective import Objective
from caviar.training.function.random_generators import restore_generators, save_generators
from caviar.trial import Outcome, Result

SHOW_S = 0.5
"""Longest time between two polls during a trial that reports, in seconds."""
THREADS_VARIABLE = "OMP_NUM_THREADS"
"""Environment variable with the number of threads that numeric libraries start."""


class InlineBackend(Backend):
    """Workers that train the submitted chunks one after the other, in the order of submission, while they are polled.

    Args:
        objective: what a trial trains and measures.
        dataset: train and dev split; None if the objective has no data.
        workers: number of workers; they take turns.
    """

    def __init__(self, objective: Objective, dataset: Dataset | None, workers: int = 1) -> None:
        names = [f"cpu-{number}" for number in range(workers)]
        self._workers = {name: Worker(name, socket.gethostname(), objective, dataset) for name in names}
        self._queue: deque[tuple[str, int, Sequence[Task], Split | None]] = deque()
        self._joining = names
        self._running: Iterator[BackendEvent] = iter(())

    @property
    def expected_workers(self) -> Mapping[str, int]:
        return {"cpu": len(self._workers)}

    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        self._queue.append((worker, chunk, tasks, test))

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        del timeout_s  # there is nothing to wait for
        if self._joining:
            joined: list[BackendEvent] = [WorkerJoined(name) for name in self._joining]
            self._joining = []
            return joined
        events = self._continue()
        if not events and self._queue:
            self._running = self._train(*self._queue.popleft())
            events = self._continue()
        return events

    def close(self) -> None:
        self._queue.clear()
        self._running = iter(())

    def _continue(self) -> list[BackendEvent]:
        """Continue the running chunk until something must be shown; of its measurements the latest is."""
        until = time.monotonic() + SHOW_S
        latest: list[BackendEvent] = []
        for event in self._running:
            if not isinstance(event, Measured):
                return [*latest, event]
            latest = [event]
            if time.monotonic() > until:
                break
        return latest

    def _train(
        self, name: str, chunk: int, tasks: Sequence[Task], test: Split | None
    ) -> Iterator[BackendEvent]:
        worker = self._workers[name]
        if worker.damage is not None:
            raise ClusterError(
                f"{worker.damage}, and later trials would see it: a worker in this process cannot be replaced, "
                "so continue without --address here"
            )
        results: list[Result] = []
        for event in worker.stream(tasks, test):
            if isinstance(event, Progress):
                yield Measured(name, (event,))
                continue
            results.append(event)
            if event.outcome is Outcome.FAILED and len(results) < len(tasks):
                yield TrialFailed(event.trial, str(event.failure))
        yield ChunkDone(name, chunk, tuple(results))


class ThisProcess(InlineBackend):
    """The one worker of `--address here`. Its trials come to the same numbers as those on Ray.

    A function is copied for each trial, and numeric libraries use as many threads as on a worker of Ray. The global
    random generators, which each trial seeds, are put back in the end.

    Args:
        objective: what a trial trains and measures.
        dataset: train and dev split; None if the objective has no data.

    Raises:
        StudyError: the objective cannot be pickled.
    """

    def __init__(self, objective: Objective, dataset: Dataset | None) -> None:
        with ExitStack() as undo:
            undo.callback(restore_generators, save_generators())
            undo.enter_context(_limited_threads(int(objective.resources.cpus) if objective.resources else 1))
            super().__init__(copy_objective(objective), dataset)
            self._undo = undo.pop_all()

    def close(self) -> None:
        super().close()
        self._undo.close()


@contextmanager
def _limited_threads(count: int) -> Iterator[None]:
    """Limit the threads of numeric libraries while inside, as on a worker of Ray: sums may depend on their number."""
    from threadpoolctl import threadpool_limits

    before = os.environ.get(THREADS_VARIABLE)
    limit = before if before is not None and before.isdigit() else str(max(count, 1))
    torch: Any = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else None
    os.environ[THREADS_VARIABLE] = limit  # of libraries that trials import
    try:
        if torch:
            torch.set_num_threads(int(limit))
        with threadpool_limits(int(limit)):
            yield
    finally:
        if torch:
            torch.set_num_threads(threads)
        del os.environ[THREADS_VARIABLE]
        if before is not None:
            os.environ[THREADS_VARIABLE] = before
