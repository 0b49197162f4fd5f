"""A folder on a disk. A file is written under a temporary name, forced to the disk, then renamed."""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Self

from caviar.errors import DamagedError, RefusedError, RunError
from caviar.storage.location import LOCK, Location, Lock, hint_on_refusal, in_use, this_process

_PARTIAL = ".*.tmp"
_HINTS = {
    errno.ENOENT: "create its folder",
    errno.EISDIR: "it is a folder, so name a file in it",
    errno.ENOTDIR: "a file is in the place of a folder",
    errno.EEXIST: "a file is in the place of a folder",
}
"""Remedies where the disk refuses a write, by the number of its error."""
_HELD = (errno.EWOULDBLOCK, errno.EACCES)  # of flock, where another process holds the lock


@dataclass(frozen=True, slots=True)
class Disk(Location):
    """A file or folder on a disk of this machine, or on one that is mounted here."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> Self:
        return type(self)(self.path / name)

    @property
    def name(self) -> str:
        return self.path.name

    def require_writable(self) -> None:
        there = next(path for path in (self.path, *self.path.absolute().parents) if os.path.lexists(path))
        with hint_on_refusal("or choose another folder with --runs"), _refusals(there):
            tempfile.TemporaryFile(dir=there).close()

    def require_no_links(self) -> None:
        for entry in self._entries():
            if entry.is_dir(follow_symlinks=False):
                (self / entry.name).require_no_links()
            elif not entry.is_file(follow_symlinks=False) and os.path.lexists(entry):
                target = f"a link to {os.readlink(entry)}" if entry.is_symlink() else "not an ordinary file"
                raise RunError(
                    f"{entry.path} is {target}, and nothing in a run directory may lead out of it: "
                    "remove it, or replace it with a copy if you trust it"
                )

    def is_file(self) -> bool:
        return self.path.is_file()

    def files(self) -> dict[str, int]:
        sizes = {}
        for entry in self._entries():
            if entry.is_file() and not fnmatch(entry.name, _PARTIAL):
                with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                    sizes[entry.name] = entry.stat().st_size
        return sizes

    def folders(self) -> list[str]:
        return [entry.name for entry in self._entries() if entry.is_dir()]

    def read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno == errno.EIO:
                raise DamagedError(f"{self.path} is damaged: the disk cannot read it ({error})") from error
            raise RunError(f"{self.path}: cannot be read: {error.strerror or error}") from error

    def write(self, content: bytes, durable: bool = True) -> None:
        partial = self.path.parent / f".{self.path.name}.tmp"
        with _refusals(self.path):
            try:
                with _open_own(partial, os.O_WRONLY | os.O_TRUNC) as file:
                    file.write(content)
                if durable:
                    _sync(partial)
                os.replace(partial, self.path)
                if durable:
                    _sync(self.path.parent)
            except OSError:
                with contextlib.suppress(OSError):  # a read-only disk: there is nothing to remove either
                    partial.unlink(missing_ok=True)
                raise

    def remove(self, names: Iterable[str]) -> None:
        with _refusals(self.path):
            for name in names:
                (self.path / name).unlink(missing_ok=True)

    def remove_tree(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def move(self, target: Self) -> None:
        with _refusals(self.path):
            target.path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.path, target.path)

    def make_folder(self) -> None:
        with _refusals(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            _sync(self.path.parent)

    def lock(self, take_over: bool = True) -> Lock:
        del take_over  # the system releases the lock of a process that ends
        self.make_folder()
        with _refusals(self.path), contextlib.ExitStack() as on_error:
            file = on_error.enter_context(_open_own(self.path / LOCK, os.O_RDWR | os.O_APPEND))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in _HELD:
                    raise in_use(self, _read_holder(file)) from error
                raise RunError(
                    f"{self.path} cannot be locked against a second driver ({error.strerror}): its disk does not "
                    "support locks; choose a folder on another disk with --runs"
                ) from error
            file.truncate(0)
            file.write(this_process().encode())
            file.flush()
            for path in self.path.rglob(_PARTIAL):
                path.unlink(missing_ok=True)
            on_error.pop_all()
        return _FileLock(file)

    def holder(self) -> str | None:
        with contextlib.suppress(OSError), (self.path / LOCK).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # released as the file is closed
            except OSError as error:
                if error.errno in _HELD:
                    return _read_holder(file)
        return None

    def _entries(self) -> "list[os.DirEntry[str]]":
        try:
            with os.scandir(self.path) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise RunError(f"{self.path}: cannot be read: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class _FileLock(Lock):
    """A lock of the operating system, which is valid until it is released."""

    file: IO[bytes]

    def release(self) -> None:
        self.file.close()


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Raise a refusal of the disk as `RefusedError`, with the reason and what to do."""
    try:
        yield
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, "make it writable")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            folder = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
            hint = f"make room ({shutil.disk_usage(folder).free / 2**20:,.0f} MiB free)"
        raise RefusedError(f"cannot write to {path}: {error.strerror or error}; {hint}") from error


def _read_holder(lock: IO[bytes]) -> str:
    lock.seek(0)
    return lock.read().decode(errors="replace").strip() or "unknown"


def _open_own(path: Path, flags: int) -> IO[bytes]:
    """Open a file for writing, and create it if there is none; never follow a link to another file."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    return os.fdopen(descriptor, "a+b" if flags & os.O_APPEND else "wb")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
