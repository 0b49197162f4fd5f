"""A simulated cluster runs the real controller and loop: the same frames, whatever dies, and no time wasted."""

from pathlib import Path

import pytest

from caviar.backends.simulated import SimulatedBackend, SimulatedCluster, heavy_tailed
from caviar.records.frames import Run
from caviar.rounds import Halving
from caviar.runner import run_study
from caviar.study import Study
from caviar.trial import Outcome, Trial
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, run_inline


def simulate(study: Study, runs: Path, cluster: SimulatedCluster) -> tuple[Run, float]:
    """A run, and how long it took by the simulated clock."""
    backends: list[SimulatedBackend] = []

    def make(data: object) -> SimulatedBackend:
        del data
        backends.append(SimulatedBackend(study.objective, None, cluster))
        return backends[0]

    run = run_study(study, runs=runs, progress=False, backend=make)
    return run, backends[0].clock()


def second(trial: Trial) -> float:
    del trial
    return 1.0


@pytest.mark.parametrize("halving", [None, Halving(cohort=9)])
@pytest.mark.parametrize("workers", [1, 40])
def test_a_simulated_cluster_leaves_the_frames_of_an_undisturbed_run(
    tmp_path: Path, workers: int, halving: Halving | None
) -> None:
    study = bowl_study(epochs=9, halving=halving)
    cluster = SimulatedCluster(
        workers=workers, cost_s=heavy_tailed(1.0, 1.0), deaths_per_hour=300.0, preemptions=1.0, driver_s=1e-3
    )
    run, _ = simulate(study, tmp_path, cluster)
    assert_same_frames(run_inline(study, tmp_path), run)
    assert (run.trials["attempt"] > 1).any(), "no worker died: it was not disturbed"


def test_workers_that_die_for_no_trials_fault_cost_hardly_a_trial(tmp_path: Path) -> None:
    """A trial is blamed only where it was alone at the worker, twice: then its row says so."""
    cluster = SimulatedCluster(workers=20, cost_s=second, deaths_per_hour=200.0, driver_s=0.0)
    run, _ = simulate(bowl_study(rounds=(300, 200)), tmp_path, cluster)
    failed = run.trials[run.trials["outcome"] == Outcome.FAILED]
    assert len(failed) <= 10
    assert failed["failure"].str.contains("its worker died 2 times").all()


def test_the_same_simulation_takes_the_same_time(tmp_path: Path) -> None:
    cluster = SimulatedCluster(workers=7, cost_s=heavy_tailed(1.0), deaths_per_hour=30.0, driver_s=1e-3)
    times = [simulate(bowl_study(), tmp_path, cluster)[1] for _ in range(2)]
    assert times[0] == times[1]


def test_many_workers_are_kept_busy(tmp_path: Path) -> None:
    """A round's makespan is close to what no schedule can beat: the work shared evenly, or its longest trial."""
    study = bowl_study(rounds=(2_000,), epochs=1)
    run, took_s = simulate(study, tmp_path, SimulatedCluster(workers=50, cost_s=second, driver_s=1e-4))
    ideal_s = 1.0 + 2_000 / 50
    confirmation_s = 2.0 * (len(study.confirmation.steps) + 1)
    assert took_s < 1.05 * ideal_s + confirmation_s
    assert run.trials["train_s"].sum() == pytest.approx(len(run.trials))


def test_a_driver_that_cannot_keep_up_is_seen(tmp_path: Path) -> None:
    study = bowl_study(rounds=(500,), epochs=1)
    _, quick = simulate(study, tmp_path, SimulatedCluster(workers=50, cost_s=second, driver_s=1e-4))
    _, slow = simulate(study, tmp_path, SimulatedCluster(workers=50, cost_s=second, driver_s=0.1))
    assert slow > 50 > 2 * quick
