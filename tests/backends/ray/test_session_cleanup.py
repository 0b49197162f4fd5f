"""Clean-up of the sessions of killed drivers, and of no others."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from caviar.backends.ray.session_cleanup import (
    keep_session,
    lock_session,
    remove_session,
    remove_stale_sessions,
)


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    return tmp_path


def make_session(sessions: Path, name: str) -> Path:
    folder = sessions / f"session_{name}"
    (folder / "sockets").mkdir(parents=True)
    (folder / "logs").mkdir()
    return folder


def names(sessions: Path) -> list[str]:
    return sorted(entry.name for entry in sessions.iterdir())


def test_only_the_sessions_of_dead_drivers_are_removed(sessions: Path) -> None:
    living, dead = make_session(sessions, "living"), make_session(sessions, "dead")
    held = lock_session(living)
    lock_session(dead).close()  # as when its process ends
    remove_stale_sessions(sessions)
    assert names(sessions) == ["session_living"]
    assert living.stat().st_mode & 0o77 == 0, "other users have no access"
    held.close()
    remove_stale_sessions(sessions)
    assert names(sessions) == []


def test_a_session_of_another_program_stays(sessions: Path) -> None:
    make_session(sessions, "of_somebody")
    remove_stale_sessions(sessions)
    assert names(sessions) == ["session_of_somebody"]


def test_a_session_with_a_living_raylet_stays(sessions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_session(sessions, "ending")
    lock_session(folder).close()
    monkeypatch.chdir(folder)  # the path of a socket is limited in length
    with socket.socket(socket.AF_UNIX) as raylet:
        raylet.bind("sockets/raylet")
        raylet.listen()
        remove_stale_sessions(Path(".."))
        assert names(sessions) == ["session_ending"]
    remove_stale_sessions(sessions)
    assert names(sessions) == []


def test_a_session_kept_for_its_logs_stays(sessions: Path) -> None:
    folder = make_session(sessions, "troubled")
    held = lock_session(folder)
    keep_session(folder)
    held.close()
    remove_stale_sessions(sessions)
    assert names(sessions) == ["session_troubled"]


def test_the_link_to_the_latest_session_is_removed_with_it(sessions: Path) -> None:
    folder = make_session(sessions, "dead")
    lock_session(folder).close()
    (sessions / "session_latest").symlink_to(folder)
    remove_stale_sessions(sessions)
    assert names(sessions) == []


def test_a_later_driver_removes_what_cannot_be_removed_yet(
    sessions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_session(make_session(sessions, "stuck")).close()

    def refuse(*path: object, **options: object) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", refuse)
        remove_stale_sessions(sessions, timeout_s=0.1)
        assert names(sessions) == ["session_stuck"]
    remove_stale_sessions(sessions)
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


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="sets its name in /proc")
def test_a_session_is_removed_while_its_processes_write(sessions: Path) -> None:
    folder = make_session(sessions, "ending")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    try:
        assert writer.stdout.readline() == "writes\n"
        remove_session(folder)
        writer.wait(timeout=60)
        assert names(sessions) == []
    finally:
        writer.kill()
        writer.communicate()


def test_a_starting_worker_is_killed_without_the_drivers_children(sessions: Path) -> None:
    folder = make_session(sessions, "ending")
    worker, child = (
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), *options], stdout=subprocess.PIPE, text=True
        )
        for options in ([f"--session-name={folder.name}"], [])
    )
    try:
        for holder in (worker, child):
            assert holder.stdout is not None
            assert holder.stdout.readline() == "holds\n"
        own = (folder / "logs" / "driver.log").open("w")
        remove_session(folder)
        own.close()
        assert worker.wait(timeout=60) == -signal.SIGKILL
        assert child.poll() is None
        assert names(sessions) == []
    finally:
        for holder in (worker, child):
            holder.kill()
            holder.communicate()
