"""`ray up` with cluster/onprem.yaml creates a cluster by SSH that runs a study.

Packages are not installed, because that needs a network: the commands find them installed already.
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


def find_missing_tools() -> str | None:
    """Return why this machine cannot run the test; None if it can."""
    tools = [tool for tool in ("ssh", "ssh-keygen", "rsync") if shutil.which(tool) is None]
    if SSHD is None or tools:
        return "needs openssh-server, openssh-client and rsync"
    return missing()


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(500),
    pytest.mark.skipif(find_missing_tools() is not None, reason=find_missing_tools() or ""),
]
SCRIPT = "from tests.objectives import bowl_study\nstudy = bowl_study()\n"


class Site:
    """Two hosts with SSH and nothing else, and a laptop, host 3, whose key they accept."""

    def __init__(self, folder: Path, hosts: Hosts) -> None:
        self.folder, self.hosts = folder, hosts
        for number in (HEAD, WORKER, LAPTOP):
            (self.home(number) / ".local" / "bin").mkdir(parents=True)
            (self.home(number) / ".profile").write_text(". ~/.bashrc\n")
            (self.home(number) / ".bashrc").touch()
            self._users(number).write_text(self._passwd_with_home(self.home(number)))
        (self.home(LAPTOP) / ".ssh").mkdir()
        self._key = self.home(LAPTOP) / ".ssh" / "id_ed25519"
        for key in (self._key, folder / "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        self.token.parent.mkdir()
        self.token.write_text("0123456789abcdef" * 4)
        self.token.chmod(0o600)

    def _users(self, number: int) -> Path:
        return self.folder / f"passwd{number}"

    def _passwd_with_home(self, home: Path) -> str:
        """Return /etc/passwd with another home for root; ssh and login shells read it there."""
        first, *others = Path("/etc/passwd").read_text().splitlines()
        name, *fields = first.split(":")
        assert name == "root"
        fields[4] = str(home)
        return "\n".join([":".join([name, *fields]), *others, ""])

    def _command(self, number: int, *command: str | Path) -> list[str | Path]:
        """Return a command that sees the host's own home of root."""
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
        """Start SSH on a host that has the packages, and an installer that does nothing."""
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
        # In its own process space, because `ray stop` stops every Ray that it sees.
        isolated = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = self._command(number, *isolated, SSHD, "-D", "-f", config)
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
            output, _ = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        assert process.returncode == 0, output
        return output


@pytest.fixture
def site() -> Iterator[Site]:
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # sshd requires it
    with tempfile.TemporaryDirectory(prefix="cv") as name, Hosts(3, Path(name)) as hosts:
        yield Site(Path(name), hosts)


def test_ray_up_creates_a_cluster_that_runs_a_study(site: Site) -> None:
    for number in (HEAD, WORKER):
        site.serve(number)
    config = (CLUSTER / "onprem.yaml").read_text()
    config = config.replace("HEAD_ADDRESS", site.hosts.address(HEAD)).replace("USER", "root")
    config = config.replace("WORKER_ADDRESS, WORKER_ADDRESS", site.hosts.address(WORKER))
    config = config.replace("~/.ssh", str(site.home(LAPTOP) / ".ssh"))  # ssh does not use $HOME
    (site.folder / "my-onprem.yaml").write_text(config)
    output = site.run(LAPTOP, "ray", "up", "--yes", "--no-config-cache", site.folder / "my-onprem.yaml")
    assert site.token.read_text() not in output

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
    assert set(run.trials["node"]) == {f"h{WORKER}"}  # the head runs no trials
    assert_same_frames(run, run_inline(bowl_study(), site.folder / "here"))
