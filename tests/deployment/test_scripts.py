"""The scripts in cluster/ and docker/ are sound and refuse invalid arguments."""

import hashlib
import os
import re
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.deployment.files import CLUSTER, DOCKER
from tests.ports import free_port

SCRIPTS = Path(sys.executable).parent
INSTALL_UV = (CLUSTER / "install_uv.sh").read_text()
(UV_VERSION,) = re.findall(r"^version=(.*)$", INSTALL_UV, re.MULTILINE)
SHELL = sorted([*CLUSTER.glob("*.sh"), *DOCKER.glob("*.sh")])


def run(*command: str | Path, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a user who has no token and no cluster."""
    path = f"{SCRIPTS}:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": str(tmp_path), "FOLDER": str(tmp_path / "c")}


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path: Path) -> None:
    result = run(SCRIPTS / "shellcheck", path, env={**os.environ})
    assert result.stdout + result.stderr == ""
    assert os.access(path, os.X_OK)
    assert "set -euo pipefail" in path.read_text()


def test_local_script_prints_its_usage(env: dict[str, str]) -> None:
    result = run(CLUSTER / "local.sh", env=env)
    assert result.returncode == 2
    assert "cluster/local.sh start [N]" in result.stdout
    assert "set -euo" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["start", "0"], "number of nodes"),
        (["start", "two"], "number of nodes"),
        (["status"], "there is no cluster"),
        (["kill", "2"], "node 2 is not running"),
    ],
)
def test_local_script_refuses_invalid_arguments(
    arguments: list[str], words: str, env: dict[str, str]
) -> None:
    result = run(CLUSTER / "local.sh", *arguments, env=env)
    assert result.returncode == 1
    assert words in result.stderr


def test_reused_process_ids_are_not_killed(env: dict[str, str], tmp_path: Path) -> None:
    """A process with the recorded id but another start time is somebody else's."""
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "c").mkdir()
        (tmp_path / "c" / "node-1").write_text(f"{other.pid}\nMon Jan 1 00:00:00 2024\n")
        assert run(CLUSTER / "local.sh", "stop", env=env).returncode == 0
        assert other.poll() is None
        other.kill()


def test_local_script_refuses_ports_in_use(env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        for name in ("PORT", "DASHBOARD_PORT"):
            free = {"PORT": str(free_port()), "DASHBOARD_PORT": str(free_port())}
            result = run(CLUSTER / "local.sh", "start", env=env | free | {name: taken})
            assert result.returncode == 1
            assert f"port {taken} is in use" in result.stderr


def test_local_script_refuses_more_than_the_memory(env: dict[str, str]) -> None:
    ports = {"PORT": str(free_port()), "DASHBOARD_PORT": str(free_port())}
    result = run(CLUSTER / "local.sh", "start", env=env | ports | {"OBJECT_STORE_MB": "100000000"})
    assert result.returncode == 1
    assert "no memory for 2 nodes" in result.stderr


@pytest.fixture
def download(env: dict[str, str], tmp_path: Path) -> Path:
    """Return a package with a program named uv, which `curl` copies instead of downloading one."""
    package = tmp_path / "package.whl"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr(f"uv-{UV_VERSION}.data/scripts/uv", "#!/bin/sh\necho installed\n")
    curl = tmp_path / "curl"
    curl.write_text(f'#!/bin/sh\ncp {package} uv.whl && echo "$@" > {tmp_path}/arguments\n')
    curl.chmod(0o755)
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    return package


def test_uv_with_another_checksum_is_refused(env: dict[str, str], download: Path, tmp_path: Path) -> None:
    result = run(CLUSTER / "install_uv.sh", env=env)
    assert result.returncode != 0
    assert "FAILED" in result.stdout
    assert not (tmp_path / ".local").exists()
    assert f"uv-{UV_VERSION}-py3-none-" in (tmp_path / "arguments").read_text()


def test_uv_is_installed_once(env: dict[str, str], download: Path, tmp_path: Path) -> None:
    checksum = hashlib.sha256(download.read_bytes()).hexdigest()
    script = tmp_path / "install_uv.sh"
    script.write_text(re.sub(r"checksum=\w+", f"checksum={checksum}", INSTALL_UV))
    for _ in range(2):
        assert run("bash", script, env=env).returncode == 0
        assert run(tmp_path / ".local/bin/uv", env=env).stdout == "installed\n"
        (tmp_path / "curl").unlink(missing_ok=True)


def test_slurm_script_passes_options_to_caviar(env: dict[str, str], tmp_path: Path) -> None:
    """Only the arguments of `srun` are checked; tests/deployment/test_slurm.py runs the script."""
    for name, text in {"srun": 'echo "$@"', "scontrol": "echo h1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    env |= {"PATH": f"{tmp_path}:{env['PATH']}", "RUNS": str(tmp_path / "runs"), "SLURM_JOB_ID": "7"}
    env |= {"SLURM_JOB_NODELIST": "h1", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_ON_NODE": "2"}
    options = ["--name", "bowl", "--workers", "3", "--gpus", "0"]
    expected = f"-- caviar run bowl.py --address auto --runs {tmp_path}/runs --resume {' '.join(options)}\n"
    for _ in range(2):
        result = run(CLUSTER / "slurm.sh", "bowl.py", *options, env=env)
        assert result.stdout.endswith(expected), result
        assert '--num-cpus "$SLURM_CPUS_ON_NODE"' in result.stdout  # each node's own, not the first one's
        (tmp_path / "runs" / "bowl").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / "bowl" / "study.json").touch()
