"""Differences between the scores of runs, with intervals that respect how few fresh trainings there are.

The variance of a run's score comes from all fresh trainings of its confirmation, pooled over the contenders, as in the
interval of `Best.value`. Welch's t-test (1947) compares scores of different variance; it takes the degrees of freedom
of both variances into account, so few trainings give wide intervals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from caviar.records.frames import Run
from caviar.search.confirmation import fresh_values, is_deterministic, pooled_variance
from caviar.trial import Outcome, Stage

LEVEL = 0.05
"""Probability of an error below which one run is called better than another, over all pairs of runs."""


@dataclass(frozen=True, slots=True)
class Score:
    """A mean with the variance of that mean."""

    value: float
    variance: float = math.nan
    """The variance of the mean; NaN if nothing tells it."""
    degrees: float = math.inf
    """Degrees of freedom of the variance."""
    n: int = 1
    """Number of trainings, or of test rows, in the mean."""

    @property
    def low(self) -> float:
        """The lower end of the 95 % confidence interval; NaN if the variance is unknown."""
        return self.value - _quantile(self.degrees) * math.sqrt(self.variance)

    @property
    def high(self) -> float:
        """The upper end."""
        return self.value + _quantile(self.degrees) * math.sqrt(self.variance)


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two scores, positive if the first is better."""

    value: float
    low: float
    """Lower end of its 95 % confidence interval; NaN if a variance is unknown."""
    high: float
    probability: float
    """Probability that the first one's true mean is better, if nothing else is known; NaN likewise."""

    @property
    def p_value(self) -> float:
        """The two-sided p-value of the hypothesis that the true means are equal."""
        return 2 * min(self.probability, 1 - self.probability)


def confirmed_score(run: Run) -> Score | None:
    """Return the mean value of the winner's fresh trainings; None for a run that is not finished.

    The trainings are those of the last step of the confirmation, which did not choose the winner's contenders.
    """
    winner, search, confirmed = run.winner, run.trials[run.trials["stage"] == Stage.SEARCH], run.confirming
    if winner is None or not run.finished:
        return None
    return score_of(winner, search, confirmed, run.study_file.maximize)


def score_of(trial: int, search: pd.DataFrame, confirmed: pd.DataFrame, maximize: bool) -> Score | None:
    """Return the mean value of a contender's fresh trainings in its last step; None if none completed.

    Args:
        trial: number of the search trial.
        search: the trials of the search.
        confirmed: the trials of the confirmation.
        maximize: True if larger values are better.
    """
    if is_deterministic(search, confirmed):
        value = search.loc[search["trial"] == trial, "value"].iloc[0]
        return Score(float(value), variance=0.0, n=0)
    own = confirmed[(confirmed["confirms"] == trial) & (confirmed["outcome"] == Outcome.COMPLETED)]
    last = own.loc[own["round"] == own["round"].max(), "value"]
    if last.empty:
        return None
    pooled = pooled_variance(fresh_values(confirmed, maximize))
    if pooled is None:
        return Score(float(last.mean()), n=len(last))
    variance, degrees = pooled
    return Score(float(last.mean()), variance / len(last), degrees, len(last))


def score_on_test(run: Run) -> Score | None:
    """Return the winner's score on the test split, or by the study's test function; None if there is none."""
    best = run.best
    if best is None or (best.test_accuracy is None and best.test_value is None):
        return None
    if best.test_accuracy is None or not best.test_rows:
        return Score(float(best.test_value or 0.0))
    share = (best.test_accuracy * best.test_rows + 1) / (best.test_rows + 2)  # Agresti & Caffo 2000
    return Score(best.test_accuracy, share * (1 - share) / (best.test_rows + 2), n=best.test_rows)


def difference(one: Score, other: Score, maximize: bool) -> Difference:
    """Return how much better one score is than another (Welch 1947).

    Args:
        one: a score.
        other: the score that it is compared with.
        maximize: True if larger scores are better.

    Example:
        >>> d = difference(Score(0.98, 1e-6, 12, 4), Score(0.97, 1e-6, 12, 4), maximize=True)
        >>> f"{d.value:.3f} ({d.low:.3f} .. {d.high:.3f}), probability {d.probability:.3f}"
        '0.010 (0.007 .. 0.013), probability 1.000'
    """
    from scipy.special import stdtr  # scipy takes a tenth of a second to import

    value = (one.value - other.value) * (1 if maximize else -1)
    variance = one.variance + other.variance
    if variance == 0:
        return Difference(value, value, value, 0.5 if value == 0 else float(value > 0))
    terms = (part.variance**2 / part.degrees for part in (one, other))
    rest = sum(terms)
    degrees = variance**2 / rest if rest else math.inf
    error = math.sqrt(variance)
    half = _quantile(degrees) * error
    return Difference(value, value - half, value + half, float(stdtr(min(degrees, 1e9), value / error)))


def compare_pairs(scores: Sequence[Score], maximize: bool) -> pd.DataFrame:
    """Return a row for each pair of scores.

    Returns:
        Columns `one` and `other` (places in `scores`), `difference` (positive if `one` is better), `low`, `high`,
        `probability` (that `one` is better), and `clear`: True if the difference is not due to chance, by Holm's method
        (1979), which allows for the number of pairs.
    """
    rows = []
    for one, other in combinations(range(len(scores)), 2):
        found = difference(scores[one], scores[other], maximize)
        rows.append((one, other, found.value, found.low, found.high, found.probability, found.p_value))
    names = ["one", "other", "difference", "low", "high", "probability", "p_value"]
    frame = pd.DataFrame(rows, columns=names).sort_values("p_value", kind="stable", ignore_index=True)
    limits = LEVEL / (len(frame) - np.arange(len(frame)))
    frame["clear"] = np.logical_and.accumulate(frame["p_value"].to_numpy() <= limits)
    return frame.drop(columns="p_value").sort_values(["one", "other"], ignore_index=True)


def places(pairs: pd.DataFrame, n: int) -> list[tuple[int, int]]:
    """Return the best and the worst place that each of n runs may have, given which differences are clear."""
    better, worse = [0] * n, [0] * n
    for one, other, gap in pairs.loc[pairs["clear"], ["one", "other", "difference"]].itertuples(index=False):
        winner, loser = (one, other) if gap > 0 else (other, one)
        better[loser] += 1
        worse[winner] += 1
    return [(1 + b, n - w) for b, w in zip(better, worse, strict=True)]


def _quantile(degrees: float) -> float:
    from scipy.special import stdtrit  # scipy takes a tenth of a second to import

    return float(stdtrit(min(degrees, 1e9), 0.975))
