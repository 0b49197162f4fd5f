"""Forecasts: a study runs on a simulated cluster with the measured costs of its trials.

Search, halving, narrowing, confirmation, scheduling and recording are the real ones, and the driver's work takes the
time that it takes here. A long study is simulated with fewer trials and extrapolated: a trial's cost does not grow with
how many went before.
"""

import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev

from caviar.backends.simulated import SimulatedBackend, SimulatedCluster
from caviar.data.splits import Dataset
from caviar.driver.loop import Loop
from caviar.driver.watcher import Watcher
from caviar.planning.advice import LEAST_TRIALS
from caviar.planning.costs import TrialCosts
from caviar.planning.measuring import TimedPart
from caviar.planning.stand_in import MIN_MODELED, StandIn, ValueModel
from caviar.records.ledger import Ledger
from caviar.records.run_files import StudyFile
from caviar.rounds import Search, Stages, resize, training_count
from caviar.storage.uri import locate
from caviar.study import Study
from caviar.trial import Trial

MAX_SIMULATED = 600
"""Number of trainings that all simulations of a study have together."""
LONG_REPLICATIONS = 3
"""Number of simulations of which a longer study is extrapolated; one if there are many workers."""
PER_WORKER = 24
"""Number of trainings for each worker that a simulation may have even so."""
DRIVER_BOUND = 0.4
"""Share of the driver's work in the seconds of a study from which more trials are simulated: each takes little time."""
MORE_IF_DRIVER_BOUND = 8
"""Number of trainings that are then simulated, as a multiple of the usual one."""
FEW_SIMULATIONS = {3: 2.05, 4: 1.60, 5: 1.42}
"""Factor of a spread of so many simulations: Student's t for 90 %, and the error of their mean, over 1.645."""
SPEED_ERROR = 0.1
"""Relative standard error of a forecast because the speed of a machine with other users varies."""
REPLICATIONS = 5
"""Largest number of simulations of a study: whether a search narrows to cheap or expensive trials is in part chance."""
UNKNOWN_NARROWING = 0.4
"""Share of the spread of costs by which narrowing may move their mean, if nothing is known of the values."""
MEMORY, MIN_FREE_BYTES = "/dev/shm", 2**28
"""Folder in memory on Linux, and least free space with which it is used."""
MAX_FORECASTS = 4
"""Number of forecasts in which a number of trials is found that fits a time."""
CAUTION = 1.02
"""Factor of the expected seconds of a trial after a forecast of too many."""
NEARLY = 0.96
"""Share of a time that counts as filled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The course of a study that has not run."""

    trials: int
    """Trainings in all, the winner's last one apart."""
    trained_s: float
    """Seconds from the first trial to the last."""
    mean_s: float
    """Mean seconds of a whole trial, also of those that halving would stop."""
    late_s: float
    """The same of the trials that a longer study adds: in a search those of its second half, when it has narrowed."""
    driver_s: float
    """Seconds of the driver's work in that time."""
    disk_bytes: float
    """Size of the tables of the run directory."""


