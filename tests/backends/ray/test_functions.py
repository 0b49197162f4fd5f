"""Functions on Ray workers: sent whatever they are made of, seen while they run, given what they ask for."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import caviar as cv
from caviar.backends.ray.actor import STREAM_S
from caviar.backends.ray.backend import RayBackend
from caviar.backends.ray.objective_pickle import pickle_objective, unpickle_objective
from caviar.driver.backend import BackendEvent, Measured
from caviar.driver.messages import ChunkDone, Task, WorkerJoined, WorkerLost
from caviar.errors import ClusterError, StudyError
from caviar.experiment_script import load_study
from caviar.records.frames import Run
from caviar.runner import run_study
from caviar.training.function.trial_context import TrialContext
from caviar.trial import Cause, Outcome, Trial
from tests import functions
from tests.functions import function_study
from tests.runs import assert_same_frames, run_inline

ROOT = Path(__file__).parents[3]
HELPER = "def squared(x):\n    return x * x\n"
SCRIPT = """
import caviar as cv
from helper_beside import squared

CENTRE = 0.3

class Model:
    def __init__(self, x):
        self.x = x

def distance(params, trial):
    return squared(Model(params["x"]).x - CENTRE)

study = cv.Study(
    name="scripted",
    objective=cv.Function(distance),
    space=cv.Space(x=cv.linear(0.0, 1.0)),
    rounds=[cv.Round(12, 1), cv.Confirmation(1, 1)],
)
"""


def script_in(folder: Path, end: str = "") -> Path:
    (folder / "helper_beside.py").write_text(HELPER)
    script = folder / "experiment.py"
    script.write_text(SCRIPT + end)
    return script


def on_ray(study: cv.Study, runs: Path, workers: int = 2) -> Run:
    return run_study(
        study,
        runs=runs,
        progress=False,
        backend=lambda data: RayBackend(study.objective, data, workers=workers),
    )


def task(number: int) -> Task:
    return Task(trial=Trial(number=number, round=1, params={"x": 0.1}, epochs=3, seed=number))


def until(backend: RayBackend, wanted: Callable[[BackendEvent], bool]) -> list[BackendEvent]:
    """What happens up to the first that is wanted."""
    happened: list[BackendEvent] = []
    deadline = time.monotonic() + 200
    while not any(wanted(h) for h in happened):
        assert time.monotonic() < deadline
        happened += backend.poll(0.5)
    return happened


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_function_of_a_script_travels_with_what_it_refers_to(tmp_path: Path) -> None:
    study = load_study(script_in(tmp_path))
    run = on_ray(study, tmp_path / "runs")
    assert set(run.trials["outcome"]) == {Outcome.COMPLETED}
    assert run.best is not None
    assert ((run.trials["value"] - (run.trials["params_x"] - 0.3) ** 2).abs() < 1e-12).all()


@pytest.mark.parametrize("name", ["__main__", "caviar_experiment"])
def test_a_packed_script_opens_where_the_script_is_not_known(tmp_path: Path, name: str) -> None:
    end = (
        "\nfrom pathlib import Path\nfrom caviar.backends.ray.objective_pickle import pickle_objective\n"
        "Path(__file__).with_name('packed').write_bytes(pickle_objective(study.objective).pickled)\n"
    )
    script = script_in(tmp_path, end if name == "__main__" else "")
    if name == "__main__":
        path = {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, str(script)], check=True, env=path, cwd=ROOT)
        packed = (tmp_path / "packed").read_bytes()
    else:
        packed = pickle_objective(load_study(script).objective).pickled
    opened = (
        "import sys; from caviar.backends.ray.objective_pickle import PickledObjective, unpickle_objective\n"
        f"objective = unpickle_objective(PickledObjective(sys.stdin.buffer.read(), ()), [{str(tmp_path)!r}])\n"
        "print(objective.fn({'x': 1.3}, None))"
    )
    said = subprocess.run(
        [sys.executable, "-c", opened], input=packed, capture_output=True, check=True, cwd=ROOT
    )
    assert float(said.stdout) == pytest.approx(1.0)


def test_lambdas_and_closures_travel() -> None:
    scale = 2.0
    objective = unpickle_objective(pickle_objective(cv.Function(lambda params: scale * params["x"])), [])
    assert isinstance(objective, cv.Function)
    assert objective.fn({"x": 3.0}) == 6.0


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_arrays_that_a_function_refers_to_are_shared_and_safe_from_it(tmp_path: Path) -> None:
    rows = np.arange(1_000_000.0)

    def looks(params: dict[str, Any]) -> float:
        return float(rows.flags.writeable) + float(rows.flags.owndata) + float(rows[3])

    study = function_study(looks, rounds=(4,), metrics=(), metric="value")
    packed = pickle_objective(study.objective)
    assert packed.size > 8_000_000
    assert len(packed.pickled) < 10_000
    assert set(on_ray(study, tmp_path).trials["value"]) == {3.0}


def test_what_cannot_travel_is_refused_before_any_work(tmp_path: Path) -> None:
    lock = threading.Lock()

    def locks(params: dict[str, Any]) -> float:
        with lock:
            return 1.0

    with pytest.raises(
        StudyError, match=r"locks cannot be sent to workers \(TypeError: .*lock.*\): open files, locks"
    ):
        function_study(locks).run(runs=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_long_functions_measurements_arrive_while_it_runs_in_few_messages() -> None:
    backend = RayBackend(cv.Function(functions.slow), None, workers=1)
    try:
        until(backend, lambda h: isinstance(h, WorkerJoined))
        sent = time.monotonic()
        backend.submit("cpu-0", 0, [task(0)], None)
        happened = until(backend, lambda h: isinstance(h, ChunkDone))
        took_s = time.monotonic() - sent
    finally:
        backend.close()
    *before, end = happened
    assert isinstance(end, ChunkDone)
    assert 2 <= len(before) <= took_s / STREAM_S + 1
    epochs = [p.measurement.epoch for h in before if isinstance(h, Measured) for p in h.progress]
    assert epochs == sorted(set(epochs))
    assert [m.epoch for m in end.results[0].measurements] == list(range(1, 200))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_that_takes_too_long_is_killed_and_its_worker_replaced() -> None:
    backend = RayBackend(cv.Function(functions.hanging, time_limit_s=0.5), None, workers=1)
    try:
        until(backend, lambda h: isinstance(h, WorkerJoined))
        backend.submit("cpu-0", 5, [task(3)], None)
        sent = time.monotonic()
        happened = until(backend, lambda h: isinstance(h, WorkerJoined))
        assert time.monotonic() - sent >= 0.5
        lost = WorkerLost("cpu-0", Cause.TIME, "took longer than 0.5 s", frozenset({5}))
        assert happened == [lost, WorkerJoined("cpu-1")]
    finally:
        backend.close()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_workers_are_as_many_as_fit_and_have_what_was_asked_for(tmp_path: Path) -> None:
    def given(params: dict[str, Any], trial: TrialContext) -> float:
        import ray

        resources = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
        return float(resources.get("CPU", 0.0))

    study = cv.Study(
        name="shaped",
        objective=cv.Function(given, resources=cv.Resources(cpus=0.5)),
        space=cv.Space(x=cv.linear(0.0, 1.0)),
        rounds=[cv.Round(40, 1), cv.Confirmation(1, 1)],
    )
    run = run_study(
        study, runs=tmp_path, progress=False, backend=lambda data: RayBackend(study.objective, data)
    )
    assert set(run.trials["worker"]) <= {"cpu-0", "cpu-1", "cpu-2", "cpu-3"}
    assert set(run.trials["value"]) == {0.5}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_example_leaves_the_same_frames_by_caviar_run_and_by_python(tmp_path: Path) -> None:
    example = tmp_path / "function.py"
    example.write_text((ROOT / "experiments" / "function.py").read_text())
    for command in (["-m", "caviar", "run", str(example)], [str(example)]):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [sys.executable, *command], check=True, cwd=tmp_path, env=environment, capture_output=True
        )
    one, other = cv.load(tmp_path / "runs" / "function"), cv.load(tmp_path / "runs" / "function-2")
    assert one.study == other.study
    assert_same_frames(one, other)
    assert one.best is not None
    assert one.best.value > 0.95


SHARES = """
import caviar as cv

