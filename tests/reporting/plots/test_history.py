"""Tests of caviar/reporting/plots/history.py."""

import numpy as np
import pandas as pd

from caviar.records.frames import Run
from caviar.reporting.plots.history import MAX_POINTS
from tests.reporting.plots.runs import with_trials


def test_outcomes_differ_in_colour_and_symbol(run: Run) -> None:
    markers = [
        trace.marker for trace in run.plot.history().data if trace.name in ("completed", "stopped", "failed")
    ]
    assert len({marker.color for marker in markers}) == len({marker.symbol for marker in markers}) == 3


def test_best_line_ends_at_the_best_value(run: Run) -> None:
    line = next(trace for trace in run.plot.history().data if trace.name == "best so far")
    search = run.trials[run.trials["stage"] == "search"]
    assert line.y[-1] == search.loc[search["outcome"] == "completed", "value"].min()


def test_winner_is_marked_with_its_interval(run: Run) -> None:
    winner = next(trace for trace in run.plot.history().data if trace.name == "winner")
    assert run.best is not None
    assert run.best.interval is not None
    assert list(winner.x) == [run.best.trial]
    assert winner.y[0] + winner.error_y.array[0] == np.float64(run.best.interval[1])


def test_time_is_an_axis_too(run: Run) -> None:
    assert "seconds since" in run.plot.history(against="time").layout.xaxis.title.text


def test_many_trials_are_thinned_and_the_best_stay(run: Run) -> None:
    many = pd.concat([run.trials.head(100)] * 100, ignore_index=True)
    many["trial"] = range(len(many))
    many["value"] += np.linspace(0, 1, len(many))
    figure = with_trials(run, many).plot.history()
    drawn = sum(len(trace.x) for trace in figure.data if trace.name in ("completed", "stopped", "failed"))
    assert drawn == MAX_POINTS
    assert f"{MAX_POINTS:,} of {len(many):,}" in figure.layout.meta["note"]
    completed = next(trace for trace in figure.data if trace.name == "completed")
    assert int(many["value"].argmin()) in completed.customdata[:, 1]


def test_enormous_values_are_drawn_at_the_edge(run: Run) -> None:
    trials = run.trials.copy()
    trials.loc[trials["outcome"] == "completed", "value"] *= 1e300
    for name in ("history", "slices", "parallel", "contours"):
        assert len(getattr(with_trials(run, trials).plot, name)().data) > 0
