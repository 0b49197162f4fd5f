"""The look of all figures: a light and a dark template, and one colour and symbol for each outcome.

Colours that carry meaning can be told apart by people who are colour-blind and have a contrast of at least 3 on both
backgrounds, so a figure changes from light to dark with its template alone:

    figure.update_layout(template="caviar_dark")     in Python, where this module registers the two
    Plotly.relayout(element, {template: ...})        in a page

A figure keeps beside its data, in `layout.meta`, the `note` below its title, and the changes of its layout for a phone
(`narrow`: shorter lines, and panels below one another) and back (`wide`):

    figure.update_layout(figure.layout.meta["narrow"])
"""

from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

from caviar.reporting.plots.text import wrap
from caviar.trial import Outcome

COLORS = {
    Outcome.COMPLETED: "#2b8cc4",
    Outcome.STOPPED: "#808080",
    Outcome.DIVERGED: "#995533",
    Outcome.FAILED: "#aa44ff",
}
"""The colour of each outcome."""
SYMBOLS = {
    Outcome.COMPLETED: "circle",
    Outcome.STOPPED: "circle-open",
    Outcome.DIVERGED: "triangle-up",
    Outcome.FAILED: "x",
}
"""The symbol of each outcome, so that its colour is not needed."""
BEST = "#d55e00"
"""The colour of the best: the running best, the winner, the best curves."""
PLAIN = COLORS[Outcome.COMPLETED]
"""The colour of anything else."""
FAINT = "rgba(128, 128, 128, 0.25)"
"""The colour of areas and lines behind the data."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Helvetica, Arial, sans-serif"
WIDE_CHARS, NARROW_CHARS = 130, 54
"""Lengths in characters of a line of a note, on a wide page and on a phone."""
HEIGHT = 420
"""Height of a figure in pixels, without the lines of its note."""
_MARGIN = {"l": 56, "r": 16, "t": 64, "b": 48}
"""Margins in pixels; the top holds the title."""
_LINE = 16
"""Height of a line of a note in pixels."""

_MANY_POINTS = 1_000
"""Number of points of a figure from which it is drawn in WebGL."""
_MANY_DOTS = 500
"""Number of dots from which they are drawn smaller."""


def _template(ink: str, soft: str, grid: str, hover: str, scale: list[list[Any]]) -> go.layout.Template:
    """Return a template.

    Args:
        ink: colour of text.
        soft: colour of text that matters less.
        grid: colour of grid lines.
        hover: background of hover labels.
        scale: colours from the least to the most: the most stands out from the background.
    """
    axis = {
        "gridcolor": grid,
        "linecolor": grid,
        "zerolinecolor": grid,
        "zeroline": False,
        "automargin": True,
        "title": {"standoff": 8},
        "ticklabelstandoff": 4,
        "tickfont": {"color": soft},
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": ink},
            "title": {
                "x": 0,
                "xref": "container",
                "xanchor": "left",
                "y": 1,
                "yref": "container",
                "yanchor": "top",
                "pad": {"t": 10, "l": 12},
                "font": {"size": 17},
                "subtitle": {"font": {"size": 12, "color": soft}},
            },
            "paper_bgcolor": "rgba(0, 0, 0, 0)",
            "plot_bgcolor": "rgba(0, 0, 0, 0)",
            "margin": _MARGIN,
            "xaxis": axis,
            "yaxis": axis,
            "coloraxis": {"colorscale": scale, "colorbar": {"thickness": 12, "outlinewidth": 0}},
            "legend": {
                "orientation": "h",
                "x": 0,
                "xref": "container",
                "y": 0,
                "yref": "container",
                "yanchor": "bottom",
                "font": {"size": 12},
                "itemsizing": "constant",
            },
            "hoverlabel": {
                "align": "left",
                "bgcolor": hover,
                "bordercolor": grid,
                "font": {"color": ink, "family": FONT},
            },
            "hovermode": "closest",
            "annotationdefaults": {"font": {"color": soft}, "showarrow": False},
            "colorway": [PLAIN, BEST, COLORS[Outcome.FAILED], COLORS[Outcome.DIVERGED], "#009e73", "#808080"],
        }
    )


LIGHT = _template(
    "#1f2328",
    "#57606a",
    "rgba(31, 35, 40, 0.12)",
    "#ffffff",
    [[0, "#c9d6df"], [0.5, "#4a90c2"], [1, "#0b2e59"]],
)
"""Dark text, for a light page."""
DARK = _template(
    "#e6edf3",
    "#9da7b1",
    "rgba(230, 237, 243, 0.14)",
    "#1c2128",
    [[0, "#37444f"], [0.5, "#3f8fc7"], [1, "#e3f4ff"]],
)
"""Light text, for a dark page."""
pio.templates["caviar_light"], pio.templates["caviar_dark"] = LIGHT, DARK


def marker(outcome: Outcome, count: int) -> dict[str, Any]:
    """Return the look of the dots of an outcome, smaller if there are many."""
    return {
        "color": COLORS[outcome],
        "symbol": SYMBOLS[outcome],
        "size": 5 if count > _MANY_DOTS else 7,
        "opacity": 0.7,
    }


def trace_of(points: int) -> type[Any]:
    """Return the kind of trace for so many points: WebGL draws many, and SVG is sharp in print and in images."""
    found: type[Any] = go.Scattergl if points > _MANY_POINTS else go.Scatter
    return found


def add_legend_entry(figure: go.Figure, name: str, **look: Any) -> None:
    """Add an entry to the legend for traces whose own entry would be too faint to see, or have no colour."""
    figure.add_scatter(x=[None], y=[None], name=name, legendgroup=name, **look)


def finish(
    figure: go.Figure, title: str, notes: list[str] | tuple[str, ...] = (), head: int = 0
) -> go.Figure:
    """Give a figure its title, the note below it, and the light template.

    Args:
        figure: the figure.
        title: a few words.
        notes: sentences, whose words from users are escaped; empty ones are left out.
        head: height in pixels that the figure needs between them and its axes.
    """
    note = " ".join(filter(None, notes))
    layouts = {}
    for name, most in (("wide", WIDE_CHARS), ("narrow", NARROW_CHARS)):
        layout, lines = (figure.layout.meta or {}).get(name, {}), wrap(note, most)
        height = layout.get("height", figure.layout.height or HEIGHT)
        layouts[name] = layout | {
            "title.subtitle.text": "<br>".join(lines),
            "margin.t": _MARGIN["t"] + _LINE * len(lines) + head,
            "height": height + _LINE * len(lines) + head,
        }
    figure.update_layout(template=LIGHT, title={"text": title}, meta={"note": note, **layouts})
    return figure.update_layout(layouts["wide"])


def message(title: str, sentence: str) -> go.Figure:
    """Return a figure without data that says why there are none."""
    figure = go.Figure()
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(
        text="<br>".join(wrap(sentence, NARROW_CHARS)), x=0.5, y=0.5, xref="paper", yref="paper"
    )
    return finish(figure.update_layout(height=180), title)
