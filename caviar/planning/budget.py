"""The number of trials that a time budget buys, fixed from the measured cost of trials before a study begins."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from caviar.data.splits import Dataset
from caviar.driver.backend import Backend
from caviar.durations import duration_words
from caviar.errors import RunError
from caviar.planning.advice import LEAST_TRIALS
from caviar.planning.costs import TrialCosts, learn_costs
from caviar.planning.forecast import MAX_SIMULATED, Forecaster, fit_trials
from caviar.planning.measuring import MEASURE_S, Measurement, Measuring
from caviar.plurals import counted
from caviar.rounds import MAX_TRIALS, resize, training_count
from caviar.study import Study
from caviar.trial import Outcome

IMPORT_S = 0.4
"""Seconds from the start of the command until it runs (experiments/benchmarks/results/startup.md)."""
END_S = 0.5
"""Seconds from the last trial until the command has ended, with Ray stopped (likewise)."""
MEASURED_SHARE = 0.15
"""Largest share of a budget that is spent on measuring, unless a single trial takes longer."""
BY_HAND = "adjust one model while it trains (the panda way: `caviar panda EXPERIMENT.py`)"
MEND_FIRST = (
    "mend the study first: `study.try_one()` trains a trial in your process, with its whole traceback"
)
FORECAST_SHARE = 0.06
"""Share of a budget that a forecast may take; those of many trials have their simulations in common."""
MIN_SIMULATED = 4 * LEAST_TRIALS
"""Smallest number of trainings that the simulations of a forecast have together."""
WAITED_SHARE = 0.5
"""Largest share of a budget for which a single trial is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBudget:
    """The origin of a number of trials, for `study.json`."""

    time_s: float
    """Seconds that the whole run was given."""
    trials: int
    """Trainings that fit."""
    trial_s: float
    """Mean seconds of a trial, as forecast."""
    timed: int
    """Number of trials that were timed."""
    workers: int
    """Number of workers that were reckoned with."""
    measured_s: float
    """Seconds that were spent on measuring and on the forecast."""
    expected_s: float
    """Expected seconds from the first trial to the last."""
    declared: Mapping[str, Any]
    """Rounds and confirmation that the script declares, as `Study.to_json` writes them."""

    def __str__(self) -> str:
        trials = f"{self.trials:,} trials of about {duration_words(self.trial_s)}"
        workers = counted(self.workers, "worker")
        return f"{trials} fit into {duration_words(self.time_s)} on {workers} ({self.timed:,} timed)"

    def to_json(self) -> dict[str, Any]:
        """Return it in a plain form."""
        return asdict(self)


def unmeasured_reason(measurement: Measurement, costs: TrialCosts | None) -> str | None:
    """Return why no cost of a trial is known; None if one is."""
    parts = measurement.parts
    if not parts:
        return "no worker was ready that trains one trial at a time"
    if measurement.all_failed:
        trials = (
            "the trial that was tried" if len(parts) == 1 else f"all {len(parts):,} trials that were tried"
        )
        return f"{trials} failed: {measurement.failures[0]}"
    if costs is None:
        longest_s = max(part.took_s for part in parts)
        return f"a trial was still running after {duration_words(longest_s)} and had reported no epoch"
    return None


