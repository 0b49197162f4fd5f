"""The best value that a search had reached after a part of its budget, and the one to expect of so many draws."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from caviar.records.frames import Run
from caviar.trial import Outcome, Stage

Floats = npt.NDArray[np.float64]
BUDGETS = ("trials", "epochs", "worker_s")
"""Ways to measure a budget: trained trials, trained epochs, seconds of all workers together."""


def spent(run: Run) -> pd.DataFrame:
    """Return what the search has spent after each of its trials, in the order of their numbers.

    Returns:
        A column for each of `BUDGETS`, and `best`: the best value of a completed trial so far, NaN before the first.
    """
    trials = run.trials[run.trials["stage"] == Stage.SEARCH]
    values = trials["value"].where(trials["outcome"] == Outcome.COMPLETED)
    best = values.cummax() if run.study_file.maximize else values.cummin()
    worker_s = trials[["dispatch_s", "setup_s", "train_s"]].sum(axis=1)
    return pd.DataFrame(
        {
            "trials": np.arange(1, len(trials) + 1),
            "epochs": trials["epochs_trained"].cumsum().to_numpy(),
            "worker_s": worker_s.cumsum().to_numpy(),
            "best": best.ffill().to_numpy(),
        }
    )


def best_at(spending: pd.DataFrame, budget: str, amount: float) -> float:
    """Return the best value that a search had reached within a budget; NaN if no trial had completed.

    Args:
        spending: the result of `spent`.
        budget: one of `BUDGETS`.
        amount: how much of it.
    """
    within = spending.loc[spending[budget] <= amount, "best"]
    return float(within.iloc[-1]) if len(within) else np.nan


def expected_best(values: npt.ArrayLike, draws: Sequence[int], maximize: bool) -> Floats:
    """Return the expected best value of some of the trials, chosen at random without replacement.

    It is free of the luck of the order in which they were drawn (Dodge et al. 2019, "Show Your Work"; without
    replacement, which is free of bias: Tang et al. 2020, "Showing Your Work Doesn't Always Work"). It takes draws to be
    independent and alike. In a search that learns, later draws are better, and the expectation of few draws is too
    good: pass the trials that were drawn from the whole space, or compare with the same number of all.

    Args:
        values: the value of each trial; NaN, for a trial without one, counts as the worst.
        draws: numbers of trials, each from 1 to that of all values.
        maximize: True if larger values are better.

    Returns:
        The expected best value for each number of draws.

    Example:
        >>> expected_best([0.1, 0.5, 0.9], draws=[1, 2, 3], maximize=True).round(3).tolist()
        [0.5, 0.767, 0.9]
    """
    from scipy.special import gammaln  # scipy takes a tenth of a second to import

    numbers = np.asarray(values, dtype=np.float64) * (1 if maximize else -1)
    if not np.isfinite(numbers).any():
        return np.full(len(draws), np.nan)
    ordered_N = np.sort(np.where(np.isnan(numbers), np.nanmin(numbers), numbers))
    total, places_N = len(ordered_N), np.arange(len(ordered_N) + 1)
    found = []
    for n in draws:
        inside = places_N >= n
        logs = gammaln(places_N[inside] + 1) - gammaln(places_N[inside] - n + 1)
        below = np.zeros(total + 1)
        below[inside] = np.exp(logs - logs[-1])
        found.append(float(np.diff(below) @ ordered_N))
    return np.array(found) * (1 if maximize else -1)
