"""Machines that workers cannot be on, cut off or badly set up: the others are used, with fewer workers if need be."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from caviar.errors import CaviarError
from caviar.records.frames import load
from tests.cluster.hosts import Hosts, missing
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, run_inline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
    pytest.mark.timeout(300),
]
BEFORE_RAY_NOTICES_S = 50.0
"""Ray itself notices that a machine was cut off after a minute."""
SCRIPT = """
import socket
from tests.objectives import Slow, bowl_study

class Particular(Slow):
    def make_engine(self, dataset, device):
        if socket.gethostname() == "h3":
            raise ModuleNotFoundError("No module named 'sparkling'")
        return super().make_engine(dataset, device)

study = bowl_study(rounds=(400, 100), objective=Particular(pause_s=0.2, hurry={hurry!r}))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a path that is short enough for sockets, unlike that of `tmp_path`."""
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


def said(folder: Path) -> str:
    return (folder / "driver.log").read_text()


def nodes(folder: Path) -> set[str]:
    try:
        return set(load(folder / "runs" / "bowl").trials["node"])
    except CaviarError:
        return set()


def wait_until(true: Callable[[], bool], within_s: float = 90.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)


def assert_ends_well(driver: "subprocess.Popen[str]", folder: Path) -> None:
    (folder / "hurry").touch()
    assert driver.wait(90) == 0, said(folder)
    run = load(folder / "runs" / "bowl")
    assert (run.trials["outcome"] == "completed").all()
    assert_same_frames(run_inline(bowl_study(rounds=(400, 100)), folder), run)


def test_when_fewer_workers_fit_than_were_asked_for_as_many_as_fit_go_on(folder: Path) -> None:
    with Hosts(4, folder) as hosts:
        hosts.start_ray(1, cpus=0)
        hosts.start_ray(2, cpus=2)
        driver = start_driver(hosts, folder, "--workers", "2")
        wait_until(lambda: nodes(folder) == {"h2"})
        hosts.start_ray(4, cpus=1)
        hosts.cut(2)
        wait_until(lambda: "h4" in nodes(folder), BEFORE_RAY_NOTICES_S)
        assert_ends_well(driver, folder)


def test_a_machine_that_joins_and_cannot_have_workers_is_set_aside_by_name(folder: Path) -> None:
    with Hosts(4, folder) as hosts:
        hosts.start_ray(1, cpus=1)
        driver = start_driver(hosts, folder)
        wait_until(lambda: nodes(folder) == {"h1"})
        hosts.start_ray(3, cpus=2)
        wait_until(lambda: "h3" in said(folder))
        hosts.start_ray(4, cpus=1)
        wait_until(lambda: nodes(folder) == {"h1", "h4"})
        assert_ends_well(driver, folder)
        assert said(folder).count("no more workers on h3") == 1
        there = f"h3 ({hosts.address(3)}) until Ray is started anew there"
        assert f"no more workers on {there}: worker cpu-" in said(folder)
        assert "cannot start: ModuleNotFoundError: No module named 'sparkling'" in said(folder)