def given(params):
    import os
    import ray
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    return float(len(ray.get_runtime_context().get_accelerator_ids()["GPU"]))

study = cv.Study(
    name="shares",
    objective=cv.Function(given, resources=cv.Resources(cpus=0.25, gpus=0.25)),
    space=cv.Space(x=cv.linear(0.0, 1.0)),
    rounds=[cv.Round(60, 1), cv.Confirmation(1, 1)],
)

if __name__ == "__main__":
    import ray

    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    study.run(runs=".", gpus=1, progress=False)
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_workers_share_a_gpu_that_is_asked_for_in_parts(tmp_path: Path) -> None:
    """Ray counts the GPUs that it is told of, so this one need not be there."""
    script = tmp_path / "shares.py"
    script.write_text(SHARES)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, script.name], check=True, cwd=tmp_path, env=environment, timeout=300)
    trials = cv.load(tmp_path / "shares").trials
    assert set(trials["value"]) == {1.0}
    assert set(trials["worker"]) <= {f"gpu-{n}" for n in range(4)}


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_function_that_wants_what_no_machine_has_is_refused_and_leaves_no_run(tmp_path: Path) -> None:
    study = function_study(resources=cv.Resources(custom={"license": 1}))
    with pytest.raises(ClusterError, match=r"each worker needs 1 CPU, 1 license, and no machine .*2 CPU"):
        study.run(runs=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def forgetful(params: dict[str, Any], trial: TrialContext) -> None:
    """Saves nothing."""
    for epoch in trial.remaining():
        trial.report(epoch, loss=params["x"] / epoch, draws=float(trial.trained))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_that_a_halved_function_saves_nothing_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    halving = cv.Halving(rungs=(1, 2), cohort=9)
    run_inline(function_study(halving=halving), tmp_path / "saves")
    assert not caplog.messages
    study = function_study(forgetful, halving=halving)
    inline = run_inline(study, tmp_path / "inline")
    (said,) = caplog.messages
    assert said.startswith("trials save no checkpoint")
    assert "call trial.save(...)" in said
    caplog.clear()
    assert_same_frames(inline, on_ray(study, tmp_path / "ray"))
    assert caplog.messages == [said]
