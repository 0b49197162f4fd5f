"""Studies on several hosts that are cut off, lose their power, join, or lose their head."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from caviar.records.frames import load
from tests.cluster.hosts import Hosts, missing
from tests.cluster.waiting import recorded_trials, wait_until
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, run_inline

pytestmark = [
    pytest.mark.slow,  # in the fast suite, laws 1 and 2 are held on simulated clusters
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
    pytest.mark.timeout(1500),
]
MOVE_TIMEOUT_S = 45.0
"""Seconds until the trials of a host that is cut off run elsewhere: about 10 on an idle machine, and in any case before
Ray declares the host dead, after 63.8."""
ROUNDS = (3_000, 100)
"""Trials that take very long until the file `hurry` exists."""
SCRIPT = f"""
from tests.objectives import Slow, bowl_study
study = bowl_study(rounds={ROUNDS}, objective=Slow(pause_s=0.2, hurry={{hurry!r}}))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for sockets, unlike that of `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="cv", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def script(folder: Path) -> Path:
    path = folder / "study" / "bowl.py"
    path.parent.mkdir()
    path.write_text(SCRIPT.format(hurry=str(folder / "hurry")))
    return path


def rows(folder: Path) -> pd.DataFrame:
    return recorded_trials(folder / "runs" / "bowl")


def start_driver(hosts: Hosts, folder: Path, *command: str | Path) -> "subprocess.Popen[str]":
    log = (folder / "driver.log").open("a")
    caviar = ["python", "-m", "caviar", *command, "--address", hosts.head]
    return hosts.popen(1, caviar, cwd=folder, stdout=log, stderr=subprocess.STDOUT)


def nodes(folder: Path) -> set[str]:
    return set(rows(folder)["node"])


def test_losing_and_adding_hosts_changes_no_frame(folder: Path, script: Path) -> None:
    with Hosts(4, folder) as hosts:
        hosts.start_ray(1, cpus=1)
        hosts.start_ray(2, cpus=1)
        hosts.start_ray(3, cpus=1)
        driver = start_driver(hosts, folder, "run", script, "--runs", folder / "runs")
        wait_until(lambda: nodes(folder) == {"h1", "h2", "h3"})

        hosts.cut(2)
        took_s = wait_until(lambda: bool((rows(folder)["attempt"] > 1).any()))
        assert took_s <= MOVE_TIMEOUT_S
        before = len(rows(folder))
        hosts.kill(3)
        wait_until(lambda: len(rows(folder)) >= before + 10)
        hosts.start_ray(4, cpus=1)
        wait_until(lambda: "h4" in nodes(folder))

        (folder / "hurry").touch()
        assert driver.wait(300) == 0, (folder / "driver.log").read_text()
    run = load(folder / "runs" / "bowl")
    assert (run.trials["outcome"] == "completed").all(), "no trial is to blame for a lost host"
    assert_same_frames(run_inline(bowl_study(rounds=ROUNDS), folder), run)


def test_a_host_outside_the_cluster_submits_a_study(folder: Path, script: Path) -> None:
    with Hosts(3, folder) as hosts:
        address = hosts.address(1)
        hosts.start_ray(
            1, 1, "--include-dashboard=true", f"--dashboard-host={address}", "--dashboard-port=8265"
        )
        hosts.start_ray(2, 1)
        caviar = f"python -m caviar submit bowl.py --address http://{address}:8265 --runs {folder / 'runs'}"
        laptop = hosts.popen(
            3, caviar.split(), cwd=script.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        wait_until(lambda: nodes(folder) == {"h1", "h2"})
        (folder / "hurry").touch()
        output, _ = laptop.communicate(timeout=300)
        assert laptop.returncode == 0, output
    run = load(folder / "runs" / "bowl")
    assert "The winner is trial" in output
    assert set(run.trials["node"]) == {"h1", "h2"}
    assert_same_frames(run_inline(bowl_study(rounds=ROUNDS), folder), run)


def test_a_host_that_returns_is_used_again(folder: Path, script: Path) -> None:
    with Hosts(2, folder) as hosts:
        hosts.start_ray(1, cpus=1)
        hosts.start_ray(2, cpus=1)
        driver = start_driver(hosts, folder, "run", script, "--runs", folder / "runs")
        wait_until(lambda: nodes(folder) == {"h1", "h2"})
        hosts.cut(2)
        wait_until(lambda: bool((rows(folder)["attempt"] > 1).any()))
        first = set(rows(folder)["worker"])
        hosts.mend(2)
        wait_until(lambda: bool(set(rows(folder)["worker"]) - first))
        (folder / "hurry").touch()
        assert driver.wait(300) == 0, (folder / "driver.log").read_text()
    assert_same_frames(run_inline(bowl_study(rounds=ROUNDS), folder), load(folder / "runs" / "bowl"))


def test_a_study_resumes_on_a_new_head(folder: Path, script: Path) -> None:
    with Hosts(2, folder) as hosts:
        hosts.start_ray(1, cpus=1)
        hosts.start_ray(2, cpus=1)
        driver = start_driver(hosts, folder, "run", script, "--runs", folder / "runs")
        wait_until(lambda: nodes(folder) == {"h1", "h2"})
        hosts.kill(1)
        assert driver.wait(300) != 0
        hosts.kill(2)  # its raylet would wait a minute for the dead head
        (folder / "hurry").touch()
        hosts.start_ray(1, cpus=1)
        hosts.start_ray(2, cpus=1)
        again = start_driver(hosts, folder, "resume", folder / "runs" / "bowl", script)
        assert again.wait(300) == 0, (folder / "driver.log").read_text()
    assert_same_frames(run_inline(bowl_study(rounds=ROUNDS), folder), load(folder / "runs" / "bowl"))
