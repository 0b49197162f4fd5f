"""The value of each trial, and the best so far."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from caviar.analysis.history import Order, history
from caviar.analysis.thinning import among_best, thin_trials
from caviar.analysis.value_scale import ValueScale
from caviar.records.frames import Run
from caviar.reporting.plots import theme
from caviar.reporting.plots.axes import time_unit, value_axis, value_format, value_text
from caviar.trial import Outcome

TITLE = "History of the search"
MAX_POINTS = 4_000
"""Largest number of trials that are drawn."""
_KEPT_BEST = 100
"""Number of the best trials that are always drawn."""


def figure(run: Run, against: Order = "trial") -> go.Figure:
    """Draw the value of each search trial, with the best so far as a line.

    Args:
        run: a run, finished or not.
        against: "trial" for the trials' numbers, "time" for the time at which each ended.
    """
    table = history(run, against)
    if table.empty:
        return theme.message(TITLE, "No trial of the search is recorded yet.")
    scale = ValueScale.of_run(run)
    unit, length = time_unit(float(table["elapsed_s"].max()))
    table["x"] = table["trial"] if against == "trial" else table["elapsed_s"] / length
    drawn = thin_trials(
        table,
        MAX_POINTS,
        keep=table["is_improvement"] | among_best(table, _KEPT_BEST, run.study_file.maximize),
    )
    result, trace_type = go.Figure(), theme.trace_of(len(drawn))
    for outcome in Outcome:
        _draw_outcome(result, trace_type, drawn[drawn["outcome"] == outcome], outcome, scale)
    _draw_best(result, trace_type, table, scale)
    _draw_winner(result, trace_type, run, table, scale)
    result.update_xaxes(title="trial" if against == "trial" else f"{unit} since the first trial began")
    result.update_yaxes(value_axis(scale))
    return theme.finish(result, TITLE, _notes(table, drawn, scale))


def _draw_outcome(
    result: go.Figure, trace_type: type[Any], trials: pd.DataFrame, outcome: Outcome, scale: ValueScale
) -> None:
    """Draw the trials of one outcome; those without a value lie at the edge."""
    if trials.empty:
        return
    has_value = trials["value"].notna().to_numpy()
    y = np.where(has_value, scale.clipped(trials["value"].fillna(0.0)), scale.worst)
    value = f": %{{customdata[0]:{value_format(scale)}}}"
    trace = trace_type(
        x=trials["x"].to_numpy("f4"),
        y=y.astype("f4"),
        customdata=np.column_stack([scale.shown(trials["value"]), trials["trial"]]).astype("f4"),
        mode="markers",
        name=outcome.value,
        marker=theme.marker(outcome, len(trials)),
        hovertemplate=f"trial %{{customdata[1]}}, {outcome.value}{value if has_value.any() else ''}<extra></extra>",
    )
    result.add_trace(trace)


def _draw_best(result: go.Figure, trace_type: type[Any], table: pd.DataFrame, scale: ValueScale) -> None:
    steps = table[table["is_improvement"]]
    if steps.empty:
        return
    end = table["x"].max()
    best = scale.shown(steps["best"])
    trace = trace_type(
        x=[*steps["x"], end],
        y=[*best, best[-1]],
        mode="lines",
        line={"shape": "hv", "color": theme.BEST, "width": 2},
        name="best so far",
        hovertemplate=f"best so far: %{{y:{value_format(scale)}}}<extra></extra>",
    )
    result.add_trace(trace)


def _draw_winner(
    result: go.Figure, trace_type: type[Any], run: Run, table: pd.DataFrame, scale: ValueScale
) -> None:
    """Mark the winner: its confirmed value, with the interval, at the place of its search trial."""
    winner = run.best
    place = table[table["trial"] == winner.trial] if winner else table.iloc[:0]
    if winner is None or place.empty:
        return
    value = float(scale.shown(winner.value))
    ends = scale.shown(winner.interval if winner.interval else (winner.value, winner.value))
    trace = trace_type(
        x=[place["x"].iloc[0]],
        y=[value],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [float(max(ends)) - value],
            "arrayminus": [value - float(min(ends))],
            "color": theme.BEST,
        },
        mode="markers",
        name="winner",
        marker={
            "symbol": "star",
            "size": 15,
            "color": theme.BEST,
            "line": {"width": 1, "color": "white"},
        },
        hovertemplate=f"winner: trial {winner.trial}, confirmed {value_text(scale, value)}<extra></extra>",
    )
    result.add_trace(trace)


def _notes(table: pd.DataFrame, drawn: pd.DataFrame, scale: ValueScale) -> list[str]:
    shown = scale.shown(table["value"].fillna(np.nan))
    beyond = np.nan_to_num(shown < scale.low if scale.maximize else shown > scale.high).any()
    without = table["value"].isna().any()
    edge = "bottom" if scale.maximize else "top"
    at_edge = " and ".join(["poorer values"] * bool(beyond) + ["trials without a value"] * bool(without))
    return [
        f"{len(drawn):,} of {len(table):,} trials are drawn, the best among them."
        if len(drawn) < len(table)
        else "",
        f"At the {edge} edge: {at_edge}." if at_edge else "",
    ]
