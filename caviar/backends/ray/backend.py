"""Long-lived actors on a Ray cluster: one a CPU core or GPU, a chunk of trials a message.

No actor, task or placement group a trial: an actor call costs about a millisecond, starting an actor a second.
Actors are never restarted or retried by Ray, which would hide what went wrong and might train a trial twice:
the controller decides what is tried again.
"""

import logging
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from caviar.backends.ray import session
from caviar.backends.ray.actor import FETCH_S, Home, Host
from caviar.backends.ray.autoscaler import Orders
from caviar.backends.ray.failure_diagnosis import diagnose, in_a_line
from caviar.backends.ray.inflight import UnderWay
from caviar.backends.ray.memory_guard import read_note
from caviar.backends.ray.node_monitor import Watch
from caviar.backends.ray.objective_pickle import pack
from caviar.backends.ray.placement import Amounts, Shape, Wanted, shortage, unmet
from caviar.backends.worker import Task, overtime
from caviar.data.splits import Dataset, Split
from caviar.driver.backend import Arrived, Backend, Happening, Measured
from caviar.driver.messages import Joined, Lost
from caviar.engine import Progress
from caviar.errors import ClusterError
from caviar.objective import Objective
from caviar.trial import Cause

_log = logging.getLogger(__name__)
MAX_FAILED_STARTS = 3
"""So many workers in a row may die before they are ready."""
PATIENCE_S = 5.0
"""Workers that take longer to be given a place make one wonder why ..."""
SAY_AGAIN_S = 60.0
"""... and again, if they still wait so long after it was said."""
LOOK_S = 5.0
"""So often it is looked for machines that have joined."""
NOTE_S = 20.0
"""How long a machine may take to say whether one of its workers took too much memory."""
LAST_WORDS_S = 0.5
"""Before a worker is given up for its time, what it may have sent has so long to come."""
NODE_LABEL = "ray.io/node-id"
"""Each machine of a cluster has it, with Ray's name of it."""


@dataclass(frozen=True, slots=True)
class _Actor:
    """A worker and what it was given."""

    handle: Any
    shape: Shape
    home: Home | None = None
    """Known once it has joined."""


@dataclass(frozen=True, slots=True)
class _Start:
    """A worker that has not joined yet."""

    name: str
    placed: Any
    """Ready as soon as its process runs: it has been given what it needs."""


