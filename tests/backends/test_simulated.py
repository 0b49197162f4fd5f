"""Studies on a simulated cluster: the same frames, whatever dies, and busy workers."""

from pathlib import Path

import pytest

from caviar.backends.simulated import SimulatedBackend, SimulatedCluster, heavy_tailed
from caviar.operations.run import run_study
from caviar.records.frames import Run
from caviar.rounds import Halving, Round
from caviar.study import Study
from caviar.trial import Outcome, Trial
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, run_inline


def simulate(study: Study, runs: Path, cluster: SimulatedCluster) -> tuple[Run, float]:
    """Run a study; return its run and the simulated seconds that it took."""
    backend = SimulatedBackend(study.objective, None, cluster)
    run = run_study(study, runs=runs, progress=False, backend=lambda dataset: backend)
    return run, backend.clock()


def one_second(trial: Trial) -> float:
    del trial
    return 1.0


@pytest.mark.parametrize("workers", [1, 40])
def test_preempted_workers_do_not_change_the_frames(tmp_path: Path, workers: int) -> None:
    study = bowl_study(rounds=(30, Round(20, 9, Halving(cohort=9))), epochs=9)
    cluster = SimulatedCluster(
        workers=workers, cost_s=heavy_tailed(1.0, 1.0), deaths_per_hour=300.0, preemptions=1.0, driver_s=1e-3
    )
    run, _ = simulate(study, tmp_path, cluster)
    assert_same_frames(run_inline(study, tmp_path), run)
    assert (run.trials["attempt"] > 1).any(), "no worker died"


def test_innocent_trials_hardly_fail_when_workers_die(tmp_path: Path) -> None:
    """A trial is blamed only if it was alone on its worker, twice; its row says so."""
    cluster = SimulatedCluster(workers=20, cost_s=one_second, deaths_per_hour=200.0, driver_s=0.0)
    run, _ = simulate(bowl_study(rounds=(200, 150)), tmp_path, cluster)
    failed = run.trials[run.trials["outcome"] == Outcome.FAILED]
    assert len(failed) <= 10
    assert failed["failure"].str.contains("its worker died 2 times").all()


def test_a_simulation_always_takes_the_same_time(tmp_path: Path) -> None:
    cluster = SimulatedCluster(workers=7, cost_s=heavy_tailed(1.0), deaths_per_hour=30.0, driver_s=1e-3)
    first, second = (simulate(bowl_study(), tmp_path, cluster)[1] for _ in range(2))
    assert first == second


def test_many_workers_are_kept_busy(tmp_path: Path) -> None:
    """A round takes little longer than its work, shared evenly, and its longest trial."""
    study = bowl_study(rounds=(600,), epochs=1)
    run, took_s = simulate(study, tmp_path, SimulatedCluster(workers=15, cost_s=one_second, driver_s=1e-4))
    ideal_s = 1.0 + 600 / 15
    confirmation_s = 2.0 * (len(study.confirmation.steps) + 1)
    assert took_s < 1.05 * ideal_s + confirmation_s
    assert run.trials["train_s"].sum() == pytest.approx(len(run.trials))


def test_a_slow_driver_shows_in_the_simulated_time(tmp_path: Path) -> None:
    study = bowl_study(rounds=(300,), epochs=1)
    _, quick_s = simulate(study, tmp_path, SimulatedCluster(workers=50, cost_s=one_second, driver_s=1e-4))
    _, slow_s = simulate(study, tmp_path, SimulatedCluster(workers=50, cost_s=one_second, driver_s=0.1))
    assert slow_s > 300 * 0.1 > 2 * quick_s
