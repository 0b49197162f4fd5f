"""cluster/slurm.sh runs a study on all cores of two unequal hosts, and continues it when submitted again.

Small scripts stand in for the two Slurm commands that it calls. `ray symmetric-run` runs on each host in its own
process space, because at the end it stops every Ray that it sees.
"""

import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from caviar.errors import CaviarError
from caviar.records.frames import load
from tests.cluster.hosts import Hosts, missing
from tests.deployment.files import CLUSTER
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, run_inline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(500),
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]
SCONTROL = """#!/bin/sh
test "$*" = "show hostnames nodes" && cat "$(dirname "$0")/addresses"
"""
SRUN = """#!/usr/bin/env bash
# srun OPTIONS COMMAND: the command on each host at once; the first failure ends all.
folder=$(dirname "$0")
while [ "$1" != bash ]; do shift; done
tasks=()
while read -r name space cores; do
  SLURM_CPUS_ON_NODE=$cores ip netns exec "$space" unshare --uts --pid --fork --kill-child --mount-proc \
    sh -c 'hostname "$0" && exec "$@"' "$name" "$@" < /dev/null &
  tasks+=($!)
done < "$folder/spaces"
for task in "${tasks[@]}"; do wait "$task" || { kill "${tasks[@]}"; exit 1; }; done 2> /dev/null
"""
SCRIPT = """
from tests.objectives import Slow, bowl_study
study = bowl_study(rounds=(300, 20), objective=Slow(pause_s=0.3, hurry={hurry!r}))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for sockets, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="cv") as name:
        yield Path(name)


@pytest.fixture
def hosts(folder: Path) -> Iterator[Hosts]:
    with Hosts(2, folder) as hosts:
        bin_ = folder / "bin"
        bin_.mkdir()
        for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
            (bin_ / name).write_text(text)
            (bin_ / name).chmod(0o755)
        (bin_ / "addresses").write_text(f"{hosts.address(1)}\n{hosts.address(2)}\n")
        (bin_ / "spaces").write_text(f"h1 {hosts.space(1)} 1\nh2 {hosts.space(2)} 2\n")
        yield hosts


def submit(hosts: Hosts, folder: Path, job: int) -> "subprocess.Popen[str]":
    env = {name: value for name, value in hosts.environment.items() if name != "RAY_AUTH_TOKEN"}
    env |= {
        "PATH": f"{folder / 'bin'}:{hosts.environment['PATH']}",
        "RAY_TMPDIR": str(folder / "ray"),
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NODELIST": "nodes",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_ON_NODE": "1",  # cores of the first node, where the script itself runs
    }
    return subprocess.Popen(
        [CLUSTER / "slurm.sh", folder / "bowl.py", "--name", "bowl"],
        cwd=folder,
        env=env,
        stdout=(folder / f"caviar-{job}.log").open("w"),
        stderr=subprocess.STDOUT,
        text=True,
    )


def workers(folder: Path) -> dict[str, int]:
    """Return the number of workers of each node that have ended a trial."""
    try:
        trials = load(folder / "runs" / "bowl").trials
    except CaviarError:
        return {}
    return dict(trials.groupby("node")["worker"].nunique())


def logs(folder: Path) -> str:
    return "".join(log.read_text() for log in folder.glob("caviar-*.log"))


def test_second_submission_continues_the_study(hosts: Hosts, folder: Path) -> None:
    (folder / "bowl.py").write_text(SCRIPT.format(hurry=str(folder / "hurry")))
    first = submit(hosts, folder, job=7)
    while workers(folder) != {"h1": 1, "h2": 2}:
        assert first.poll() is None, logs(folder)
        time.sleep(0.2)
    for number in (1, 2):  # as if its time had run out
        hosts.kill(number)
    first.wait(200)
    assert not load(folder / "runs" / "bowl").finished

    (folder / "hurry").touch()
    second = submit(hosts, folder, job=8)
    assert second.wait(300) == 0, logs(folder)
    run = load(folder / "runs" / "bowl")
    assert set(run.trials["node"]) == {"h1", "h2"}
    assert_same_frames(run, run_inline(bowl_study(rounds=(300, 20)), folder / "here"))
    token = folder / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text().strip() not in logs(folder)
