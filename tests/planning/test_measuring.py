"""Measuring the cost of trials on a study's workers."""

import time
from typing import Any

import pytest

from caviar.backends.inline import InlineBackend
from caviar.backends.ray.backend import RayBackend
from caviar.backends.simulated import SimulatedBackend, SimulatedCluster
from caviar.driver.messages import WorkerJoined
from caviar.planning.budget import unmeasured_reason
from caviar.planning.costs import learn_costs
from caviar.planning.measuring import Measurement, Measuring
from caviar.rounds import coarse_to_fine
from caviar.space import Space, linear
from caviar.study import Study
from caviar.training.function.objective import Function
from caviar.trial import Outcome, Trial
from tests.objectives import Bowl, bowl_study


def function_study(fn: Any, epochs: int = 1, **options: Any) -> Study:
    return Study(
        name="measured",
        objective=Function(fn, **options),
        space=Space(x=linear(0.0, 1.0)),
        rounds=coarse_to_fine(trials=50, epochs=epochs),
    )


def measure_on_ray(study: Study, limit_s: float = 1.0, wait_s: float = 2.0) -> Measurement:
    backend = RayBackend(study.objective, None, workers=2)
    try:
        return Measuring(study, None, backend, limit_s, wait_s).run()
    finally:
        backend.close()


def simulated(study: Study, second_s: float, workers: int = 2) -> SimulatedBackend:
    def cost_s(trial: Trial) -> float:
        return second_s * trial.epochs

    return SimulatedBackend(
        study.objective, None, SimulatedCluster(workers=workers, cost_s=cost_s, driver_s=0.0)
    )


@pytest.mark.parametrize(("epoch_s", "whole"), [(0.01, True), (0.5, True), (3.0, False)])
def test_trials_are_measured_within_the_limit(epoch_s: float, whole: bool) -> None:
    study = bowl_study(epochs=20)
    backend = simulated(study, epoch_s)
    found = Measuring(study, None, backend, limit_s=15.0, wait_s=300.0).run()
    assert found.workers == 2
    assert found.took_s <= 16.0
    assert any(part.is_whole for part in found.parts) is whole
    costs = learn_costs(found.parts, study.space)
    assert costs is not None
    params = found.parts[0].trial.params
    assert costs.train_s(params, 20e-4) == pytest.approx(20 * epoch_s, rel=0.01)


def test_one_long_trial_is_waited_for() -> None:
    study = bowl_study(epochs=1)
    found = Measuring(study, None, simulated(study, 40.0, workers=1), limit_s=15.0, wait_s=300.0).run()
    assert [part.took_s for part in found.parts] == [40.0]


def test_workers_are_announced_again_to_the_study() -> None:
    study = bowl_study()
    backend = InlineBackend(study.objective, None, workers=2)
    measuring = Measuring(study, None, backend, limit_s=0.1, wait_s=1.0)
    measuring.run()
    joined = measuring.workers().poll(0.0)
    assert [event.worker for event in joined if isinstance(event, WorkerJoined)] == ["cpu-0", "cpu-1"]


def test_some_failures_do_not_prevent_a_measurement() -> None:
    study = bowl_study(objective=Bowl(harm="raise", harmed=frozenset({1, 2})))
    found = Measuring(study, None, InlineBackend(study.objective, None), limit_s=0.3, wait_s=1.0).run()
    assert sum(part.outcome is Outcome.FAILED for part in found.parts) == 2
    assert unmeasured_reason(found, learn_costs(found.parts, study.space)) is None


@pytest.mark.ray
def test_a_function_that_always_raises_is_not_measured() -> None:
    def broken(params: dict[str, float]) -> float:
        raise KeyError("no such column")

    study = function_study(broken)
    found = measure_on_ray(study, limit_s=0.3)
    reason = unmeasured_reason(found, learn_costs(found.parts, study.space))
    assert reason is not None
    assert "no such column" in reason


@pytest.mark.ray
def test_a_function_that_crashes_its_process_is_not_measured() -> None:
    def crash(params: dict[str, float]) -> float:
        import os

        os._exit(3)

    study = function_study(crash)
    found = measure_on_ray(study, limit_s=0.3, wait_s=20.0)
    assert unmeasured_reason(found, learn_costs(found.parts, study.space)) is not None


@pytest.mark.ray
def test_a_function_that_never_ends_is_not_waited_for() -> None:
    def endless(params: dict[str, float]) -> float:
        time.sleep(1_000)
        return 0.0

    study = function_study(endless)
    found = measure_on_ray(study, limit_s=0.3, wait_s=0.6)
    reason = unmeasured_reason(found, learn_costs(found.parts, study.space))
    assert reason is not None
    assert "still running" in reason


@pytest.mark.ray
def test_reports_tell_the_cost_of_an_endless_trial() -> None:
    def long(params: dict[str, float], trial: Any) -> None:
        for epoch in range(1, 2_000):
            time.sleep(0.6)
            trial.report(epoch, value=1.0)

    study = function_study(long, epochs=100)
    found = measure_on_ray(study, wait_s=2.2)
    costs = learn_costs(found.parts, study.space)
    assert costs is not None
    assert costs.train_s({"x": 0.5}, found.parts[0].predicted_s) == pytest.approx(60.0, rel=0.3)
