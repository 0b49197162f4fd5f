"""The values of trials over pairs of parameters."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from caviar.analysis.pairs import bin_pair, paired_parameters
from caviar.analysis.parameter_axis import ParameterAxis
from caviar.analysis.thinning import among_best
from caviar.analysis.value_scale import ValueScale, search_trials
from caviar.columns import param_column
from caviar.errors import RunError
from caviar.records.frames import Run
from caviar.reporting.plots import theme
from caviar.reporting.plots.axes import value_format, value_ticks
from caviar.reporting.plots.panels import arrange, parameter_axis
from caviar.reporting.plots.text import escape, label
from caviar.trial import Outcome

TITLE = "Pairs of parameters"
MAX_PAIRS = 15
"""Largest number of pairs."""
MIN_TRIALS = 8
"""Number of completed trials that have both parameters, from which a pair is drawn."""
_BEST = 10
"""Number of the best trials that are marked."""


def figure(run: Run, parameters: Sequence[str] | None = None) -> go.Figure:
    """Draw the median value of the completed search trials in bins of two parameters.

    Args:
        run: a run, finished or not.
        parameters: the parameters whose pairs are drawn; by default the most important ones.

    Raises:
        RunError: the run has no such parameter.
    """
    if unknown := [name for name in parameters or () if name not in run.space]:
        raise RunError(f"{run.location} has no parameter {unknown[0]!r}: choose from {', '.join(run.space)}")
    trials = search_trials(run)
    completed = trials[(trials["outcome"] == Outcome.COMPLETED) & trials["value"].notna()]
    if len(completed) < MIN_TRIALS:
        return theme.message(TITLE, f"Fewer than {MIN_TRIALS} trials of the search have completed.")
    names = list(parameters) if parameters else paired_parameters(run.space, run.importance())
    both = {pair: _with_both(completed, pair) for pair in combinations(names, 2)}
    pairs = [pair for pair in both if len(both[pair]) >= MIN_TRIALS][:MAX_PAIRS]
    if not pairs:
        return theme.message(TITLE, f"No two parameters have {MIN_TRIALS} completed trials that use both.")
    scale = ValueScale.of_run(run)
    result = go.Figure()
    sign = 1 if scale.maximize else -1
    titles = [f"{label(y, 16)} / {label(x, 16)}" for x, y in pairs]
    for panel, pair in zip(arrange(result, titles), pairs, strict=True):
        axes = tuple(ParameterAxis(run.space[name].domain) for name in pair)
        columns = [param_column(name) for name in pair]
        for trace in (
            _bins(both[pair], columns, axes, scale, sign),
            _best(both[pair], columns, axes, run.study_file.maximize),
        ):
            result.add_trace(trace.update(panel.axes))
        for direction, axis in zip("xy", axes, strict=True):
            result.update_layout(
                {panel.layout(direction): parameter_axis(axis, most=4) | {"showgrid": False}}
            )
    result.update_layout(coloraxis=_color_axis(scale, sign))
    return theme.finish(
        result,
        TITLE,
        [
            f"Colour: median {label(scale.name)} of the trials in a bin; stronger is better. Dots: the best {_BEST}. "
            "Empty: no trial.",
        ],
    )


def _with_both(trials: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    """Return the trials that have both parameters."""
    return trials[trials[[param_column(name) for name in pair]].notna().all(axis=1)]


def _bins(
    trials: pd.DataFrame, columns: list[str], axes: tuple[ParameterAxis, ...], scale: ValueScale, sign: int
) -> go.Heatmap:
    x, y = (axis.positions(trials[column]) for axis, column in zip(axes, columns, strict=True))
    binned = bin_pair(x, y, scale.clipped(trials["value"]), (axes[0], axes[1]))
    return go.Heatmap(
        x=binned.x_edges.astype("f4"),
        y=binned.y_edges.astype("f4"),
        z=(sign * scale.positions(binned.medians)).astype("f4"),
        customdata=np.dstack([binned.medians, binned.counts]).astype("f4"),
        coloraxis="coloraxis",
        hoverongaps=False,
        hovertemplate=f"median %{{customdata[0]:{value_format(scale)}}} of %{{customdata[1]}} trials<extra></extra>",
    )


def _best(
    trials: pd.DataFrame, columns: list[str], axes: tuple[ParameterAxis, ...], maximize: bool
) -> go.Scatter:
    best = trials[among_best(trials, _BEST, maximize)]
    x, y = (axis.jittered(best[column]) for axis, column in zip(axes, columns, strict=True))
    return go.Scatter(
        x=x,
        y=y,
        mode="markers",
        marker={"color": theme.BEST, "size": 6, "line": {"color": "white", "width": 1}},
        showlegend=False,
        customdata=best["trial"],
        hovertemplate="trial %{customdata}, among the best<extra></extra>",
    )


def _color_axis(scale: ValueScale, sign: int) -> dict[str, object]:
    ends = sorted(sign * scale.positions([scale.low, scale.high]))
    ticks = value_ticks(scale)
    return {
        "cmin": ends[0],
        "cmax": ends[1],
        "colorbar": {
            "tickvals": [sign * place for place, _ in ticks],
            "ticktext": [escape(text) for _, text in ticks],
            "len": 180,
            "lenmode": "pixels",
            "y": 1,
            "yanchor": "top",
        },
    }
