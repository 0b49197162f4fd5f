"""A study on several hosts: one is cut off, one loses its power, one is added; the head dies and comes back."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from caviar.errors import CaviarError
from caviar.records.frames import load
from tests.cluster.hosts import Hosts, missing
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, run_inline

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
    pytest.mark.timeout(1500),
]
ELSEWHERE_S = 45.0
"""Within this time the trials of a host that is cut off run elsewhere: in about 10 s, where nothing else is to be done,
and in any case before Ray takes it for dead, after 63.8 s."""
ROUNDS = (3_000, 100)
"""As good as endless, until somebody hurries it."""
SCRIPT = f"""
from tests.objectives import Slow, bowl_study
study = bowl_study(rounds={ROUNDS}, objective=Slow(pause_s=0.2, hurry={{hurry!r}}))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a path that is short enough for sockets, unlike that of `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="cv", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def script(folder: Path) -> Path:
    path = folder / "study" / "bowl.py"
    path.parent.mkdir()
    path.write_text(SCRIPT.format(hurry=str(folder / "hurry")))
    return path


def rows(folder: Path) -> pd.DataFrame:
    try:
        return load(folder / "runs" / "bowl").trials
    except CaviarError:
        return pd.DataFrame({"node": [], "worker": [], "attempt": []})


def seconds_until(true: Callable[[], bool], within_s: float = 250.0) -> float:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < within_s, "it did not come to pass"
        time.sleep(0.1)
    return time.monotonic() - began


def start_driver(hosts: Hosts, folder: Path, *command: str | Path) -> "subprocess.Popen[str]":
    log = (folder / "driver.log").open("a")
    caviar = ["python", "-m", "caviar", *command, "--address", hosts.head]
    return hosts.popen(1, caviar, cwd=folder, stdout=log, stderr=subprocess.STDOUT)


def nodes(folder: Path) -> set[str]:
    return set(rows(folder)["node"])


def test_hosts_are_cut_off_killed_and_added_and_the_frames_are_those_of_a_local_run(
    folder: Path, script: Path
) -> None:
    with Hosts(4, folder) as hosts:
        hosts.start_ray(1, cpus=1)
        hosts.start_ray(2, cpus=1)
        hosts.start_ray(3, cpus=1)
        driver = start_driver(hosts, folder, "run", script, "--runs", folder / "runs")
        seconds_until(lambda: nodes(folder) == {"h1", "h2", "h3"})

        hosts.cut(2)
        took_s = seconds_until(lambda: bool((rows(folder)["attempt"] > 1).any()))
        assert took_s <= ELSEWHERE_S
        before = len(rows(folder))
        hosts.kill(3)
        seconds_until(lambda: len(rows(folder)) >= before + 10)
        hosts.start_ray(4, cpus=1)
        seconds_until(lambda: "h4" in nodes(folder))

        (folder / "hurry").touch()
        assert driver.wait(300) == 0, (folder / "driver.log").read_text()
    run = load(folder / "runs" / "bowl")
    assert (run.trials["outcome"] == "completed").all(), "a host's end is no trial's fault"
    assert_same_frames(run_inline(bowl_study(rounds=ROUNDS), folder), run)


@pytest.mark.slow
def test_a_study_is_submitted_from_a_host_that_is_no_part_of_the_cluster(folder: Path, script: Path) -> None:
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
        seconds_until(lambda: nodes(folder) == {"h1", "h2"})
        (folder / "hurry").touch()
        said, _ = laptop.communicate(timeout=300)
        assert laptop.returncode == 0, said
    run = load(folder / "runs" / "bowl")
    assert "The winner is trial" in said
    assert set(run.trials["node"]) == {"h1", "h2"}
    assert_same_frames(run_inline(bowl_study(rounds=ROUNDS), folder), run)


@pytest.mark.slow
def test_a_host_that_is_cut_off_for_a_moment_is_used_again(folder: Path, script: Path) -> None:
    with Hosts(2, folder) as hosts:
        hosts.start_ray(1, cpus=1)
        hosts.start_ray(2, cpus=1)
        driver = start_driver(hosts, folder, "run", script, "--runs", folder / "runs")
        seconds_until(lambda: nodes(folder) == {"h1", "h2"})
        hosts.cut(2)
        seconds_until(lambda: bool((rows(folder)["attempt"] > 1).any()))
        first = set(rows(folder)["worker"])
        hosts.mend(2)
        seconds_until(lambda: bool(set(rows(folder)["worker"]) - first))
        (folder / "hurry").touch()
        assert driver.wait(300) == 0, (folder / "driver.log").read_text()
    assert_same_frames(run_inline(bowl_study(rounds=ROUNDS), folder), load(folder / "runs" / "bowl"))


def test_a_study_whose_head_died_goes_on_when_there_is_a_head_again(folder: Path, script: Path) -> None:
    with Hosts(2, folder) as hosts:
        hosts.start_ray(1, cpus=1)
        hosts.start_ray(2, cpus=1)
        driver = start_driver(hosts, folder, "run", script, "--runs", folder / "runs")
        seconds_until(lambda: nodes(folder) == {"h1", "h2"})
        hosts.kill(1)
        assert driver.wait(300) != 0
        hosts.kill(2)  # its node would wait a minute for the head that is gone
        (folder / "hurry").touch()
        hosts.start_ray(1, cpus=1)
        hosts.start_ray(2, cpus=1)
        again = start_driver(hosts, folder, "resume", folder / "runs" / "bowl", script)
        assert again.wait(300) == 0, (folder / "driver.log").read_text()
    assert_same_frames(run_inline(bowl_study(rounds=ROUNDS), folder), load(folder / "runs" / "bowl"))
