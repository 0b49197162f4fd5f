"""Clean-up of Ray session folders, which hold the sockets and logs of local clusters.

A driver removes its own session folder when it ends. A driver that is killed cannot. So each driver locks a file in its
folder for as long as it lives. The next driver removes every folder whose lock is free and on whose socket no raylet
answers, and kills the processes that still use it. Folders without a lock file do not belong to caviar.
"""

import contextlib
import fcntl
import os
import shutil
import socket
import time
from pathlib import Path
from typing import IO

import psutil

LOCK_FILE = "caviar.lock"
RAYLET_SOCKET = "sockets/raylet"
PRIVATE = 0o700
"""Mode of a session folder: Ray lets every user read its logs and write to its sockets."""
REMOVAL_TIMEOUT_S = 20.0
"""Seconds to keep trying to remove a folder that is still written to."""


def lock_session(folder: Path) -> IO[str]:
    """Make a session folder private and lock it; the returned file holds the lock while it is open."""
    folder.chmod(PRIVATE)
    file = (folder / LOCK_FILE).open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def remove_stale_sessions(sessions: Path, timeout_s: float = REMOVAL_TIMEOUT_S) -> None:
    """Remove the session folders of drivers that were killed.

    Args:
        sessions: Ray's folder of session folders.
        timeout_s: seconds to keep trying to remove one of them.
    """
    for path in sessions.glob(f"session_*/{LOCK_FILE}"):
        if path.parent.is_symlink():
            continue  # the link to the latest session
        with contextlib.suppress(OSError):  # removed meanwhile, or locked
            _remove_if_stale(path, timeout_s)


def _remove_if_stale(path: Path, timeout_s: float) -> None:
    if path.parent.stat().st_uid != os.getuid():
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _has_raylet(path.parent):
            remove_session(path.parent, timeout_s)
    finally:
        os.close(descriptor)


def keep_session(folder: Path) -> None:
    """Delete the lock file, so that no later driver removes the folder."""
    (folder / LOCK_FILE).unlink(missing_ok=True)


def remove_session(folder: Path, timeout_s: float = REMOVAL_TIMEOUT_S) -> None:
    """Kill the processes of a session that has ended, and remove its folder and the link to it.

    The lock file goes last, so that a later driver removes what cannot be removed now.
    """
    deadline = time.monotonic() + timeout_s
    while folder.exists() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # another driver is removing it too
            if _kill_processes(folder):
                time.sleep(0.02)  # until they have ended
            elif entries := [entry for entry in folder.iterdir() if entry.name != LOCK_FILE]:
                for entry in entries:
                    _delete(entry)
            else:
                shutil.rmtree(folder, ignore_errors=True)
    latest = folder.with_name("session_latest")
    with contextlib.suppress(OSError):
        if latest.readlink() == folder:
            latest.unlink()


def _delete(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def _kill_processes(folder: Path) -> bool:
    """Kill the processes of a session and return whether there were any: workers end late, agents after a minute."""
    found = False
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it ended meanwhile, or is another user's
            if process.pid != os.getpid() and _belongs(process, folder):
                process.kill()
                found = True
    return found


def _belongs(process: psutil.Process, folder: Path) -> bool:
    """Return whether a process is part of a session.

    Ray renames its workers, which are recognised by the logs they hold open. A process that has just started is still
    called `python`, as the driver's own children are, which may hold logs open too; but Ray passes the session's name
    as an option.
    """
    if process.name().startswith("ray::"):
        return any(file.path.startswith(f"{folder.resolve()}/") for file in process.open_files())
    return any(argument.startswith("--") and folder.name in argument for argument in process.cmdline())


def _has_raylet(folder: Path) -> bool:
    """Return whether a raylet still serves a session: it ends a moment after its driver."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(folder / RAYLET_SOCKET))
        except OSError:
            return False
    return True
