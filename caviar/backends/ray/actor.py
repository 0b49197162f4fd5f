"""The process of a Ray actor: a worker, with the messages that chunks and results travel in."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from caviar.backends.objective_pickle import PickledObjective, unpickle_objective
from caviar.backends.ray.memory_guard import start_guard
from caviar.backends.ray.placement import WorkerSpec
from caviar.backends.worker import Worker
from caviar.data.splits import Dataset, Split
from caviar.driver.backend import TrialFailed
from caviar.driver.messages import Task
from caviar.engine import Progress
from caviar.errors import ClusterError
from caviar.training.function.import_path import ImportPath
from caviar.trial import Outcome, Result

STREAM_S = 0.5
"""Shortest time between two messages with measurements, in seconds."""
MAX_SHOWN = 1_000
"""Largest number of measurements in a message."""
FETCH_S = 10.0
"""Timeout in seconds for a paused trial's checkpoint. After it the checkpoint counts as lost with its machine."""


@dataclass(frozen=True, slots=True)
class ActorInfo:
    """The place of a worker that has joined."""

    node: str
    """Ray's ID of its machine."""
    pid: int
    warnings: tuple[str, ...]
    """Sentences about what this worker cannot keep from later trials."""
    lanes: int
    """Largest number of trials that it trains at the same time."""
    note: str | None
    """File in which its memory guard notes that it took too much memory."""


class WorkerActor:
    """The class that Ray makes an actor of. `ready` builds the engine, so that its errors reach the driver."""

    def __init__(
        self,
        name: str,
        objective: PickledObjective,
        path: ImportPath,
        dataset: Dataset | None,
        spec: WorkerSpec,
    ) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver alone handles Ctrl-C
        self._arguments = name, objective, path, dataset, spec
        self._worker: Worker | None = None

    def ready(self) -> ActorInfo:
        """Build the engine on the device that Ray assigned."""
        import ray

        name, objective, path, dataset, spec = self._arguments
        note = start_guard(int(spec.needs.get("memory", 0)))
        device = _assigned_device(spec)
        unpickled = unpickle_objective(objective, path)
        self._worker = Worker(name, socket.gethostname(), unpickled, dataset, device)
        node = ray.get_runtime_context().get_node_id()
        return ActorInfo(node, os.getpid(), self._worker.warnings, self._worker.lanes, note)

    def run(
        self, tasks: Sequence[Task], test: Split | None
    ) -> Iterator[list[Progress] | list[TrialFailed] | list[Result]]:
        """Train a chunk; yield measurements of long trials now and then, and all results at the end, in any order.

        The first failure is yielded at once: the user should see it before the rest of the chunk is trained.
        """
        assert self._worker is not None
        fresh: list[Progress] = []
        results: list[Result] = []
        sent, has_failed = time.monotonic(), False
        for event in self._worker.stream(_with_checkpoints(tasks), test):
            if isinstance(event, Result):
                results.append(event)
                fresh = []  # the result has these measurements
                if event.outcome is Outcome.FAILED and not has_failed and len(results) < len(tasks):
                    has_failed = True
                    yield [TrialFailed(event.trial, str(event.failure))]
                continue
            fresh.append(event)
            if time.monotonic() - sent > STREAM_S:
                yield fresh[-MAX_SHOWN:]
                fresh, sent = [], time.monotonic()
        yield _without_checkpoints(results)


@dataclass(frozen=True, slots=True)
class _StoredCheckpoint:
    """A reference to a paused trial's checkpoint in Ray's object store, stored with the others of its chunk."""

    chunk: Any
    trial: int


def _without_checkpoints(results: list[Result]) -> list[Result]:
    """Put the checkpoints of paused trials into the object store: any worker can get them, the driver needs none."""
    checkpoints = {
        r.trial.number: r.checkpoint
        for r in results
        if r.outcome is Outcome.STOPPED and r.checkpoint is not None
    }
    if not checkpoints:
        return results
    import ray

    chunk = ray.put(checkpoints)
    return [
        replace(r, checkpoint=_StoredCheckpoint(chunk, r.trial.number))
        if r.trial.number in checkpoints
        else r
        for r in results
    ]


def _with_checkpoints(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks with their checkpoints, as far as these can be fetched."""
    stored = [t.so_far.checkpoint for t in tasks if t.so_far is not None]
    chunks = list({c.chunk for c in stored if isinstance(c, _StoredCheckpoint)})
    if not chunks:
        return list(tasks)
    import ray

    there, _ = ray.wait(chunks, num_returns=len(chunks), timeout=FETCH_S)
    fetched: dict[Any, Mapping[int, Any]] = {}
    for chunk in there:
        with contextlib.suppress(ray.exceptions.ObjectLostError):
            fetched[chunk] = ray.get(chunk)
    return [_with_checkpoint(task, fetched) for task in tasks]


def _with_checkpoint(task: Task, fetched: Mapping[Any, Mapping[int, Any]]) -> Task:
    earlier = task.so_far
    if earlier is None or not isinstance(earlier.checkpoint, _StoredCheckpoint):
        return task
    stored = earlier.checkpoint
    if stored.chunk not in fetched:
        return replace(task, so_far=replace(earlier, checkpoint=None), is_checkpoint_lost=True)
    return replace(task, so_far=replace(earlier, checkpoint=fetched[stored.chunk][stored.trial]))


def _assigned_device(spec: WorkerSpec) -> str:
    """Return the device that Ray gave this actor: other GPUs that torch sees may belong to others."""
    import ray

    if spec.has_whole_gpu and not ray.get_runtime_context().get_accelerator_ids().get("GPU"):
        raise ClusterError("Ray assigned no GPU to a GPU worker")
    return spec.device
