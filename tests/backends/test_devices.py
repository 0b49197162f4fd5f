"""CPU and GPU workers in one study: each trial goes where it is trained best, and no worker idles for long."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import pytest

from caviar.backends.simulated import SimulatedCluster
from caviar.backends.worker import Worker
from caviar.data.splits import Dataset
from caviar.driver.messages import Task
from caviar.engine import Engine
from caviar.records.frames import Run, load
from caviar.rounds import Confirmation, Halving, Round
from caviar.study import Study
from caviar.training.classifier import Classifier
from caviar.trial import Trial, Value
from tests.backends.test_simulated import simulate
from tests.objectives import Bowl, SlowEngine, bowl_study
from tests.runs import assert_same_frames, run_inline
from tests.training.networks import blobs

ROOT = Path(__file__).parents[2]
START_S = 1.0


def cpu_seconds(params: Mapping[str, Value]) -> float:
    """Return from a tenth of a second to a hundred seconds: some trials are a thousand times larger than others."""
    return 100.0 * float(params["rate"]) + 0.1  # type: ignore[arg-type]


def gpu_seconds(params: Mapping[str, Value]) -> float:
    """Return half a second at least, which is slower than a core; large trials are forty times faster."""
    return cpu_seconds(params) / 40 + 0.5


@dataclass(frozen=True)
class Sized(Bowl):
    """A bowl whose trials differ in size, with predictions for GPUs that are wrong by a factor."""

    gpu_error: float = 1.0
    pause_s: float = 0.0
    """Seconds that each trial takes by a real clock."""

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        del dataset, device
        return SlowEngine(self.harm, self.harmed, self.pause_s, None)

    def costs(self, params: Mapping[str, Value], epochs: int, dataset: Dataset | None) -> Mapping[str, float]:
        del epochs, dataset
        return {"cpu": cpu_seconds(params), "cuda": gpu_seconds(params) * self.gpu_error}


def sized_study(trials: int, gpu_error: float = 1.0) -> Study:
    study = bowl_study(epochs=9, objective=Sized(gpu_error=gpu_error))
    return replace(study, rounds=(Round(trials, 9), Confirmation(1, 1)))


def cluster(workers: int, gpus: int) -> SimulatedCluster:
    return SimulatedCluster(
        workers=workers,
        cost_s=lambda trial: cpu_seconds(trial.params),
        gpus=gpus,
        gpu_cost_s=lambda trial: gpu_seconds(trial.params),
        start_s=START_S,
        driver_s=1e-4,
    )


def ideal_s(trials: list[Trial], workers: int, gpus: int) -> float:
    """Return a lower bound of the round's time: a linear programme in which trials can be divided.

    The trials that gain most are on the GPUs.
    """
    ordered = sorted(trials, key=lambda t: gpu_seconds(t.params) / cpu_seconds(t.params))
    gpu_s = [0.0, *accumulate(gpu_seconds(t.params) for t in ordered)]
    cpu_s = [0.0, *accumulate(cpu_seconds(t.params) for t in reversed(ordered))][::-1]
    return min(max(g / gpus, c / workers) for g, c in zip(gpu_s, cpu_s, strict=True))


def trials_of(run: Run) -> list[Trial]:
    rows = run.trials[run.trials["round"] == 1]
    return [
        Trial(number=int(n), round=1, params={"rate": float(rate)}, epochs=9, seed=0)
        for n, rate in zip(rows["trial"], rows["params_rate"], strict=True)
    ]


@pytest.mark.parametrize(
    ("trials", "workers", "gpus", "gpu_error"),
    [(150, 4, 1, 5.0), (300, 32, 1, 0.2), (150, 2, 8, 1.0)],
)
def test_a_round_takes_little_longer_than_the_ideal(
    tmp_path: Path, trials: int, workers: int, gpus: int, gpu_error: float
) -> None:
    run, took_s = simulate(sized_study(trials, gpu_error), tmp_path, cluster(workers, gpus))
    confirmation = run.trials[run.trials["round"] != 1]
    search_s = took_s - START_S - confirmation["train_s"].sum()
    assert search_s < 1.25 * ideal_s(trials_of(run), workers, gpus) + 1.0


def test_large_trials_go_to_gpus(tmp_path: Path) -> None:
    run, _ = simulate(sized_study(150), tmp_path, cluster(8, 1))
    sizes = run.trials[run.trials["round"] == 1].groupby("device")["params_rate"].median()
    assert sizes["cuda"] > 10 * sizes["cpu"]
    assert set(run.trials["device"]) == {"cpu", "cuda"}


def test_devices_do_not_change_the_frames(tmp_path: Path) -> None:
    """The bowl gives the same numbers on any device."""
    study = sized_study(100)
    halved = Round(100, 9, Halving(cohort=9))
    study = replace(study, rounds=(study.rounds[0], halved, study.rounds[-1]))
    dying = replace(cluster(3, 2), deaths_per_hour=150.0, preemptions=1.0)
    run, _ = simulate(study, tmp_path, dying)
    assert (run.trials["attempt"] > 1).any(), "no worker died"
    assert_same_frames(run_inline(study, tmp_path), run)


BOTH = """
import json
import ray
from dataclasses import replace
from caviar.operations.run import run_study
from tests.laws.test_law_1_reproducible import StartTogether
from tests.backends.test_devices import Sized, sized_study
study = replace(sized_study(150), objective=Sized(pause_s=0.03))

def both(dataset):
    return StartTogether(study.objective, dataset)

ray.init(address="local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False)
run_study(study, runs="both", progress=False, backend=both)
study.run(runs="gpu", workers=0, progress=False)
study.run(runs="cpu", gpus=0, progress=False)
ray.shutdown()
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_cores_and_gpus_give_the_same_frames_on_ray(tmp_path: Path) -> None:
    """Ray believes what it is told about GPUs, and the bowl needs none, so no real one is needed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", BOTH], check=True, cwd=tmp_path, env=environment, timeout=900)
    expected = run_inline(sized_study(150), tmp_path)
    for place, devices in {"both": {"cpu", "cuda"}, "gpu": {"cuda"}, "cpu": {"cpu"}}.items():
        run = load(tmp_path / place / "bowl")
        assert set(run.trials["device"]) == devices
        assert_same_frames(expected, run)


def test_a_trial_starts_anew_with_another_engine() -> None:
    data = blobs()
    trial = Trial(number=0, round=1, params={"learning_rate": 0.01}, epochs=4, seed=5)

    def worker(engine: str) -> Worker:
        return Worker(engine, "here", Classifier(data=(data.train.x, data.train.y), engine=engine), data)

    (whole,) = worker("native").run([Task(trial=trial)])
    (begun,) = worker("reference").run([Task(trial=trial, parts=(2,))])
    (ended,) = worker("native").run([Task(trial=trial, parts=(2, 4), so_far=begun)])
    assert ended.measurements == whole.measurements
    assert ended.after(begun).measurements == whole.measurements
