"""The scripts in cluster/ and docker/: sound shell that refuses what makes no sense."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployment.files import CLUSTER, DOCKER
from tests.ports import free_port

SCRIPTS = Path(sys.executable).parent
SHELL = sorted([*CLUSTER.glob("*.sh"), *DOCKER.glob("*.sh")])


def run(*command: str | Path, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Of a user who has nothing yet: no token, no cluster."""
    path = f"{SCRIPTS}:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": str(tmp_path), "FOLDER": str(tmp_path / "c")}


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(path: Path) -> None:
    said = run(SCRIPTS / "shellcheck", path, env={**os.environ})
    assert said.stdout + said.stderr == ""
    assert os.access(path, os.X_OK)
    assert "set -euo pipefail" in path.read_text()


def test_the_local_cluster_says_how_it_is_used(env: dict[str, str]) -> None:
    said = run(CLUSTER / "local.sh", env=env)
    assert said.returncode == 2
    assert "cluster/local.sh start [N]" in said.stdout
    assert "set -euo" not in said.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["start", "0"], "how many nodes?"),
        (["start", "two"], "how many nodes?"),
        (["status"], "no cluster was started"),
        (["kill", "2"], "node 2 does not run"),
    ],
)
def test_the_local_cluster_refuses_what_makes_no_sense(
    arguments: list[str], words: str, env: dict[str, str]
) -> None:
    said = run(CLUSTER / "local.sh", *arguments, env=env)
    assert said.returncode == 1
    assert words in said.stderr


def test_a_process_that_is_not_ours_is_left_alone(env: dict[str, str], tmp_path: Path) -> None:
    """Numbers of processes are used again: one that began at another time is somebody else's."""
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "c").mkdir()
        (tmp_path / "c" / "node-1").write_text(f"{other.pid}\nMon Jan 1 00:00:00 2024\n")
        assert run(CLUSTER / "local.sh", "stop", env=env).returncode == 0
        assert other.poll() is None
        other.kill()


def test_a_local_cluster_does_not_mix_with_what_is_there_already(env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        for name in ("PORT", "DASHBOARD_PORT"):
            free = {"PORT": str(free_port()), "DASHBOARD_PORT": str(free_port())}
            said = run(CLUSTER / "local.sh", "start", env=env | free | {name: taken})
            assert said.returncode == 1
            assert f"something listens at port {taken} already" in said.stderr


def test_what_follows_slurms_script_reaches_caviar_each_time_it_is_submitted(
    env: dict[str, str], tmp_path: Path
) -> None:
    """Only what `srun` is given is looked at; tests/deployment/test_slurm.py really runs it."""
    for name, text in {"srun": 'echo "$@"', "scontrol": "echo h1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    env |= {"PATH": f"{tmp_path}:{env['PATH']}", "RUNS": str(tmp_path / "runs"), "SLURM_JOB_ID": "7"}
    env |= {"SLURM_JOB_NODELIST": "h1", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_ON_NODE": "2"}
    options = ["--name", "bowl", "--workers", "3", "--gpus", "0"]
    expected = f"-- caviar run bowl.py --address auto --runs {tmp_path}/runs --resume {' '.join(options)}\n"
    for _ in range(2):
        said = run(CLUSTER / "slurm.sh", "bowl.py", *options, env=env)
        assert said.stdout.endswith(expected), said
        (tmp_path / "runs" / "bowl").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / "bowl" / "study.json").touch()
