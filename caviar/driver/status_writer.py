"""The writer of the status file, from which others see what the driver does now (`caviar.records.status`)."""

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from heapq import nsmallest
from typing import TYPE_CHECKING

from caviar.driver.messages import Chunk, Task
from caviar.driver.watcher import Watcher
from caviar.engine import Progress
from caviar.errors import RunError
from caviar.records.status import STATUS, RunningTrial, Status
from caviar.storage.location import Location, this_process
from caviar.trial import Measurement

if TYPE_CHECKING:
    import pandas as pd

WRITE_S = 1.0
"""Shortest time between two writes, in seconds."""
WRITE_FACTOR = 20
"""Shortest time between two writes, in units of what the last one took: a slow store is written to less often."""
MAX_LISTED = 100
"""Largest number of running trials that are listed."""


class StatusWriter(Watcher):
    """A watcher that writes the status file of a run directory, in a thread of its own, and removes it at the end.

    Args:
        run: the run directory, locked by this process.
        metric: the metric that ranks the trials.
    """

    def __init__(self, run: Location, metric: str) -> None:
        self._run, self._metric = run, metric
        self._thread = ThreadPoolExecutor(1, "status")
        self._writing: Future[None] | None = None
        self._due = -math.inf
        self._began: float | None = None
        self._recalled = 0
        self._started: dict[tuple[int, int], float] = {}
        """Times at which a trial of a chunk was first seen running, by their numbers."""
        self._latest: dict[int, Measurement] = {}

    def __exit__(self, *exception: object) -> None:
        """Remove the file."""
        self._thread.shutdown()
        with suppress(RunError):  # the disk or the store is gone
            self._run.remove([STATUS])

    def recalled(self, trials: "pd.DataFrame") -> None:
        self._recalled = len(trials)

    def measured(self, progress: Sequence[Progress]) -> None:
        self._latest.update({this.trial: this.measurement for this in progress})

    def waited(self, running: Mapping[str, Sequence[Chunk]]) -> None:
        """Write the file if it is due and the last write has ended; for the first time once a trial runs."""
        now = time.monotonic()
        if running and self._began is None:
            self._began = now
        is_writing = self._writing is not None and not self._writing.done()
        if now < self._due or is_writing or (self._writing is None and not any(running.values())):
            return
        self._due = now + WRITE_S
        self._writing = self._thread.submit(self._write, self._describe(running, now))

    def _write(self, status: Status) -> None:
        began = time.monotonic()
        with suppress(RunError):  # it is no record; the ledger's own writes say what is wrong
            status.write(self._run)
        self._due = max(self._due, began + WRITE_FACTOR * (time.monotonic() - began))

    def _describe(self, running: Mapping[str, Sequence[Chunk]], now: float) -> Status:
        first = [(worker, chunks[0]) for worker, chunks in running.items() if chunks]
        current = [(worker, chunk, self._current_task(chunk)) for worker, chunk in first]
        seen = [(chunk.number, task.trial.number) for _, chunk, task in current]
        self._started = {key: self._started.get(key, now) for key in seen}
        self._latest = {n: self._latest[n] for _, n in seen if n in self._latest}
        oldest = nsmallest(MAX_LISTED, zip(seen, current, strict=True), lambda pair: self._started[pair[0]])
        return Status(
            driver=this_process(),
            workers=len(running),
            elapsed_s=0.0 if self._began is None else now - self._began,
            recalled=self._recalled,
            running=len(current),
            trials=tuple(self._describe_trial(*which, now) for _, which in oldest),
        )

    def _current_task(self, chunk: Chunk) -> Task:
        """Return the task that a worker trains, as far as is known: the last one that has reported, or the first."""
        reported = (task for task in reversed(chunk.tasks) if task.trial.number in self._latest)
        return next(reported, chunk.tasks[0])

    def _describe_trial(self, worker: str, chunk: Chunk, task: Task, now: float) -> RunningTrial:
        trial, latest = task.trial, self._latest.get(task.trial.number)
        value = None if latest is None else latest.metrics.get(self._metric)
        return RunningTrial(
            trial=trial.number,
            round=trial.round,
            stage=trial.stage.value,
            worker=worker,
            others=len(chunk.tasks) - 1,
            since_s=now - self._started[chunk.number, trial.number],
            epochs=trial.epochs,
            epoch=None if latest is None else latest.epoch,
            value=float(value) if value is not None and math.isfinite(value) else None,
        )
