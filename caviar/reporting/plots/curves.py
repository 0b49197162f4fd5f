"""Learning curves, by outcome."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from caviar.analysis.learning_curves import by_outcome, sample_curves
from caviar.analysis.value_scale import ValueScale, search_trials
from caviar.errors import RunError
from caviar.records.frames import Run
from caviar.reporting.plots import branches, theme
from caviar.reporting.plots.axes import value_axis, value_format
from caviar.trial import Outcome

TITLE = "Learning curves"
MAX_POINTS = 12_000
"""Largest number of measurements that are drawn, about."""
MAX_EPOCHS = 60
"""Largest number of measurements of a curve."""
BEST = 10
"""Number of the best trials whose curves lie on top."""
_DASHES = {
    Outcome.COMPLETED: "solid",
    Outcome.STOPPED: "solid",
    Outcome.DIVERGED: "dash",
    Outcome.FAILED: "dot",
}
_ORDER = (Outcome.STOPPED, Outcome.COMPLETED, Outcome.DIVERGED, Outcome.FAILED)
"""The order in which outcomes are drawn: the rare ones lie on top."""


def figure(run: Run, metric: str | None = None) -> go.Figure:
    """Draw learning curves of the search, with those of the best trials on top; of a session, all branches.

    Args:
        run: a run, finished or not.
        metric: the metric; by default the one that ranks trials.

    Raises:
        RunError: the run has no such metric.
    """
    metric = metric or run.metric
    if metric not in run.metrics:
        raise RunError(f"{run.location} has no metric {metric!r}: choose from {', '.join(run.metrics)}")
    if run.study_file.panda:
        return branches.figure(run, metric)
    trials = search_trials(run)
    if not (trials["epochs_trained"] > 1).any():
        return theme.message(TITLE, "No trial of the search has been measured twice.")
    curves = sample_curves(run, metric, BEST, MAX_POINTS, MAX_EPOCHS)
    maximize = run.study_file.maximize if metric == run.metric else metric.endswith("accuracy")
    scale = ValueScale.of_values(metric, curves["value"], maximize)
    groups, result = by_outcome(curves), go.Figure()
    for outcome in _ORDER:
        if outcome in groups:
            line = {"color": theme.COLORS[outcome], "width": 1, "dash": _DASHES[outcome]}
            result.add_trace(_lines(groups[outcome], line, scale))
            theme.add_legend_entry(result, outcome.value, mode="lines", line=line | {"width": 2})
    for trace in _best(curves[curves["is_best"]], scale):
        result.add_trace(trace)
    result.update_xaxes(title="epoch")
    result.update_yaxes(value_axis(scale))
    drawn, total = curves["trial"].nunique(), int((trials["epochs_trained"] > 0).sum())
    return theme.finish(
        result,
        TITLE,
        [
            f"{drawn:,} of {total:,} curves are drawn, the best {BEST} and some of each outcome among them."
            if drawn < total
            else f"All {total:,} curves of the search."
        ],
    )


def _lines(curves: pd.DataFrame, line: dict[str, Any], scale: ValueScale) -> go.Scattergl:
    """Return the curves of one outcome as one line with gaps: thousands of lines would be slow."""
    is_last = curves["trial"].to_numpy()[1:] != curves["trial"].to_numpy()[:-1]
    gaps = np.flatnonzero(is_last) + 1
    y = scale.clipped(curves["value"]).astype("f4")
    epochs = curves["epoch"].to_numpy(np.min_scalar_type(int(curves["epoch"].max())))
    count = len(gaps) + 1
    return go.Scattergl(
        x=np.insert(epochs, gaps, epochs[gaps]),
        y=np.insert(y, gaps, np.nan),
        mode="lines",
        connectgaps=False,
        line=line,
        opacity=0.6 if count < 50 else 0.3,
        showlegend=False,
        hoverinfo="skip",
    )


def _best(curves: pd.DataFrame, scale: ValueScale) -> list[go.Scattergl]:
    """Return a line for each of the best trials, also in WebGL: it lies above everything else."""
    return [
        go.Scattergl(
            x=curve["epoch"],
            y=scale.clipped(curve["value"]).astype("f4"),
            mode="lines",
            line={"color": theme.BEST, "width": 1.8},
            name=f"best {curves['trial'].nunique()}",
            legendgroup="best",
            showlegend=number == 0,
            hovertemplate=f"trial {trial}, epoch %{{x}}: %{{y:{value_format(scale)}}}<extra></extra>",
        )
        for number, (trial, curve) in enumerate(curves.groupby("trial"))
    ]