def choose_trials(
    study: Study,
    dataset: Dataset | None,
    backend: Backend,
    time_s: float,
    began_s: float,
    cores: int | None,
) -> tuple[Study, TimeBudget, Backend]:
    """Measure trials on the workers of a study, and return the study with as many trials as fit.

    Args:
        study: the study as it is declared.
        dataset: what its objective loads.
        backend: its workers.
        time_s: seconds that the whole run is given.
        began_s: the time, in seconds of `time.monotonic`, at which the run began.
        cores: cores of this machine, if workers and driver share it; None if the workers are elsewhere.

    Returns:
        The study, how its number of trials came about, and its workers.

    Raises:
        RunError: the time is too short for a search, or the cost of a trial could not be measured.
    """
    measuring_began_s = time.monotonic()
    limit_s = min(MEASURE_S, MEASURED_SHARE * time_s)
    measuring = Measuring(study, dataset, backend, limit_s, wait_s=WAITED_SHARE * time_s)
    measurement = measuring.run()
    costs = learn_costs(measurement.parts, study.space)
    workers = count_measured(study, backend.expected_workers)
    if reason := unmeasured_reason(measurement, costs):
        advice = (
            MEND_FIRST
            if measurement.all_failed
            else f"give much more time, or {BY_HAND}"
            if costs is None and measurement.parts
            else "declare the number of trials in the study and leave out --time"
        )
        raise RunError(
            f"--time {duration_words(time_s)}: the cost of a trial could not be measured ({reason}): {advice}"
        )
    assert costs is not None
    forecaster = forecaster_of(study, dataset, measurement, costs, workers, cores)
    forecaster.prepare()

    def left_s() -> float:
        return time_s - (time.monotonic() - began_s) - IMPORT_S - END_S

    smallest = replace(forecaster, max_simulated=LEAST_TRIALS).forecast(LEAST_TRIALS)
    if smallest.trained_s > left_s():
        raise RunError(
            f"--time {duration_words(time_s)} is too short for a search: a trial takes "
            f"{duration_words(smallest.mean_s)}, and {LEAST_TRIALS} trials, the fewest that make sense, take "
            f"{duration_words(smallest.trained_s)} on {counted(workers, 'worker')} after the start and the measuring: "
            f"give at least --time {least_time(time_s - left_s() + smallest.trained_s)}, or {BY_HAND}"
        )
    forecaster = replace(forecaster, max_simulated=_affordable_trials(forecaster, FORECAST_SHARE * time_s))
    trials, found = fit_trials(forecaster.forecast, left_s(), LEAST_TRIALS, MAX_TRIALS)
    late = left_s() / found.trained_s  # the forecasts took time, too
    trials = max(LEAST_TRIALS, int(min(1.0, late) * trials))
    chosen = replace(study, rounds=resize(study.rounds, trials))
    declared = study.to_json()
    budget = TimeBudget(
        time_s=time_s,
        trials=training_count(chosen.rounds),
        trial_s=found.mean_s,
        timed=costs.timed,
        workers=workers,
        measured_s=time.monotonic() - measuring_began_s,
        expected_s=min(1.0, late) * found.trained_s,
        declared={name: declared[name] for name in ("rounds", "confirmation")},
    )
    return chosen, budget, measuring.workers()


def _affordable_trials(forecaster: Forecaster, time_s: float) -> int:
    """Return the number of trainings that can be simulated in some seconds. In a longer simulation each takes less."""
    probed = affordable = LEAST_TRIALS
    while affordable >= probed and probed <= MIN_SIMULATED:
        affordable = int(time_s * probed / forecaster.simulation_s(probed))
        probed *= 4
    return min(max(MIN_SIMULATED, affordable), MAX_SIMULATED)


def count_measured(study: Study, workers: Mapping[str, int]) -> int:
    """Return the number of workers that train one trial at a time: how fast the others are is not measured.

    Args:
        study: the study.
        workers: number of workers on each device.
    """
    return sum(count for device, count in workers.items() if study.objective.lanes(device) == 1)


def forecaster_of(
    study: Study,
    dataset: Dataset | None,
    measurement: Measurement,
    costs: TrialCosts,
    workers: int,
    cores: int | None,
) -> Forecaster:
    """Return the forecaster of a study from its measured trials."""
    whole = [part for part in measurement.parts if part.is_whole and part.outcome is Outcome.COMPLETED]
    seldom = any(part.trial.epochs > 1 and 2 * part.reports < part.trial.epochs for part in whole)
    return Forecaster(
        study=study,
        dataset=dataset,
        costs=costs,
        parts=measurement.parts,
        workers=workers,
        cores=cores,
        reports_all=not seldom,
    )


def least_time(seconds: float) -> str:
    """Return a duration for the command line, rounded up to a step of about a tenth.

    Example:
        >>> [least_time(seconds) for seconds in (41.2, 200.0, 5_000.0, 100_000.0)]
        ['45s', '4m', '84m', '28h']
    """
    if seconds <= 120:
        return f"{5 * -(-seconds // 5):.0f}s"
    if seconds <= 7_200:
        return f"{-(-seconds // 60):.0f}m"
    return f"{-(-seconds // 3_600):.0f}h"
