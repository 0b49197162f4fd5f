"""A cluster that is not there: simulated time, thousands of workers, deaths at given rates.

The controller, the loop and the ledger are the real ones, and so are the trials' numbers, for a real engine computes
them here; only the seconds that they take are made up. So hours of a large cluster pass in seconds, and what scheduling
costs can be told from what training costs.

The clock stands still while workers have nothing to report, and jumps to the next thing that happens. What the driver
does in the meantime takes the time that it really takes (or `driver_s` a trial): a driver that cannot keep up is seen.
"""

import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from caviar.backends.worker import Finished, Task, Worker
from caviar.data.splits import Dataset, Split
from caviar.driver.backend import Arrived, Backend, Happening
from caviar.driver.messages import Joined, Lost
from caviar.objective import Objective
from caviar.trial import Cause, Times, Trial, derive_seed

LATENCY_S = 1e-3
"""A message between driver and worker takes so long (an actor call on one machine)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What is simulated."""

    workers: int
    cost_s: Callable[[Trial], float]
    """How long a trial trains in all on a CPU worker; a part of one takes its share."""
    gpus: int = 0
    """GPU workers beside the CPU workers ..."""
    gpu_cost_s: Callable[[Trial], float] | None = None
    """... and how long a trial trains on one; None for as long as on a CPU worker."""
    start_s: float = 1.0
    """How long the first worker takes to join; the others follow a millisecond after each other."""
    deaths_per_hour: float = 0.0
    """Of each worker; it is replaced."""
    preemptions: float = 0.0
    """The share of deaths in which the machine is taken away with notice, so that no trial is suspected."""
    driver_s: float | None = None
    """What the driver needs for a trial; None for what it really takes here."""
    seed: int = 0


@dataclass(slots=True)
class _Actor:
    """A simulated worker."""

    device: str
    free_at: float
    """When it has done all that it was sent."""
    chunks: deque[int] = field(default_factory=deque)
    """Sent and not given back."""


class SimulatedBackend(Backend):
    """Workers of a simulated cluster.

    Args:
        objective: its trials are computed here, at once.
        dataset: train and dev split, if it has any.
        cluster: how many workers, how fast, how mortal.
    """

    def __init__(self, objective: Objective, dataset: Dataset | None, cluster: Cluster) -> None:
        self._cluster, self._random = cluster, Random(cluster.seed)
        self._computer = Worker("", "simulated", objective, dataset)
        self._now, self._looked = 0.0, time.perf_counter()
        self._computed_s = 0.0
        self.driver_s = 0.0
        """How long the driver has worked."""
        self._events: list[tuple[float, int, Happening]] = []
        self._actors: dict[str, _Actor] = {}
        self._order = itertools.count()
        self._names = (f"simulated-{number}" for number in itertools.count())
        for number in range(cluster.workers):
            self._start("cpu", cluster.start_s + number / 1_000)
        for number in range(cluster.gpus):
            self._start("cuda", cluster.start_s + number / 1_000)

    @property
    def devices(self) -> frozenset[str]:
        counts = {"cpu": self._cluster.workers, "cuda": self._cluster.gpus}
        return frozenset(device for device, count in counts.items() if count)

    def clock(self) -> float:
        return self._now

    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        self._pass_driver_time(len(tasks))
        actor = self._actors.get(worker)
        if actor is None:
            return  # it died a moment ago
        began = time.perf_counter()
        finished, at = [], max(self._now + LATENCY_S, actor.free_at)
        waited_s = at - actor.free_at
        for task, done in zip(tasks, self._computer.run(tasks, test), strict=True):
            train_s = self._cost_s(task, done, actor.device)
            times = Times(dispatch_s=waited_s, train_s=train_s)
            result = replace(done.result, worker=worker, device=actor.device, times=times)
            finished.append(Finished(result, done.state))
            at, waited_s = at + train_s, 0.0
        actor.free_at = at
        actor.chunks.append(chunk)
        self._happens(at + LATENCY_S, Arrived(worker, chunk, tuple(finished)))
        self._computed_s += time.perf_counter() - began

    def poll(self, timeout_s: float) -> list[Happening]:
        self._pass_driver_time(0)
        if self._events:
            self._now = max(self._now, min(self._events[0][0], self._now + timeout_s))
        happened: list[Happening] = []
        while self._events and self._events[0][0] <= self._now:
            happening = heapq.heappop(self._events)[2]
            happened += self._take(happening)
        return happened

    def close(self) -> None:
        self._events.clear()

    def _take(self, happening: Happening) -> list[Happening]:
        """What the driver hears of what has happened: nothing of workers that are dead."""
        match happening:
            case Joined(worker, device):
                self._actors[worker] = _Actor(device, free_at=self._now)
                if self._cluster.deaths_per_hour:
                    lives_s = self._random.expovariate(self._cluster.deaths_per_hour / 3_600)
                    innocent = self._random.random() < self._cluster.preemptions
                    cause = Cause.PREEMPTED if innocent else Cause.CRASH
                    self._happens(self._now + lives_s, Lost(worker, cause, "it was simulated"))
            case Lost(worker):
                actor = self._actors.pop(worker)
                self._start(actor.device, self._cluster.start_s)
                return [replace(happening, suspects=frozenset(actor.chunks))]
            case Arrived(worker, chunk):
                if worker not in self._actors:
                    return []
                self._actors[worker].chunks.remove(chunk)
        return [happening]

    def _start(self, device: str, after_s: float) -> None:
        self._happens(self._now + after_s, Joined(next(self._names), device))

    def _happens(self, at: float, happening: Happening) -> None:
        heapq.heappush(self._events, (at, next(self._order), happening))

    def _cost_s(self, task: Task, done: Finished, device: str) -> float:
        """A part's share of what its trial costs, by epochs."""
        epochs = len(done.result.measurements)
        on_gpu = self._cluster.gpu_cost_s or self._cluster.cost_s
        cost_s = self._cluster.cost_s if device == "cpu" else on_gpu
        return cost_s(task.trial) * epochs / task.trial.epochs

    def _pass_driver_time(self, trials: int) -> None:
        """The clock goes on while the driver works."""
        looked = time.perf_counter()
        if self._cluster.driver_s is None:
            worked_s = looked - self._looked - self._computed_s
        else:
            worked_s = trials * self._cluster.driver_s
        self._now += worked_s
        self.driver_s += worked_s
        self._looked, self._computed_s = looked, 0.0


def heavy_tailed(mean_s: float, sigma: float = 1.5) -> Callable[[Trial], float]:
    """Log-normal seconds that follow from a trial's params: with sigma 1.5 one in a thousand takes 33 means or more."""

    def cost_s(trial: Trial) -> float:
        random = Random(derive_seed(repr(sorted(trial.params.items()))))
        return random.lognormvariate(math.log(mean_s) - sigma * sigma / 2, sigma)

    return cost_s
