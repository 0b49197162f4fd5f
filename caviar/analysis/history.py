"""The value of each trial of a search, in order of its number or of time, and the best so far."""

from typing import Literal, get_args

import pandas as pd

from caviar.analysis.value_scale import search_trials
from caviar.errors import RunError
from caviar.records.frames import Run
from caviar.trial import Outcome

Order = Literal["trial", "time"]
"""Trials in order of their numbers, or of the times at which they ended."""


def history(run: Run, against: Order = "trial") -> pd.DataFrame:
    """Return a row for each search trial, with the best value so far.

    Args:
        run: a run, finished or not.
        against: the order of the rows. In order of time, trials are left out whose worker was lost, because nothing
            says when they ended.

    Returns:
        Columns `trial`, `outcome`, `value`, `epochs_trained`, `elapsed_s` (seconds since the first trial of the run
        began), `best` (the best value of a completed trial so far) and `is_improvement`.

    Raises:
        RunError: there is no such order.
    """
    if against not in get_args(Order):
        raise RunError(
            f"history: against={against!r} is unknown; use {' or '.join(map(repr, get_args(Order)))}"
        )
    trials = search_trials(run)
    table = trials[["trial", "outcome", "value", "epochs_trained"]].copy()
    table["elapsed_s"] = (trials["ended"] - run.trials["started"].min()).dt.total_seconds()
    if against == "time":
        table = table[table["elapsed_s"].notna()].sort_values(["elapsed_s", "trial"])
    completed = table["value"].where(table["outcome"] == Outcome.COMPLETED)
    best = completed.cummax() if run.study_file.maximize else completed.cummin()
    table["best"] = best.ffill()
    table["is_improvement"] = completed.notna() & (table["best"] != table["best"].shift())
    return table.reset_index(drop=True)
