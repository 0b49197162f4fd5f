"""Law 2 on local clusters: after kills, stops and clock jumps the frames are the same and nothing is left behind."""

import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from caviar.records.frames import load
from tests.cluster.local import STUDY, Drivers, descendants, still_running, training_workers
from tests.cluster.waiting import wait_until, wait_until_recorded
from tests.jumping_clock import ROUNDS as CLOCK_ROUNDS
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, resume_inline, run_inline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
ROUNDS = (300, 100)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.py"
    path.write_text(STUDY.format(rounds=ROUNDS, hurry=str(tmp_path / "hurry")))
    return path


@pytest.fixture
def drivers() -> Iterator[Drivers]:
    with (
        tempfile.TemporaryDirectory(prefix="cv", ignore_cleanup_errors=True) as folder,
        Drivers(Path(folder)) as drivers,
    ):
        yield drivers


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def assert_complete(runs: Path, tmp_path: Path) -> None:
    """Assert that the frames are those of an undisturbed run, and that nothing else is left."""
    assert_same_frames(run_inline(bowl_study(rounds=ROUNDS), tmp_path / "whole"), load(runs / "bowl"))
    assert [entry.name for entry in runs.iterdir()] == ["bowl"]
    assert not list(runs.rglob("*.tmp"))


def assert_ended(processes: list[psutil.Process]) -> None:
    """Assert that the processes of a cluster end sooner than they would by themselves."""
    wait_until(lambda: not still_running(processes), timeout_s=30)


@pytest.mark.parametrize("seed", range(3))
def test_the_next_driver_removes_what_a_killed_one_leaves(
    tmp_path: Path, script: Path, runs: Path, drivers: Drivers, seed: int
) -> None:
    first = drivers.start("run", script, "--runs", runs)
    wait_until_recorded(1, runs / "bowl", first)
    time.sleep(random.Random(seed).uniform(0.0, 3.0))
    family = descendants(first.pid)
    assert len(drivers.sessions()) == 1
    first.kill()
    first.communicate()
    (tmp_path / "hurry").touch()
    before = load(runs / "bowl").trials
    second = drivers.start("resume", runs / "bowl")
    _, output = second.communicate(timeout=300)
    assert second.returncode == 0, output
    assert_ended(family)
    assert drivers.sessions() == [], "a session folder is left"
    after = load(runs / "bowl").trials
    kept = after[after["trial"].isin(before["trial"])]
    assert kept["train_s"].tolist() == before["train_s"].tolist(), "recorded, but trained again"
    assert_complete(runs, tmp_path)


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]],
    ids=["terminated", "interrupted twice", "terminated twice"],
)
def test_a_stopped_driver_leaves_only_its_run(
    tmp_path: Path, script: Path, runs: Path, drivers: Drivers, signals: list[signal.Signals]
) -> None:
    first = drivers.start("run", script, "--runs", runs)
    wait_until_recorded(5, runs / "bowl", first)
    family = descendants(first.pid)
    for number in signals:
        first.send_signal(number)
        time.sleep(0.05)
    _, output = first.communicate(timeout=300)
    assert first.returncode == 130, output
    assert "caviar resume" in output.splitlines()[-1]
    assert "Traceback" not in output
    assert drivers.sessions() == []
    assert_ended(family)
    assert len(load(runs / "bowl").trials) < sum(ROUNDS), "the study was not stopped"
    resume_inline(bowl_study(rounds=ROUNDS), runs / "bowl")
    assert_complete(runs, tmp_path)


def test_killed_workers_cost_only_time(tmp_path: Path, script: Path, runs: Path, drivers: Drivers) -> None:
    chance = random.Random(0)
    first = drivers.start("run", script, "--runs", runs)
    killed: set[int] = set()

    def kill_one() -> bool:
        """Kill a worker that trains: one that has just started may be the third in a row to die before it is ready."""
        victims = [worker for worker in training_workers(first.pid) if worker not in killed]
        if not victims:
            return False
        killed.add(victim := chance.choice(victims))
        os.kill(victim, signal.SIGKILL)
        return True

    for count in (5, 30, 60, 90):
        wait_until_recorded(count, runs / "bowl", first)
        wait_until(kill_one, first)
        time.sleep(chance.uniform(0.0, 0.5))
    (tmp_path / "hurry").touch()
    _, output = first.communicate(timeout=300)
    assert first.returncode == 0, output
    assert len(killed) == 4
    trials = load(runs / "bowl").trials
    assert (trials["outcome"] == "completed").all(), "no trial is to blame"
    assert (trials["attempt"] > 1).any()
    assert_complete(runs, tmp_path)


def test_jumps_of_the_wall_clock_change_nothing(tmp_path: Path, runs: Path, drivers: Drivers) -> None:
    script = tmp_path / "experiment.py"
    script.write_text("from tests.jumping_clock import study as jumping\nstudy = jumping()\n")
    began = time.monotonic()
    first = drivers.start("run", script, "--runs", runs)
    _, output = first.communicate(timeout=300)
    took_s = time.monotonic() - began
    assert first.returncode == 0, output
    run = load(runs / "bowl")
    for column in ("queue_s", "dispatch_s", "setup_s", "train_s", "record_s"):
        assert run.trials[column].between(0.0, took_s).all(), column
    assert_same_frames(run_inline(bowl_study(rounds=CLOCK_ROUNDS), tmp_path / "whole"), run)
