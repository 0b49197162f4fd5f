"""Workers as long-lived Ray actors: one actor a CPU core or GPU, one message a chunk of trials.

A trial starts no actor, Ray task or placement group of its own: an actor call costs about a millisecond, starting an
actor about a second. Ray never restarts an actor or retries a call, because that would hide failures and could train a
trial twice: the controller decides what is tried again.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from caviar.backends.objective_pickle import pickle_objective
from caviar.backends.ray import session
from caviar.backends.ray.actor import FETCH_S, ActorInfo, WorkerActor
from caviar.backends.ray.autoscaler import AutoscalerRequests
from caviar.backends.ray.failure_diagnosis import diagnose, summarize
from caviar.backends.ray.inflight import InflightChunks
from caviar.backends.ray.memory_guard import read_note
from caviar.backends.ray.node_monitor import NodeMonitor
from caviar.backends.ray.placement import (
    ResourceDict,
    WorkerRequest,
    WorkerSpec,
    explain_blocked_tasks,
    explain_shortage,
    find_unplaced,
)
from caviar.backends.worker import overtime
from caviar.data.splits import Dataset, Split
from caviar.driver.backend import Backend, BackendEvent, Measured, TrialFailed
from caviar.driver.controller import MAX_CHUNKS
from caviar.driver.messages import ChunkDone, Task, WorkerJoined, WorkerLost
from caviar.engine import Progress
from caviar.errors import ClusterError
from caviar.objective import Objective
from caviar.training.function.import_path import ImportPath
from caviar.trial import Cause

_log = logging.getLogger(__name__)
MAX_FAILED_STARTS = 3
"""Number of workers in a row that may die before they are ready."""
NOTE_S = 20.0
"""Timeout in seconds for reading a memory guard's note on its machine."""
NODE_LABEL = "ray.io/node-id"
"""Label with Ray's ID of a machine, which every machine of a cluster has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Intervals and timeouts of the driver, in seconds."""

    warn_after_s: float = 5.0
    """Seconds that a worker may wait for resources before the reason is logged."""
    blocked_after_s: float = 5.0
    """Seconds without a result after which Ray tasks that wait for resources are logged: trials may wait for them."""
    warn_again_s: float = 60.0
    """Seconds until the reason is logged again."""
    node_check_s: float = 5.0
    """Seconds between checks for new machines."""
    grace_s: float = 5.0
    """Seconds beyond a trial's time limit that its chunk may take: for messages, and for the short trials beside it
    (about `controller.CHUNK_S` in all). The worker itself finds out which trial took too long."""
    last_results_s: float = 0.5
    """Seconds that the results of an overdue chunk have to arrive before its worker is killed."""


@dataclass(frozen=True, slots=True)
class _Actor:
    """A worker and its resources."""

    handle: Any
    spec: WorkerSpec
    info: ActorInfo | None = None
    """Its place, once it has joined."""


@dataclass(frozen=True, slots=True)
class _StartingWorker:
    """A worker that has not joined yet."""

    name: str
    placed: Any
    """Reference that is ready once Ray has given it its resources and its process runs."""


