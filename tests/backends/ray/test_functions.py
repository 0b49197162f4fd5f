"""Functions on Ray workers: pickling, live measurements, resources."""

import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import caviar as cv
from caviar.backends.objective_pickle import pickle_objective, unpickle_objective
from caviar.backends.ray.actor import STREAM_S
from caviar.backends.ray.backend import RayBackend, Timing
from caviar.driver.backend import BackendEvent, Measured
from caviar.driver.messages import ChunkDone, Task
from caviar.errors import ClusterError, StudyError
from caviar.experiment_script import load_study
from caviar.training.function.import_path import ImportPath
from caviar.training.function.trial_context import TrialContext
from caviar.trial import Outcome, Trial
from tests.functions import function_study
from tests.runs import assert_same_frames, run_inline, run_on_ray

ROOT = Path(__file__).parents[3]
HELPER = "def squared(x):\n    return x * x\n"
SCRIPT = """
import functools
import typing
import weakref

import caviar as cv
from helper_beside import squared

Params = typing.NewType("Params", dict)
OWNERS = weakref.WeakKeyDictionary()

@functools.cache
def centre():
    return 0.3

@functools.singledispatch
def sign(x):
    return 1

@sign.register
def _(x: str):
    return -1

class Model:
    def __init__(self, x):
        self._x = x

    @functools.cached_property
    def x(self):
        return self._x * sign(self._x) * -sign("")

def distance(params: Params, trial):
    model = Model(params["x"])
    OWNERS[model] = trial
    return squared(model.x - centre())

study = cv.Study(
    name="scripted",
    objective=cv.Function(distance),
    space=cv.Space(x=cv.linear(0.0, 1.0)),
    rounds=[cv.Round(12, 1), cv.Confirmation(1, 1)],
)
"""

COUNTS = """
import caviar as cv
from own_counts import COUNTS, read

COUNTS["trials"] = 5
ROWS = []
TOTAL = 0

def counts(params):
    global TOTAL
    found = len(ROWS) + TOTAL + read()
    ROWS.append(1)
    TOTAL += 1
    COUNTS["trials"] += 1
    assert read() == found + 1
    return found

study = cv.Study(
    name="counts",
    objective=cv.Function(counts),
    space=cv.Space(x=cv.linear(0.0, 1.0)),
    rounds=[cv.Round(12, 1), cv.Confirmation(1, 1)],
)
"""


def write_script(folder: Path, end: str = "") -> Path:
    (folder / "helper_beside.py").write_text(HELPER)
    script = folder / "experiment.py"
    script.write_text(SCRIPT + end)
    return script


def reports_often(params: dict[str, Any], trial: TrialContext) -> None:
    """Report 120 times, in about 100 reports a second."""
    for epoch in range(1, 121):
        time.sleep(0.01)
        trial.report(epoch, value=1 / epoch)


def saves_nothing(params: dict[str, Any], trial: TrialContext) -> None:
    """Report each epoch, without a checkpoint."""
    for epoch in trial.remaining():
        trial.report(epoch, loss=params["x"] / epoch, draws=float(trial.trained))


@pytest.mark.ray
def test_a_script_function_reaches_workers_with_its_helpers(tmp_path: Path) -> None:
    study = load_study(write_script(tmp_path))
    run = run_on_ray(study, tmp_path / "runs", workers=1)
    assert set(run.trials["outcome"]) == {Outcome.COMPLETED}
    assert run.best is not None
    assert ((run.trials["value"] - (run.trials["params_x"] - 0.3) ** 2).abs() < 1e-12).all()


@pytest.mark.ray
def test_no_trial_sees_what_another_changed(tmp_path: Path) -> None:
    (tmp_path / "own_counts.py").write_text(
        "COUNTS = {'trials': 0}\ndef read():\n    return COUNTS['trials']\n"
    )
    script = tmp_path / "counts.py"
    script.write_text(COUNTS)
    run = run_on_ray(load_study(script), tmp_path / "runs", workers=1)
    assert run.trials["failure"].isna().all()
    assert set(run.trials["value"]) == {5.0}


