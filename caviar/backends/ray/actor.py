"""What runs in the process of a Ray actor: a worker, and the door through which chunks and results pass."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from caviar.backends.ray.memory_guard import set_guard
from caviar.backends.ray.objective_pickle import Packed, unpack
from caviar.backends.ray.placement import Shape
from caviar.backends.worker import Finished, Task, Worker
from caviar.data.splits import Dataset, Split
from caviar.engine import Progress
from caviar.errors import ClusterError
from caviar.trial import Outcome

STREAM_S = 0.5
"""At least so long between two messages about what a worker is measuring ..."""
MOST_SHOWN = 1_000
"""... and at most so many measurements in one."""
FETCH_S = 10.0
"""A paused trial's state that takes longer to come is taken to be lost with its machine, and trained again."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where a worker lives."""

    node: str
    """Ray's name of its machine."""
    pid: int
    note: str | None
    """The file in which its guard says that it took too much memory."""


class Host:
    """What the actor process runs. The engine is built by `ready`, so that its errors have a name."""

    def __init__(
        self, name: str, objective: Packed, folders: list[str], dataset: Dataset | None, shape: Shape
    ) -> None:
        self._arguments = name, objective, folders, dataset, shape
        self._worker: Worker | None = None

    def ready(self) -> Home:
        """Build the engine on the device that Ray assigned; where that is."""
        import ray

        name, objective, folders, dataset, shape = self._arguments
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to hear
        note = set_guard(int(shape.needs.get("memory", 0)))
        device = _assigned_device(shape)
        self._worker = Worker(name, socket.gethostname(), unpack(objective, folders), dataset, device)
        return Home(ray.get_runtime_context().get_node_id(), os.getpid(), note)

    def run(self, tasks: Sequence[Task], test: Split | None) -> Iterator[list[Progress] | list[Finished]]:
        """Train a chunk; give now and then what was measured of a long trial, and in the end all results."""
        assert self._worker is not None
        fresh: list[Progress] = []
        finished: list[Finished] = []
        said = time.monotonic()
        for event in self._worker.stream(_brought(tasks), test):
            if isinstance(event, Finished):
                finished.append(event)
                fresh = []  # its result says it all
                continue
            fresh.append(event)
            if time.monotonic() - said > STREAM_S:
                yield fresh[-MOST_SHOWN:]
                fresh, said = [], time.monotonic()
        yield _put_away(finished)


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where the state of a paused trial is: among others of its chunk, in the object store."""

    chunk: Any
    trial: int


def _put_away(finished: list[Finished]) -> list[Finished]:
    """Leave the states of paused trials in the object store, where any worker finds them; the driver needs none."""
    states = {
        f.result.trial.number: f.state
        for f in finished
        if f.result.outcome is Outcome.STOPPED and f.state is not None
    }
    if not states:
        return finished
    import ray

    chunk = ray.put(states)
    return [
        Finished(f.result, _Stored(chunk, f.result.trial.number)) if f.result.trial.number in states else f
        for f in finished
    ]


def _brought(tasks: Sequence[Task]) -> list[Task]:
    """The tasks with the states that they go on from; without, where one went down with its worker or machine."""
    chunks = list({t.state.chunk for t in tasks if isinstance(t.state, _Stored)})
    if not chunks:
        return list(tasks)
    import ray

    there, _ = ray.wait(chunks, num_returns=len(chunks), timeout=FETCH_S)
    states: dict[Any, Mapping[int, Any]] = {}
    for chunk in there:
        with contextlib.suppress(ray.exceptions.ObjectLostError):
            states[chunk] = ray.get(chunk)
    return [_with_state(task, states) if isinstance(task.state, _Stored) else task for task in tasks]


def _with_state(task: Task, states: Mapping[Any, Mapping[int, Any]]) -> Task:
    if task.state.chunk not in states:
        return replace(task, state=None, spent_s=0.0)  # what it spent is spent again
    return replace(task, state=states[task.state.chunk][task.state.trial])


def _assigned_device(shape: Shape) -> str:
    """The device that Ray gave this actor: what torch can see on the machine may belong to others."""
    import ray

    if shape.whole_gpu and not ray.get_runtime_context().get_accelerator_ids().get("GPU"):
        raise ClusterError("Ray assigned no GPU to a GPU worker")
    return shape.device
