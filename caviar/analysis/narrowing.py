"""The rounds of a search, or its steps, as they narrowed the space."""

import numpy as np
import pandas as pd

from caviar.records.frames import Run


def narrowing(run: Run, most: int) -> pd.DataFrame:
    """Return the rounds of a search with the place of each in it.

    Args:
        run: a run, finished or not.
        most: number of rounds from which they are thinned: the first and the last stay.

    Returns:
        The columns of `Run.rounds`, `first` (number of search trials before the round) and `end` (number after the last
        round that comes before the next one of the frame).
    """
    rounds = run.rounds
    trials = rounds.drop_duplicates("round").set_index("round")["trials"]
    ends = trials.cumsum()
    numbers = trials.index.to_numpy()
    if len(numbers) > most:
        numbers = numbers[np.unique(np.linspace(0, len(numbers) - 1, most).round().astype(int))]
    first = (ends - trials).loc[numbers]
    end = [*first.iloc[1:], int(ends.iloc[-1])] if len(first) else []
    places = pd.DataFrame({"round": numbers, "first": first.to_numpy(), "end": end})
    return rounds.merge(places, on="round")