@pytest.mark.parametrize("name", ["__main__", "caviar_experiment"])
def test_a_pickled_script_opens_without_the_script(tmp_path: Path, name: str) -> None:
    end = (
        "\nfrom pathlib import Path\nfrom caviar.backends.objective_pickle import pickle_objective\n"
        "Path(__file__).with_name('packed').write_bytes(pickle_objective(study.objective).pickled)\n"
    )
    script = write_script(tmp_path, end if name == "__main__" else "")
    if name == "__main__":
        environment = {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, str(script)], check=True, env=environment, cwd=ROOT)
        packed = (tmp_path / "packed").read_bytes()
    else:
        packed = pickle_objective(load_study(script).objective).pickled
    opening = (
        "import sys\n"
        "from caviar.backends.objective_pickle import PickledObjective, unpickle_objective\n"
        "from caviar.training.function.import_path import ImportPath\n"
        f"path = ImportPath(({str(tmp_path)!r},), ())\n"
        "objective = unpickle_objective(PickledObjective(sys.stdin.buffer.read(), ()), path)\n"
        "print(objective.fn({'x': 1.3}, None))"
    )
    opened = subprocess.run(
        [sys.executable, "-c", opening], input=packed, capture_output=True, check=True, cwd=ROOT
    )
    assert float(opened.stdout) == pytest.approx(1.0)


def test_lambdas_and_closures_can_be_pickled() -> None:
    scale = 2.0
    packed = pickle_objective(cv.Function(lambda params: scale * params["x"]))
    objective = unpickle_objective(packed, ImportPath.here())
    assert isinstance(objective, cv.Function)
    assert objective.fn({"x": 3.0}) == 6.0


@pytest.mark.ray
def test_workers_share_arrays_that_they_cannot_write(tmp_path: Path) -> None:
    rows = np.arange(1_000_000.0)

    def looks(params: dict[str, Any]) -> float:
        return float(rows.flags.writeable) + float(rows.flags.owndata) + float(rows[3])

    study = function_study(looks, rounds=(4,), metrics=(), metric="value")
    packed = pickle_objective(study.objective)
    assert packed.size > 8_000_000
    assert len(packed.pickled) < 10_000
    assert set(run_on_ray(study, tmp_path, workers=1).trials["value"]) == {3.0}


