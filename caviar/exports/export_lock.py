"""A lock that lets exports to one place run one after the other: at the same moment, each would add the same trials.

The lock is a file in this user's state folder, because a place may be a server. It does not reach other machines: on
these, do not export to one server at the same moment.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from caviar.records.user_state import state_folder
from caviar.storage.uri import is_uri


@contextmanager
def export_lock(place: str | Path | None) -> Iterator[None]:
    """Wait until no other export of this user on this machine is at a place, and keep others waiting.

    Args:
        place: a path or URL; None for memory, which needs no lock.
    """
    text = str(place) if is_uri(place) else str(Path(place or "").expanduser().resolve())
    lock = None
    with suppress(OSError, RuntimeError):  # this user has no place for a lock
        if place is not None:
            folder = state_folder() / "exports"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (folder / f"{sha256(text.encode()).hexdigest()[:32]}.lock").open("ab")
    if lock is None:
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released as the file is closed
        yield
