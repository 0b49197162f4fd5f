"""How a run directory comes into being on a disk, and who may write to it.

It is made aside, in `runs/.NAME.xxxxxxxx.tmp`, and put in its place whole. Whoever makes or writes one holds its
`.lock`, so what a killed driver left aside is known by a lock that nobody holds; the next driver removes it.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from caviar.errors import RunError

_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
"""What it means that a folder cannot be put somewhere because something is there."""
_HELD = (errno.EWOULDBLOCK, errno.EACCES)
"""What it means that a file cannot be locked because another process has locked it."""
_ASIDE = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


@contextmanager
def made_aside(runs: Path, name: str) -> Iterator[tuple[Path, IO[str]]]:
    """While inside, there is a folder to make a run directory in, and its lock, which stays held.

    Args:
        runs: the folder of run directories.
        name: of the one to be.

    Raises:
        RunError: the disk has no locks.
        OSError: the disk refuses.
    """
    aside = runs / f".{name}.{secrets.token_hex(4)}.tmp"
    runs.mkdir(parents=True, exist_ok=True)
    try:
        with _alone(runs):  # lest another driver takes it for one that was left, before it is locked
            aside.mkdir()
            lock = locked(aside)
        yield aside, lock
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def put_in_place(aside: Path, runs: Path, names: Iterable[str]) -> Path | None:
    """Give a whole run directory the first of these names that is free; None where none is.

    Raises:
        OSError: the disk refuses.
    """
    for name in names:
        try:
            os.replace(aside, runs / name)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            return runs / name
    return None


def locked(path: Path) -> IO[str]:
    """The lock of a run directory; it goes with the process that holds it, however that ends.

    Raises:
        RunError: another process holds it, or the disk has no locks.
    """
    lock = (path / ".lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        if error.errno not in _HELD:
            raise RunError(
                f"{path} cannot be locked against a second driver ({error.strerror}): its disk has no locks, "
                "as some network disks; choose a folder on another one with --runs"
            ) from error
        raise RunError(
            f"{path} is in use by another caviar (process {holder}): wait for its end, or stop it first"
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def holder_of(path: Path) -> str | None:
    """The process that holds the lock of a run directory; None where none does, or where it cannot be told."""
    with contextlib.suppress(OSError), (path / ".lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go at once
        except OSError as error:
            if error.errno in _HELD:
                return lock.read().strip() or "unknown"
    return None


@contextmanager
def _alone(runs: Path) -> Iterator[None]:
    """While inside, no other driver makes a folder aside; what killed ones left there has been removed."""
    descriptor = os.open(runs, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a disk that locks no folders: what is left there stays
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for folder in runs.glob(".*.tmp"):
                if _ASIDE.fullmatch(folder.name) and not folder.is_symlink():
                    _remove_if_left(folder)
        yield
    finally:
        os.close(descriptor)


def _remove_if_left(aside: Path) -> None:
    """Remove a folder whose lock nobody holds; without a lock only if it is empty, as it is at first."""
    with contextlib.suppress(OSError, RunError):
        if not (aside / ".lock").exists():
            aside.rmdir()
            return
        lock = locked(aside)
        shutil.rmtree(aside)
        lock.close()
