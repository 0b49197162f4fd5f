"""Machines that are cut off or badly set up: the study continues on the others, with fewer workers if need be."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from caviar.records.frames import load
from tests.cluster.hosts import Hosts, missing
from tests.cluster.waiting import recorded_trials, wait_until
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, run_inline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
    pytest.mark.timeout(300),
]
RAY_TIMEOUT_S = 50.0
"""Seconds, less than the minute after which Ray declares a machine dead."""
SCRIPT = """
import socket
from tests.objectives import Slow, bowl_study

class NotOnH3(Slow):
    def make_engine(self, dataset, device):
        if socket.gethostname() == "h3":
            raise ModuleNotFoundError("No module named 'sparkling'")
        return super().make_engine(dataset, device)

study = bowl_study(rounds=(400, 100), objective=NotOnH3(pause_s=0.2, hurry={hurry!r}))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for sockets, unlike that of `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="cv") as name:
        Path(name, "bowl.py").write_text(SCRIPT.format(hurry=str(Path(name, "hurry"))))
        yield Path(name)


def start_driver(hosts: Hosts, folder: Path, *options: str) -> "subprocess.Popen[str]":
    command = [
        "python",
        "-m",
        "caviar",
        "run",
        "bowl.py",
        "--runs",
        "runs",
        "--address",
        hosts.head,
        *options,
    ]
    log = (folder / "driver.log").open("w")
    return hosts.popen(1, command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)


def log_of(folder: Path) -> str:
    return (folder / "driver.log").read_text()


def nodes(folder: Path) -> set[str]:
    return set(recorded_trials(folder / "runs" / "bowl")["node"])


def assert_completes(driver: "subprocess.Popen[str]", folder: Path) -> None:
    (folder / "hurry").touch()
    assert driver.wait(90) == 0, log_of(folder)
    run = load(folder / "runs" / "bowl")
    assert (run.trials["outcome"] == "completed").all()
    assert_same_frames(run_inline(bowl_study(rounds=(400, 100)), folder), run)


def test_a_study_continues_with_fewer_workers(folder: Path) -> None:
    with Hosts(4, folder) as hosts:
        hosts.start_ray(1, cpus=0)
        hosts.start_ray(2, cpus=2)
        driver = start_driver(hosts, folder, "--workers", "2")
        wait_until(lambda: nodes(folder) == {"h2"})
        hosts.start_ray(4, cpus=1)
        hosts.cut(2)
        wait_until(lambda: "h4" in nodes(folder), timeout_s=RAY_TIMEOUT_S)
        assert_completes(driver, folder)


def test_a_machine_without_working_workers_is_excluded(folder: Path) -> None:
    with Hosts(4, folder) as hosts:
        hosts.start_ray(1, cpus=1)
        driver = start_driver(hosts, folder)
        wait_until(lambda: nodes(folder) == {"h1"})
        hosts.start_ray(3, cpus=2)
        wait_until(lambda: "h3" in log_of(folder))
        hosts.start_ray(4, cpus=1)
        wait_until(lambda: nodes(folder) == {"h1", "h4"})
        assert_completes(driver, folder)
        assert log_of(folder).count("no more workers on h3") == 1
        there = f"h3 ({hosts.address(3)}) until Ray restarts there"
        assert f"no more workers on {there}: worker cpu-" in log_of(folder)
        assert "cannot start: ModuleNotFoundError: No module named 'sparkling'" in log_of(folder)
