"""cluster/local.sh starts two nodes that run studies and jobs, and leaves nothing behind."""

import os
import re
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from caviar.records.frames import load
from tests.deployment.files import CLUSTER, ROOT, documents
from tests.objectives import bowl_study
from tests.ports import free_port
from tests.runs import assert_same_frames, run_inline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SCRIPTS = Path(sys.executable).parent
BOWL = """
from tests.objectives import Slow, bowl_study
study = bowl_study(objective=Slow(pause_s=0.1, crew={crew!r}))
"""


@dataclass(frozen=True)
class Local:
    """A cluster that `local.sh` started for a new user, and a folder for experiments."""

    folder: Path
    env: dict[str, str]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.env['PORT']}"

    @property
    def token(self) -> Path:
        return self.folder / "home" / ".ray" / "auth_token"

    def run(self, *command: str | Path, **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, env={**self.env, **env}, cwd=self.folder, capture_output=True, text=True, check=False
        )

    def experiment(self, name: str) -> str:
        """Write an experiment whose study starts when both nodes have a worker, and return its name."""
        (self.folder / name).write_text(BOWL.format(crew=str(self.folder / f"crew of {name}")))
        return name

    def script(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.run(CLUSTER / "local.sh", *arguments)

    def job(self, command: str) -> "subprocess.CompletedProcess[str]":
        """Submit a command through a shell, as KubeRay does with an entrypoint."""
        dashboard = f"http://127.0.0.1:{self.env['DASHBOARD_PORT']}"
        line = f"ray job submit --address {dashboard} {command}"
        return self.run("bash", "-c", line, RAY_AUTH_MODE="token")


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    # The path must be short, because Ray puts sockets into it.
    with tempfile.TemporaryDirectory(prefix="cv", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        env = {
            "PATH": f"{SCRIPTS}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder / "home"),
            "PYTHONPATH": str(ROOT),
            "FOLDER": str(folder / "c"),
            "PORT": str(free_port()),
            "DASHBOARD_PORT": str(free_port()),
            "CPUS": "1",
        }
        local = Local(folder, env)
        started = local.script("start", "2")
        try:
            assert started.returncode == 0, started.stderr
            assert local.token.read_text().strip() not in started.stdout + started.stderr
            yield local
        finally:
            stopped = local.script("stop")
        assert stopped.returncode == 0, stopped.stderr
        deadline = time.monotonic() + 60  # workers end a moment after their node
        while str(folder / "c") in command_lines():
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert not (folder / "c").exists()


def command_lines() -> str:
    return subprocess.run(["ps", "-A", "-o", "args"], capture_output=True, text=True, check=True).stdout


def test_cluster_requires_a_private_token(local: Local) -> None:
    assert stat.S_IMODE(local.token.stat().st_mode) == 0o600
    assert local.token.read_text().strip() not in command_lines()
    stranger = local.run(
        "caviar", "run", local.experiment("bowl.py"), "--address", local.address, HOME=str(local.folder)
    )
    assert stranger.returncode == 1
    assert "asks for a token" in stranger.stderr


def test_dashboard_listens_on_loopback_only(local: Local) -> None:
    port = f"{int(local.env['DASHBOARD_PORT']):04X}"
    table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    listening = re.findall(rf"^ *\d+: (\w+):{port} \w+:\w+ 0A ", table, re.MULTILINE)
    assert listening == ["0100007F"]  # 127.0.0.1


def test_second_start_is_refused(local: Local) -> None:
    assert "already" in local.script("start").stderr


def test_study_runs_on_both_nodes(local: Local) -> None:
    result = local.run("caviar", "run", local.experiment("bowl.py"), "--address", local.address)
    assert result.returncode == 0, result.stderr
    run = load(local.folder / "runs" / "bowl")
    assert run.trials["worker"].nunique() == 2
    assert_same_frames(run, run_inline(bowl_study(), local.folder / "here"))


def test_job_runs_on_both_nodes(local: Local) -> None:
    """Each node unpacks its own copy of the upload, although they share a disk."""
    dashboard = f"http://127.0.0.1:{local.env['DASHBOARD_PORT']}"
    runs = local.folder / "runs"
    script = local.experiment("submitted.py")
    submit = ["caviar", "submit", script, "--name", "submitted", "--runs", str(runs), "--address", dashboard]
    submitted = local.run(*submit, RAY_AUTH_MODE="token", PYTHONPATH=f"{ROOT}")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert load(runs / "submitted").trials["worker"].nunique() == 2


def test_entrypoint_of_a_rayjob_can_be_repeated(local: Local) -> None:
    ((declared),) = documents(CLUSTER / "rayjob.yaml")
    entrypoint = declared["spec"]["entrypoint"].replace("STUDY", "job")
    entrypoint = entrypoint.replace("/runs", f"{local.folder}/runs")
    entrypoint = entrypoint.replace("/experiment/SCRIPT", f"{local.folder}/bowl.py")
    entrypoint = entrypoint.replace("PYTHONPATH=/experiment", f"PYTHONPATH={local.folder}:{ROOT}")
    assert local.job(f"-- {entrypoint}").returncode == 0
    run = load(local.folder / "runs" / "job")
    assert run.finished
    # Without --resume it would be refused, because the name is taken
    assert local.job(f"-- {entrypoint}").returncode == 0
    assert [path.name for path in sorted(run.path.parent.iterdir())] == ["bowl", "job", "submitted"]


def test_submitter_ends_when_a_study_fails(local: Local) -> None:
    """KubeRay's submitter follows the output of a job. If that failed, it would start again and keep the cluster."""
    assert local.job("--no-wait --submission-id broken -- caviar run missing.py").returncode == 0
    dashboard = f"http://127.0.0.1:{local.env['DASHBOARD_PORT']}"
    followed = local.run(
        "ray", "job", "logs", "--address", dashboard, "--follow", "broken", RAY_AUTH_MODE="token"
    )
    assert followed.returncode == 0
    assert "failed" in followed.stdout + followed.stderr


def test_nodes_share_the_memory(local: Local) -> None:
    found = re.search(r"/([\d.]+)GiB memory", local.script("status").stdout)
    assert found is not None
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    assert 0 < float(found[1]) < machine


def test_nodes_can_be_killed(local: Local) -> None:
    assert re.search(r"node 1 is running .*\nnode 2 is running ", local.script("status").stdout)
    assert local.script("kill", "2").returncode == 0
    assert re.search(r"node 1 is running .*\nnode 2 has ended", local.script("status").stdout)
    assert "node 2 is not running" in local.script("kill", "2").stderr
