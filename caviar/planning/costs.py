"""Costs of trials from timed ones: pure arithmetic.

The seconds of a trial are a start and a rate times the seconds that its objective predicts, corrected by what the
params of the timed trials show (`caviar.driver.learned_costs`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, median, stdev

from caviar.driver.learned_costs import LearnedCosts
from caviar.planning.measuring import TimedPart
from caviar.space import Space
from caviar.trial import Outcome, Value

MIN_LEARNED = 8
"""Smallest number of whole trials from whose params something is learned."""
MIN_GAIN = 0.1
"""Smallest share of the squared error that the learned factors must save, or else all trials have the same one."""
MIN_WHOLE = 3
"""Smallest number of whole trials that are trusted alone; with fewer, parts of trials count as well."""
WARM_UP_S = 3.0
"""Seconds after the first worker is ready in which trials may be slower: other processes of Ray are still starting."""
ALONE_ERROR = 0.3
"""Relative standard error of the mean cost if a single trial was timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialCosts:
    """A model of the seconds that trials take on one worker."""

    learned: LearnedCosts
    rate: float
    """Factor from the seconds that the objective predicts to real ones."""
    start_s: float = 0.0
    """Seconds that each part of a trial takes before its first epoch, if they are known apart."""
    first_s: float = 0.0
    """Additional seconds of a worker's first trial and of those in the first seconds, which are slower."""
    latency_s: float = 0.0
    """Seconds of a message between driver and worker."""
    error: float = 0.0
    """Relative standard error of the mean of many trials."""
    timed: int = 0
    """Number of trials that it was learned from."""
    measured_s: tuple[float, ...] = ()
    """Seconds of the whole trials that were timed, the shortest first."""

    @property
    def spread(self) -> float:
        """The standard deviation of the seconds of whole trials, relative to their mean; 1 if too few were timed."""
        if len(self.measured_s) < MIN_WHOLE:
            return 1.0
        return stdev(self.measured_s) / max(mean(self.measured_s), 1e-12)

    def train_s(self, params: Mapping[str, Value], predicted_s: float) -> float:
        """Return the seconds of a trial without its start.

        Args:
            params: its hyperparameters.
            predicted_s: the seconds that the objective predicts.
        """
        return self.rate * self.learned.factor(params) * predicted_s


def learn_costs(parts: Sequence[TimedPart], space: Space) -> TrialCosts | None:
    """Learn the costs of trials; None if no part tells anything.

    Args:
        parts: the timed parts.
        space: the space of the study.
    """
    useful = [part for part in parts if part.epochs > 0 or part.is_whole]
    later = [part for part in useful if not part.is_first]
    whole = [part for part in later if part.is_whole]
    if len(whole) >= MIN_WHOLE:
        return _from_whole(whole, [part for part in useful if part.is_first], space)
    if not useful:
        return None
    return _from_parts(useful, later, space)


def _from_whole(whole: Sequence[TimedPart], first: Sequence[TimedPart], space: Space) -> TrialCosts:
    """Learn from whole trials. Where they report, the seconds of an epoch tell those of the start."""
    later = [part for part in whole if part.began_s >= WARM_UP_S]
    steady = later if len(later) >= MIN_LEARNED else whole
    start_s = _median_start(steady)
    seconds = [max(0.0, part.took_s - start_s) for part in steady]
    learned = LearnedCosts(space, MIN_LEARNED)
    for part, train_s in zip(steady, seconds, strict=True):
        learned.note(part.trial.params, part.predicted_s, train_s)
    learned.learn()
    if learned.gain < MIN_GAIN:
        learned = LearnedCosts(space)
    fitted = [learned.factor(part.trial.params) * part.predicted_s for part in steady]
    rate = sum(seconds) / max(sum(fitted), 1e-12)
    residuals = [train_s - rate * fit for train_s, fit in zip(seconds, fitted, strict=True)]
    variance = sum(residual**2 for residual in residuals) / max(1, len(steady) - 1)
    costs = TrialCosts(
        learned=learned,
        rate=rate,
        start_s=start_s,
        latency_s=median(part.message_s for part in steady) / 2,
        error=math.sqrt(variance / len(steady)) / max(start_s + mean(seconds), 1e-12),
        timed=len(whole),
        measured_s=tuple(sorted(part.took_s for part in whole)),
    )
    early = list(first)
    if steady is later:
        early += [part for part in whole if part.began_s < WARM_UP_S]
    extra_s = sum(
        part.took_s - start_s - part.share * costs.train_s(part.trial.params, part.predicted_s)
        for part in early
    )
    return replace(costs, first_s=max(0.0, extra_s) / max(1, len(first)))


def _median_start(whole: Sequence[TimedPart]) -> float:
    """Return the median seconds before the first epoch of the trials that report; 0 if none does."""
    completed = [part for part in whole if part.outcome is Outcome.COMPLETED]
    reported = [part for part in completed if part.later_epochs > 0]
    if not reported:
        return 0.0
    start_s = median(part.took_s - part.epochs * part.later_s / part.later_epochs for part in reported)
    return max(0.0, min(start_s, *(part.took_s for part in completed)))


def _from_parts(useful: Sequence[TimedPart], later: Sequence[TimedPart], space: Space) -> TrialCosts:
    """Learn from parts of trials: the seconds of an epoch from the reports, the rest is the start."""
    reported = [part for part in useful if part.later_epochs > 0 and part.later_s > 0]
    if reported:
        took_s = sum(part.later_s for part in reported)
        predicted_s = sum(part.predicted_s * part.later_epochs / part.trial.epochs for part in reported)
    else:
        source = later or useful
        took_s = sum(part.took_s for part in source)
        predicted_s = sum(part.predicted_s * part.share for part in source)
    rate = took_s / max(predicted_s, 1e-12)
    starts = {
        is_first: [
            part.took_s - rate * part.predicted_s * part.share for part in useful if part.is_first is is_first
        ]
        for is_first in (True, False)
    }
    start_s = max(0.0, median(starts[False] or starts[True])) if reported else 0.0
    first_s = max(0.0, median(starts[True]) - start_s) if starts[True] and starts[False] else 0.0
    return TrialCosts(
        learned=LearnedCosts(space),
        rate=rate,
        start_s=start_s,
        first_s=first_s,
        latency_s=median(part.message_s for part in useful) / 2,
        error=ALONE_ERROR / math.sqrt(len(useful)),
        timed=len(useful),
        measured_s=tuple(sorted(part.took_s for part in useful if part.is_whole)),
    )