@dataclass(frozen=True, kw_only=True)
class Forecaster:
    """A forecast of a study of any number of trials.

    Args:
        study: the study.
        dataset: what its objective loads.
        costs: costs of trials on one worker.
        parts: the timed parts, whose values show where the search will narrow to.
        workers: number of workers.
        cores: cores of this machine, if workers and driver share it; None if the workers are elsewhere.
        reports_all: True if a trial reports after each epoch.
        max_simulated: number of trainings that its simulations have together, unless there are many workers.
    """

    study: Study
    dataset: Dataset | None
    costs: TrialCosts
    parts: Sequence[TimedPart]
    workers: int
    cores: int | None
    reports_all: bool = True
    max_simulated: int = MAX_SIMULATED
    _replicated: dict[Stages, list[Forecast]] = field(default_factory=dict, init=False, repr=False)

    def forecast(self, trials: int | None = None) -> Forecast:
        """Return the forecast for a number of trainings; by default for those that the study declares."""
        asked = self.study if trials is None else self._resized(trials)
        count = training_count(asked.rounds)
        found = self._extrapolate(asked) if count > self._longest else _average(self._replicate(asked))
        return replace(found, trained_s=self.costs.first_s + found.trained_s)

    @cached_property
    def error(self) -> float:
        """The relative standard error: of the mean cost, of the way the search narrows, of the machine's speed."""
        narrowing = UNKNOWN_NARROWING * self.costs.spread / math.sqrt(max(1.0, len(self.parts) / MIN_MODELED))
        if len(self.parts) >= MIN_MODELED:
            is_short = training_count(self.study.rounds) <= self._longest
            found = self._replicate(self.study if is_short else self._resized(self._longest))
            if len(found) >= min(FEW_SIMULATIONS):
                spread = stdev(math.log(forecast.trained_s) for forecast in found)
                narrowing = max(narrowing, FEW_SIMULATIONS[len(found)] * spread)
        return math.sqrt(self.costs.error**2 + narrowing**2 + SPEED_ERROR**2)

    def prepare(self) -> None:
        """Load the libraries of a simulation, whose seconds would otherwise count as the driver's work."""
        self.simulation_s(LEAST_TRIALS)

    def simulation_s(self, trials: int) -> float:
        """Return the seconds that it takes to simulate a number of trainings."""
        began_s = time.perf_counter()
        self._simulate(self._resized(trials))
        return time.perf_counter() - began_s

    @property
    def _longest(self) -> int:
        """The number of trainings from which a longer study is extrapolated."""
        return max(self.max_simulated // LONG_REPLICATIONS, PER_WORKER * self.workers)

    def _resized(self, trials: int) -> Study:
        """Return the study with another number of trainings."""
        return replace(self.study, rounds=resize(self.study.rounds, trials))

    def _extrapolate(self, study: Study) -> Forecast:
        """Return the forecast for a study of many trials from shorter ones.

        The workers' time grows with the cost of the later trials. The driver's work grows less than the number of
        trials, because the space narrows a limited number of times.
        """
        count = training_count(study.rounds)
        few = _average(self._replicate(self._resized(self._longest)))
        if few.driver_s < DRIVER_BOUND * few.trained_s:
            growth = few.late_s / max(few.mean_s, 1e-12)
            return _lengthen(few, count, growth * few.trained_s / few.trials)
        if count <= MORE_IF_DRIVER_BOUND * self.max_simulated:
            return _average(self._replicate(study))
        some, more = (
            _average(self._replicate(self._resized(factor * self.max_simulated)))
            for factor in (1, MORE_IF_DRIVER_BOUND)
        )
        each_s = (more.trained_s - some.trained_s) / (more.trials - some.trials)
        least_s = more.late_s / self.workers
        return _lengthen(more, count, min(max(each_s, least_s), more.trained_s / more.trials))

    def _replicate(self, study: Study) -> list[Forecast]:
        """Return simulations of a study: several of a short one, each with other noise and other measured values."""
        stages = tuple(study.rounds)
        if stages not in self._replicated:
            number = min(REPLICATIONS, max(1, self.max_simulated // training_count(stages)))
            self._replicated[stages] = [
                self._simulate(study, replication, is_sampled=number > 1) for replication in range(number)
            ]
        return self._replicated[stages]

    def _simulate(self, study: Study, replication: int = 0, is_sampled: bool = False) -> Forecast:
        """Run a study on simulated workers, with values as the timed parts have them."""
        values = ValueModel(self.parts, study.space, study.objective.maximize, replication, is_sampled)
        stand_in = StandIn(self.study.objective, self.dataset, values, self.reports_all)
        simulated = replace(study, objective=stand_in)
        trained: dict[int, float] = {}

        def cost_s(trial: Trial) -> float:
            predicted_s = stand_in.costs(trial.params, trial.epochs, None)["cpu"]
            seconds = self.costs.train_s(trial.params, predicted_s)
            trained[trial.number] = self.costs.start_s + seconds  # a part of a trial asks again
            return seconds

        cluster = SimulatedCluster(
            workers=self.workers,
            cost_s=cost_s,
            part_s=self.costs.start_s,
            latency_s=self.costs.latency_s,
            start_s=0.0,
        )
        with tempfile.TemporaryDirectory(prefix="caviar-plan-", dir=_in_memory()) as folder, _silence():
            study_file = StudyFile.describe(simulated, None, None)
            with closing(Ledger.create(locate(folder), study.name, study_file, numbered=False)) as ledger:
                backend = SimulatedBackend(stand_in, None, cluster)
                Loop(simulated, None, ledger, backend, Watcher()).run()
                trained_s, driver_s = backend.clock(), backend.driver_s
                trials = len(ledger.trials()) - 1
            tables = [f for f in Path(folder).rglob("*") if f.is_file() and "best" not in f.parts]
            disk_bytes = sum(file.stat().st_size for file in tables)
        seconds = [trained[number] for number in sorted(trained)]
        narrows = any(isinstance(stage, Search) for stage in study.rounds)
        return Forecast(
            trials=trials,
            trained_s=trained_s * self._slowdown(driver_s / trained_s),
            mean_s=fmean(seconds),
            late_s=fmean(seconds[len(seconds) // 2 if narrows else 0 :]),
            driver_s=driver_s,
            disk_bytes=disk_bytes,
        )

    def _slowdown(self, driver_load: float) -> float:
        """Return the factor by which trials slow down because the driver takes a share of their cores."""
        if self.cores is None or self.workers == 0:
            return 1.0
        return max(1.0, (self.workers + driver_load) / self.cores)


def fit_trials(
    forecast: Callable[[int], Forecast], time_s: float, least: int, most: int
) -> tuple[int, Forecast]:
    """Return the number of trainings that fill some seconds, and its forecast.

    The seconds grow about linearly with the number, so a few forecasts find it.

    Args:
        forecast: returns the forecast for a number of trainings.
        time_s: seconds from the first trial to the last.
        least: smallest number; returned if even this takes longer.
        most: largest number.
    """
    number, best = least, forecast(least)
    slope_s = best.trained_s / least
    for _ in range(MAX_FORECASTS):
        guess = min(number + int((time_s - best.trained_s) / max(slope_s, 1e-9)), most)
        if guess <= number or best.trained_s > NEARLY * time_s:
            break
        found = forecast(guess)
        slope_s = max(0.0, found.trained_s - best.trained_s) / (guess - number)
        if found.trained_s <= time_s:
            number, best = guess, found
        else:
            slope_s *= CAUTION
    return number, best


def _average(found: Sequence[Forecast]) -> Forecast:
    """Return the mean of forecasts of the same trials."""
    return Forecast(
        trials=found[0].trials,
        trained_s=fmean(forecast.trained_s for forecast in found),
        mean_s=fmean(forecast.mean_s for forecast in found),
        late_s=fmean(forecast.late_s for forecast in found),
        driver_s=fmean(forecast.driver_s for forecast in found),
        disk_bytes=fmean(forecast.disk_bytes for forecast in found),
    )


def _lengthen(few: Forecast, trials: int, each_s: float) -> Forecast:
    """Return the forecast for many trials from one for few.

    Args:
        few: the forecast for few trials.
        trials: the number of trials.
        each_s: seconds from the first trial to the last that each other trial adds.
    """
    others = trials - few.trials
    return replace(
        few,
        trials=trials,
        trained_s=few.trained_s + others * each_s,
        mean_s=(few.trials * few.mean_s + others * few.late_s) / trials,
        driver_s=few.driver_s * trials / few.trials,
        disk_bytes=few.disk_bytes * trials / few.trials,
    )


def _in_memory() -> str | None:
    """Return a folder in memory, where a simulated run waits for no disk; None if there is none."""
    if not os.path.ismount(MEMORY) or shutil.disk_usage(MEMORY).free < MIN_FREE_BYTES:
        return None
    return MEMORY


@contextmanager
def _silence() -> Iterator[None]:
    """Discard the warnings of the simulated study while inside."""
    logger = logging.getLogger("caviar")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
