"""The values of trials against each parameter."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from caviar.analysis.parameter_axis import ParameterAxis
from caviar.analysis.thinning import among_best, thin_trials
from caviar.analysis.value_scale import ValueScale, search_trials
from caviar.columns import param_column
from caviar.records.frames import Run
from caviar.reporting.plots import theme
from caviar.reporting.plots.axes import value_axis, value_format
from caviar.reporting.plots.panels import arrange, parameter_axis, titles
from caviar.reporting.plots.text import escape, label
from caviar.space import Choice
from caviar.trial import Outcome

TITLE = "Value against each parameter"
MAX_DOTS = 4_000
"""Largest number of dots in all panels together."""
MAX_PANELS = 24
"""Largest number of parameters."""
_KEPT_BEST = 50
"""Number of the best trials that are always drawn."""
_COLOR_BAR = {"title": {"text": "trial"}, "len": 180, "lenmode": "pixels", "y": 1, "yanchor": "top"}


def figure(run: Run) -> go.Figure:
    """Draw the value of each search trial against each parameter on its scale.

    Args:
        run: a run, finished or not.
    """
    trials = search_trials(run)
    if trials.empty:
        return theme.message(TITLE, "No trial of the search is recorded yet.")
    scale = ValueScale.of_run(run)
    names = list(run.space)[:MAX_PANELS]
    drawn = thin_trials(
        trials, MAX_DOTS // len(names), among_best(trials, _KEPT_BEST, run.study_file.maximize)
    )
    outcomes = [outcome for outcome in Outcome if (drawn["outcome"] == outcome).any()]
    result, trace_type = go.Figure(), theme.trace_of(len(drawn) * len(names))
    for panel, name in zip(arrange(result, titles(names)), names, strict=True):
        axis = ParameterAxis(run.space[name].domain)
        for outcome in outcomes:
            dots = _dots(drawn[drawn["outcome"] == outcome], outcome, name, axis, scale)
            result.add_trace(trace_type(dots | panel.axes))
        value = value_axis(scale)
        title = value.pop("title")["text"]
        result.update_layout(
            {
                panel.layout("x"): parameter_axis(axis, most=4),
                panel.layout("y"): value | {"nticks": 5, "tickfont": {"size": 11}},
            }
        )
    for outcome in outcomes:  # the legend's dots: those that are coloured by trial have no colour there
        theme.add_legend_entry(result, outcome.value, mode="markers", marker=theme.marker(outcome, 0))
    result.update_layout(
        coloraxis={"cmin": 0, "cmax": max(1, int(trials["trial"].max())), "colorbar": _COLOR_BAR}
    )
    return theme.finish(
        result,
        TITLE,
        [
            f"Vertical: {title}. Later trials have a stronger colour.",
            f"{len(drawn):,} of {len(trials):,} trials are drawn, the best among them."
            if len(drawn) < len(trials)
            else "",
            f"{MAX_PANELS} of {len(run.space)} parameters are drawn." if len(run.space) > MAX_PANELS else "",
        ],
    )


def _dots(
    trials: pd.DataFrame, outcome: Outcome, name: str, axis: ParameterAxis, scale: ValueScale
) -> dict[str, Any]:
    """Return the trials of one outcome in one panel; those without a value lie at the edge."""
    trials = trials[trials[param_column(name)].notna()]
    value = trials["value"]
    y = np.where(value.notna(), scale.clipped(value.fillna(0.0)), scale.worst)
    shown = f": %{{y:{value_format(scale)}}}" if value.notna().any() else ""
    marker = theme.marker(outcome, 10 * len(trials))
    if outcome is Outcome.COMPLETED:
        marker |= {"color": trials["trial"].to_numpy("f4"), "coloraxis": "coloraxis"}
    return {
        "x": axis.jittered(trials[param_column(name)]).astype("f4"),
        "y": y.astype("f4"),
        "customdata": trials["trial"].to_numpy("i4"),
        "mode": "markers",
        "name": outcome.value,
        "legendgroup": outcome.value,
        "showlegend": False,
        "marker": marker,
        "text": _texts(trials[param_column(name)], axis),
        "hovertemplate": f"trial %{{customdata}}, {outcome.value}{shown}<br>{label(name)}: %{{text}}<extra></extra>",
    }


def _texts(cells: "pd.Series[float] | pd.Series[str]", axis: ParameterAxis) -> list[str]:
    """Return the parameter's values as hover labels show them."""
    if isinstance(axis.domain, Choice):
        texts = [escape(option) for option in axis.domain.options]
        return [texts[int(place)] for place in axis.positions(cells)]
    return [axis.domain.text(float(x)) for x in cells]
