"""Figures of several panels: three side by side on a wide page, and one below another on a phone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from caviar.analysis.parameter_axis import ParameterAxis
from caviar.reporting.plots.text import escape, label

COLUMNS = 3
"""Largest number of panels side by side."""
_PANEL = 180
"""Height of a panel in pixels."""
_BETWEEN = 64
"""Height in pixels between two panels, for ticks and a title."""
_AROUND = 140
"""Height in pixels above and below the panels, for title and legend."""
_GUTTER = 0.1
"""Width between two panels as a share of the figure, for ticks."""
_TICK_CHARS = 10
"""Length in characters beyond which the text of a tick is cut."""


@dataclass(frozen=True, slots=True)
class Panel:
    """The place of a panel among others, and its axes."""

    number: int
    """Number of the panel, from 0."""

    @property
    def axes(self) -> dict[str, str]:
        """The axes that a trace of this panel names."""
        return {"xaxis": self._axis("x"), "yaxis": self._axis("y")}

    def layout(self, axis: str) -> str:
        """Return the key of an axis, "x" or "y", in the layout."""
        return f"{axis}axis{self._suffix}"

    @property
    def _suffix(self) -> str:
        return str(self.number + 1) if self.number else ""

    def _axis(self, axis: str) -> str:
        return f"{axis}{self._suffix}"


def arrange(figure: go.Figure, titles: Sequence[str], columns: int = COLUMNS) -> list[Panel]:
    """Lay out panels with a title each, and note in `layout.meta` how a phone lays them out.

    Args:
        figure: the figure.
        titles: the title of each panel, escaped.
        columns: largest number of panels side by side.
    """
    panels = [Panel(number) for number in range(len(titles))]
    for panel, title in zip(panels, titles, strict=True):
        figure.update_layout(
            {
                panel.layout("x"): {"anchor": panel.axes["yaxis"]},
                panel.layout("y"): {"anchor": panel.axes["xaxis"]},
            }
        )
        figure.add_annotation(
            text=f"<b>{title}</b>",
            xref=f"{panel.axes['xaxis']} domain",
            yref=f"{panel.axes['yaxis']} domain",
            x=0,
            y=1,
            xanchor="left",
            yanchor="bottom",
        )
    wide, narrow = (_grid(panels, number) for number in (min(columns, len(panels)), 1))
    figure.update_layout(wide)
    figure.update_layout(meta={"wide": wide, "narrow": narrow})
    return panels


def _grid(panels: Sequence[Panel], columns: int) -> dict[str, Any]:
    """Return the height of the figure and the place of each axis, for so many columns."""
    rows = math.ceil(len(panels) / columns)
    height = rows * _PANEL + (rows - 1) * _BETWEEN
    width = (1 + _GUTTER) / columns
    grid: dict[str, Any] = {"height": height + _AROUND}
    for panel in panels:
        row, column = divmod(panel.number, columns)
        top = 1 - row * (_PANEL + _BETWEEN) / height
        left = column * width
        grid[f"{panel.layout('x')}.domain"] = [left, min(1.0, left + width - _GUTTER)]
        grid[f"{panel.layout('y')}.domain"] = [max(0.0, top - _PANEL / height), top]
    return grid


def parameter_axis(axis: ParameterAxis, ends: bool = False, most: int = 5) -> dict[str, Any]:
    """Return the settings of an axis on which a parameter is drawn.

    Args:
        axis: the parameter's axis.
        ends: have ticks at both ends of a range.
        most: the number of ticks, about.
    """
    ticks = axis.ticks(most, ends)
    low, high = axis.ends
    margin = 0.0 if axis.is_choice else 0.5 if axis.is_jittered else 0.03 * (high - low)
    return {
        "range": [low - margin, high + margin],
        "tickvals": [place for place, _ in ticks],
        "ticktext": [escape(text, _TICK_CHARS) for _, text in ticks],
        "tickfont": {"size": 11},
    }


def titles(names: Sequence[str]) -> list[str]:
    """Return the titles of the panels of parameters."""
    return [label(name, 36) for name in names]
