"""The branches of a recorded session of `caviar panda`: what each changed, and how far it came."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from caviar.columns import params_from_row
from caviar.records.frames import Run
from caviar.trial import Outcome, Stage, Value


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch, from its row and its curve."""

    number: int
    parent: int | None
    """Number of the branch that it continues; None from the first epoch."""
    parent_epoch: int
    first: int
    """First epoch that it trained itself."""
    last: int
    outcome: Outcome
    value: float
    """The ranking metric after its last epoch; NaN if there is none."""
    best: float | None
    """Best value of the ranking metric in the epochs that it trained itself."""
    best_epoch: int | None
    changes: str
    """Hyperparameters that differ from the parent's, in words."""


def branches(run: Run) -> list[Branch]:
    """Return the branches of a session that are recorded."""
    trials = run.trials[run.trials["stage"] == Stage.SEARCH]
    params = {int(row["trial"]): params_from_row(run.space, row) for row in trials.to_dict(orient="records")}
    return [_branch(run, row, params) for row in trials.to_dict(orient="records")]


def changes_text(before: dict[str, Value], after: dict[str, Value]) -> str:
    """Return how hyperparameters differ, in words.

    Example:
        >>> changes_text({"l2": 0.1, "decay": "cosine"}, {"l2": 0.2, "decay": "cosine"})
        'l2 0.1 -> 0.2'
    """
    return ", ".join(
        f"{name} {_text(before, name)} -> {_text(after, name)}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    )


def _text(params: dict[str, Value], name: str) -> str:
    value = params.get(name, "-")
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _branch(run: Run, row: dict[Any, Any], params: dict[int, dict[str, Value]]) -> Branch:
    number, has_parent = int(row["trial"]), not pd.isna(row["parent"])
    parent = int(row["parent"]) if has_parent else None
    start = int(row["parent_epoch"]) if has_parent else 0
    own = run.curves[run.curves["trial"] == number]
    finite = own[own[run.metric].map(math.isfinite)]
    best = finite.sort_values(run.metric, ascending=not run.study_file.maximize, kind="stable").head(1)
    return Branch(
        number=number,
        parent=parent,
        parent_epoch=start,
        first=start + 1,
        last=int(row["epochs_trained"]),
        outcome=Outcome(row["outcome"]),
        value=float(row["value"]),
        best=None if best.empty else float(best[run.metric].iloc[0]),
        best_epoch=None if best.empty else int(best["epoch"].iloc[0]),
        changes="" if parent is None else changes_text(params[parent], params[number]),
    )
