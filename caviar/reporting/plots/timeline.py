"""The work of each worker over time, and the seconds of all trials by what they were spent on."""

import numpy as np
import plotly.graph_objects as go

from caviar.analysis.worker_timeline import WorkerTimeline, seconds_of_trials, worker_timeline
from caviar.plurals import counted
from caviar.records.frames import Run
from caviar.reporting.plots import theme
from caviar.reporting.plots.axes import duration, time_unit
from caviar.reporting.plots.text import escape
from caviar.reporting.summary import worker_time
from caviar.trial import Outcome

TITLE = "Timeline of workers"
MAX_LANES = 32
"""Largest number of lanes: with more workers, neighbours share one."""
BINS = 240
"""Number of moments."""
_LANE = 12
"""Height of a lane in pixels."""
_USE, _SECONDS = 130, 120
"""Heights in pixels of the use of all workers, and of where the seconds went."""
_BETWEEN = 68
"""Height in pixels between two of the three parts, for ticks and a title."""
_AROUND = 150
"""Height in pixels above and below them."""
_ROOM = 1.7
"""Length of the axis of seconds, as a multiple of the longest bar: text beside it fits on a phone."""
_NAMES = {
    "record_s": "recording",
    "dispatch_s": "waiting for trials",
    "setup_s": "setup",
    "train_s": "training",
}
"""Names of the columns of seconds, from the bottom up."""


def figure(run: Run) -> go.Figure:
    """Draw the use of all workers over time, what each of them did, and where the seconds went.

    Args:
        run: a run, finished or not.
    """
    timeline = worker_timeline(run, MAX_LANES, BINS)
    if timeline is None:
        return theme.message(TITLE, "No trial says when it began and ended.")
    unit, length = time_unit(timeline.edges[-1])
    result = go.Figure()
    heights = [_USE, _LANE * max(5, len(timeline.lanes)), _SECONDS]
    _place(result, heights)
    _draw_use(result, timeline, length)
    _draw_lanes(result, timeline, length)
    _draw_seconds(result, seconds_of_trials(run))
    result.update_layout(
        xaxis={"range": [0, timeline.edges[-1] / length]},
        xaxis2={"range": [0, timeline.edges[-1] / length], "title": unit},
        coloraxis={"cmin": 0, "cmax": 1, "showscale": False},
    )
    shares, queue_s = worker_time(run.trials), float(run.trials["queue_s"].fillna(0.0).mean())
    return theme.finish(
        result,
        TITLE,
        [
            f"{counted(timeline.workers, 'worker')}: {shares['training']:.1%} of their time was training, "
            f"{shares['setup']:.1%} setup, {shares['waiting']:.1%} waiting for trials.",
            f"On average, a trial waited {duration(queue_s)} in the queue.",
            "Results are recorded (hatched) while workers train.",
            "Trials that were trained in parts are spread evenly from start to end."
            if _has_parts(run)
            else "",
            f"{MAX_LANES} groups of neighbouring workers are drawn."
            if len(timeline.lanes) < timeline.workers
            else "",
        ],
    )


def _has_parts(run: Run) -> bool:
    return any(this.get("halving") for this in run.study["rounds"])


def _place(result: go.Figure, heights: list[int]) -> None:
    """Lay out the three parts below one another, with a title each."""
    total = sum(heights) + _BETWEEN * (len(heights) - 1)
    top = total
    for number, (height, title) in enumerate(
        zip(
            heights,
            ("utilisation of all workers", "training, by worker", "seconds of all trials"),
            strict=True,
        ),
        1,
    ):
        suffix = str(number) if number > 1 else ""
        result.update_layout(
            {
                f"yaxis{suffix}": {"domain": [(top - height) / total, top / total], "anchor": f"x{suffix}"},
                f"xaxis{suffix}": {"anchor": f"y{suffix}"},
            }
        )
        result.add_annotation(
            text=f"<b>{title}</b>",
            xref="paper",
            yref="paper",
            x=0,
            y=top / total,
            xanchor="left",
            yanchor="bottom",
        )
        top -= height + _BETWEEN
    result.update_layout(height=total + _AROUND)


def _draw_use(result: go.Figure, timeline: WorkerTimeline, length: float) -> None:
    """Draw the shares of time in training and setup of all workers."""
    middles = (timeline.edges[1:] + timeline.edges[:-1]) / 2 / length
    for column, color in (("train_s", theme.PLAIN), ("setup_s", theme.COLORS[Outcome.DIVERGED])):
        result.add_scatter(
            x=middles.astype("f4"),
            y=timeline.total[column].astype("f4"),
            mode="lines",
            line={"width": 0, "color": color, "shape": "hvh"},
            fillcolor=color,
            stackgroup="use",
            name=_NAMES[column],
            customdata=timeline.present.astype("f4"),
            hovertemplate=(
                f"{_NAMES[column]}: %{{y:.0%}} of the time of %{{customdata:.0f}} workers<extra></extra>"
            ),
        )
    result.update_layout(yaxis={"range": [0, 1.02], "tickformat": ".0%", "nticks": 4})


def _draw_lanes(result: go.Figure, timeline: WorkerTimeline, length: float) -> None:
    """Draw a lane for each worker or group of workers."""
    training, setup = timeline.busy["train_s"], timeline.busy["setup_s"]
    shares = np.dstack([100 * setup, 100 * np.maximum(1 - training - setup, 0.0)])
    places = np.arange(len(timeline.lanes))
    names = [escape(name, 18) for name in timeline.lanes]
    result.add_heatmap(
        x=(timeline.edges / length).astype("f4"),
        y=places,
        z=training.astype("f4"),
        customdata=np.nan_to_num(shares).round().astype("u1"),
        text=names,
        coloraxis="coloraxis",
        hoverongaps=False,
        xaxis="x2",
        yaxis="y2",
        ygap=1,
        hovertemplate=(
            "%{y}, %{x:.3~g}: %{z:.0%} training, %{customdata[0]}% setup, %{customdata[1]}% waiting<extra></extra>"
        ),
    )
    every = max(1, len(names) // 8)
    result.update_layout(
        yaxis2={
            "tickvals": places[::every],
            "ticktext": names[::every],
            "range": [len(names) - 0.5, -0.5],
            "showgrid": False,
        }
    )


def _draw_seconds(result: go.Figure, seconds: dict[str, float]) -> None:
    """Draw the seconds of all trials, by what they were spent on."""
    spent = [seconds[column] for column in _NAMES]
    result.add_bar(
        x=spent,
        y=list(range(len(spent))),
        orientation="h",
        xaxis="x3",
        yaxis="y3",
        marker={
            "color": theme.PLAIN,
            "pattern": {
                "shape": ["/" if column == "record_s" else "" for column in _NAMES],
                "fillmode": "replace",
            },
        },
        text=[duration(each) for each in spent],
        textposition="outside",
        showlegend=False,
        hoverinfo="skip",
    )
    result.update_layout(
        xaxis3={"range": [0, max(spent) * _ROOM or 1], "showticklabels": False, "showgrid": False},
        yaxis3={"tickvals": list(range(len(spent))), "ticktext": list(_NAMES.values()), "showgrid": False},
    )
