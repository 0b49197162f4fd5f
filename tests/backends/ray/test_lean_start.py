"""Local clusters that start without the parts that studies do not use."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from caviar.backends.ray import late_agent, private_api

ROOT = Path(__file__).parents[3]


def test_an_agent_starts_late_and_keeps_its_port(tmp_path: Path) -> None:
    listens = (
        "import socket, sys; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1);"
        "s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); print('listens')"
    )
    with late_agent.reserve("127.0.0.1", 0) as kept:
        port = str(kept.getsockname()[1])
    command = [
        sys.executable,
        late_agent.__file__,
        "0.2",
        "127.0.0.1",
        port,
        sys.executable,
        "-c",
        listens,
        port,
    ]
    started = time.monotonic()
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "listens\n"
    assert time.monotonic() - started > 0.2


def test_an_agent_that_never_starts_ends_with_its_parent() -> None:
    command = [sys.executable, late_agent.__file__, "inf", "127.0.0.1", "0", "nothing"]
    closed = "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL"
    parent = f"import subprocess; print(subprocess.Popen({command!r}, {closed}).pid)"
    pid = int(
        subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True).stdout
    )
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_only_a_raylets_agents_are_delayed() -> None:
    assert private_api._with_late_agents(["gcs_server", "--port=1"]) == ["gcs_server", "--port=1"]
    raylet = [
        "raylet",
        "--node_ip_address=1.2.3.4",
        "--runtime_env_agent_port=5",
        "--runtime_env_agent_command=go --x=1",
    ]
    *same, command = private_api._with_late_agents(raylet)
    assert same == raylet[:-1]
    assert command.startswith("--runtime_env_agent_command=")
    assert command.endswith("late_agent.py 5.0 1.2.3.4 5 go --x=1")


def test_another_version_of_ray_starts_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray._private.node import Node

    before = Node.start_monitor
    monkeypatch.setattr(ray, "__version__", "2.61.0")
    with private_api.start_lean():
        assert Node.start_monitor is before
    monkeypatch.setattr(ray, "__version__", "2.60.1")
    with private_api.start_lean():
        assert Node.start_monitor is not before
    assert Node.start_monitor is before


NESTED = """
    import os
    import caviar as cv
    import ray

    def train(params):
        task = ray.remote(num_cpus=0, runtime_env={"env_vars": {"MINE": "7"}})(lambda: os.environ["MINE"])
        return float(ray.get(task.remote()))

    study = cv.Study(
        name="nested", objective=cv.Function(train), space=cv.Space(x=cv.linear(0, 1)), rounds=[cv.Round(2, 1)]
    )
    print(study.run(workers=1, progress=False).best.value)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_tasks_of_trials_get_their_runtime_environment(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(NESTED)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout == "7.0\n", ended.stderr
