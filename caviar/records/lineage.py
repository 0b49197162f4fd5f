"""The branches of a session of `caviar panda`: each trial continues another one from some epoch."""

from collections.abc import Iterator, Mapping

import pandas as pd

from caviar.errors import RunError

Starts = Mapping[int, tuple[int | None, int]]
"""For each trial the number of its parent, None for a first one, and the epoch from which it continues."""


def starts(trials: pd.DataFrame) -> dict[int, tuple[int | None, int]]:
    """Return where each trial of a session starts, from its rows."""
    return {
        int(trial): (None, 0) if pd.isna(parent) else (int(parent), int(epoch))
        for trial, parent, epoch in zip(
            trials["trial"], trials["parent"], trials["parent_epoch"], strict=True
        )
    }


def lineage(known: Starts, trial: int) -> Iterator[tuple[int, float]]:
    """Yield a trial and its ancestors, each with the last epoch of it that counts; infinity for the trial itself.

    Raises:
        RunError: there is no such trial.

    Example:
        >>> list(lineage({0: (None, 0), 1: (0, 5), 2: (1, 3)}, 2))
        [(2, inf), (1, 3), (0, 3)]
    """
    number: int | None = trial
    until = float("inf")
    while number is not None:
        if number not in known:
            raise RunError(f"there is no trial {number} among the {len(known):,} that are recorded")
        yield number, until
        number, start = known[number]
        until = min(until, start)


def branch_curve(trials: pd.DataFrame, curves: pd.DataFrame, trial: int) -> pd.DataFrame:
    """Return the curve of a trial through its ancestors, from the first epoch on.

    Args:
        trials: rows of `Run.trials`.
        curves: rows of `Run.curves`.
        trial: number of the trial.

    Raises:
        RunError: there is no such trial.
    """
    until = dict(lineage(starts(trials), trial))
    last = curves["trial"].map(until)
    return curves[curves["epoch"] <= last].sort_values("epoch", ignore_index=True)
