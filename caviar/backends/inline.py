"""Workers in this process: deterministic, without Ray. For tests, and for debugging with a debugger."""

from collections import deque
from collections.abc import Sequence

from caviar.backends.worker import Task, Worker
from caviar.data.splits import Dataset, Split
from caviar.driver.backend import Arrived, Backend, Happening
from caviar.driver.messages import Joined
from caviar.objective import Objective


class InlineBackend(Backend):
    """Trains each chunk when it is polled for, in the order of submission."""

    def __init__(self, objective: Objective, dataset: Dataset | None, workers: int = 1) -> None:
        names = [f"inline-{number}" for number in range(workers)]
        self._workers = {name: Worker(name, "here", objective, dataset) for name in names}
        self._queue: deque[tuple[str, int, Sequence[Task], Split | None]] = deque()
        self._joining = names

    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        self._queue.append((worker, chunk, tasks, test))

    def poll(self, timeout_s: float) -> list[Happening]:
        del timeout_s  # there is nothing to wait for
        if self._joining:
            joined: list[Happening] = [Joined(name) for name in self._joining]
            self._joining = []
            return joined
        if not self._queue:
            return []
        worker, chunk, tasks, test = self._queue.popleft()
        finished = self._workers[worker].run(tasks, test)
        return [Arrived(worker, chunk, tuple(finished))]

    def close(self) -> None:
        self._queue.clear()
