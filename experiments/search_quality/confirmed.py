"""caviar's confirmation after the search of any method, inside the same budget."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from baselines import Evaluation
from tables import Table

import caviar as cv
from caviar.columns import param_column
from caviar.search.confirmation import choose_contenders, is_deterministic, next_contenders, rank_contenders
from caviar.trial import Outcome, derive_seed


def split(evaluations: int) -> tuple[int, cv.Confirmation]:
    """Split a budget as caviar does: return the number of evaluations of the search, and the confirmation."""
    *_, confirmation = cv.coarse_to_fine(trials=evaluations, epochs=1)
    assert isinstance(confirmation, cv.Confirmation)
    return evaluations - confirmation.trials, confirmation


def confirm(table: Table, searched: Sequence[Evaluation], confirmation: cv.Confirmation, seed: int) -> int:
    """Train the best few of a search again, and return the configuration that is handed over.

    Args:
        table: the trainings.
        searched: the evaluations of the search.
        confirmation: the steps.
        seed: determines the noise.
    """
    noise = np.random.default_rng(derive_seed(seed, "confirmation"))
    search, confirming = _rows(searched), pd.DataFrame()
    leader: int = min(searched, key=lambda evaluation: evaluation.value).row
    for number, step in enumerate(confirmation.steps, start=1):
        if number == 1:
            contenders = choose_contenders(search, step.contenders, maximize=False)
        else:
            contenders = next_contenders(search, confirming, step, maximize=False)
        again = [number for number in contenders for _ in range(step.seeds)]
        if not again:
            break
        trained = [
            searched[original]._replace(value=table.training(searched[original].row, noise))
            for original in again
        ]
        rows = _rows(trained, first=len(searched) + len(confirming)).assign(round=number, confirms=again)
        confirming = pd.concat([confirming, rows], ignore_index=True)
        if is_deterministic(search, confirming):
            break
        leader = searched[rank_contenders(search, confirming, maximize=False)[0]].row
    return leader


def _rows(evaluations: Sequence[Evaluation], first: int = 0) -> pd.DataFrame:
    """Return the rows that the trials of evaluations would have."""
    return pd.DataFrame(
        {
            "trial": first + number,
            "outcome": Outcome.COMPLETED.value,
            "value": evaluation.value,
            "epochs": 1,
            **{param_column(name): value for name, value in evaluation.params.items()},
        }
        for number, evaluation in enumerate(evaluations)
    )