def test_an_unpicklable_function_is_refused_before_any_work(tmp_path: Path) -> None:
    lock = threading.Lock()

    def locks(params: dict[str, Any]) -> float:
        with lock:
            return 1.0

    with pytest.raises(StudyError, match="lock, which locks uses, is a lock"):
        function_study(locks).run(runs=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
def test_trials_after_damage_run_on_another_worker(tmp_path: Path) -> None:
    def damages(params: dict[str, Any], trial: TrialContext) -> float:
        if trial.number == 3:
            (tmp_path / "damaged").write_text(str(os.getpid()))
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        damaged = tmp_path / "damaged"
        return float(damaged.exists() and damaged.read_text() == str(os.getpid()))

    study = function_study(damages, rounds=(12,), metrics=(), metric="value")
    trials = run_on_ray(study, tmp_path / "runs", workers=1).trials.set_index("trial")
    assert "CUDA error" in str(trials.loc[3, "failure"])
    assert set(trials.drop(index=3)["value"]) == {0.0}


@pytest.mark.ray
def test_measurements_of_a_long_trial_arrive_in_few_messages() -> None:
    with closing(RayBackend(cv.Function(reports_often), None, workers=1)) as backend:
        deadline = time.monotonic() + 300
        while not backend.poll(0.5):
            assert time.monotonic() < deadline
        sent = time.monotonic()
        trial = Trial(number=0, round=1, params={"x": 0.1}, epochs=3, seed=0)
        backend.submit("cpu-0", 0, [Task(trial=trial)], None)
        events: list[BackendEvent] = []
        while not events or not isinstance(events[-1], ChunkDone):
            assert time.monotonic() < deadline
            events += backend.poll(0.5)
        took_s = time.monotonic() - sent
    *before, end = events
    assert isinstance(end, ChunkDone)
    assert 2 <= len(before) <= took_s / STREAM_S + 1
    epochs = [p.measurement.epoch for event in before if isinstance(event, Measured) for p in event.progress]
    assert epochs == sorted(set(epochs))
    assert [m.epoch for m in end.results[0].measurements] == list(range(1, 121))


@pytest.mark.ray
def test_resources_of_no_machine_are_refused_without_a_run(tmp_path: Path) -> None:
    study = function_study(resources=cv.Resources(custom={"license": 1}))
    with pytest.raises(ClusterError, match=r"each worker needs 1 CPU, 1 license, and no machine .*2 CPU"):
        study.run(runs=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
def test_halving_without_checkpoints_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    halving = cv.Halving(rungs=(1, 2), cohort=9)
    run_inline(function_study(halving=halving), tmp_path / "saves")
    assert not caplog.messages
    study = function_study(saves_nothing, halving=halving)
    inline = run_inline(study, tmp_path / "inline")
    (message,) = caplog.messages
    assert "trial.save(...)" in message
    caplog.clear()
    assert_same_frames(inline, run_on_ray(study, tmp_path / "ray", workers=1))
    assert caplog.messages == [message]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_caviar_run_and_python_leave_the_same_frames(tmp_path: Path) -> None:
    example = tmp_path / "function.py"
    example.write_text((ROOT / "experiments" / "function.py").read_text())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for command in (["-m", "caviar", "run", str(example)], [str(example)]):
        subprocess.run(
            [sys.executable, *command], check=True, cwd=tmp_path, env=environment, capture_output=True
        )
    one, other = cv.load(tmp_path / "runs" / "function"), cv.load(tmp_path / "runs" / "function-2")
    assert one.study == other.study
    assert_same_frames(one, other)
    assert one.best is not None
    assert one.best.value > 0.95


SHARED_GPU = """
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
def test_workers_share_one_gpu(tmp_path: Path) -> None:
    """Ray believes what it is told about GPUs, so no real one is needed."""
    script = tmp_path / "shares.py"
    script.write_text(SHARED_GPU)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, script.name], check=True, cwd=tmp_path, env=environment, timeout=300)
    trials = cv.load(tmp_path / "shares").trials
    assert set(trials["value"]) == {1.0}
    assert set(trials["worker"]) <= {f"gpu-{n}" for n in range(4)}


def nested(params: dict[str, Any], timeout_s: float) -> float:
    """Ask Ray for a core for a task, and return how many tasks have not ended in time."""
    import ray

    task: Any = ray.remote(num_cpus=1)(lambda x: x).remote(params["x"])
    _, waiting = ray.wait([task], timeout=timeout_s)
    if waiting:
        ray.cancel(task)
    return float(len(waiting))


@pytest.mark.ray
@pytest.mark.parametrize(("nested_cpus", "timeout_s"), [(0.0, 0.7), (1.0, 30.0)])
def test_tasks_of_trials_need_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, nested_cpus: float, timeout_s: float
) -> None:
    study = cv.Study(
        name="nested",
        objective=cv.Function(
            partial(nested, timeout_s=timeout_s), resources=cv.Resources(nested_cpus=nested_cpus)
        ),
        space=cv.Space(x=cv.linear(0.0, 1.0)),
        rounds=(cv.Round(2, 1), cv.Confirmation(1)),
    )
    run = run_on_ray(study, tmp_path, 2 - int(nested_cpus), timing=Timing(blocked_after_s=0.3))
    has_room = nested_cpus > 0
    assert (run.trials["value"] == (0.0 if has_room else 1.0)).all()
    assert any("nested_cpus" in message for message in caplog.messages) != has_room
