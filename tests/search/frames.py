"""Small frames of finished trials for the tests of narrowing and confirmation."""

from collections.abc import Mapping, Sequence

import pandas as pd

from caviar.columns import param_column, to_cell
from caviar.space import Space
from caviar.trial import Outcome, Value


def searched(
    space: Space,
    params: Sequence[Mapping[str, Value]],
    values: Sequence[float | None],
    *,
    dev_loss: Sequence[float] | None = None,
    outcomes: Sequence[Outcome] | None = None,
) -> pd.DataFrame:
    """Return the search trials of one round, numbered from 0. Trials without a value have diverged."""
    if outcomes is None:
        outcomes = [Outcome.DIVERGED if value is None else Outcome.COMPLETED for value in values]
    rows = []
    for number, (drawn, value, outcome) in enumerate(zip(params, values, outcomes, strict=True)):
        row: dict[str, object] = {"trial": number, "round": 1, "outcome": outcome.value, "value": value}
        row |= {
            param_column(name): to_cell(space[name].domain, drawn[name]) if name in drawn else None
            for name in space
        }
        row |= {"epochs": 5} if dev_loss is None else {"epochs": 5, "dev_loss": dev_loss[number]}
        rows.append(row)
    return pd.DataFrame(rows)


def trained_again(steps: Sequence[Mapping[int, Sequence[float | None]]]) -> pd.DataFrame:
    """Return confirming trials from the fresh values of each contender in each step; None for a diverged one."""
    rows: list[dict[str, object]] = []
    for index, step in enumerate(steps):
        for contender, values in step.items():
            for value in values:
                outcome = Outcome.DIVERGED if value is None else Outcome.COMPLETED
                rows.append(
                    {
                        "trial": 1_000 + len(rows),
                        "round": 3 + index,
                        "confirms": contender,
                        "outcome": outcome.value,
                        "value": value,
                    }
                )
    return pd.DataFrame(rows)
