"""Files and run directories, in a folder on a disk (`local.py`) or in an object store (`object_store.py`)."""

import os
import shlex
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from typing import Final, Self

from caviar.errors import InUseError, RefusedError, RunError

LOCK: Final = ".lock"  # in a run directory


class Lock:
    """The right to write to a run directory, which one driver holds at a time, until its process ends at the latest."""

    def check(self) -> None:
        """Raise `RunError` if it is known that another driver took the lock; send no request."""

    def confirm(self) -> None:
        """Raise `RunError` if another driver took the lock; ask the store where that is uncertain."""

    def release(self) -> None:
        """Let other drivers take the lock."""


class Location(ABC):
    """A folder or a file. A file is whole or absent, and durable once it is written.

    Its text is a path or URI without credentials, from which `locate` makes it again. Where the disk or the store
    refuses, reading raises `RunError` and writing `RefusedError`.
    """

    @abstractmethod
    def __str__(self) -> str: ...

    @property
    def quoted(self) -> str:
        """The path or URI as one word of a shell command."""
        return shlex.quote(str(self))

    @abstractmethod
    def __truediv__(self, name: str) -> Self: ...

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of the path."""

    @abstractmethod
    def require_writable(self) -> None:
        """Raise `RunError` if run directories cannot be made here, as far as this shows without making one."""

    @abstractmethod
    def require_no_links(self) -> None:
        """Raise `RunError` if this run directory holds links or devices: they would be followed out of it."""

    @abstractmethod
    def is_file(self) -> bool:
        """Return whether there is such a file."""

    @abstractmethod
    def files(self) -> dict[str, int]:
        """Return the names of the files in this folder, sorted, and their bytes; none if it does not exist."""

    @abstractmethod
    def folders(self) -> list[str]:
        """Return the names of the folders in this folder, sorted."""

    def size(self) -> int:
        """Return the bytes of all files in this folder and in those below it."""
        return sum(self.files().values()) + sum((self / name).size() for name in self.folders())

    @abstractmethod
    def read(self) -> bytes:
        """Return the content of this file.

        Raises:
            FileNotFoundError: there is none.
            DamagedError: the disk cannot read it back.
        """

    def read_each(self, names: Iterable[str]) -> Iterator[bytes]:
        """Yield the contents of files in this folder, as `read` returns them."""
        return ((self / name).read() for name in names)

    @abstractmethod
    def write(self, content: bytes, durable: bool = True) -> None:
        """Write this file, or replace it.

        Args:
            content: the whole file.
            durable: force it to the disk; otherwise it may be lost or damaged if the machine crashes.
        """

    @abstractmethod
    def remove(self, names: Iterable[str]) -> None:
        """Remove files from this folder; skip those that are not there."""

    @abstractmethod
    def remove_tree(self) -> None:
        """Remove this folder and all in it, as far as possible."""

    @abstractmethod
    def move(self, target: Self) -> None:
        """Move this file to another folder of the same run directory."""

    @abstractmethod
    def make_folder(self) -> None:
        """Create this folder on a disk; in a store, a folder exists with its first object."""

    @abstractmethod
    def lock(self, take_over: bool = True) -> Lock:
        """Lock this run directory, and remove what a killed driver left half-written in it.

        Args:
            take_over: if the holder may have died, wait until this is certain, and take over its lock.

        Raises:
            InUseError: another driver holds the lock.
            RunError: the disk has no locks.
        """

    def holder(self) -> str | None:
        """Return which process holds the lock; None if none does.

        A lease in a store counts as held if it was renewed lately, by the clocks of the store and of this machine.
        """
        return None

    def follow_holder(self) -> Callable[[], str | None]:
        """Return a function that returns which process holds the lock now; None if none does.

        It is called again and again, because the holder of a lease counts as alive until its lease has not been renewed
        for so long that it expires.
        """
        return self.holder

    def is_free(self) -> bool:
        """Return whether a run directory can be created here: there is nothing, or no more than a lock."""
        return not (self.is_file() or self.files().keys() - {LOCK} or self.folders())

    def create(self, name: str, numbered: bool, fill: Callable[[Self], object]) -> tuple[Self, Lock]:
        """Create a run directory in this folder and lock it, so that two drivers never share one.

        Args:
            name: its name.
            numbered: take the first free of NAME, NAME-2, NAME-3, ...
            fill: writes the first files of the new folder. Its `study.json` makes it a run directory.

        Raises:
            RunError: the name is taken.
        """
        for candidate in chain([name], (f"{name}-{number}" for number in count(2)) if numbered else ()):
            place = self / candidate
            with suppress(InUseError):
                if place.is_free() and (lock := place._lock_and_fill(fill)):
                    return place, lock
        raise place._taken()

    def require_free(self, name: str) -> None:
        """Raise `RunError` if a run directory of this name cannot be created in this folder."""
        place = self / name
        if not place.is_free():
            raise place._taken()

    def _taken(self) -> RunError:
        hint = "remove it: it is not a run directory, because it has no study.json"
        if (self / "study.json").is_file():
            hint = f"continue it with `caviar resume {self.quoted}`"
        return RunError(f"{self} exists already: choose another --name, or {hint}")

    def _lock_and_fill(self, fill: Callable[[Self], object]) -> Lock | None:
        lock = self.lock(take_over=False)
        try:
            if [*self.files(), *self.folders()] == [LOCK]:  # else another driver was quicker
                fill(self)
                return lock
        except BaseException:
            self.remove_tree()
            lock.release()
            raise
        lock.release()
        return None


@contextmanager
def hint_on_refusal(hint: str) -> Iterator[None]:
    """Raise `RunError` with a hint added to the message where the disk or the store refuses a write."""
    try:
        yield
    except RefusedError as error:
        raise RunError(f"{error}; {hint}") from error


def this_process() -> str:
    """Return what a lock says of the process that holds it."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def in_use(location: Location, holder: str) -> InUseError:
    """Return the error of a run directory that another process has locked."""
    return InUseError(f"{location} is in use by another caviar ({holder}): wait for its end, or stop it")
