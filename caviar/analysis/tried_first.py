"""The trials whose params the study gives (`try_first`), and their ranks in the search."""

import pandas as pd

from caviar.analysis.quality import best_trials
from caviar.records.frames import Run


def tried_first(run: Run) -> pd.DataFrame:
    """Return the search trials whose params the study gives, in the order in which it gives them.

    Args:
        run: a run, finished or not.

    Returns:
        Rows of `run.trials` with one more column, `rank`: the place among the completed trials of the search, from 1
        for the best; NaN for one that did not complete. Empty if the study gives none.
    """
    trials = run.trials
    given = trials[trials["given"]] if run.study_file.has_given else trials.iloc[:0]
    ranked = best_trials(run, len(trials))["trial"]
    ranks = pd.Series(range(1, len(ranked) + 1), index=ranked, dtype="float64")
    return given.assign(rank=given["trial"].map(ranks)).reset_index(drop=True)
