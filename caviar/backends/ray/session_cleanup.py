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
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_MARK = "caviar.lock"
_RAYLET = "sockets/raylet"
_PATIENCE_S = 20.0
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


def keep(folder: Path) -> None:
    """Leave a session as it is: nobody is to remove it but the user."""
    (folder / _MARK).unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove a session that has ended with what still writes there, and the link to it, if it is the latest.

    The mark goes last: what cannot be removed now, a later driver removes.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while folder.exists() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # another driver removes it, too
            if _end_processes(folder):
                time.sleep(0.02)  # they end in a moment
            elif rest := [entry for entry in folder.iterdir() if entry.name != _MARK]:
                for entry in rest:
                    _discard(entry)
            else:
                shutil.rmtree(folder, ignore_errors=True)
    latest = folder.with_name("session_latest")
    with contextlib.suppress(OSError):
        if latest.readlink() == folder:
            latest.unlink()


def _discard(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def _end_processes(folder: Path) -> bool:
    """End what is left of a session: Ray's workers outlive it by a moment, its agents by a minute.

    Returns:
        Whether there were any.
    """
    found = False
    for process in Path("/proc").glob("[0-9]*"):  # macOS has none: there they are left to themselves
        with contextlib.suppress(OSError):  # another user's, or just gone
            if process.name != str(os.getpid()) and _belongs(process, folder):
                os.kill(int(process.name), signal.SIGKILL)
                found = True
    return found


def _belongs(process: Path, folder: Path) -> bool:
    """Whether a process is one of a session's.

    By then most have a name that Ray has given them, and are known by the logs that they hold open. One that has just
    been started is still called `python`, as the driver and its children are, which hold logs open, too; but it was
    told its session.
    """
    if (process / "comm").read_text(errors="replace").startswith("ray::"):
        return any(file.startswith(f"{folder.resolve()}/") for file in _open_files(process))
    arguments = (process / "cmdline").read_text(errors="replace").split("\0")
    return any(argument.startswith("--") and folder.name in argument for argument in arguments)


def _open_files(process: Path) -> Iterator[str]:
    for file in (process / "fd").iterdir():
        with contextlib.suppress(OSError):  # just closed
            yield os.readlink(file)


def _has_raylet(folder: Path) -> bool:
    """Whether a raylet still serves a session: it ends with its driver, but a moment later."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(folder / _RAYLET))
        except OSError:
            return False
    return True
