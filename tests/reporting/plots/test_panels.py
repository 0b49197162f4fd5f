"""Tests of the figures of several panels: slices, rounds, and their arrangement."""

import numpy as np
import plotly.graph_objects as go
import pytest

from caviar.records.frames import Run
from caviar.reporting.plots.panels import arrange


@pytest.mark.parametrize("count", [1, 3, 4, 10])
def test_panels_do_not_overlap(count: int) -> None:
    figure = go.Figure()
    panels = arrange(figure, ["title"] * count)
    for layout in (figure.layout.meta["wide"], figure.layout.meta["narrow"]):
        boxes = [
            (*layout[f"{panel.layout('x')}.domain"], *layout[f"{panel.layout('y')}.domain"])
            for panel in panels
        ]
        for number, (left, right, bottom, top) in enumerate(boxes):
            assert 0 <= left < right <= 1
            assert 0 <= bottom < top <= 1
            for other in boxes[:number]:
                apart_x = left >= other[1] or right <= other[0]
                assert apart_x or bottom >= other[3] or top <= other[2]


def test_a_phone_has_one_column(run: Run) -> None:
    figure = run.plot.slices()
    wide = figure.layout.height
    figure.update_layout(figure.layout.meta["narrow"])
    assert figure.layout.height > wide
    assert figure.layout.xaxis2.domain == (0, 1)


def test_slices_leave_out_trials_without_the_parameter(run: Run) -> None:
    beta = list(run.space).index("beta")
    axis = f"x{beta + 1}"
    dots = sum(len(trace.customdata) for trace in run.plot.slices().data if trace.xaxis == axis)
    search = run.trials[run.trials["stage"] == "search"]
    assert dots == search["params_beta"].notna().sum() < len(search)


def test_ranges_are_drawn_on_the_parameters_scale(run: Run) -> None:
    bands = [
        trace for trace in run.plot.rounds().data if trace.name == "drawn from" and trace.xaxis in (None, "x")
    ]
    assert np.nanmin(bands[0].y) == pytest.approx(-4)
    assert np.nanmax(bands[0].y) == pytest.approx(0)


def test_reasons_are_shown_on_hover(run: Run) -> None:
    hovers = [text for trace in run.plot.rounds().data if trace.name == "best so far" for text in trace.text]
    reason = run.rounds["reason"].iloc[-1]
    assert any(reason.split(",")[0] in text.replace("<br>", " ") for text in hovers)


def test_shares_of_options_sum_to_one(run: Run) -> None:
    method = list(run.space).index("method") + 1
    hills = next(t for t in run.plot.rounds().data if t.name == "elite" and t.xaxis == f"x{method}")
    options = len(run.space["method"].domain.options)  # type: ignore[union-attr]
    tops = np.split(hills.y, np.flatnonzero(np.isnan(hills.y)))[:options]
    shares = [(np.nanmax(top[:3]) - (place - 0.42)) / 0.84 for place, top in enumerate(tops)]
    assert sum(shares) == pytest.approx(1, abs=1e-4)


def test_a_phone_has_room_for_the_whole_note(run: Run) -> None:
    figure = run.plot.timeline()
    wide, narrow = (figure.layout.meta[name] for name in ("wide", "narrow"))
    more_lines = narrow["title.subtitle.text"].count("<br>") - wide["title.subtitle.text"].count("<br>")
    assert more_lines > 0
    assert narrow["height"] - wide["height"] == narrow["margin.t"] - wide["margin.t"] == 16 * more_lines
