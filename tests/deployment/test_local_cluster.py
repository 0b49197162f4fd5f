"""cluster/local.sh for real: two nodes, a token, studies and jobs on them; and in the end nothing is left."""

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
    """A cluster that `local.sh` has started for somebody who had nothing yet, and a folder with an experiment."""

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
        """An experiment whose study begins when both nodes are there."""
        (self.folder / name).write_text(BOWL.format(crew=str(self.folder / f"crew of {name}")))
        return name

    def script(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.run(CLUSTER / "local.sh", *arguments)

    def job(self, command: str) -> "subprocess.CompletedProcess[str]":
        """As `ray job submit` in a shell, where KubeRay, too, puts the entrypoint in as it stands."""
        dashboard = f"http://127.0.0.1:{self.env['DASHBOARD_PORT']}"
        line = f"ray job submit --address {dashboard} {command}"
        return self.run("bash", "-c", line, RAY_AUTH_MODE="token")


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    with tempfile.TemporaryDirectory(
        prefix="cv", ignore_cleanup_errors=True
    ) as name:  # short: sockets lie in it
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
        deadline = time.monotonic() + 60  # its workers end a moment after their node
        while str(folder / "c") in command_lines():
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert not (folder / "c").exists()


def command_lines() -> str:
    return subprocess.run(["ps", "-A", "-o", "args"], capture_output=True, text=True, check=True).stdout


def test_it_asks_for_a_token_that_only_its_user_can_read(local: Local) -> None:
    assert stat.S_IMODE(local.token.stat().st_mode) == 0o600
    assert local.token.read_text().strip() not in command_lines()
    stranger = local.run(
        "caviar", "run", local.experiment("bowl.py"), "--address", local.address, HOME=str(local.folder)
    )
    assert stranger.returncode == 1
    assert "asks for a token" in stranger.stderr


def test_its_dashboard_listens_to_this_machine_alone(local: Local) -> None:
    port = f"{int(local.env['DASHBOARD_PORT']):04X}"
    table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    listening = re.findall(rf"^ *\d+: (\w+):{port} \w+:\w+ 0A ", table, re.MULTILINE)
    assert listening == ["0100007F"]  # 127.0.0.1


def test_it_is_started_once(local: Local) -> None:
    assert "stop it first" in local.script("start").stderr


def test_a_study_runs_on_both_nodes(local: Local) -> None:
    ended = local.run("caviar", "run", local.experiment("bowl.py"), "--address", local.address)
    assert ended.returncode == 0, ended.stderr
    run = load(local.folder / "runs" / "bowl")
    assert run.trials["worker"].nunique() == 2
    assert_same_frames(run, run_inline(bowl_study(), local.folder / "here"))


def test_a_job_runs_on_both_nodes(local: Local) -> None:
    """Each of them has its own copy of what was sent, though they share a disk."""
    dashboard = f"http://127.0.0.1:{local.env['DASHBOARD_PORT']}"
    runs = local.folder / "runs"
    script = local.experiment("sent.py")
    submit = ["caviar", "submit", script, "--name", "sent", "--runs", str(runs), "--address", dashboard]
    sent = local.run(*submit, RAY_AUTH_MODE="token", PYTHONPATH=f"{ROOT}")
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert load(runs / "sent").trials["worker"].nunique() == 2


def test_the_entrypoint_of_a_rayjob_begins_a_run_and_goes_on_with_it(local: Local) -> None:
    ((declared),) = documents(CLUSTER / "rayjob.yaml")
    entrypoint = declared["spec"]["entrypoint"].replace("STUDY", "job")
    entrypoint = entrypoint.replace("/runs", f"{local.folder}/runs")
    entrypoint = entrypoint.replace("/experiment/experiment.py", f"{local.folder}/bowl.py")
    assert local.job(f"-- {entrypoint}").returncode == 0
    run = load(local.folder / "runs" / "job")
    assert run.finished
    assert local.job(f"-- {entrypoint}").returncode == 0  # another run would be refused: the name is taken
    assert [path.name for path in sorted(run.path.parent.iterdir())] == ["bowl", "job", "sent"]


def test_a_node_can_be_killed(local: Local) -> None:
    assert re.search(r"node 1 runs .*\nnode 2 runs ", local.script("status").stdout)
    assert local.script("kill", "2").returncode == 0
    assert re.search(r"node 1 runs .*\nnode 2 has ended", local.script("status").stdout)
    assert "node 2 does not run" in local.script("kill", "2").stderr
