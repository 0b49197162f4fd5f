"""Trials as lines through their params and their value (parallel coordinates)."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from caviar.analysis.parameter_axis import ParameterAxis
from caviar.analysis.thinning import among_best, thin
from caviar.analysis.value_scale import ValueScale, search_trials
from caviar.columns import param_column
from caviar.errors import RunError
from caviar.records.frames import Run
from caviar.reporting.plots import theme
from caviar.reporting.plots.axes import value_ticks
from caviar.reporting.plots.text import label, shorten
from caviar.trial import Outcome

TITLE = "Parallel coordinates"
MAX_NUMBERS = 18_000
"""Largest number of points on all lines together."""
MAX_PARAMETERS = 20
"""Largest number of axes of parameters."""
_KEPT_BEST = 200
"""Number of the best trials that are always drawn."""
_BUTTONS = (10, 50, 200)
"""Numbers of best trials that a button shows."""
_AXIS_WIDTH = 95
"""Width in pixels that an axis needs on a phone."""
_LABELS = 32
"""Height in pixels of the labels above the axes."""
_UNUSED = 0.12
"""Distance of the lane of unused parameters from their axis, as a share of the axis."""


def figure(run: Run, best: int | None = None) -> go.Figure:
    """Draw the completed search trials as lines through their params and their value.

    Args:
        run: a run, finished or not.
        best: number of the best trials that are brushed at first; by default none.

    Raises:
        RunError: `best` is less than 1.
    """
    if best is not None and best < 1:
        raise RunError(f"parallel: best={best!r} must be a whole number from 1")
    trials = search_trials(run)
    completed = trials[(trials["outcome"] == Outcome.COMPLETED) & trials["value"].notna()]
    if completed.empty:
        return theme.message(TITLE, "No trial of the search has completed yet.")
    scale = ValueScale.of_run(run)
    names = list(run.space)[:MAX_PARAMETERS]
    keep = among_best(completed, _KEPT_BEST, run.study_file.maximize)
    drawn = thin(completed, MAX_NUMBERS // (len(names) + 2), keep)
    drawn = drawn.sort_values("value", ascending=run.study_file.maximize)  # the best lie on top
    values = scale.positions(scale.clipped(drawn["value"]))
    sign = 1 if scale.maximize else -1
    result = go.Figure(
        go.Parcoords(
            dimensions=[
                *(_parameter(name, ParameterAxis(run.space[name].domain), drawn) for name in names),
                _value(scale, values, best),
            ],
            customdata=drawn["trial"].to_numpy("i4"),
            line={"color": sign * values.astype("f4"), "coloraxis": "coloraxis"},
            labelfont={"size": 12},
            tickfont={"size": 11},
            labelside="top",
        )
    )
    poor, good = sorted(sign * scale.positions([scale.low, scale.high]))
    result.update_layout(
        coloraxis={"cmin": poor, "cmax": good, "showscale": False},
        margin={"l": 60, "r": 60, "b": 24},
        meta={"narrow": {"width": _AXIS_WIDTH * (len(names) + 1)}, "wide": {"width": None}},
        updatemenus=[_buttons(values, len(names), scale.maximize)],
    )
    return theme.finish(
        result,
        TITLE,
        [
            "Better trials have a stronger colour. Drag along an axis to select; click it to undo.",
            f"{len(drawn):,} of {len(completed):,} completed trials are drawn, the best among them."
            if len(drawn) < len(completed)
            else "",
            f"{MAX_PARAMETERS} of {len(run.space)} parameters are drawn."
            if len(run.space) > MAX_PARAMETERS
            else "",
        ],
        head=_LABELS,
    )


def _parameter(name: str, axis: ParameterAxis, trials: pd.DataFrame) -> dict[str, Any]:
    """Return the axis of a parameter, with a lane below for trials to which it does not apply."""
    positions = axis.positions(trials[param_column(name)])
    low, high = axis.ends
    ticks = axis.ticks(ends=True)
    if np.isnan(positions).any():
        lane = low - _UNUSED * (high - low)
        positions = np.nan_to_num(positions, nan=lane)
        ticks, low = [(lane, "not used"), *ticks], lane
    return {
        "label": label(name, 18),
        "values": positions.astype("f4"),
        "range": [low, high],
        "tickvals": [place for place, _ in ticks],
        "ticktext": [shorten(text, 14) for _, text in ticks],  # not read as HTML
    }


def _value(scale: ValueScale, values: np.ndarray, best: int | None) -> dict[str, Any]:
    ticks = value_ticks(scale)
    axis: dict[str, Any] = {
        "label": label(scale.name, 18),
        "values": values.astype("f4"),
        "range": scale.positions([scale.low, scale.high]).tolist(),
        "tickvals": [place for place, _ in ticks],
        "ticktext": [text for _, text in ticks],
    }
    return axis if best is None else axis | {"constraintrange": _range_of_best(values, best, scale.maximize)}


def _range_of_best(values: np.ndarray, best: int, maximize: bool) -> list[float]:
    """Return the range of the best values; half a step more, so that rounding leaves none out."""
    ordered = np.sort(values)[::-1] if maximize else np.sort(values)
    last = ordered[:best][-1]
    after = ordered[best] if best < len(ordered) else last
    return sorted([float(ordered[0]) - (1 - 2 * maximize) * 1e-3, float(last + after) / 2])


def _buttons(values: np.ndarray, dimension: int, maximize: bool) -> dict[str, Any]:
    """Return buttons that brush the best trials on the axis of values."""
    key = f"dimensions[{dimension}].constraintrange"
    chosen = [
        (f"best {count}", [_range_of_best(values, count, maximize)])
        for count in _BUTTONS
        if count < len(values)
    ]
    return {
        "type": "buttons",
        "direction": "left",
        "buttons": [
            {"label": text, "method": "restyle", "args": [{key: ranges}]}
            for text, ranges in [("all", [None]), *chosen]
        ],
        "x": 0,
        "xanchor": "left",
        "y": 0,
        "yanchor": "top",
        "showactive": False,
        "pad": {"t": 12},
    }
