"""The branches of a session of `caviar panda` as a tree of learning curves."""

import pandas as pd
import plotly.graph_objects as go

from caviar.analysis.branches import Branch, branches
from caviar.analysis.value_scale import ValueScale
from caviar.records.frames import Run
from caviar.reporting.plots import theme
from caviar.reporting.plots.axes import value_axis, value_format
from caviar.reporting.plots.text import escape
from caviar.trial import Outcome

TITLE = "Learning curves"
DASHES = ("solid", "dash", "dot", "dashdot")
"""Looks of the lines: with six colours, 24 branches differ."""


def figure(run: Run, metric: str) -> go.Figure:
    """Draw the curve of each branch, from the point at which it left another one.

    Args:
        run: a session, finished or not.
        metric: the metric.
    """
    found = branches(run)
    if not found:
        return theme.message(TITLE, "No branch is recorded yet.")
    maximize = run.study_file.maximize if metric == run.metric else metric.endswith("accuracy")
    scale = ValueScale.of_values(metric, run.curves[metric], maximize)
    result = go.Figure()
    for place, branch in enumerate(found):
        result.add_trace(_line(run, branch, metric, scale, place))
    best = run.best
    if best is not None:
        curve = run.branch(best.trial)
        point = curve[curve["epoch"] == best.epochs]
        result.add_scatter(
            x=point["epoch"],
            y=scale.clipped(point[metric]),
            mode="markers",
            marker={"symbol": "star", "size": 13, "color": theme.BEST},
            name="handed over",
        )
    result.update_xaxes(title="epoch")
    result.update_yaxes(value_axis(scale))
    return theme.finish(result, TITLE, ["Each branch begins where it left another one."])


def _line(run: Run, branch: Branch, metric: str, scale: ValueScale, place: int) -> go.Scatter:
    curve = run.branch(branch.number)
    own = curve[curve["epoch"] >= branch.parent_epoch]
    values = pd.Series(own[metric])
    colors = theme.LIGHT.layout.colorway
    name = f"{branch.number}: {branch.changes}" if branch.changes else str(branch.number)
    ended = f" ({branch.outcome})" if branch.outcome in (Outcome.DIVERGED, Outcome.FAILED) else ""
    return go.Scatter(
        x=own["epoch"],
        y=scale.clipped(values),
        mode="lines",
        line={
            "color": colors[place % len(colors)],
            "width": 2,
            "dash": DASHES[place // len(colors) % len(DASHES)],
        },
        name=escape(f"{name}{ended}"),
        hovertemplate=f"branch {branch.number}, epoch %{{x}}: %{{y:{value_format(scale)}}}<extra></extra>",
    )
