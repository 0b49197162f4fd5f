"""The actual class of the test rows against the class that the winner predicts."""

import numpy as np
import plotly.graph_objects as go

from caviar.analysis.classification import confusion, winner_predictions
from caviar.records.frames import Run
from caviar.reporting.plots import theme
from caviar.reporting.plots.text import escape

TITLE = "Confusion matrix"
MAX_CLASSES = 40
"""Largest number of classes that are drawn: those with the most errors."""
MAX_NUMBERS = 15
"""Largest number of classes at which each count is written into its cell."""
_CELL = 26
"""Height of a class in pixels."""


def figure(run: Run) -> go.Figure:
    """Draw how many test rows of each class were predicted as each class.

    Args:
        run: a run, finished or not.
    """
    rows = winner_predictions(run)
    if rows.empty:
        return theme.message(TITLE, "The run has no predictions for test rows.")
    counts = confusion(rows)
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    shown = np.sort(errors.to_numpy().argsort(kind="stable")[::-1][:MAX_CLASSES])
    counts_CC = counts.to_numpy()[np.ix_(shown, shown)]
    names = [escape(counts.index[place], 20) for place in shown]
    all_of_class = np.maximum(counts.to_numpy().sum(axis=1)[shown], 1)
    shares_CC = counts_CC / all_of_class[:, None]
    places = np.arange(len(names))
    result = go.Figure(
        go.Heatmap(
            x=places,
            y=places,
            z=shares_CC.astype("f4"),
            zmin=0,
            zmax=1,
            coloraxis="coloraxis",
            customdata=counts_CC,
            text=np.where(counts_CC > 0, counts_CC.astype(str), ""),
            texttemplate="%{text}" if len(names) <= MAX_NUMBERS else None,
            xgap=1,
            ygap=1,
            hovertemplate="actual %{y}, predicted %{x}: %{customdata} rows, %{z:.1%} of the class<extra></extra>",
        )
    )
    axis = {"tickvals": places, "ticktext": names, "showgrid": False}
    result.update_xaxes(axis, title="predicted class")
    result.update_yaxes(axis, title="actual class", autorange="reversed")
    result.update_layout(
        coloraxis={"colorbar": {"title": "share", "tickformat": ".0%"}, "cmin": 0, "cmax": 1},
        height=max(theme.HEIGHT, 140 + _CELL * len(names)),
    )
    wrong, total = int(errors.sum()) // 2, len(rows)
    return theme.finish(
        result,
        TITLE,
        [
            f"{wrong:,} of {total:,} test rows are wrong.",
            f"The {len(names)} of {len(counts):,} classes with the most errors."
            if len(names) < len(counts)
            else "",
        ],
    )
