"""A simulated cluster for tests and benchmarks: simulated time, thousands of workers, deaths at given rates.

Controller, loop and ledger are the real ones. A real engine computes the trials' metrics in this process; only the
seconds that trials take are simulated. Hours of a large cluster pass in seconds, and the cost of scheduling can be told
from the cost of training.

The clock jumps to the next event. The driver's work takes the time that it really takes (or `driver_s` a trial), so a
driver that cannot keep up delays the trials.
"""

import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from caviar.backends.worker import Worker
from caviar.data.splits import Dataset, Split
from caviar.driver.backend import Backend, BackendEvent
from caviar.driver.messages import ChunkDone, Task, WorkerJoined, WorkerLost
from caviar.objective import Objective
from caviar.trial import Cause, Result, Trial, derive_seed

LATENCY_S = 1e-3
"""Usual seconds of a message between driver and worker (an actor call on one machine)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCluster:
    """The cluster to simulate."""

    workers: int
    cost_s: Callable[[Trial], float]
    """Returns the seconds that a trial trains on a CPU worker; a part of a trial takes its share."""
    gpus: int = 0
    """Number of GPU workers beside the CPU workers."""
    gpu_cost_s: Callable[[Trial], float] | None = None
    """Returns the seconds that a trial trains on a GPU worker; None for as long as on a CPU worker."""
    latency_s: float = LATENCY_S
    """Seconds that a message between driver and worker takes."""
    part_s: float = 0.0
    """Seconds that each part of a trial takes before its first epoch."""
    start_s: float = 1.0
    """Seconds until the first worker joins; the others follow one a millisecond."""
    deaths_per_hour: float = 0.0
    """Expected deaths per worker-hour; dead workers are replaced."""
    preemptions: float = 0.0
    """Fraction of deaths that are preemptions, for which no trial is suspected."""
    driver_s: float | None = None
    """Seconds of driver work per trial; None for the time that it really takes here."""
    seed: int = 0


@dataclass(slots=True)
class _Actor:
    """A simulated worker."""

    device: str
    free_at: float
    """Simulated time, in seconds, at which it has trained all that it was sent."""
    chunks: deque[int] = field(default_factory=deque)
    """Numbers of the chunks it has not given back."""


class SimulatedBackend(Backend):
    """Workers of a simulated cluster.

    Args:
        objective: what a trial trains and measures; computed in this process, at once.
        dataset: train and dev split, if it has any.
        cluster: number, speed and death rate of the workers.
    """

    def __init__(self, objective: Objective, dataset: Dataset | None, cluster: SimulatedCluster) -> None:
        self._cluster, self._random = cluster, Random(cluster.seed)
        self._trainer = Worker("", "simulated", objective, dataset)
        self._now, self._looked = 0.0, time.perf_counter()
        self._computed_s = 0.0
        self._began = time.time()  # simulated trials are dated from here
        self.driver_s = 0.0
        """Seconds that the driver has worked."""
        self._events: list[tuple[float, int, BackendEvent]] = []
        self._actors: dict[str, _Actor] = {}
        self._order = itertools.count()
        self._names = (f"simulated-{number}" for number in itertools.count())
        for number in range(cluster.workers):
            self._start("cpu", cluster.start_s + number / 1_000)
        for number in range(cluster.gpus):
            self._start("cuda", cluster.start_s + number / 1_000)

    @property
    def expected_workers(self) -> Mapping[str, int]:
        counts = {"cpu": self._cluster.workers, "cuda": self._cluster.gpus}
        return {device: count for device, count in counts.items() if count}

    def clock(self) -> float:
        return self._now

    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        self._advance_clock(len(tasks))
        actor = self._actors.get(worker)
        if actor is None:
            return  # it has just died
        began = time.perf_counter()
        latency_s = self._cluster.latency_s
        results, at = [], max(self._now + latency_s, actor.free_at)
        waited_s = at - actor.free_at
        for task, computed in zip(tasks, self._trainer.run(tasks, test), strict=True):
            train_s = self._cost_s(task, computed, actor.device)
            times = replace(computed.times, dispatch_s=waited_s, setup_s=0.0, train_s=train_s)
            started = self._began + at
            done = replace(computed, worker=worker, device=actor.device, times=times, started=started)
            results.append(replace(done, ended=started + train_s))
            at, waited_s = at + train_s, 0.0
        actor.free_at = at
        actor.chunks.append(chunk)
        self._schedule(at + latency_s, ChunkDone(worker, chunk, tuple(results)))
        self._computed_s += time.perf_counter() - began

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        self._advance_clock(0)
        if self._events:
            self._now = max(self._now, min(self._events[0][0], self._now + timeout_s))
        events: list[BackendEvent] = []
        while self._events and self._events[0][0] <= self._now:
            event = heapq.heappop(self._events)[2]
            events += self._take(event)
        return events

    def close(self) -> None:
        self._events.clear()

    def _take(self, event: BackendEvent) -> list[BackendEvent]:
        """Return the events that reach the driver; nothing comes from a dead worker."""
        match event:
            case WorkerJoined(worker, device):
                self._actors[worker] = _Actor(device, free_at=self._now)
                if self._cluster.deaths_per_hour:
                    lives_s = self._random.expovariate(self._cluster.deaths_per_hour / 3_600)
                    innocent = self._random.random() < self._cluster.preemptions
                    cause = Cause.PREEMPTED if innocent else Cause.CRASH
                    self._schedule(self._now + lives_s, WorkerLost(worker, cause, "a simulated death"))
            case WorkerLost(worker):
                actor = self._actors.pop(worker)
                self._start(actor.device, self._cluster.start_s)
                return [replace(event, suspects=frozenset(actor.chunks))]
            case ChunkDone(worker, chunk):
                if worker not in self._actors:
                    return []
                self._actors[worker].chunks.remove(chunk)
        return [event]

    def _start(self, device: str, after_s: float) -> None:
        self._schedule(self._now + after_s, WorkerJoined(next(self._names), device))

    def _schedule(self, at: float, event: BackendEvent) -> None:
        heapq.heappush(self._events, (at, next(self._order), event))

    def _cost_s(self, task: Task, computed: Result, device: str) -> float:
        """Return the seconds of a task: its start, and its share of the trial's epochs."""
        epochs = computed.measurements[-1].epoch - task.trained_epochs if computed.measurements else 0
        on_gpu = self._cluster.gpu_cost_s or self._cluster.cost_s
        cost_s = self._cluster.cost_s if device == "cpu" else on_gpu
        return self._cluster.part_s + cost_s(task.trial) * epochs / task.trial.epochs

    def _advance_clock(self, trials: int) -> None:
        """Advance the clock by the time that the driver has worked."""
        looked = time.perf_counter()
        if self._cluster.driver_s is None:
            worked_s = looked - self._looked - self._computed_s
        else:
            worked_s = trials * self._cluster.driver_s
        self._now += worked_s
        self.driver_s += worked_s
        self._looked, self._computed_s = looked, 0.0


def heavy_tailed(mean_s: float, sigma: float = 1.5) -> Callable[[Trial], float]:
    """Return a cost function with log-normal seconds that depend on a trial's params.

    With sigma 1.5, one trial in a thousand takes at least 33 times the mean.
    """

    def cost_s(trial: Trial) -> float:
        random = Random(derive_seed(repr(sorted(trial.params.items()))))
        return random.lognormvariate(math.log(mean_s) - sigma * sigma / 2, sigma)

    return cost_s
