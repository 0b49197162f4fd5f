"""Advice on the way to tune: many trials at once (caviar), or one model that a person adjusts (panda)."""

import math
from dataclasses import dataclass
from enum import StrEnum

from caviar.durations import duration_words
from caviar.plurals import counted

LEAST_TRIALS = 20
"""Smallest number of trainings for which a search beats a person who adjusts one model."""
GOOD_SHARE = 0.1
"""Share of the space that counts as good."""


class Way(StrEnum):
    """The way to tune."""

    CAVIAR = "caviar"
    """Many trials, drawn at random and then near the best."""
    PANDA = "panda"
    """One model, watched and adjusted while it trains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The way that fits a budget, with its reasons."""

    way: Way
    reasons: tuple[str, ...]
    """Sentences without a full stop."""


def chance_of_good(trials: int) -> float:
    """Return the chance that one of so many random draws is among the best tenth of the space.

    Example:
        >>> [round(chance_of_good(trials), 2) for trials in (5, 20, 60)]
        [0.41, 0.88, 1.0]
    """
    return 1.0 - (1.0 - GOOD_SHARE) ** trials


def advise(trials: int, trial_s: float, workers: int, time_s: float | None, least_s: float) -> Advice:
    """Return the way that fits.

    Args:
        trials: trainings that the budget buys, or that the study declares.
        trial_s: mean seconds of a trial.
        workers: number of workers.
        time_s: seconds of the budget; None if it has none.
        least_s: seconds of the smallest search, of `LEAST_TRIALS` trainings.
    """
    place = "one worker" if workers == 1 else f"one of {workers:,} workers"
    each = f"a trial takes {duration_words(trial_s)} on {place}"
    in_budget = "the study has" if time_s is None else f"{duration_words(time_s)} are enough for"
    chance = f"a chance of {chance_of_good(trials):.0%}"
    draws = f"one of the best tenth of the space is among {counted(trials, 'random draw')} with {chance}"
    if trials >= LEAST_TRIALS:
        beyond = f"{in_budget} {trials:,} of them, and from about {LEAST_TRIALS} on a search beats adjusting one model"
        return Advice(way=Way.CAVIAR, reasons=(each, beyond, *((draws,) if trials < 60 else ())))
    count = (
        f"{in_budget} {trials:,} of them"
        if trials
        else f"{duration_words(time_s or 0.0)} are not enough for one"
    )
    return Advice(
        way=Way.PANDA,
        reasons=(
            each,
            count,
            *((draws,) if trials else ()),
            f"a search makes sense from about {LEAST_TRIALS} trials ({chance_of_good(LEAST_TRIALS):.0%}), "
            f"which take {duration_words(least_s)}",
        ),
    )


def trials_in(time_s: float, start_s: float, trial_s: float, workers: int) -> int:
    """Return how many trials of equal length end within some seconds, if none waits for another.

    Example:
        >>> trials_in(time_s=3_600, start_s=5, trial_s=1_000, workers=2)
        6
    """
    return workers * max(0, math.floor((time_s - start_s) / max(trial_s, 1e-9)))
