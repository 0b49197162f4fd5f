"""The effect of starting a study from another run: its first draws near that run's best, against the whole space.

Both kinds of draws learned from nothing in the study itself, so they differ in what was taken from the other run alone.
The effect is the probability that a trial from there is better than one from the whole space, as in the test of Mann &
Whitney (1947). Its interval is the fifth method of Newcombe (2006, "Confidence intervals for an effect size measure
based on the Mann-Whitney statistic", part 2), which also holds where all trials of one kind are better.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from caviar.analysis.quality import quality
from caviar.records.frames import Run
from caviar.starting_point import Origin
from caviar.trial import Outcome, Stage

MIN_TRIALS = 3
"""Trials of each kind below which nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartEffect:
    """The first trials that came from another run, compared with those from the whole space."""

    source: str
    """The run that the study started from."""
    metric: str
    started: int
    """Number of trials that came from there: its best configurations, and draws near them."""
    whole: int
    """Number of trials from the whole space."""
    best_started: float
    """Best value of a trial that came from there; NaN if none completed."""
    best_whole: float
    median_started: float
    """Median value of those that completed."""
    median_whole: float
    probability: float
    """Probability that a trial that came from there is better than one from the whole space."""
    low: float
    """Lower end of its 95 % interval."""
    high: float

    @property
    def verdict(self) -> str:
        """The answer in a few words: "it helped", "it misled", or "no clear difference"."""
        if self.low > 0.5:
            return "it helped"
        return "it misled" if self.high < 0.5 else "no clear difference"

    def __str__(self) -> str:
        return (
            f"{self.verdict}: a trial that came from {self.source} was better than one from the whole space with "
            f"probability {self.probability:.0%} (95% interval {100 * self.low:.0f} .. {self.high:.0%}); best "
            f"{self.metric} {self.best_started:.4g} of {self.started} against {self.best_whole:.4g} of {self.whole}, "
            f"median {self.median_started:.4g} against {self.median_whole:.4g}"
        )


def start_effect(run: Run) -> StartEffect | None:
    """Return whether it helped to start from another run; see `Run.start_effect`."""
    if not run.study_file.has_origin:
        return None
    trials = run.trials
    first = trials[(trials["stage"] == Stage.SEARCH) & (trials["outcome"] != Outcome.FAILED)]
    if not run.study["start_from"]["is_compared"]:
        first = first[first["learned_from"] == 0]
    is_started = first["origin"].isin([Origin.START, Origin.NEAR_START])
    first = first[is_started | (first["origin"] == Origin.WHOLE_SPACE)]
    is_started = first["origin"].isin([Origin.START, Origin.NEAR_START])
    if min(is_started.sum(), (~is_started).sum()) < MIN_TRIALS:
        return None
    qualities = quality(first, run.study_file.maximize)
    started, whole = qualities[is_started.to_numpy()], qualities[~is_started.to_numpy()]
    probability = _superiority(started, whole)
    low, high = superiority_interval(probability, len(started), len(whole))
    completed = first["value"].where(first["outcome"] == Outcome.COMPLETED)
    best = completed.groupby(is_started).agg("max" if run.study_file.maximize else "min")
    median = completed.groupby(is_started).median()
    return StartEffect(
        source=str(run.study["start_from"]["source"]),
        metric=run.metric,
        started=len(started),
        whole=len(whole),
        best_started=float(best[True]),
        best_whole=float(best[False]),
        median_started=float(median[True]),
        median_whole=float(median[False]),
        probability=probability,
        low=low,
        high=high,
    )


def _superiority(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Return the share of pairs in which the first is better; ties count half."""
    gaps = one[:, None] - other[None, :]
    return float((gaps > 0).mean() + (gaps == 0).mean() / 2)


def superiority_interval(share: float, m: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of the probability that one of m values is better than one of n others.

    Args:
        share: the share of the pairs in which it is.
        m: number of values.
        n: number of others.

    Example:
        >>> low, high = superiority_interval(1.0, 10, 10)
        >>> f"{low:.2f} .. {high:.2f}"
        '0.80 .. 1.00'
    """
    p = np.linspace(0.0, 1.0, 10_001)
    middle = (m + n) / 2
    variance = p * (1 - p) * (1 + (middle - 1) * ((1 - p) / (2 - p) + p / (1 + p))) / (m * n)
    inside = p[np.abs(p - share) <= 1.959964 * np.sqrt(variance) + 1e-9]
    return float(inside[0]), float(inside[-1])


def origin_of_winner(run: Run) -> str | None:
    """Return how the winner's params came about; None without a winner or without origins."""
    if run.winner is None or not run.study_file.has_origin:
        return None
    row: pd.Series = run.trials.set_index("trial")["origin"]
    return str(row[run.winner])
