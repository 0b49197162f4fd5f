"""Law 7: every second is accounted for.

Queue, dispatch, setup, training and recording times are columns; `caviar show` prints the share of worker time that was
training.
"""

import time
from pathlib import Path

import pytest

from caviar.backends.simulated import SimulatedCluster
from caviar.backends.worker import Worker
from caviar.driver.messages import Task
from caviar.frame_columns import TIMES
from caviar.reporting.summary import worker_time
from caviar.trial import Trial
from tests.backends.test_simulated import simulate
from tests.objectives import Slow, bowl_study
from tests.runs import run_inline


def make_tasks(*numbers: int) -> list[Task]:
    trials = [Trial(number=n, round=1, params={"rate": 0.1}, epochs=2, seed=n) for n in numbers]
    return [Task(trial=trial) for trial in trials]


def test_times_add_up_to_the_workers_time() -> None:
    worker = Worker("cpu-0", "here", Slow(), None)
    began = time.perf_counter()
    accounted_s = 0.0
    for chunk in range(3):
        time.sleep(0.05)  # nothing to do: this is dispatch
        for result in worker.run(make_tasks(2 * chunk, 2 * chunk + 1)):
            times = result.times
            accounted_s += times.dispatch_s + times.setup_s + times.train_s
    elapsed_s = time.perf_counter() - began
    assert accounted_s == pytest.approx(elapsed_s, rel=0.2)


def test_waiting_is_dispatch_of_the_next_trial() -> None:
    worker = Worker("cpu-0", "here", Slow(), None)
    time.sleep(0.3)
    first, second = (result.times.dispatch_s for result in worker.run(make_tasks(0, 1)))
    assert first >= 0.3
    assert second < 0.15


def test_each_row_has_all_times(tmp_path: Path) -> None:
    trials = run_inline(bowl_study(), tmp_path).trials
    for column in TIMES:
        assert trials[column].notna().all()
        assert (trials[column] >= 0).all()
    assert (trials["record_s"] > 0).all()


def test_printed_shares_sum_to_one(tmp_path: Path) -> None:
    shares = worker_time(run_inline(bowl_study(), tmp_path).trials)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert all(share >= 0 for share in shares.values())


def test_queue_time_of_retried_trials_is_within_the_study(tmp_path: Path) -> None:
    cluster = SimulatedCluster(
        workers=5, cost_s=lambda trial: 1.0, deaths_per_hour=300.0, preemptions=1.0, driver_s=1e-3
    )
    run, took_s = simulate(bowl_study(), tmp_path, cluster)
    assert (run.trials["attempt"] > 1).any()
    assert run.trials["queue_s"].between(0, took_s).all()
