"""The trials of a search, with the part of the search that each belongs to and its quality.

The trials of a part were drawn alike: from the whole space in part 1, and ever nearer to the elite later. Each declared
round is a part of its own. A search without rounds has very many small steps, and several of them form a part.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from caviar.records.frames import Run
from caviar.trial import Outcome, Stage

MAX_PARTS = 8
"""Largest number of parts into which a search is divided."""
_TIERS = {Outcome.COMPLETED: 2, Outcome.STOPPED: 1, Outcome.DIVERGED: 0}
"""Outcomes that say something about the quality of params: the larger, the better."""


def graded_trials(run: Run) -> pd.DataFrame:
    """Return the trials of the search, with two more columns.

    `part` is the number of the part of the search that a trial belongs to, from 1. `quality` is the share of the trials
    of that part that are worse, between 0 and 1; a trial of equal quality counts half. Completed trials are better than
    those that a halving stopped, and among these the ones that trained longer are better. Diverged trials are the
    worst, because their params do not train. Failed trials have no quality: machines fail too.

    Args:
        run: a run, finished or not.

    Returns:
        A copy of rows of `run.trials`, sorted by trial.
    """
    trials = run.trials[run.trials["stage"] == Stage.SEARCH].copy()
    trials["part"] = _parts(trials["round"].to_numpy())
    trials["quality"] = np.nan
    for _, rows in trials.groupby("part").indices.items():
        part = trials.iloc[rows]
        trials.iloc[rows, -1] = quality(part, run.study_file.maximize)
    return trials


def quality(trials: pd.DataFrame, maximize: bool) -> npt.NDArray[np.float64]:
    """Return for each trial the share of the others that are worse (see `graded_trials`); NaN for failed ones.

    Args:
        trials: search trials that were drawn alike.
        maximize: True if larger values are better.

    Example:
        >>> trials = pd.DataFrame(
        ...     {
        ...         "outcome": ["completed", "diverged", "completed", "stopped", "failed"],
        ...         "value": [0.7, None, 0.9, 0.8, None],
        ...         "epochs_trained": [9, 1, 9, 3, 0],
        ...     }
        ... )
        >>> quality(trials, maximize=True).tolist()
        [0.625, 0.125, 0.875, 0.375, nan]
    """
    tiers = trials["outcome"].map(_TIERS).to_numpy(np.float64)
    values = trials["value"].to_numpy(np.float64) * (1 if maximize else -1)
    is_stopped, is_diverged = tiers == _TIERS[Outcome.STOPPED], tiers == _TIERS[Outcome.DIVERGED]
    keys = (
        np.where(is_diverged, 0.0, np.nan_to_num(values, nan=-np.inf)),
        np.where(is_stopped, trials["epochs_trained"].to_numpy(np.float64), 0.0),
        tiers,
    )
    known = np.flatnonzero(~np.isnan(tiers))
    order = known[np.lexsort([key[known] for key in keys])]
    is_better = np.any([np.diff(key[order]) != 0 for key in keys], axis=0)
    groups = np.concatenate([[0], np.cumsum(is_better)]) if len(order) else np.zeros(0, int)
    sizes = np.bincount(groups)
    middles = np.cumsum(sizes) - sizes / 2
    shares = np.full(len(trials), np.nan)
    shares[order] = middles[groups] / max(1, len(order))
    return shares


def _parts(rounds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the part of each trial: the rounds, or groups of about as many of them if they are many."""
    numbers, places = np.unique(rounds, return_inverse=True)
    last = max(1, len(numbers) - 1)
    return 1 + np.ceil(places * min(MAX_PARTS - 1, len(numbers) - 1) / last).astype(np.int64)


def best_trials(run: Run, count: int) -> pd.DataFrame:
    """Return the completed search trials with the best values, best first.

    Args:
        run: the run.
        count: largest number of trials.
    """
    trials = run.trials
    completed = trials[(trials["stage"] == Stage.SEARCH) & (trials["outcome"] == Outcome.COMPLETED)]
    return completed.sort_values(
        "value", ascending=not run.study_file.maximize, kind="stable", ignore_index=True
    ).head(count)
