"""Where a run directory is: a folder on a disk (`disk.py`) or a prefix in an object store (`store.py`)."""

import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Self

from caviar.errors import RefusedError, RunError

Fill = Callable[["Location"], object]
"""Writes what a new folder is to hold."""
Say = Callable[[str], object]
"""Tells the user why there is a wait."""


def silent(text: str) -> None:
    """Tells the user nothing."""


class Lock(ABC):
    """The right to write to a run directory, which one driver has at a time."""

    @abstractmethod
    def check(self) -> None:
        """Whether it was noticed that another driver has it; costs nothing.

        Raises:
            RunError: another one has it.
        """

    @abstractmethod
    def confirm(self) -> None:
        """Make sure, before something is written, that no other driver has it.

        Raises:
            RunError: another one has it.
        """

    @property
    def is_fresh(self) -> bool:
        """Whether what `confirm` made sure of still holds for what is written now."""
        return True

    @abstractmethod
    def release(self) -> None:
        """Give it back; it goes with its process, too, however that ends."""


class Location(ABC):
    """A folder or a file. A file is whole or not there, and durable once it is written.

    Written out, it is what a user can give to caviar to find it again, without any password in it. What is refused by
    the disk or the store is a `RunError` everywhere, and a `RefusedError` where something is to be written.
    """

    @abstractmethod
    def __str__(self) -> str: ...

    @property
    def typed(self) -> str:
        """It as a word of a command that a user types into a shell."""
        return shlex.quote(str(self))

    @abstractmethod
    def __truediv__(self, name: str) -> Self:
        """What is called so in this folder."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of it."""

    @property
    @abstractmethod
    def parent(self) -> Self:
        """The folder that it is in."""

    @abstractmethod
    def require_reachable(self) -> None:
        """Find out early whether there is such a disk or store, and whether it lets us in.

        Raises:
            RunError: no such bucket, no access, no answer.
        """

    def require_writable(self) -> None:
        """Find out early, as far as it shows without making it, whether run directories can be made in this folder.

        Raises:
            RunError: they cannot.
        """
        self.require_reachable()

    def driver(self) -> str | None:
        """Who is at work on this run directory, in words; None where nobody is, or where it cannot be told at once.

        In a store it cannot: the lease that is there may be that of a dead driver.
        """
        return None

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is such a file, or a folder."""

    @abstractmethod
    def is_file(self) -> bool:
        """Whether there is such a file."""

    @abstractmethod
    def files(self) -> list[str]:
        """The names of the files in this folder; none where there is no such folder."""

    @abstractmethod
    def folders(self) -> list[str]:
        """The names of the folders in this folder."""

    @abstractmethod
    def read(self) -> bytes:
        """The content of this file.

        Raises:
            FileNotFoundError: there is none.
            DamagedError: the disk cannot give it back.
        """

    @abstractmethod
    def size(self) -> int:
        """How many bytes this file, which is there, has."""

    @abstractmethod
    def read_each(self, names: Iterable[str]) -> Iterator[bytes]:
        """The contents of some files in this folder, as `read` has them."""

    @abstractmethod
    def write(self, content: bytes) -> None:
        """Put a file here, in place of the one that there may be."""

    @abstractmethod
    def remove(self, names: Iterable[str]) -> None:
        """Remove some files in this folder, those of them that are there."""

    @abstractmethod
    def move(self, target: Self) -> None:
        """Give this file another place in the same run directory."""

    @abstractmethod
    def make_folder(self) -> None:
        """Make this folder, where a folder is a thing of its own."""

    @abstractmethod
    def tidy(self) -> None:
        """Remove what a killed process left half-written in this folder."""

    @abstractmethod
    def create(self, name: str, numbered: bool, fill: Fill) -> tuple[Self, Lock]:
        """Make a run directory in this folder, so that no other process ever sees half of one, or shares it.

        Args:
            name: of it.
            numbered: take the first free of NAME, NAME-2, NAME-3, ...
            fill: writes what is in it from the first; a `study.json` is what makes it a run directory.

        Returns:
            Where it is, and its lock.

        Raises:
            RunError: the name is taken.
        """

    @abstractmethod
    def lock(self, say: Say) -> Lock:
        """The lock of this run directory.

        Args:
            say: told when it has to be waited for.

        Raises:
            RunError: another driver has it.
        """


@contextmanager
def advised(advice: str) -> Iterator[None]:
    """While inside, where the disk or the store refuses to be written, it is said what else can be done about it.

    Raises:
        RunError: it refuses.
    """
    try:
        yield
    except RefusedError as error:
        raise RunError(f"{error}; {advice}") from error


def names_to_try(name: str, numbered: bool) -> Iterator[str]:
    """NAME; and where `numbered`, NAME-2, NAME-3, ..."""
    yield name
    if numbered:
        yield from (f"{name}-{number}" for number in count(2))


def way_on(location: Location) -> str:
    """What can be done where a run directory's name is taken, in words."""
    if (location / "study.json").is_file():
        return f"choose another --name, or go on with it by `caviar resume {location.typed}`"
    return "choose another --name, or remove it: it is no run directory, for it has no study.json"
