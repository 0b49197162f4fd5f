"""Workers in this process, without Ray: deterministic, for tests and for a debugger."""

from collections import deque
from collections.abc import Sequence

from caviar.backends.worker import Worker
from caviar.data.splits import Dataset, Split
from caviar.driver.backend import Backend, BackendEvent
from caviar.driver.messages import ChunkDone, Task, WorkerJoined
from caviar.objective import Objective


class InlineBackend(Backend):
    """Workers that train one chunk a poll, in the order of submission."""

    def __init__(self, objective: Objective, dataset: Dataset | None, workers: int = 1) -> None:
        names = [f"inline-{number}" for number in range(workers)]
        self._workers = {name: Worker(name, "here", objective, dataset) for name in names}
        self._queue: deque[tuple[str, int, Sequence[Task], Split | None]] = deque()
        self._joining = names

    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        self._queue.append((worker, chunk, tasks, test))

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        del timeout_s  # there is nothing to wait for
        if self._joining:
            joined: list[BackendEvent] = [WorkerJoined(name) for name in self._joining]
            self._joining = []
            return joined
        if not self._queue:
            return []
        worker, chunk, tasks, test = self._queue.popleft()
        results = self._workers[worker].run(tasks, test)
        return [ChunkDone(worker, chunk, tuple(results))]

    def close(self) -> None:
        self._queue.clear()
