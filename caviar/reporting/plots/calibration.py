"""The winner's confidence against how often it is right."""

import plotly.graph_objects as go

from caviar.analysis.classification import calibration, calibration_error, winner_predictions
from caviar.records.frames import Run
from caviar.reporting.plots import theme

TITLE = "Calibration"


def figure(run: Run) -> go.Figure:
    """Draw the share of right predictions against the winner's confidence, in bins of as many test rows.

    Args:
        run: a run, finished or not.
    """
    rows = winner_predictions(run)
    if rows.empty:
        return theme.message(TITLE, "The run has no predictions for test rows.")
    bins = calibration(rows)
    result = go.Figure()
    result.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        name="perfect calibration",
        line={"dash": "dot", "color": "#808080"},
        hoverinfo="skip",
    )
    result.add_scatter(
        x=bins["confidence"],
        y=bins["accuracy"],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": bins["high"] - bins["accuracy"],
            "arrayminus": bins["accuracy"] - bins["low"],
        },
        customdata=bins["rows"],
        mode="markers",
        name="test rows, with 95% intervals",
        marker={"size": 9, "color": theme.PLAIN},
        hovertemplate="confidence %{x:.1%}: right in %{y:.1%} of %{customdata} rows<extra></extra>",
    )
    start = max(0.0, min(float(bins["confidence"].min()), float(bins["low"].min())) - 0.05)
    result.update_xaxes(title="confidence", tickformat=".0%", range=[start, 1.01])
    result.update_yaxes(title="accuracy", tickformat=".0%", range=[start, 1.01])
    error = calibration_error(bins)
    return theme.finish(
        result, TITLE, [f"Confidence is off by {error:.1%} on average (expected calibration error)."]
    )
