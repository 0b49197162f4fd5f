"""The trials of each round, or of other groups, in numbers."""

from collections.abc import Sequence

import pandas as pd

from caviar.trial import Outcome


def summarize_groups(trials: pd.DataFrame, groups: Sequence[object], maximize: bool) -> pd.DataFrame:
    """Count the trials of each group, and return the best and the median value of those that completed.

    Args:
        trials: rows of `Run.trials`.
        groups: for each of them the group that it belongs to.
        maximize: True if larger values are better.

    Returns:
        One row a group, in the order of their first trials: `trials`, the largest number of `epochs`, a count for each
        outcome, `best` and `median`, which are empty if no trial completed.
    """
    by = pd.Series(list(groups), index=trials.index, dtype=object)
    values = trials["value"].where(trials["outcome"] == Outcome.COMPLETED)
    outcomes = pd.get_dummies(trials["outcome"], dtype=int).reindex(columns=list(Outcome), fill_value=0)
    best = values.groupby(by, sort=False)
    return pd.concat(
        [
            trials.groupby(by, sort=False)["epochs"].agg(trials="size", epochs="max"),
            outcomes.groupby(by, sort=False).sum(),
            (best.max() if maximize else best.min()).rename("best"),
            best.median().rename("median"),
        ],
        axis=1,
    )
