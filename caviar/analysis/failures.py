"""Failures and divergences of a run, by cause."""

import re

import pandas as pd

_PLACE = re.compile(r"\([^()]*, line \d+\)$")
_NUMBER = re.compile(r"[-+]?(?:\d[\d,_]*\.?\d*(?:e[-+]?\d+)?|\bnan\b|\binf\b)", re.IGNORECASE)


def cause_of(failure: str) -> str:
    """Return what the failures of one cause share: class and place of an error, or the text without its numbers.

    Example:
        >>> cause_of("KeyError: 'x7' (train.py, line 3)")
        'KeyError (train.py, line 3)'
        >>> cause_of("loss exploded (train 3.2e+09)")
        'loss exploded (train …)'
    """
    place = _PLACE.search(failure)
    if place is not None and ":" in failure:
        return f"{failure.partition(':')[0]} {place[0]}"
    return _NUMBER.sub("…", failure)


def failures(trials: pd.DataFrame) -> pd.DataFrame:
    """Count the trials that diverged or failed by cause.

    Args:
        trials: rows of `Run.trials`.

    Returns:
        One row a cause and outcome, most frequent first: `outcome`, `cause`, `trials` (how many), and for the first of
        them its number, `example`, and its whole `failure`.
    """
    failed = trials.loc[trials["failure"].notna(), ["trial", "outcome", "failure"]]
    failed = failed.assign(cause=failed["failure"].map(cause_of)).sort_values("trial")
    groups = failed.groupby(["outcome", "cause"], sort=False)
    counted = groups.agg(
        trials=("trial", "size"), example=("trial", "first"), failure=("failure", "first")
    ).reset_index()
    return counted.sort_values("trials", ascending=False, kind="stable", ignore_index=True)
