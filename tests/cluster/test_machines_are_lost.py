"""Causes of lost workers on a real cluster: machines that are preempted, die or run out of memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import caviar as cv

ROOT = Path(__file__).parents[2]
LOST = """
import json
import os
import subprocess
import sys
import time

os.environ.update(RAY_AUTH_MODE="disabled", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0")
import ray
from ray.cluster_utils import Cluster

import caviar as cv
from caviar.backends.ray.backend import RayBackend
from caviar.driver.messages import Task
from caviar.driver.messages import WorkerJoined, WorkerLost
from caviar.trial import Trial


def sleep(params):
    time.sleep(600)


def wait_for(backend, kind):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for happening in backend.poll(0.2):
            if isinstance(happening, kind):
                return happening
    raise TimeoutError(kind)


def drain(node):
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", cluster.address]
    command += ["--node-id", node, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", "spot", "--deadline-remaining-seconds", "60"]
    subprocess.run(command, check=True, capture_output=True)


found = {}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
ray.init(address=cluster.address, log_to_driver=False)
trial = Trial(number=0, round=1, params={}, epochs=1, seed=0)
try:
    for how in ("killed", "drained, then killed", "terminated"):
        machine = cluster.add_node(num_cpus=1)
        backend = RayBackend(cv.Function(sleep), None, workers=1)
        worker = wait_for(backend, WorkerJoined).worker
        backend.submit(worker, 7, [Task(trial=trial)], None)
        time.sleep(1)
        if how.startswith("drained"):
            drain(backend._actors[worker].info.node)
        if how == "terminated":  # Ray's own remove_node kills it after a second
            raylet = machine.all_processes["raylet"][0].process
            raylet.terminate()
            raylet.wait(60)
        cluster.remove_node(machine, allow_graceful=False)
        lost = wait_for(backend, WorkerLost)
        found[how] = [lost.cause, lost.detail, sorted(lost.suspects)]
        backend.close()
    with open("found.json", "w") as file:
        json.dump(found, file)
finally:
    ray.shutdown()
    cluster.shutdown()
"""
HOG = """
import os
import time


def threshold(spare_bytes):
    amounts = {line.split()[0]: int(line.split()[1]) * 1024 for line in open("/proc/meminfo")}
    return (amounts["MemTotal:"] - amounts["MemAvailable:"] + spare_bytes) / amounts["MemTotal:"]


os.environ.update(RAY_AUTH_MODE="disabled", RAY_memory_usage_threshold=f"{threshold(4 * 2**30):.4f}")
import caviar as cv


def hog(params, trial):
    blocks = []
    while trial.number == 3:
        blocks.append(bytearray(b"x") * 2**24)
        time.sleep(0.01)
    time.sleep(0.5)
    return params["x"]


study = cv.Study(
    name="hog",
    objective=cv.Function(hog),
    space=cv.Space(x=cv.linear(0.0, 1.0)),
    rounds=[cv.Round(16, 1), cv.Confirmation(1, 1)],
)
if __name__ == "__main__":
    study.run(workers=2, progress=False)
"""


def run_script(script: str, folder: Path) -> None:
    (folder / "script.py").write_text(script)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "script.py"], cwd=folder, env=environment, check=True, timeout=900)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_preempted_machine_has_another_cause_than_a_dead_one(tmp_path: Path) -> None:
    run_script(LOST, tmp_path)
    found: dict[str, Any] = json.loads((tmp_path / "found.json").read_text())
    assert {how: (cause, suspects) for how, (cause, _, suspects) in found.items()} == {
        "killed": ("node", [7]),
        "drained, then killed": ("preempted", [7]),
        "terminated": ("preempted", [7]),
    }


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_trial_killed_by_rays_memory_monitor_says_so(tmp_path: Path) -> None:
    run_script(HOG, tmp_path)
    trials = cv.load(tmp_path / "runs" / "hog").trials.set_index("trial")
    assert str(trials.loc[3, "failure"]).startswith("out of memory 2 times: Ray's memory monitor killed it (")
    assert set(trials.drop(index=3)["outcome"]) == {"completed"}, "Ray kills bystanders too"
