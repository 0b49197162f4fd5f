"""The plan of a study: what it will take, or what a time budget buys."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caviar.planning.advice import Advice
from caviar.planning.costs import TrialCosts
from caviar.planning.forecast import Forecast
from caviar.rounds import Stages, training_count

NORMAL_90 = 1.645
"""Standard deviations on each side that hold 90 % of a normal distribution."""
OTHERS_ERROR = 0.1
"""Relative standard error of the seconds of a command before its first trial and after the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Main memory that a study takes, in bytes; None where it is not known."""

    worker_bytes: int | None = None
    """Largest memory of a worker during measuring."""
    driver_bytes: int | None = None
    """Memory of the driver and, on this machine, of Ray."""

    def total_bytes(self, workers: int) -> int | None:
        """Return the memory of all, with so many workers."""
        if self.worker_bytes is None or self.driver_bytes is None:
            return None
        return workers * self.worker_bytes + self.driver_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The machines that a study will run on."""

    address: str
    machines: tuple[Mapping[str, float], ...]
    """Resources of each machine, by Ray's names."""
    workers: Mapping[str, int]
    """Number of workers on each device."""

    @property
    def count(self) -> int:
        """The number of workers."""
        return sum(self.workers.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The measured cost of a trial, and the course of the study that follows from it."""

    costs: TrialCosts
    forecast: Forecast
    error: float
    """Relative standard error of the seconds of the forecast."""
    before_s: float
    """Seconds from the command to the first trial, measuring not among them."""
    after_s: float
    """Seconds from the last trial to the end of the command."""

    @property
    def duration_s(self) -> float:
        """The expected seconds of the whole command."""
        return self.before_s + self.forecast.trained_s + self.after_s

    @property
    def interval_s(self) -> tuple[float, float]:
        """The seconds between which the whole command ends with a probability of about 90 %."""
        factor, trained_s = 1.0 + NORMAL_90 * self.error, self.forecast.trained_s
        others_s = NORMAL_90 * OTHERS_ERROR * (self.before_s + self.after_s)
        earlier_s = math.hypot(trained_s * (1.0 - 1.0 / factor), others_s)
        later_s = math.hypot(trained_s * (factor - 1.0), others_s)
        return max(0.0, self.duration_s - earlier_s), self.duration_s + later_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan of a study. `cost` and `advice` are None if the cost of a trial could not be measured."""

    name: str
    stages: Stages
    """Stages of the planned study, the confirmation last."""
    places: Places
    time_s: float | None
    """Seconds of the budget; None if the study's own number of trials is planned."""
    cost: Cost | None
    advice: Advice | None
    memory: Memory
    unmeasured: str | None = None
    """Reason why the cost of a trial could not be measured."""
    in_trials: float | None = None
    """Without a measured cost: duration of the study as a multiple of the duration of a trial."""
    notes: tuple[str, ...] = ()
    """Sentences about what the plan leaves out."""

    @property
    def trials(self) -> int:
        """The number of trainings, the winner's last one apart."""
        return training_count(self.stages)

    def to_json(self) -> dict[str, Any]:
        """Return the plan for other programs: seconds, bytes and counts."""
        cost = self.cost
        return {
            "study": self.name,
            "trials": self.trials,
            "epochs": max(stage.epochs for stage in self.stages[:-1]),  # type: ignore[union-attr]
            "time_s": self.time_s,
            "workers": dict(self.places.workers),
            "address": self.places.address,
            "machines": [dict(machine) for machine in self.places.machines],
            "trial_s": None if cost is None else cost.forecast.mean_s,
            "trials_timed": 0 if cost is None else cost.costs.timed,
            "duration_s": None if cost is None else cost.duration_s,
            "interval_s": None if cost is None else list(cost.interval_s),
            "disk_bytes": None if cost is None else round(cost.forecast.disk_bytes),
            "memory_worker_bytes": self.memory.worker_bytes,
            "memory_bytes": self.memory.total_bytes(self.places.count),
            "way": None if self.advice is None else str(self.advice.way),
            "reasons": [] if self.advice is None else list(self.advice.reasons),
            "unmeasured": self.unmeasured,
            "notes": list(self.notes),
        }
