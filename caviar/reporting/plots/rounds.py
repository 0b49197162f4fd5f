"""The space as it narrowed from round to round."""

import json
import textwrap

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from caviar.analysis.narrowing import narrowing
from caviar.analysis.parameter_axis import ParameterAxis
from caviar.columns import to_cell
from caviar.records.frames import Run
from caviar.reporting.plots import theme
from caviar.reporting.plots.panels import Panel, arrange, parameter_axis, titles
from caviar.reporting.plots.text import escape

TITLE = "From coarse to fine"
MAX_ROUNDS = 40
"""Largest number of rounds or steps that are drawn."""
_ELITE = "rgba(43, 140, 196, 0.45)"
"""The colour of the elite: that of completed trials, translucent."""
_REASON_CHARS = 60
"""Length in characters of a line of a reason."""


def figure(run: Run) -> go.Figure:
    """Draw the range of each parameter from round to round, or the share of each option in the elite.

    Args:
        run: a run, finished or not.
    """
    rounds = narrowing(run, MAX_ROUNDS)
    if rounds.empty:
        return theme.message(TITLE, "No round of the search is recorded yet.")
    names = [name for name in run.space if (rounds["parameter"] == name).any()]
    result = go.Figure()
    shown: set[str] = set()
    for panel, name in zip(arrange(result, titles(names)), names, strict=True):
        axis = ParameterAxis(run.space[name].domain)
        rows = rounds[rounds["parameter"] == name]
        traces = _shares(rows, axis) if axis.is_choice else _ranges(rows, axis)
        for trace in [*traces, *_best(rows, axis)]:
            result.add_trace(
                trace.update(panel.axes, legendgroup=trace.name, showlegend=trace.name not in shown)
            )
            shown.add(trace.name)
        _label_axes(result, panel, axis, rounds)
    total = run.rounds["round"].nunique()
    return theme.finish(
        result,
        TITLE,
        [
            "Ranges in which trials are drawn, by search trial; point at a dot for the reason.",
            f"{MAX_ROUNDS} of {total} steps are drawn." if total > MAX_ROUNDS else "",
        ],
    )


def _label_axes(result: go.Figure, panel: Panel, axis: ParameterAxis, rounds: pd.DataFrame) -> None:
    result.update_layout(
        {
            panel.layout("y"): parameter_axis(axis, ends=True, most=4),
            panel.layout("x"): {
                "range": [0, float(rounds["end"].max())],
                "nticks": 5,
                "tickfont": {"size": 11},
            },
        }
    )


def _ranges(rows: pd.DataFrame, axis: ParameterAxis) -> list[go.Scatter]:
    """Return the band from which trials are drawn, and that of the elite."""
    elite = rows[rows["elite_low"].notna()]
    return [
        _band(rows, axis, "low", "high", "drawn from", theme.FAINT),
        *([_band(elite, axis, "elite_low", "elite_high", "elite", _ELITE)] if len(elite) else []),
    ]


def _band(rows: pd.DataFrame, axis: ParameterAxis, low: str, high: str, name: str, color: str) -> go.Scatter:
    lower, upper = (axis.positions(rows[column]) for column in (low, high))
    x, y = _outline(rows, lower, upper)
    return _area(x, y, name, color)


def _outline(rows: pd.DataFrame, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the outline of a band with a step at each round: forth along the top and back along the bottom."""
    edges = np.repeat([*rows["first"], rows["end"].iloc[-1]], 2)[1:-1]
    return np.concatenate([edges, edges[::-1]]), np.concatenate(
        [np.repeat(upper, 2), np.repeat(lower, 2)[::-1]]
    )


def _area(x: np.ndarray, y: np.ndarray, name: str, color: str) -> go.Scatter:
    return go.Scatter(
        x=x.astype("f4"),
        y=y.astype("f4"),
        mode="lines",
        fill="toself",
        fillcolor=color,
        line={"width": 0.5, "color": color},
        hoverinfo="skip",
        name=name,
    )


def _shares(rows: pd.DataFrame, axis: ParameterAxis) -> list[go.Scatter]:
    """Return a hill for each option: its height is the option's share of the elite."""
    known = rows[rows["elite"] > 0]  # other rounds count no options
    if known.empty:
        return []
    shares = np.array(known["counts"].tolist(), float) / known["elite"].to_numpy()[:, None]
    x, y = [], []
    for place, _ in enumerate(shares.T):
        floor = np.full(len(known), place - 0.42)
        outline = _outline(known, floor, floor + 0.84 * shares[:, place])
        x += [*outline[0], np.nan]
        y += [*outline[1], np.nan]
    return [_area(np.array(x), np.array(y), "elite", _ELITE)]


def _best(rows: pd.DataFrame, axis: ParameterAxis) -> list[go.Scatter]:
    """Return a dot for each round at the best value so far, with the reason of its range."""
    known = rows[rows["best"].notna()]
    if known.empty:
        return []
    values = pd.Series([to_cell(axis.domain, json.loads(best)) for best in known["best"]])
    return [
        go.Scatter(
            x=known["first"].to_numpy("f4"),
            y=axis.positions(values).astype("f4"),
            mode="markers",
            marker={"color": theme.BEST, "size": 5},
            name="best so far",
            text=[
                f"from search trial {first:,}: {escape(after)}<br>" + _lines(reason)
                for first, after, reason in zip(known["first"], known["after"], known["reason"], strict=True)
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    ]


def _lines(reason: str) -> str:
    return "<br>".join(escape(line, _REASON_CHARS) for line in textwrap.wrap(reason, _REASON_CHARS)[:4])
