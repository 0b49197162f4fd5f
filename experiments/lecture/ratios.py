"""Ratios of paired losses: their mean and interval, as text and in a panel of a figure."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from gallery import mean_and_half


def ratio(these: npt.ArrayLike, those: npt.ArrayLike) -> tuple[float, float, float]:
    """Return the geometric mean of paired ratios of losses, and its 95 % interval.

    Args:
        these: losses, one a repetition.
        those: losses of the same repetitions in another way.
    """
    mean, half = mean_and_half(list(np.log(these) - np.log(those)))
    return float(np.exp(mean)), float(np.exp(mean - half)), float(np.exp(mean + half))


def ratio_text(found: tuple[float, float, float]) -> str:
    """Return a ratio with its interval as text."""
    return "{:.2f} ({:.2f} .. {:.2f})".format(*found)


def add_ratios(
    figure: go.Figure,
    y: float,
    ratios: "pd.Series[float]",
    look: tuple[str, str],
    column: int,
    name: str = "",
) -> None:
    """Draw ratios of repetitions as faint marks, and their geometric mean with its 95 % interval.

    Args:
        figure: the figure.
        y: place of the row in its panel.
        ratios: ratios of losses, one a repetition.
        look: colour and symbol.
        column: column of the panel.
        name: entry in the legend; none if empty.
    """
    color, symbol = look
    middle, low, high = ratio(ratios, np.ones(len(ratios)))
    figure.add_scatter(
        x=ratios, y=[y] * len(ratios), mode="markers", showlegend=False,
        marker={"size": 6, "color": color, "symbol": symbol, "opacity": 0.35}, row=1, col=column,
    )  # fmt: skip
    figure.add_scatter(
        x=[middle], y=[y], mode="markers", name=name, showlegend=bool(name),
        marker={"size": 10, "color": color, "symbol": symbol},
        error_x={"type": "data", "symmetric": False, "array": [high - middle], "arrayminus": [middle - low]},
        row=1, col=column,
    )  # fmt: skip


def label_ratios(
    figure: go.Figure, title: str, rows: Sequence[str], ticks: Sequence[float], column: int
) -> None:
    """Give a panel of ratios its axes, and a line at 1.

    Args:
        figure: the figure.
        title: what a ratio below or above 1 means.
        rows: names of the rows, from the top.
        ticks: ratios with a label.
        column: column of the panel.
    """
    figure.add_vline(x=1, line={"dash": "dot", "color": "#808080"}, row=1, col=column)
    figure.update_xaxes(type="log", title=title, tickvals=ticks, row=1, col=column)
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=list(rows), range=[len(rows) - 0.5, -0.5], side="right",
        row=1, col=column,
    )  # fmt: skip
