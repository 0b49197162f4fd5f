"""`ray up` with cluster/onprem.yaml, on hosts that are reached by SSH: the token, the head, a worker, a study.

Only the installation of packages is left out, which needs a network: its commands find the packages there already.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from caviar.records.frames import load
from tests.cluster.hosts import Hosts, missing
from tests.deployment.files import CLUSTER, ROOT
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, run_inline

HEAD, WORKER, LAPTOP = 1, 2, 3
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")


def lacking() -> str | None:
    """Why it cannot be tried here."""
    tools = [tool for tool in ("ssh", "ssh-keygen", "rsync") if shutil.which(tool) is None]
    if SSHD is None or tools:
        return "it needs openssh-server, openssh-client and rsync"
    return missing()


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(500),
    pytest.mark.skipif(lacking() is not None, reason=lacking() or ""),
]
SCRIPT = "from tests.objectives import bowl_study\nstudy = bowl_study()\n"


class Site:
    """Hosts 1 and 2 with SSH and nothing else, and a laptop, host 3, whose key they know."""

    def __init__(self, folder: Path, hosts: Hosts) -> None:
        self.folder, self.hosts = folder, hosts
        for number in (HEAD, WORKER, LAPTOP):
            (self.home(number) / ".local" / "bin").mkdir(parents=True)
            (self.home(number) / ".profile").write_text(". ~/.bashrc\n")
            (self.home(number) / ".bashrc").touch()
            self._users(number).write_text(self._at_home_in(self.home(number)))
        (self.home(LAPTOP) / ".ssh").mkdir()
        self._key = self.home(LAPTOP) / ".ssh" / "id_ed25519"
        for key in (self._key, folder / "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        self.token.parent.mkdir()
        self.token.write_text("0123456789abcdef" * 4)
        self.token.chmod(0o600)

    def _users(self, number: int) -> Path:
        return self.folder / f"passwd{number}"

    def _at_home_in(self, home: Path) -> str:
        """The system's list of users, in which root lives elsewhere: ssh and login shells look it up there."""
        first, *others = Path("/etc/passwd").read_text().splitlines()
        name, *fields = first.split(":")
        assert name == "root"
        fields[4] = str(home)
        return "\n".join([":".join([name, *fields]), *others, ""])

    def _command(self, number: int, *command: str | Path) -> list[str | Path]:
        """On a host whose root lives in the host's own folder."""
        return ["sh", "-c", 'mount --bind "$0" /etc/passwd && exec "$@"', self._users(number), *command]

    def home(self, number: int) -> Path:
        return self.folder / f"h{number}"

    @property
    def token(self) -> Path:
        return self.home(LAPTOP) / ".ray" / "auth_token"

    def env(self, number: int) -> dict[str, str]:
        return {
            "HOME": str(self.home(number)),
            "RAY_TMPDIR": str(self.folder / f"t{number}"),
            "PYTHONPATH": str(ROOT),
        }

    def serve(self, number: int) -> None:
        """SSH; the packages are there, and an installer that has nothing to do."""
        home = self.home(number)
        (home / "caviar").symlink_to(sys.prefix)
        installer = home / ".local" / "bin" / "uv"
        installer.write_text("#!/bin/sh\nexit 0\n")
        installer.chmod(0o755)
        config = self.folder / f"sshd{number}"
        settings = {
            "HostKey": self.folder / "host_key",
            "AuthorizedKeysFile": self._key.with_suffix(".pub"),
            "PidFile": "none",
            "PermitRootLogin": "prohibit-password",
            "StrictModes": "no",
            "UsePAM": "no",
            "SetEnv": " ".join(f"{name}={value}" for name, value in self.env(number).items()),
        }
        config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        assert SSHD is not None
        apart = [
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]  # `ray stop` stops all that it sees
        command = self._command(number, *apart, SSHD, "-D", "-f", config)
        self.hosts.popen(number, command, stderr=subprocess.DEVNULL)

    def run(self, number: int, *command: str | Path) -> str:
        env = {**self.env(number), "RAY_AUTH_TOKEN": "", "RAY_UP_enable_autoscaler_v2": "0"}
        process = self.hosts.popen(
            number,
            self._command(number, *command),
            env=env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            said, _ = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
        assert process.returncode == 0, said
        return said


@pytest.fixture
def site() -> Iterator[Site]:
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # which sshd wants
    with tempfile.TemporaryDirectory(prefix="cv") as name, Hosts(3, Path(name)) as hosts:
        yield Site(Path(name), hosts)


def test_ray_up_makes_a_cluster_that_runs_a_study(site: Site) -> None:
    for number in (HEAD, WORKER):
        site.serve(number)
    config = (CLUSTER / "onprem.yaml").read_text()
    config = config.replace("HEAD_ADDRESS", site.hosts.address(HEAD)).replace("USER", "root")
    config = config.replace("WORKER_ADDRESS, WORKER_ADDRESS", site.hosts.address(WORKER))
    config = config.replace(
        "~/.ssh", str(site.home(LAPTOP) / ".ssh")
    )  # ssh asks the system for its user's home
    (site.folder / "my-onprem.yaml").write_text(config)
    said = site.run(LAPTOP, "ray", "up", "--yes", "--no-config-cache", site.folder / "my-onprem.yaml")
    assert site.token.read_text() not in said

    deadline = time.monotonic() + 120
    while "2 local.cluster.node" not in (
        status := site.run(HEAD, "ray", "status", "--address", site.hosts.head)
    ):
        assert time.monotonic() < deadline, status
        time.sleep(2)
    for number in (HEAD, WORKER):
        token = site.home(number) / ".ray" / "auth_token"
        assert token.read_text() == site.token.read_text()
        assert token.stat().st_mode & 0o777 == 0o600

    (site.folder / "bowl.py").write_text(SCRIPT)
    study: list[str | Path] = [site.folder / "bowl.py", "--runs", site.folder / "runs"]
    study += ["--address", site.hosts.head]
    site.run(HEAD, "caviar", "run", *study)
    run = load(site.folder / "runs" / "bowl")
    assert set(run.trials["node"]) == {f"h{WORKER}"}  # the head runs none
    assert_same_frames(run, run_inline(bowl_study(), site.folder / "here"))
