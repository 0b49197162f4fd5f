"""What killed drivers leave of their Ray sessions is removed, and nothing else."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from caviar.backends.ray import session_cleanup


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    return tmp_path


def session(sessions: Path, name: str) -> Path:
    folder = sessions / f"session_{name}"
    (folder / "sockets").mkdir(parents=True)
    (folder / "logs").mkdir()
    return folder


def names(sessions: Path) -> list[str]:
    return sorted(entry.name for entry in sessions.iterdir())


def test_the_session_of_a_living_driver_stays_and_that_of_a_dead_one_goes(sessions: Path) -> None:
    living, dead = session(sessions, "living"), session(sessions, "dead")
    held = session_cleanup.mark(living)
    session_cleanup.mark(dead).close()  # as the end of a process does
    session_cleanup.clear_of_the_dead(sessions)
    assert names(sessions) == ["session_living"]
    assert living.stat().st_mode & 0o77 == 0, "it is nobody else's"
    held.close()
    session_cleanup.clear_of_the_dead(sessions)
    assert names(sessions) == []


def test_a_session_that_is_none_of_ours_stays(sessions: Path) -> None:
    session(sessions, "of_somebody")
    session_cleanup.clear_of_the_dead(sessions)
    assert names(sessions) == ["session_of_somebody"]


def test_a_session_whose_raylet_still_answers_stays(sessions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = session(sessions, "ending")
    session_cleanup.mark(folder).close()
    monkeypatch.chdir(folder)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as raylet:
        raylet.bind("sockets/raylet")
        raylet.listen()
        session_cleanup.clear_of_the_dead(Path(".."))
        assert names(sessions) == ["session_ending"]
    session_cleanup.clear_of_the_dead(sessions)
    assert names(sessions) == []


def test_a_session_that_was_kept_for_its_logs_stays(sessions: Path) -> None:
    folder = session(sessions, "troubled")
    held = session_cleanup.mark(folder)
    session_cleanup.keep(folder)
    held.close()
    session_cleanup.clear_of_the_dead(sessions)
    assert names(sessions) == ["session_troubled"]


def test_the_link_to_the_latest_session_goes_with_it(sessions: Path) -> None:
    folder = session(sessions, "dead")
    session_cleanup.mark(folder).close()
    (sessions / "session_latest").symlink_to(folder)
    session_cleanup.clear_of_the_dead(sessions)
    assert names(sessions) == []


def test_a_session_that_cannot_be_removed_yet_is_left_to_a_later_driver(
    sessions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_cleanup.mark(session(sessions, "stuck")).close()

    def refused(*path: object, **options: object) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(session_cleanup, "_PATIENCE_S", 0.1)
        patch.setattr(os, "rmdir", refused)
        session_cleanup.clear_of_the_dead(sessions)
        assert names(sessions) == ["session_stuck"]
    session_cleanup.clear_of_the_dead(sessions)
    assert names(sessions) == []


WRITER = """
import os, sys
open("/proc/self/comm", "w").write("ray::IDLE")
log = open(sys.argv[1] + "/logs/worker.out", "w")
print("writes", flush=True)
number = 0
while os.path.isdir(sys.argv[1]):
    number += 1
    try:
        open(f"{sys.argv[1]}/logs/{number}", "w").close()
    except FileNotFoundError:
        os.makedirs(sys.argv[1] + "/logs")
"""


HOLDER = """
import sys, time
log = open(sys.argv[1] + "/logs/worker.out", "w")
print("holds", flush=True)
time.sleep(600)
"""
processes = pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="looks for processes in /proc")


@processes
def test_a_session_is_removed_though_its_processes_still_write_there(sessions: Path) -> None:
    folder = session(sessions, "ending")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    try:
        assert writer.stdout.readline() == "writes\n"
        session_cleanup.remove(folder)
        writer.wait(timeout=60)
        assert names(sessions) == []
    finally:
        writer.kill()
        writer.communicate()


@processes
def test_a_process_that_ray_has_just_started_is_ended_and_a_child_of_the_driver_is_not(
    sessions: Path,
) -> None:
    folder = session(sessions, "ending")
    of_ray, of_driver = (
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), *told], stdout=subprocess.PIPE, text=True
        )
        for told in ([f"--session-name={folder.name}"], [])
    )
    try:
        for holder in (of_ray, of_driver):
            assert holder.stdout is not None
            assert holder.stdout.readline() == "holds\n"
        own = (folder / "logs" / "driver.log").open("w")
        session_cleanup.remove(folder)
        own.close()
        assert of_ray.wait(timeout=60) == -signal.SIGKILL
        assert of_driver.poll() is None
        assert names(sessions) == []
    finally:
        for holder in (of_ray, of_driver):
            holder.kill()
            holder.communicate()
