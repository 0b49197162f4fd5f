"""Tests of caviar/reporting/plots/timeline.py."""

from caviar.records.frames import Run
from caviar.reporting.plots.timeline import BINS, MAX_LANES
from tests.reporting.plots.runs import with_trials


def test_each_worker_has_a_lane(run: Run) -> None:
    lanes = next(trace for trace in run.plot.timeline().data if trace.type == "heatmap")
    assert lanes.z.shape == (run.trials["worker"].nunique(), BINS)


def test_hundreds_of_workers_share_lanes(run: Run) -> None:
    trials = run.trials.assign(worker=[f"cpu-{number}" for number in run.trials["trial"]])
    figure = with_trials(run, trials).plot.timeline()
    lanes = next(trace for trace in figure.data if trace.type == "heatmap")
    assert lanes.z.shape == (MAX_LANES, BINS)
    assert f"{MAX_LANES} groups" in figure.layout.meta["note"]


def test_all_seconds_are_shown(run: Run) -> None:
    bars = next(trace for trace in run.plot.timeline().data if trace.type == "bar")
    columns = ["record_s", "dispatch_s", "setup_s", "train_s"]
    assert list(bars.x) == [run.trials[column].sum() for column in columns]
