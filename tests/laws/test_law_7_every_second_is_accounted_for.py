"""Law 7: every second of a worker is in exactly one column of one trial."""

import time
from pathlib import Path

import pytest

from caviar.backends.ray.backend import RayBackend
from caviar.backends.worker import Worker
from caviar.columns import TIMES
from caviar.driver.messages import Task
from caviar.reporting.summary import worker_time
from caviar.runner import run_study
from caviar.trial import Trial
from tests.objectives import Bowl, Slow, bowl_study
from tests.runs import run_inline


def test_dispatch_setup_and_train_add_up_to_the_workers_time() -> None:
    worker = Worker("cpu-0", "here", Slow(), None)
    began = time.perf_counter()
    accounted = 0.0
    for chunk in range(3):
        time.sleep(0.05)  # nothing to do: this is dispatch
        tasks = [
            Task(trial=Trial(number=n, round=1, params={"rate": 0.1}, epochs=2, seed=n))
            for n in range(2 * chunk, 2 * chunk + 2)
        ]
        for result in worker.run(tasks):
            times = result.times
            accounted += times.dispatch_s + times.setup_s + times.train_s
    elapsed = time.perf_counter() - began
    assert accounted == pytest.approx(elapsed, rel=0.2)


def test_waiting_for_work_is_dispatch_of_the_chunks_first_trial() -> None:
    worker = Worker("cpu-0", "here", Slow(), None)
    time.sleep(0.5)
    tasks = [Task(trial=Trial(number=n, round=1, params={"rate": 0.1}, epochs=1, seed=n)) for n in range(2)]
    first, second = (result.times.dispatch_s for result in worker.run(tasks))
    assert first >= 0.5
    assert second < 0.25


def test_every_row_has_every_time(tmp_path: Path) -> None:
    trials = run_inline(bowl_study(), tmp_path).trials
    for column in TIMES:
        assert trials[column].notna().all()
        assert (trials[column] >= 0).all()
    assert (trials["record_s"] > 0).all()


def test_the_shares_that_show_prints_sum_to_one(tmp_path: Path) -> None:
    shares = worker_time(run_inline(bowl_study(), tmp_path).trials)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert all(share >= 0 for share in shares.values())


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_that_was_sent_twice_queued_no_longer_than_the_study_took(tmp_path: Path) -> None:
    study = bowl_study(objective=Bowl("exit", frozenset({3})))
    began = time.perf_counter()
    run = run_study(
        study,
        runs=tmp_path,
        progress=False,
        backend=lambda data: RayBackend(study.objective, data, workers=2),
    )
    elapsed = time.perf_counter() - began
    assert (run.trials["attempt"] > 1).any()
    assert run.trials["queue_s"].between(0, elapsed).all()
