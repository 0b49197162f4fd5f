"""A folder on a disk. Files are written aside, forced to the disk, then renamed; a run directory likewise."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from caviar.errors import DamagedError, RefusedError, RunError
from caviar.storage.atomic_dir import holder_of, locked, made_aside, put_in_place
from caviar.storage.location import Fill, Location, Lock, Say, names_to_try, way_on

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Disk(Location):
    """A file or folder on a disk of this machine, or one that is mounted here."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> Self:
        return type(self)(self.path / name)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def parent(self) -> Self:
        return type(self)(self.path.parent)

    def require_reachable(self) -> None:
        """A folder is made when it is needed, and that is when it shows."""

    def require_writable(self) -> None:
        there = next(path for path in (self.path, *self.path.absolute().parents) if os.path.lexists(path))
        if not os.path.isdir(there):
            raise RunError(f"{there} is a file, not a folder: choose another folder with --runs")
        try:
            tempfile.TemporaryFile(dir=there).close()
        except OSError as error:
            raise RunError(
                f"cannot write to {there}: {_way_out(error, there)}; or choose another folder with --runs"
            ) from error

    def exists(self) -> bool:
        return self.path.exists()

    def is_file(self) -> bool:
        return self.path.is_file()

    def files(self) -> list[str]:
        return [entry.name for entry in self._entries() if entry.is_file() and not _is_aside(entry.name)]

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

    def size(self) -> int:
        return self.path.stat().st_size

    def read_each(self, names: Iterable[str]) -> Iterator[bytes]:
        return ((self / name).read() for name in names)

    def write(self, content: bytes) -> None:
        aside = self.path.parent / f".{self.path.name}.tmp"
        try:
            aside.write_bytes(content)
            _sync(aside)
            os.replace(aside, self.path)
            _sync(self.path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):  # a read-only disk: there is nothing to remove either
                aside.unlink(missing_ok=True)
            raise RefusedError(f"cannot write {self.path}: {_way_out(error, self.path.parent)}") from error

    def remove(self, names: Iterable[str]) -> None:
        with self._writing():
            for name in names:
                (self.path / name).unlink(missing_ok=True)

    def move(self, target: Self) -> None:
        with self._writing():
            target.path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.path, target.path)

    def make_folder(self) -> None:
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)

    def tidy(self) -> None:
        with self._writing():
            for path in self.path.glob(".*.tmp"):
                path.unlink(missing_ok=True)

    def create(self, name: str, numbered: bool, fill: Fill) -> tuple[Self, Lock]:
        with self._writing(), made_aside(self.path, name) as (aside, lock):
            fill(type(self)(aside))
            path = put_in_place(aside, self.path, names_to_try(name, numbered))
            if path is None:
                raise RunError(f"{self / name} exists already: {way_on(self / name)}")
            _sync(self.path)
            return type(self)(path), _Flock(lock)

    def driver(self) -> str | None:
        holder = holder_of(self.path)
        return None if holder is None else f"process {holder}"

    def lock(self, say: Say) -> Lock:
        del say  # whether it is held is known at once
        with self._writing():
            return _Flock(locked(self.path))

    def _entries(self) -> "list[os.DirEntry[str]]":
        try:
            with os.scandir(self.path) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise RunError(f"{self.path}: cannot be read: {error.strerror or error}") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """While inside, a refusal of the disk is a sentence."""
        try:
            yield
        except OSError as error:
            raise RefusedError(f"cannot write to {self.path}: {_way_out(error, self.path)}") from error


class _Flock(Lock):
    """A lock of the operating system; it goes with its process, and nobody can take it away."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def check(self) -> None: ...

    def confirm(self) -> None: ...

    def release(self) -> None:
        self._file.close()


def _way_out(error: OSError, folder: Path) -> str:
    """What the disk says, and what can be done about it."""
    said = error.strerror or str(error)
    if error.errno not in _FULL:
        return f"{said}; make it writable"
    free = ""
    with contextlib.suppress(OSError):  # it is not there
        free = f" ({shutil.disk_usage(folder).free / 2**20:,.0f} MiB free)"
    return f"{said}; make room{free}"


def _is_aside(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
