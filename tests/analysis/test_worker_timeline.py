"""Tests of caviar/analysis/worker_timeline.py."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from caviar.analysis.worker_timeline import WorkerTimeline, seconds_of_trials, worker_timeline
from caviar.records.frames import Run
from tests.objectives import bowl_study
from tests.runs import run_inline

START = pd.Timestamp("2026-01-01", tz="UTC")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_inline(bowl_study(), tmp_path_factory.mktemp("runs"))


def timeline(
    run: Run, rows: list[tuple[str, float, float, float, float]], lanes: int = 10, bins: int = 10
) -> WorkerTimeline:
    """Return the timeline of trials, each given by its worker, start, end, and seconds of training and waiting."""
    workers, starts, ends, trained, waited = zip(*rows, strict=True)
    trials = run.trials.head(len(rows)).assign(
        worker=list(workers),
        started=START + pd.to_timedelta(starts, "s"),
        ended=START + pd.to_timedelta(ends, "s"),
        train_s=list(trained),
        setup_s=0.0,
        dispatch_s=list(waited),
    )
    part = Run(run.location)
    part.__dict__["trials"] = trials
    found = worker_timeline(part, lanes, bins)
    assert found is not None
    return found


def test_busy_worker_trains_all_the_time(run: Run) -> None:
    found = timeline(run, [("w", 0, 5, 5, 0), ("w", 5, 10, 5, 0)])
    assert found.busy["train_s"] == pytest.approx(np.ones((1, 10)))
    assert found.total["train_s"] == pytest.approx(np.ones(10))


def test_waiting_is_not_training(run: Run) -> None:
    found = timeline(run, [("w", 0, 2, 2, 0), ("w", 6, 10, 4, 4)])
    assert found.busy["train_s"][0] == pytest.approx([1, 1, 0, 0, 0, 0, 1, 1, 1, 1])


def test_seconds_are_neither_lost_nor_counted_twice(run: Run) -> None:
    found = timeline(run, [("a", 0.3, 7.7, 5.1, 0.3), ("b", 1.1, 10, 8.2, 0)], bins=7)
    length = found.edges[1] - found.edges[0]
    seconds = np.nansum(found.total["train_s"] * found.present * length)
    assert seconds == pytest.approx(5.1 + 8.2)


def test_workers_that_came_late_were_not_there_before(run: Run) -> None:
    found = timeline(run, [("a", 0, 10, 10, 0), ("b", 5, 10, 5, 0)])
    assert found.present == pytest.approx([1] * 5 + [2] * 5)
    assert np.isnan(found.busy["train_s"][1, :5]).all()


def test_time_between_two_sittings_does_not_count(run: Run) -> None:
    found = timeline(run, [("w", 0, 1, 1, 0), ("w", 9, 10, 1, 0)])
    assert found.present[1:9] == pytest.approx([1] + [0] * 7, abs=1)
    assert found.present[3:8] == pytest.approx([0] * 5)


def test_workers_are_in_natural_order_and_share_lanes(run: Run) -> None:
    rows = [(f"cpu-{number}", 0.0, 1.0, 1.0, 0.0) for number in (10, 2, 1, 0)]
    assert timeline(run, rows).lanes == ("cpu-0", "cpu-1", "cpu-2", "cpu-10")
    shared = timeline(run, rows, lanes=2)
    assert shared.lanes == ("cpu-0 .. 1", "cpu-2 .. 10")
    assert shared.sizes == (2, 2)
    assert shared.workers == 4


def test_trials_of_lost_workers_are_left_out(run: Run) -> None:
    part = Run(run.location)
    part.__dict__["trials"] = run.trials.assign(started=run.trials["started"].where(run.trials["trial"] < 0))
    assert worker_timeline(part, 10, 10) is None


def test_seconds_of_trials_are_those_of_the_columns(run: Run) -> None:
    seconds = seconds_of_trials(run)
    assert seconds["train_s"] == pytest.approx(run.trials["train_s"].sum())
    assert set(seconds) == {"queue_s", "dispatch_s", "setup_s", "train_s", "record_s"}


def test_a_real_run_is_mostly_there(tmp_path: Path) -> None:
    found = worker_timeline(run_inline(bowl_study(), tmp_path, workers=2), 10, 20)
    assert found is not None
    assert found.workers == 2
    for share in found.total.values():
        assert (share[~np.isnan(share)] <= 1).all()
