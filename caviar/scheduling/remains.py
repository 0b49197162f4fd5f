"""What a cluster of our own leaves on the disk: the folder of its Ray session, with sockets and logs.

A driver removes its own as it ends. One that is killed cannot: so it holds a lock on a file there as long as it lives,
and the next driver removes the folders whose lock nobody holds, and on whose socket no raylet answers any more, with
the processes that still hang about there. A session without that file is none of ours.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import IO

_MARK = "caviar.lock"
_RAYLET = "sockets/raylet"
_PATIENCE_S = 5.0
"""How long it is tried to remove a session into which something still writes."""


def mark(folder: Path) -> IO[str]:
    """Mark a session as ours, which no other user is to look into; alive, as long as the file is held open."""
    folder.chmod(0o700)  # Ray lets everybody read its logs, and write to its sockets
    file = (folder / _MARK).open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def clear_of_the_dead(sessions: Path) -> None:
    """Remove the sessions of drivers of caviar that were killed.

    Args:
        sessions: the folder in which Ray keeps them.
    """
    for path in sessions.glob(f"session_*/{_MARK}"):
        if path.parent.is_symlink():
            continue  # to the latest session
        with contextlib.suppress(OSError):  # just gone, or held
            _remove_if_dead(path)


def _remove_if_dead(path: Path) -> None:
    if path.parent.stat().st_uid != os.getuid():
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _has_raylet(path.parent):
            remove(path.parent)
    finally:
        os.close(descriptor)


def _end_processes(folder: Path) -> None:
    """End what is left of a session: Ray's workers outlive it by a moment, its agents by a minute.

    They are known by their names and by the logs that they hold open there.
    """
    logs = f"{folder.resolve()}/"
    for name in Path("/proc").glob(
        "[0-9]*/comm"
    ):  # macOS has no such folder: there they are left to themselves
        with contextlib.suppress(OSError):  # another user's, or just gone
            if not name.read_text().startswith("ray::") or name.parent.name == str(os.getpid()):
                continue
            if any(os.readlink(file).startswith(logs) for file in (name.parent / "fd").iterdir()):
                os.kill(int(name.parent.name), signal.SIGKILL)


def keep(folder: Path) -> None:
    """Leave a session as it is: nobody is to remove it but the user."""
    (folder / _MARK).unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove a session that has ended with what still writes there, and the link to it, if it is the latest."""
    deadline = time.monotonic() + _PATIENCE_S
    while folder.exists() and time.monotonic() < deadline:
        _end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)
    latest = folder.with_name("session_latest")
    with contextlib.suppress(OSError):
        if latest.readlink() == folder:
            latest.unlink()


def _has_raylet(folder: Path) -> bool:
    """Whether a raylet still serves a session: it ends with its driver, but a moment later."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(folder / _RAYLET))
        except OSError:
            return False
    return True
