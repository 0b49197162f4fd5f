"""Fewer rows of a large table, for figures: the rows that matter, and a random sample of the others."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from caviar.trial import Outcome


def thin(table: pd.DataFrame, most: int, keep: npt.ArrayLike | None = None) -> pd.DataFrame:
    """Return at most so many rows of a table in their order, the same ones each time.

    Args:
        table: the rows.
        most: the number of rows, unless more are kept.
        keep: True for each row that must stay.

    Example:
        >>> table = pd.DataFrame({"value": range(100)})
        >>> thin(table, 10, keep=table["value"] == 99)["value"].iloc[-1]
        np.int64(99)
    """
    if len(table) <= most:
        return table
    kept = np.zeros(len(table), bool) if keep is None else np.asarray(keep, bool).copy()
    others = np.flatnonzero(~kept)
    drawn = max(0, most - int(kept.sum()))
    kept[np.random.default_rng(0).choice(others, size=min(drawn, len(others)), replace=False)] = True
    return table[kept]


def thin_trials(trials: pd.DataFrame, most: int, keep: npt.ArrayLike) -> pd.DataFrame:
    """Return at most so many trials, up to two thirds of them completed: these tell more than the others.

    Args:
        trials: rows with an outcome.
        most: the number of rows, unless more are kept.
        keep: True for each row that must stay.
    """
    completed, kept = (trials["outcome"] == Outcome.COMPLETED).to_numpy(), np.asarray(keep, bool)
    others = int((~completed).sum())
    of_completed = thin(trials[completed], max(2 * most // 3, most - others), kept[completed])
    return pd.concat(
        [of_completed, thin(trials[~completed], most - len(of_completed), kept[~completed])]
    ).loc[lambda drawn: drawn.index.sort_values()]


def among_best(trials: pd.DataFrame, count: int, maximize: bool) -> "pd.Series[bool]":
    """Return True for each of the best completed trials.

    Args:
        trials: rows with an outcome and a value.
        count: number of trials that count as the best.
        maximize: True if larger values are better.
    """
    completed = trials["value"].where(trials["outcome"] == Outcome.COMPLETED)
    return completed.rank(ascending=not maximize, method="first") <= count
