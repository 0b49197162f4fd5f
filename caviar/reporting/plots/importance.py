"""The importance of each parameter, with intervals."""

import pandas as pd
import plotly.graph_objects as go

from caviar.records.frames import Run
from caviar.reporting.plots import theme
from caviar.reporting.plots.text import escape, label

TITLE = "Importance of parameters"
MAX_PARAMETERS = 30
"""Largest number of parameters that are drawn, the most important ones."""
_BAR = 30
"""Height of a bar in pixels."""
_NAME_CHARS = 22
"""Length in characters beyond which a name is cut."""


def figure(run: Run, found: pd.DataFrame | None = None) -> go.Figure:
    """Draw the importance of each parameter with its interval, as `Run.importance` finds it.

    Args:
        run: a run, finished or not.
        found: what `Run.importance` returned, of single parameters; by default it is asked.
    """
    found = run.importance() if found is None else found
    known = found[found["importance"].notna()].head(MAX_PARAMETERS)
    if known.empty:
        return theme.message(TITLE, "Too few trials are recorded to say which parameters mattered.")
    result = go.Figure(
        go.Bar(
            x=known["importance"],
            y=list(range(len(known))),
            orientation="h",
            marker={
                "color": theme.PLAIN,
                "pattern": {
                    "shape": ["" if sure else "/" for sure in known["reliable"]],
                    "fillmode": "replace",
                },
            },
            error_x={
                "type": "data",
                "symmetric": False,
                "array": known["high"] - known["importance"],
                "arrayminus": known["importance"] - known["low"],
                "color": "#808080",
                "thickness": 1.5,
            },
            text=[
                f"{escape(name)}: {share:.0%}, 95% interval {low:.0%} .. {high:.0%}, from {trials:,} trials"
                for name, share, low, high, trials in known[
                    ["parameter", "importance", "low", "high", "trials"]
                ].itertuples(index=False)
            ],
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
        )
    )
    result.update_yaxes(
        tickvals=list(range(len(known))),
        ticktext=[label(name, _NAME_CHARS) for name in known["parameter"]],
        autorange="reversed",
        showgrid=False,
    )
    result.update_xaxes(range=[0, 1.02], tickformat=".0%", nticks=6)
    result.update_layout(height=130 + _BAR * len(known), bargap=0.35)
    return theme.finish(result, TITLE, _notes(found, known))


def _notes(found: pd.DataFrame, known: pd.DataFrame) -> list[str]:
    without = [label(name, _NAME_CHARS) for name in found.loc[found["importance"].isna(), "parameter"]]
    return [
        f"Shares, with 95% intervals, from {known['trials'].max():,} trials.",
        "Hatched: too few trials to be sure." if not known["reliable"].all() else "",
        f"Too few trials had {', '.join(without[:5])}{' and others' if len(without) > 5 else ''}."
        if without
        else "",
        f"The {MAX_PARAMETERS} most important of {len(found)} parameters."
        if len(found) > MAX_PARAMETERS
        else "",
    ]
