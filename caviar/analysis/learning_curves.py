"""A sample of the learning curves of a run: those of the best trials, and some of each outcome."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from caviar.analysis.thinning import among_best, thin
from caviar.analysis.value_scale import search_trials
from caviar.records.frames import Run
from caviar.trial import Outcome

MIN_OF_OUTCOME = 40
"""Number of curves of each outcome that stay, if there are as many."""


def sample_curves(run: Run, metric: str, best: int, points: int, epochs: int) -> pd.DataFrame:
    """Return some of the curves of the search.

    Args:
        run: a run, finished or not.
        metric: the metric.
        best: number of the best trials whose curves stay.
        points: number of measurements, about.
        epochs: number of measurements from which a curve is thinned.

    Returns:
        Columns `trial`, `outcome`, `is_best`, `epoch`, and `value` of the metric, by trial and epoch.
    """
    trials = search_trials(run)[["trial", "outcome", "value", "epochs_trained"]]
    trials = trials[trials["epochs_trained"] > 0]
    trials = trials.assign(is_best=among_best(trials, best, run.study_file.maximize))
    length = float(trials["epochs_trained"].clip(upper=epochs).mean()) if len(trials) else 1.0
    number_of_outcome = trials.groupby("outcome").cumcount()
    chosen = thin(trials, int(points / length), trials["is_best"] | (number_of_outcome < MIN_OF_OUTCOME))
    curves = run.read_curves(chosen["trial"], metric).rename(columns={metric: "value"})
    curves = (
        curves[curves["epoch"].isin(_spread(int(curves["epoch"].max()), epochs))] if len(curves) else curves
    )
    return curves[curves["value"].notna()].merge(chosen.drop(columns="value"), on="trial")


def _spread(last: int, most: int) -> npt.NDArray[np.int64]:
    """Return so many epochs from the first to the last, or all."""
    return np.unique(np.linspace(1, last, min(last, most)).round().astype(int))


def by_outcome(curves: pd.DataFrame) -> dict[Outcome, pd.DataFrame]:
    """Return the curves of each outcome that has any, without those of the best."""
    others = curves[~curves["is_best"]]
    return {outcome: group for outcome in Outcome if len(group := others[others["outcome"] == outcome])}
