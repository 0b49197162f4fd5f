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
from caviar.rounds import Search, resize, training_count
from caviar.storage.uri import locate
from caviar.study import Study
from caviar.trial import Trial

MAX_SIMULATED = 600
"""Number of trainings that all simulations of a study have together."""
LONG_REPLICATIONS = 3
"""Number of simulations of which a longer study is extrapolated; one if there are many workers."""
PER_WORKER = 24
"""Number of trainings for each worker that a simulation may have even so."""
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
    """The same of the second half of the trials, when the search has narrowed."""
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
    _replicated: dict[int, list[Forecast]] = field(default_factory=dict, init=False, repr=False)

    def forecast(self, trials: int | None = None) -> Forecast:
        """Return the forecast for a number of trainings; by default for those that the study declares."""
        asked = (
            self.study if trials is None else replace(self.study, rounds=resize(self.study.rounds, trials))
        )
        count = training_count(asked.rounds)
        if count <= self._longest:
            found = _average(self._replicate(asked))
        else:
            few = _average(self._replicate_shortened(asked))
            narrows_on = any(isinstance(stage, Search) for stage in asked.rounds)
            found = _extrapolate(few, count, few.late_s if narrows_on else few.mean_s)
        return replace(found, trained_s=self.costs.first_s + found.trained_s)

    @cached_property
    def error(self) -> float:
        """The relative standard error: of the mean cost, of the way the search narrows, of the machine's speed."""
        narrowing = UNKNOWN_NARROWING * self.costs.spread / math.sqrt(max(1.0, len(self.parts) / MIN_MODELED))
        if len(self.parts) >= MIN_MODELED:
            is_short = training_count(self.study.rounds) <= self._longest
            found = (self._replicate if is_short else self._replicate_shortened)(self.study)
            if len(found) >= min(FEW_SIMULATIONS):
                spread = stdev(math.log(forecast.trained_s) for forecast in found)
                narrowing = max(narrowing, FEW_SIMULATIONS[len(found)] * spread)
        return math.sqrt(self.costs.error**2 + narrowing**2 + SPEED_ERROR**2)

    def prepare(self) -> None:
        """Load the libraries of a simulation, whose seconds would otherwise count as the driver's work."""
        self._simulate(replace(self.study, rounds=resize(self.study.rounds, LEAST_TRIALS)))

    @property
    def _longest(self) -> int:
        """The largest number of trainings of a simulation."""
        return max(self.max_simulated // LONG_REPLICATIONS, PER_WORKER * self.workers)

    def _replicate_shortened(self, study: Study) -> list[Forecast]:
        """Return simulations of a study with fewer trials, but as many in flight: workers wait no more for it."""
        shorter = resize(self.study.rounds, self._longest)
        most = max((stage.in_flight for stage in study.rounds if isinstance(stage, Search)), default=0)
        stages = [
            replace(stage, in_flight=min(most, stage.trials)) if isinstance(stage, Search) else stage
            for stage in shorter
        ]
        return self._replicate(replace(study, rounds=stages))

    def _replicate(self, study: Study) -> list[Forecast]:
        """Return simulations of a study: several of a short one, each with other noise and other measured values."""
        count = training_count(study.rounds)
        if count not in self._replicated:
            number = min(REPLICATIONS, max(1, self.max_simulated // count))
            self._replicated[count] = [
                self._simulate(study, replication, is_sampled=number > 1) for replication in range(number)
            ]
        return self._replicated[count]

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
        return Forecast(
            trials=trials,
            trained_s=trained_s * self._slowdown(driver_s / trained_s),
            mean_s=fmean(trained.values()),
            late_s=fmean([seconds for _, seconds in sorted(trained.items())][len(trained) // 2 :]),
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


def _extrapolate(few: Forecast, trials: int, other_s: float) -> Forecast:
    """Return the forecast for many trials from one for few.

    Args:
        few: the forecast for few trials.
        trials: the number of trials.
        other_s: mean seconds of the others: in a search those of the later ones, for it has narrowed; rounds keep their
            proportions.
    """
    more = trials / few.trials - 1.0
    more_trained = more * other_s / max(few.mean_s, 1e-12)
    return Forecast(
        trials=trials,
        trained_s=few.trained_s * (1.0 + more_trained),
        mean_s=few.mean_s * (1.0 + more_trained) / (1.0 + more),
        late_s=few.late_s,
        driver_s=few.driver_s * (1.0 + more),
        disk_bytes=few.disk_bytes * (1.0 + more),
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
