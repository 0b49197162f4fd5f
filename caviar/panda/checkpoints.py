"""Checkpoints of a session on its disk or store, one for each state that was trained, up to a limit.

They are a cache: a state that is not here is trained again from the nearest one that is. So they may be thinned out,
lost or deleted. Their names carry the user's signature, and without it none is read: a checkpoint of a function is a
pickle, and a run directory may come from somebody else.
"""

import io
import re
import zipfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final

import numpy as np

from caviar.engine import Checkpoint
from caviar.errors import DamagedError
from caviar.panda.session import Place
from caviar.records.script_signature import sign_content
from caviar.storage.location import Location

FOLDER: Final = "checkpoints"
DEFAULT_LIMIT_MIB = 1_024
"""MiB that the checkpoints of a session may take on the disk."""
_NAME = re.compile(r"branch-(\d+)-epoch-(\d+)\.([0-9a-f]{32})\.npz")


class Checkpoints:
    """The checkpoints of a session.

    Args:
        run: the run directory, locked by this process.
        limit_bytes: bytes that they may take; the newest one is always kept.
    """

    def __init__(self, run: Location, limit_bytes: int = DEFAULT_LIMIT_MIB * 2**20) -> None:
        self._folder, self._limit_bytes = run / FOLDER, limit_bytes
        self._folder.make_folder()
        self._files: dict[Place, tuple[str, int]] = {}
        for name, size in self._folder.files().items():
            if found := _NAME.fullmatch(name):
                self._files[Place(int(found[1]), int(found[2]))] = name, size
        self._bytes = sum(size for _, size in self._files.values())
        self._latest: tuple[Place, Checkpoint] | None = None

    def read(self, place: Place) -> Checkpoint | None:
        """Return the checkpoint of a state; None if there is none that this user wrote."""
        if self._latest is not None and self._latest[0] == place:
            return self._latest[1]
        if place not in self._files:
            return None
        name, _ = self._files[place]
        with suppress(FileNotFoundError, DamagedError, ValueError, OSError, EOFError, zipfile.BadZipFile):
            content = (self._folder / name).read()
            if name == _name(place, content):
                with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                    return dict(arrays)
        return None

    def write(self, place: Place, checkpoint: Checkpoint, needed: Collection[Place]) -> None:
        """Write the checkpoint of a state, and delete others if they take too much.

        Args:
            place: the state.
            checkpoint: its checkpoint.
            needed: states to which the user is likely to step back, which are deleted last.

        Raises:
            RunError: the disk or the store refuses.
        """
        self._latest = place, checkpoint
        stream = io.BytesIO()
        np.savez(stream, **checkpoint)  # type: ignore[arg-type]
        content = stream.getvalue()
        name = _name(place, content)
        if name is None:  # no other session could trust it
            return
        (self._folder / name).write(content, durable=False)
        earlier = self._files.pop(place, None)
        self._files[place] = name, len(content)
        self._bytes += len(content) - (0 if earlier is None else earlier[1])
        dropped: list[Place] = []
        if self._bytes > self._limit_bytes:
            sizes = {kept: size for kept, (_, size) in self._files.items()}
            dropped = to_delete(sizes, {*needed, place}, place, self._limit_bytes)
            self._bytes -= sum(sizes[old] for old in dropped)
        names = [self._files.pop(old)[0] for old in dropped]
        if earlier is not None and earlier[0] != name:
            names.append(earlier[0])
        if names:
            self._folder.remove(names)


def to_delete(
    sizes: Mapping[Place, int], needed: Collection[Place], newest: Place, limit_bytes: int
) -> list[Place]:
    """Return the states whose checkpoints are deleted, so that the others fit a limit.

    Every second epoch goes first, then every fourth, and so on: the way from a kept state to any other stays short.

    Args:
        sizes: bytes of each checkpoint.
        needed: states that are deleted last.
        newest: the state that is kept in any case.
        limit_bytes: bytes that all of them may take.

    Example:
        >>> sizes = {Place(0, epoch): 10 for epoch in range(1, 7)}
        >>> [place.epoch for place in to_delete(sizes, {Place(0, 6)}, Place(0, 6), 30)]
        [1, 3, 5]
    """
    excess = sum(sizes.values()) - limit_bytes
    order = sorted(sizes, key=lambda p: (p in needed, p.epoch & -p.epoch, p.branch or 0, p.epoch))
    dropped = []
    for place in order:
        if excess <= 0:
            break
        if place != newest:
            dropped.append(place)
            excess -= sizes[place]
    return dropped


def _name(place: Place, content: bytes) -> str | None:
    """Return the name of a checkpoint's file, with the user's signature of place and content; None without a key."""
    assert place.branch is not None
    signature = sign_content(f"{place.branch} {place.epoch} ".encode() + content)
    if signature is None:
        return None
    return f"branch-{place.branch:04d}-epoch-{place.epoch:05d}.{signature[:32]}.npz"
