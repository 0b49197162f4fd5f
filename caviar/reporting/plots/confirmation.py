"""The contenders of the confirmation: their fresh trainings beside their luck in the search."""

import pandas as pd
import plotly.graph_objects as go

from caviar.analysis.value_scale import ValueScale
from caviar.records.frames import Run
from caviar.reporting.plots import theme
from caviar.reporting.plots.axes import value_axis, value_format
from caviar.trial import Outcome

TITLE = "Confirmation"
MAX_CONTENDERS = 30
"""Largest number of contenders that are drawn, the best ones."""
_ROW = 22
"""Height of a contender in pixels."""


def figure(run: Run) -> go.Figure:
    """Draw the mean of each contender's fresh trainings with its interval, and its value in the search.

    Args:
        run: a run, finished or not.
    """
    confirmed = run.confirmed
    contenders = confirmed.head(MAX_CONTENDERS)
    if contenders.empty:
        return theme.message(TITLE, "No contender has been trained again yet.")
    scale = _scale(run, contenders)
    result = go.Figure()
    is_winner = contenders["winner"].astype(bool)
    rows = pd.Series(range(len(contenders)), contenders.index)
    result.add_scatter(
        x=scale.shown(contenders["search_value"]),
        y=rows,
        mode="markers",
        name="in the search",
        marker={"symbol": "diamond-open", "size": 9, "color": "#808080"},
        hovertemplate=f"in the search: %{{x:{value_format(scale)}}}<extra></extra>",
    )
    for name, chosen in (("fresh trainings", ~is_winner), ("winner", is_winner)):
        if chosen.any():
            _draw_fresh(result, contenders[chosen], rows[chosen], scale, name)
    _draw_test(result, run, rows[is_winner], scale)
    result.update_xaxes(value_axis(scale))
    result.update_yaxes(
        tickvals=rows,
        ticktext=[
            f"{trial} · step {step}" for trial, step in contenders[["trial", "step"]].itertuples(index=False)
        ],
        range=[len(rows) - 0.4, -0.7],
        showgrid=False,
    )
    result.update_layout(height=170 + _ROW * max(4, len(rows)))
    return theme.finish(result, TITLE, _notes(run, len(contenders), len(confirmed)))


def _scale(run: Run, contenders: pd.DataFrame) -> ValueScale:
    """Return a scale on which each mean and each interval lies."""
    columns = ["value", "low", "high", "search_value"]
    values = contenders[columns].to_numpy(float).ravel().tolist()
    best = run.best
    if best is not None and best.test_accuracy is not None and run.metric.endswith("accuracy"):
        values += [best.test_accuracy, *(best.test_interval or ())]
    return ValueScale.of_values(run.metric, values, run.study_file.maximize, poorest=0.0, log=False)


def _draw_fresh(
    result: go.Figure, contenders: pd.DataFrame, rows: "pd.Series[int]", scale: ValueScale, name: str
) -> None:
    """Draw the means of some contenders with their intervals."""
    value = scale.shown(contenders["value"])
    ends = pd.DataFrame({end: scale.shown(contenders[end]) for end in ("low", "high")})
    if scale.is_error:  # the t interval may go beyond what an error can be
        ends = ends.clip(0, 1)
    is_winner = name == "winner"
    color = theme.BEST if is_winner else theme.PLAIN
    result.add_scatter(
        x=value,
        y=rows,
        error_x={
            "type": "data",
            "symmetric": False,
            "array": ends.max(axis=1) - value,
            "arrayminus": value - ends.min(axis=1),
            "color": color,
            "thickness": 1.5,
        },
        mode="markers",
        name=name,
        marker={"symbol": "star" if is_winner else "circle", "size": 13 if is_winner else 8, "color": color},
        customdata=contenders[["trial", "step", "trainings", "failures"]].to_numpy(),
        hovertemplate=(
            f"trial %{{customdata[0]}}: %{{x:{value_format(scale)}}}<br>"
            "reached step %{customdata[1]}, %{customdata[2]} fresh trainings, %{customdata[3]} failed<extra></extra>"
        ),
    )


def _draw_test(result: go.Figure, run: Run, rows: "pd.Series[int]", scale: ValueScale) -> None:
    """Draw the winner's test accuracy, if accuracies are drawn."""
    best = run.best
    if best is None or best.test_accuracy is None or not run.metric.endswith("accuracy") or rows.empty:
        return
    value = float(scale.shown(best.test_accuracy))
    low, high = sorted(scale.shown(best.test_interval or (best.test_accuracy,) * 2).tolist())
    result.add_scatter(
        x=[value],
        y=[rows.iloc[0] - 0.3],
        error_x={"type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low]},
        mode="markers",
        name="winner, test rows",
        marker={"symbol": "square-open", "size": 10, "color": theme.COLORS[Outcome.DIVERGED]},
        hovertemplate=f"on the test rows: %{{x:{value_format(scale)}}}<extra></extra>",
    )


def _notes(run: Run, drawn: int, total: int) -> list[str]:
    best = run.best
    test = ""
    if best is not None and best.test_accuracy is not None:
        test = f"Test accuracy of the winner: {best.test_accuracy:.4g}."
    elif best is not None and best.test_value is not None:
        test = f"Test value of the winner: {best.test_value:.4g}."
    return [
        "Means of fresh trainings in the last step that a trial reached, with 95% intervals.",
        test,
        f"The best {drawn} of {total} contenders." if drawn < total else "",
    ]
