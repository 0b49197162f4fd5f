"""The draws of a space before anything is trained: a panel for each parameter, a bar for each order of magnitude."""

import plotly.graph_objects as go

from caviar.analysis.space_preview import SpacePreview
from caviar.reporting.plots import theme
from caviar.reporting.plots.panels import arrange
from caviar.reporting.plots.text import escape, label

_HINT_CHARS = 160
"""Length in characters beyond which a hint is cut."""
_LABEL_CHARS = 20
"""Length in characters beyond which the label of a bar is cut."""
MAX_BARS = 12
"""Largest number of bars of a panel."""


def figure(found: SpacePreview) -> go.Figure:
    """Draw the share of the draws in each part of each parameter's range.

    Args:
        found: the preview of a study's space.
    """
    result = go.Figure()
    titles = [
        label(parameter.name, 24)
        + (f", in {parameter.applies:.0%} of draws" if parameter.applies < 1 else "")
        for parameter in found.parameters
    ]
    for panel, parameter in zip(arrange(result, titles), found.parameters, strict=True):
        parts = parameter.parts[:MAX_BARS]
        result.add_bar(
            x=[part.share for part in parts],
            y=list(range(len(parts))),
            orientation="h",
            marker={"color": theme.BEST if parameter.hint else theme.PLAIN},
            text=[f"{part.share:.0%}" for part in parts],
            textposition="auto",
            textangle=0,
            hovertext=[f"{escape(part.label)}: {part.share:.1%} of the draws" for part in parts],
            hoverinfo="text",
            showlegend=False,
            **panel.axes,
        )
        result.update_layout(
            {
                panel.layout("x"): {"range": [0, 1], "tickformat": ".0%", "nticks": 4},
                panel.layout("y"): {
                    "tickvals": list(range(len(parts))),
                    "ticktext": [escape(part.label, _LABEL_CHARS) for part in parts],
                    "tickfont": {"size": 10},
                    "autorange": "reversed",
                    "showgrid": False,
                },
            }
        )
    refused = "" if found.refused is None else f"The constraints refuse {found.refused:.0%} of the draws."
    hints = [
        f"{label(parameter.name)}: {escape(parameter.hint, _HINT_CHARS)}."
        for parameter in found.parameters
        if parameter.hint
    ]
    notes = [f"Shares of {found.draws:,} draws, before anything is trained.", refused, *hints]
    return theme.finish(result, f"What {label(found.study)} draws", notes)