class RayBackend(Backend):
    """Workers on a Ray cluster, which it starts itself or joins.

    Args:
        objective: what a trial trains and measures; pickled once and sent to each worker once.
        dataset: train and dev split, put into the object store once; None if the objective has no data.
        address: "local", "auto" or HOST:PORT. If this process is connected to Ray already, that cluster is used.
        workers: number of CPU workers; one a core of the cluster by default. If the objective declares resources:
            number of workers, by default as many as fit. More than the cluster holds wait for machines that its
            autoscaler starts, if it has one.
        gpus: number of GPU workers; one a GPU of the cluster by default. If the objective declares resources: number
            of GPUs that all workers take together.
        timing: intervals and timeouts.

    Raises:
        ClusterError: Ray is missing, the cluster does not exist or refuses access, or it has too few cores or GPUs.
        StudyError: the objective cannot be pickled.
    """

    def __init__(
        self,
        objective: Objective,
        dataset: Dataset | None,
        address: str = "local",
        workers: int | None = None,
        gpus: int | None = None,
        timing: Timing = Timing(),
    ) -> None:
        self._timing, self._objective = timing, objective
        self._actors: dict[str, _Actor] = {}
        self._starting: dict[Any, _StartingWorker] = {}
        self._warn_at = 0.0
        self._warn_of_blocked_at = 0.0
        self._inflight = InflightChunks(objective.time_limit_s, timing.grace_s)
        self._started = {"cpu": 0, "gpu": 0}
        self._failed_starts = 0
        self._warned: set[str] = set()
        self._excluded: dict[str, str] = {}
        self._time_limit_s = objective.time_limit_s
        packed = pickle_objective(objective)
        self._open = ExitStack()
        try:
            self._request = WorkerRequest(objective.resources, workers, gpus)
            connection = session.connect(address, self._request, _size(dataset) + packed.size)
            self._session = self._open.enter_context(connection)
            self._ray = self._session.ray
            self._monitor = self._open.enter_context(NodeMonitor())
            self._autoscaler = AutoscalerRequests(self._ray)
            machines = self._all_machines()
            self._request.require_room(machines)
            planned = self._request.plan(machines)
            self._expected = Counter(spec.device for spec in planned)
            self._check_nodes_at = time.monotonic() + timing.node_check_s
            self._remote_read = self._ray.remote(num_cpus=0, max_retries=0)(read_note)
            self._remote_actor = self._ray.remote(max_restarts=0, max_task_retries=0)(WorkerActor)
            self._path = ImportPath.here()
            self._inputs = (packed, dataset)
            self._shared_inputs = self._share_inputs()
            for spec in planned:
                self._start(spec)
        except BaseException:
            self.close()
            raise

    @property
    def expected_workers(self) -> Mapping[str, int]:
        return self._expected

    def count_room(self) -> Mapping[str, int]:
        """Return the number of workers on each device for which the cluster has room, however many were asked for."""
        everything = WorkerRequest(self._request.resources, None, None)
        return Counter(spec.device for spec in everything.plan(self._machines()))

    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        if worker not in self._actors:
            return  # it has just died: the loop gets a `WorkerLost` and sends the chunk elsewhere
        run = self._actors[worker].handle.run.options(num_returns="streaming")
        self._inflight.add(run.remote(tasks, test), worker, chunk, tasks, time.monotonic())

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        self._session.require_alive()
        waiting = [*self._starting, *self._inflight]
        timeout_s = max(0.0, min(timeout_s, self._inflight.next_deadline() - time.monotonic()))
        if not waiting:
            time.sleep(timeout_s)
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout_s, fetch_local=False)
        if ready or not self._inflight:
            self._warn_of_blocked_at = time.monotonic() + self._timing.blocked_after_s
        if ready:  # take all that are ready, so that those at the end of the list do not starve
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        events: list[BackendEvent] = []
        for reference in ready:
            if reference in self._starting:
                events += self._join(reference)
            elif reference in self._inflight:  # else its worker has just been lost
                events += self._receive(reference)
        self._warn_of_waiting()
        self._warn_of_blocked()
        self._start_missing()
        return events + self._overdue() + self._drop_silent()

    def close(self) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor.handle)
        self._actors = {}
        self._open.close()

    def _all_machines(self) -> list[ResourceDict]:
        """Return the resources of the machines, present and ordered from the autoscaler."""
        machines = self._machines()
        return machines + self._autoscaler.missing(self._request, machines)

    def _machines(self) -> list[ResourceDict]:
        """Return the resources of each machine that can have workers, and monitor them all but this one."""
        alive = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        here = self._ray.get_runtime_context().get_node_id()
        addresses = {name: (n["NodeManagerAddress"], n["NodeManagerPort"]) for name, n in alive.items()}
        self._monitor.watch({name: address for name, address in addresses.items() if name != here})
        if self._excluded and alive.keys() <= self._excluded.keys() and not self._has_workers():
            raise ClusterError(f"workers cannot start on any machine: {self._excluded.popitem()[1]}")
        return [node["Resources"] for name, node in alive.items() if name not in self._avoided_nodes()]

    def _avoided_nodes(self) -> frozenset[str]:
        """Return the IDs of machines that do not answer and of those on which no worker can start."""
        return self._monitor.unresponsive() | self._excluded.keys()

    def _has_workers(self) -> bool:
        return any(actor.info is not None for actor in self._actors.values())

    def _start(self, spec: WorkerSpec) -> None:
        """Start a worker. It joins when its engine is built."""
        name = f"{spec.kind}-{self._started[spec.kind]}"
        self._started[spec.kind] += 1
        remote = self._remote_actor.options(
            **spec.actor_options,
            scheduling_strategy=self._scheduling_strategy(),
            max_concurrency=MAX_CHUNKS if self._objective.lanes(spec.device) > 1 else 1,
        )
        objective, dataset = self._shared_inputs
        handle = remote.remote(name, objective, self._path, dataset, spec)
        self._actors[name] = _Actor(handle, spec)
        if not self._starting:
            self._warn_at = time.monotonic() + self._timing.warn_after_s
        placed = handle.__ray_ready__.remote()
        self._starting[handle.ready.remote()] = _StartingWorker(name, placed)

    def _share_inputs(self) -> tuple[Any, Any]:
        """Put objective and dataset into the object store; return the references to them."""
        objective, dataset = self._inputs
        return self._ray.put(objective), self._ray.put(dataset)

    def _scheduling_strategy(self) -> Any:
        """Return the Ray scheduling strategy for every machine but the avoided ones."""
        avoided = self._avoided_nodes()
        if not avoided:
            return "DEFAULT"
        strategies = self._ray.util.scheduling_strategies
        return strategies.NodeLabelSchedulingStrategy({NODE_LABEL: strategies.NotIn(*sorted(avoided))})

    def _start_missing(self) -> None:
        """Start workers on new machines, and replacements for those that left with their machines."""
        if time.monotonic() < self._check_nodes_at:
            return
        self._check_nodes_at = time.monotonic() + self._timing.node_check_s
        self._session.require_alive(now=True)
        missing = self._request.plan(self._all_machines())
        for actor in self._actors.values():
            if actor.spec in missing:
                missing.remove(actor.spec)
        for spec in missing:
            self._start(spec)

    def _warn_of_waiting(self) -> None:
        """Warn if workers have waited long for resources that are in use or gone."""
        waits = bool(self._starting) or not self._actors
        if not waits or self._session.folder is not None or time.monotonic() < self._warn_at:
            return
        self._session.require_alive(now=True)
        reason, timing = self._waiting_reason(), self._timing
        self._warn_at = time.monotonic() + (timing.warn_again_s if reason else timing.warn_after_s)
        if reason:
            _log.warning(reason)

    def _warn_of_blocked(self) -> None:
        """Warn if no trial ends while Ray tasks, which trials may have started, wait for resources."""
        if time.monotonic() < self._warn_of_blocked_at:
            return
        self._session.require_alive(now=True)
        demands = self._session.pending_demands() or []
        waiting = [self._actors[start.name].spec.needs for start in self._starting.values()]
        reason = demands and explain_blocked_tasks(demands, waiting, self._ray.available_resources())
        timing = self._timing
        again_s = timing.warn_again_s if reason else timing.blocked_after_s
        self._warn_of_blocked_at = time.monotonic() + again_s
        if reason:
            _log.warning(reason)

    def _waiting_reason(self) -> str | None:
        if not self._actors:
            return "waiting for workers: no machine with room for one answers"
        waiting = [
            self._actors[start.name].spec.needs
            for start in self._starting.values()
            if not self._ray.wait([start.placed], timeout=0)[0]
        ]
        demands = self._session.pending_demands()
        if demands is not None:  # else workers whose processes are starting count too
            waiting = find_unplaced(waiting, demands)
        if len(waiting) == len(self._actors):
            self._autoscaler.require_feasible(waiting)
        return explain_shortage(waiting, self._ray.cluster_resources(), self._ray.available_resources())

    def _join(self, reference: Any) -> list[BackendEvent]:
        name = self._starting.pop(reference).name
        try:
            info = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._handle_failed_start(name, error)
            return []
        self._failed_starts = 0
        self._actors[name] = replace(self._actors[name], info=info)
        for warning in info.warnings:
            self._warn_once(warning)
        return [WorkerJoined(name, self._actors[name].spec.device, info.lanes)]

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            _log.warning(sentence)

    def _handle_failed_start(self, name: str, error: Exception) -> None:
        """Replace a worker that died while starting; after repeated failures exclude its machine.

        Raises:
            ClusterError: no other worker is running, so the study cannot continue.
        """
        if isinstance(error, self._ray.exceptions.RayTaskError):
            reason = f"worker {name} cannot start: {summarize(error)}"
        else:
            self._session.keep_logs = True
            cause, _ = diagnose(error, self._ray.exceptions, pid=0)
            self._failed_starts += cause in (Cause.CRASH, Cause.MEMORY)  # else its machine was lost
            if self._failed_starts < MAX_FAILED_STARTS:
                self._start(self._actors.pop(name).spec)
                return
            reason = f"{self._failed_starts} workers in a row died before they were ready: {summarize(error)}"
        machine = self._session.node_of(self._actors[name].handle)
        if machine is None or not self._has_workers():
            raise ClusterError(reason) from error
        self._failed_starts = 0
        self._dismiss(name)
        if machine not in self._excluded:
            self._excluded[machine] = reason
            host = self._session.host_of(machine)
            _log.warning("starting no more workers on %s until Ray restarts there: %s", host, reason)

    def _receive(self, stream: Any) -> list[BackendEvent]:
        """Take the next message of a chunk; the last one has its results."""
        chunk = self._inflight[stream]
        try:
            message = self._ray.get(next(stream), timeout=FETCH_S)
        except self._ray.exceptions.RayError as error:
            self._session.keep_logs = True
            return [self._lost(chunk.worker, error)]
        if message and isinstance(message[0], Progress):
            return [Measured(chunk.worker, tuple(message))]
        if message and isinstance(message[0], TrialFailed):
            return list(message)
        self._inflight.end(stream, time.monotonic())
        done = ChunkDone(chunk.worker, chunk.number, tuple(message))
        damage = next((r.failure for r in message if r.cause is Cause.PREEMPTED), None)
        if damage is None:
            return [done]
        self._warn_once(f"a worker is replaced: {damage}")
        return [done, WorkerLost(chunk.worker, Cause.PREEMPTED, damage, self._replace(chunk.worker))]

    def _lost(self, name: str, error: Exception) -> WorkerLost:
        """Diagnose and replace a worker that had joined and is gone."""
        actor = self._actors[name]
        assert actor.info is not None
        cause, detail = diagnose(error, self._ray.exceptions, actor.info.pid)
        limited = "memory" in actor.spec.needs
        if cause is Cause.CRASH and limited and (note := self._memory_note(actor.info)):
            cause, detail = Cause.MEMORY, note
        return WorkerLost(name, cause, detail, self._replace(name))

    def _memory_note(self, info: ActorInfo) -> str | None:
        """Return the note of a worker's memory guard, if it left one."""
        strategies = self._ray.util.scheduling_strategies
        there = strategies.NodeAffinitySchedulingStrategy(info.node, soft=False)
        asked = self._remote_read.options(scheduling_strategy=there).remote(info.note)
        try:
            note: str | None = self._ray.get(asked, timeout=NOTE_S)
        except self._ray.exceptions.RayError:  # the machine is gone too
            return None
        return note

    def _overdue(self) -> list[BackendEvent]:
        """Kill workers whose chunk is overdue. A trial that was alone is to blame; of several, each is tried alone."""
        now = time.monotonic()
        events = self._last_results(self._inflight.overdue(now))
        overdue = {self._inflight[stream].worker for stream in self._inflight.overdue(now)}
        detail = overtime(self._time_limit_s or 0.0)
        lost = [WorkerLost(worker, Cause.TIME, detail, self._replace(worker)) for worker in sorted(overdue)]
        return events + lost

    def _last_results(self, streams: Sequence[Any]) -> list[BackendEvent]:
        """Return results that arrived in time, but that a busy or suspended driver has not read."""
        if streams:
            self._ray.wait(list(streams), num_returns=len(streams), timeout=self._timing.last_results_s)
        events: list[BackendEvent] = []
        for stream in streams:
            while stream in self._inflight and self._ray.wait([stream], timeout=0)[0]:
                events += self._receive(stream)
        return events

    def _drop_silent(self) -> list[BackendEvent]:
        """Drop the workers of machines that do not answer; if one answers again, new workers start there."""
        silent = self._monitor.unresponsive()
        places = {name: actor.info for name, actor in self._actors.items() if actor.info is not None}
        lost = [
            (name, self._inflight.chunks_of(name)) for name, info in places.items() if info.node in silent
        ]
        for name, _ in lost:
            self._dismiss(name)
        # Ray may fetch the old copies from a silent machine, and then waits until it is declared dead
        if lost:
            self._shared_inputs = self._share_inputs()
        return [WorkerLost(name, Cause.NODE, "it does not answer", chunks) for name, chunks in lost]

    def _replace(self, name: str) -> frozenset[int]:
        """Replace a worker that died or that must not go on; return the numbers of its chunks."""
        chunks = self._inflight.chunks_of(name)
        self._start(self._dismiss(name))
        return chunks

    def _dismiss(self, name: str) -> WorkerSpec:
        """Kill a worker and forget it; return its resources."""
        actor = self._actors.pop(name)
        self._ray.kill(actor.handle)
        self._inflight.drop(name)
        return actor.spec


def _size(dataset: Dataset | None) -> int:
    """Return the size of the train and dev split in bytes."""
    return 0 if dataset is None else sum(s.x.nbytes + s.y.nbytes for s in (dataset.train, dataset.dev))
