"""Small frames of finished trials, as narrowing and confirmation see them."""

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
    """Search trials of one round, numbered as they come; those without a value have diverged."""
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


def trained_again(heats: Sequence[Mapping[int, Sequence[float | None]]]) -> pd.DataFrame:
    """Confirming trials: for each heat, the fresh values of each contender; None where it diverged."""
    rows: list[dict[str, object]] = []
    for place, heat in enumerate(heats):
        for contender, values in heat.items():
            for value in values:
                outcome = Outcome.DIVERGED if value is None else Outcome.COMPLETED
                rows.append(
                    {
                        "trial": 1_000 + len(rows),
                        "round": 3 + place,
                        "confirms": contender,
                        "outcome": outcome.value,
                        "value": value,
                    }
                )
    return pd.DataFrame(rows)
