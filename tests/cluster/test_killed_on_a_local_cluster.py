"""Law 2 with a Ray of our own: what is killed, stopped or confused goes on to the same frames and leaves nothing."""

import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from caviar.records.frames import load
from tests.cluster.local import (
    STUDY,
    Drivers,
    alive,
    descendants,
    wait_until,
    wait_until_recorded,
    workers,
)
from tests.jumping_clock import ROUNDS as CLOCK_ROUNDS
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, resume_inline, run_inline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"),
]
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


def require_whole(runs: Path, tmp_path: Path) -> None:
    """The frames are those of a run that nobody disturbed, and nothing else is there."""
    assert_same_frames(run_inline(bowl_study(rounds=ROUNDS), tmp_path / "whole"), load(runs / "bowl"))
    assert [entry.name for entry in runs.iterdir()] == ["bowl"]
    assert not list(runs.rglob("*.tmp"))


def require_gone(family: dict[int, str]) -> None:
    """The processes of a Ray have ended, or do so in a moment."""
    deadline = time.monotonic() + 30  # sooner than they would by themselves
    while left := alive(family):
        assert time.monotonic() < deadline, f"processes of its Ray are left: {left}"
        time.sleep(0.2)


@pytest.mark.parametrize("seed", range(3))
def test_a_driver_killed_at_a_random_moment_leaves_nothing_that_the_next_one_does_not_remove(
    tmp_path: Path, script: Path, runs: Path, drivers: Drivers, seed: int
) -> None:
    first = drivers.start("run", script, "--runs", runs)
    wait_until_recorded(runs / "bowl", 1, first)
    time.sleep(random.Random(seed).uniform(0.0, 3.0))
    family = descendants(first.pid)
    assert len(drivers.sessions()) == 1
    first.kill()
    first.communicate()
    (tmp_path / "hurry").touch()
    before = load(runs / "bowl").trials
    second = drivers.start("resume", runs / "bowl")
    _, said = second.communicate(timeout=300)
    assert second.returncode == 0, said
    require_gone(family)
    assert drivers.sessions() == [], "the session of the killed driver is left, or its own"
    after = load(runs / "bowl").trials
    kept = after[after["trial"].isin(before["trial"])]
    assert kept["train_s"].tolist() == before["train_s"].tolist(), "recorded, but trained again"
    require_whole(runs, tmp_path)


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]],
    ids=["terminated", "interrupted twice", "terminated twice"],
)
def test_a_driver_that_is_stopped_says_how_to_go_on_and_leaves_nothing(
    tmp_path: Path, script: Path, runs: Path, drivers: Drivers, signals: list[signal.Signals]
) -> None:
    first = drivers.start("run", script, "--runs", runs)
    wait_until_recorded(runs / "bowl", 5, first)
    family = descendants(first.pid)
    for number in signals:
        first.send_signal(number)
        time.sleep(0.05)
    _, said = first.communicate(timeout=300)
    assert first.returncode == 130, said
    assert "caviar resume" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert drivers.sessions() == []
    require_gone(family)
    assert len(load(runs / "bowl").trials) < sum(ROUNDS), "it was stopped"
    resume_inline(bowl_study(rounds=ROUNDS), runs / "bowl")
    require_whole(runs, tmp_path)


def test_workers_that_are_killed_again_and_again_cost_only_time(
    tmp_path: Path, script: Path, runs: Path, drivers: Drivers
) -> None:
    chance = random.Random(0)
    first = drivers.start("run", script, "--runs", runs)
    killed: set[int] = set()

    def kill_one() -> bool:
        """Of those that train: one that has just started could be the third in a row to die before it is ready."""
        victims = [worker for worker in workers(first.pid) if worker not in killed]
        if not victims:
            return False
        killed.add(victim := chance.choice(victims))
        os.kill(victim, signal.SIGKILL)
        return True

    for count in (5, 30, 60, 90):
        wait_until_recorded(runs / "bowl", count, first)
        wait_until(kill_one, first)
        time.sleep(chance.uniform(0.0, 0.5))
    (tmp_path / "hurry").touch()
    _, said = first.communicate(timeout=300)
    assert first.returncode == 0, said
    assert len(killed) == 4
    trials = load(runs / "bowl").trials
    assert (trials["outcome"] == "completed").all(), "none of them is to blame"
    assert (trials["attempt"] > 1).any()
    require_whole(runs, tmp_path)


def test_a_wall_clock_that_jumps_by_hours_is_not_listened_to(
    tmp_path: Path, runs: Path, drivers: Drivers
) -> None:
    script = tmp_path / "experiment.py"
    script.write_text("from tests.jumping_clock import study as jumping\nstudy = jumping()\n")
    began = time.monotonic()
    first = drivers.start("run", script, "--runs", runs)
    _, said = first.communicate(timeout=300)
    took_s = time.monotonic() - began
    assert first.returncode == 0, said
    run = load(runs / "bowl")
    for column in ("queue_s", "dispatch_s", "setup_s", "train_s", "record_s"):
        assert run.trials[column].between(0.0, took_s).all(), column
    assert_same_frames(run_inline(bowl_study(rounds=CLOCK_ROUNDS), tmp_path / "whole"), run)