class RayBackend(Backend):
    """Workers on a Ray cluster, which it starts itself or joins.

    Args:
        objective: what a trial trains and measures; pickled once, sent to each worker once.
        dataset: train and dev split, put into the object store once; None where there is none.
        address: "local", "auto" or HOST:PORT. A Ray that this process is connected to already is used.
        workers: CPU workers; by default one a core of the cluster. More than there are wait for machines that the
            cluster's autoscaler starts, where there is one. Where the objective says what each worker
            needs: how many; by default as many as fit.
        gpus: GPU workers; by default one a GPU of the cluster. Where the objective says what each worker
            needs: how many GPUs they take in all.

    Raises:
        ClusterError: no Ray, no such cluster, no access, or not enough cores or GPUs.
        StudyError: the objective cannot be sent to workers.
    """

    def __init__(
        self,
        objective: Objective,
        dataset: Dataset | None,
        address: str = "local",
        workers: int | None = None,
        gpus: int | None = None,
    ) -> None:
        self._actors: dict[str, _Actor] = {}
        self._starting: dict[Any, _Start] = {}
        self._patient_until = 0.0
        self._under_way = UnderWay(objective.time_limit_s)
        self._started = {"cpu": 0, "gpu": 0}
        self._failed_starts = 0
        self._aside: dict[str, str] = {}
        self._time_limit_s = objective.time_limit_s
        packed = pack(objective)
        self._open = ExitStack()
        try:
            self._wanted = Wanted(objective.resources, workers, gpus)
            connection = session.connected(address, self._wanted, _size(dataset) + packed.size)
            self._session = self._open.enter_context(connection)
            self._ray = self._session.ray
            self._watch = self._open.enter_context(Watch())
            self._orders = Orders(self._ray)
            machines = self._room()
            self._wanted.require(machines)
            planned = self._wanted.on(machines)
            self._devices = frozenset(shape.device for shape in planned)
            self._look_at = time.monotonic() + LOOK_S
            self._remote_read = self._ray.remote(num_cpus=0, max_retries=0)(read_note)
            self._remote_host = self._ray.remote(max_restarts=0, max_task_retries=0)(Host)
            self._folders = [str(Path(folder).resolve()) for folder in sys.path]
            self._objective = self._ray.put(packed)
            self._dataset = self._ray.put(dataset)
            for shape in planned:
                self._start(shape)
        except BaseException:
            self.close()
            raise

    @property
    def devices(self) -> frozenset[str]:
        return self._devices

    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        if worker not in self._actors:
            return  # it died a moment ago: the loop has yet to read of it, and will send the chunk elsewhere
        run = self._actors[worker].handle.run.options(num_returns="streaming")
        self._under_way.add(run.remote(tasks, test), worker, chunk, tasks, time.monotonic())

    def poll(self, timeout_s: float) -> list[Happening]:
        self._session.require_alive()
        waiting = [*self._starting, *self._under_way]
        timeout_s = max(0.0, min(timeout_s, self._under_way.next_deadline() - time.monotonic()))
        if not waiting:
            time.sleep(timeout_s)
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout_s, fetch_local=False)
        if ready:  # take all that is there, lest those at the end of the list starve
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        happenings: list[Happening] = []
        for reference in ready:
            if reference in self._starting:
                happenings += self._joined(reference)
            elif reference in self._under_way:  # else its worker was lost a moment ago
                happenings += self._arrived(reference)
        self._explain_delay()
        self._grow()
        return happenings + self._overdue() + self._cut_off()

    def close(self) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor.handle)
        self._actors = {}
        self._open.close()

    def _room(self) -> list[Amounts]:
        """What the machines offer that are there, and those that the cluster was asked to start."""
        machines = self._machines()
        return machines + self._orders.on_their_way(self._wanted, machines)

    def _machines(self) -> list[Amounts]:
        """What the machines that can have workers offer; from now on they are watched, but for our own."""
        alive = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        here = self._ray.get_runtime_context().get_node_id()
        addresses = {name: (n["NodeManagerAddress"], n["NodeManagerPort"]) for name, n in alive.items()}
        self._watch.over({name: address for name, address in addresses.items() if name != here})
        if self._aside and alive.keys() <= self._aside.keys() and not self._at_work():
            raise ClusterError(f"workers can start on no machine any more: {self._aside.popitem()[1]}")
        return [node["Resources"] for name, node in alive.items() if name not in self._avoided()]

    def _avoided(self) -> frozenset[str]:
        """Machines that do not answer, though Ray may still count on them, and those where no worker can start."""
        return self._watch.silent() | self._aside.keys()

    def _at_work(self) -> bool:
        return any(actor.home is not None for actor in self._actors.values())

    def _start(self, shape: Shape) -> None:
        """Start a worker; it joins when its engine is built."""
        name = f"{shape.kind}-{self._started[shape.kind]}"
        self._started[shape.kind] += 1
        remote = self._remote_host.options(**shape.options, scheduling_strategy=self._elsewhere())
        handle = remote.remote(name, self._objective, self._folders, self._dataset, shape)
        self._actors[name] = _Actor(handle, shape)
        if not self._starting:
            self._patient_until = time.monotonic() + PATIENCE_S
        placed = handle.__ray_ready__.remote()
        self._starting[handle.ready.remote()] = _Start(name, placed)

    def _elsewhere(self) -> Any:
        """Ray's word for any machine but those that are avoided."""
        avoided = self._avoided()
        if not avoided:
            return "DEFAULT"
        strategies = self._ray.util.scheduling_strategies
        return strategies.NodeLabelSchedulingStrategy({NODE_LABEL: strategies.NotIn(*sorted(avoided))})

    def _grow(self) -> None:
        """Use machines that have joined; those that left took their workers along, and these wait for a place."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_S
        self._session.require_alive(surely=True)
        missing = self._wanted.on(self._room())
        for actor in self._actors.values():
            if actor.shape in missing:
                missing.remove(actor.shape)
        for shape in missing:
            self._start(shape)

    def _explain_delay(self) -> None:
        """Say now and then why there are no workers, or why some do not start, if what they need is held or gone."""
        waits = bool(self._starting) or not self._actors
        if not waits or self._session.folder is not None or time.monotonic() < self._patient_until:
            return
        self._session.require_alive(surely=True)
        reason = self._why_none_starts()
        self._patient_until = time.monotonic() + (SAY_AGAIN_S if reason else PATIENCE_S)
        if reason:
            _log.warning(reason)

    def _why_none_starts(self) -> str | None:
        if not self._actors:
            return "waiting for workers: no machine of the cluster that has room for one answers"
        waiting = [
            self._actors[start.name].shape.needs
            for start in self._starting.values()
            if not self._ray.wait([start.placed], timeout=0)[0]
        ]
        demands = self._session.demands()
        if demands is not None:  # else those whose processes are starting count, too
            waiting = unmet(waiting, demands)
        if len(waiting) == len(self._actors):
            self._orders.require_possible(waiting)
        return shortage(waiting, self._ray.cluster_resources(), self._ray.available_resources())

    def _joined(self, reference: Any) -> list[Happening]:
        name = self._starting.pop(reference).name
        try:
            home = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._cannot_start(name, error)
            return []
        self._failed_starts = 0
        self._actors[name] = replace(self._actors[name], home=home)
        return [Joined(name, self._actors[name].shape.device)]

    def _cannot_start(self, name: str, error: Exception) -> None:
        """Start another for a worker that died; where that is in vain, do without its machine, if others are at work.

        Raises:
            ClusterError: none are.
        """
        if isinstance(error, self._ray.exceptions.RayTaskError):
            reason = f"worker {name} cannot start: {in_a_line(error)}"
        else:
            self._session.troubled = True
            cause, _ = diagnose(error, self._ray.exceptions, pid=0)
            self._failed_starts += cause in (
                Cause.CRASH,
                Cause.MEMORY,
            )  # else its machine went: there may be others
            if self._failed_starts < MAX_FAILED_STARTS:
                self._start(self._actors.pop(name).shape)
                return
            reason = f"{self._failed_starts} workers in a row died before they were ready: {in_a_line(error)}"
        machine = self._session.machine_of(self._actors[name].handle)
        if machine is None or not self._at_work():
            raise ClusterError(reason) from error
        self._failed_starts = 0
        self._dismiss(name)
        if machine not in self._aside:
            self._aside[machine] = reason
            host = self._session.host(machine)
            _log.warning("no more workers on %s until Ray is started anew there: %s", host, reason)

    def _arrived(self, stream: Any) -> list[Happening]:
        """The next message of a chunk; its results are the last."""
        sent = self._under_way[stream]
        try:
            message = self._ray.get(next(stream), timeout=FETCH_S)
        except self._ray.exceptions.RayError as error:
            self._session.troubled = True
            return [self._lost(sent.worker, error)]
        if message and isinstance(message[0], Progress):
            return [Measured(sent.worker, tuple(message))]
        self._under_way.end(stream, time.monotonic())
        return [Arrived(sent.worker, sent.chunk, tuple(message))]

    def _lost(self, name: str, error: Exception) -> Lost:
        """A worker that had joined is gone."""
        actor = self._actors[name]
        assert actor.home is not None
        cause, detail = diagnose(error, self._ray.exceptions, actor.home.pid)
        limited = "memory" in actor.shape.needs
        if cause is Cause.CRASH and limited and (note := self._noted(actor.home)):
            cause, detail = Cause.MEMORY, note
        return Lost(name, cause, detail, self._replace(name))

    def _noted(self, home: Home) -> str | None:
        """What a worker's guard said of its memory."""
        strategies = self._ray.util.scheduling_strategies
        there = strategies.NodeAffinitySchedulingStrategy(home.node, soft=False)
        asked = self._remote_read.options(scheduling_strategy=there).remote(home.note)
        try:
            note: str | None = self._ray.get(asked, timeout=NOTE_S)
        except self._ray.exceptions.RayError:  # the machine has gone, too
            return None
        return note

    def _overdue(self) -> list[Happening]:
        """Kill workers that take too long. Which trial it was is sure where it was alone; else each is tried alone."""
        now = time.monotonic()
        happenings = self._last_words(self._under_way.overdue(now))
        late = {self._under_way[stream].worker for stream in self._under_way.overdue(now)}
        detail = overtime(self._time_limit_s or 0.0)
        lost = [Lost(worker, Cause.TIME, detail, self._replace(worker)) for worker in sorted(late)]
        return happenings + lost

    def _last_words(self, streams: Sequence[Any]) -> list[Happening]:
        """What streams had to say in time, and the driver, busy or suspended, has not heard."""
        if streams:
            self._ray.wait(list(streams), num_returns=len(streams), timeout=LAST_WORDS_S)
        happenings: list[Happening] = []
        for stream in streams:
            while stream in self._under_way and self._ray.wait([stream], timeout=0)[0]:
                happenings += self._arrived(stream)
        return happenings

    def _cut_off(self) -> list[Happening]:
        """Give up the workers of machines that do not answer; where one answers again, new ones are started."""
        silent = self._watch.silent()
        homes = {name: actor.home for name, actor in self._actors.items() if actor.home is not None}
        lost = [
            (name, self._under_way.chunks_of(name)) for name, home in homes.items() if home.node in silent
        ]
        for name, _ in lost:
            self._dismiss(name)
        return [Lost(name, Cause.NODE, "it does not answer", chunks) for name, chunks in lost]

    def _replace(self, name: str) -> frozenset[int]:
        """Replace a worker that died, or whose process can be trusted no longer; the chunks it had."""
        chunks = self._under_way.chunks_of(name)
        self._start(self._dismiss(name))
        return chunks

    def _dismiss(self, name: str) -> Shape:
        """Have no more to do with a worker; what it was given."""
        actor = self._actors.pop(name)
        self._ray.kill(actor.handle)
        self._under_way.drop(name)
        return actor.shape


def _size(dataset: Dataset | None) -> int:
    """Bytes of the rows that workers get."""
    return 0 if dataset is None else sum(s.x.nbytes + s.y.nbytes for s in (dataset.train, dataset.dev))
