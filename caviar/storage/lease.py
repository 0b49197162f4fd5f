"""The lock of a run directory in an object store: a lease, which its holder renews.

A lease is the object `.lock`. It is written only on the condition that it is absent, or still the version that the
writer has seen, so of several drivers one gets it. The holder renews it every few seconds. A driver that finds a lease
watches it: if it is not renewed, its holder is dead, and the lease is taken over. A holder that finds another version
has lost its lease, and writes nothing more. No driver compares the clocks of two machines. A reader that looks once
does, because it cannot wait: if its clock is wrong, it takes a living holder for dead, or a dead one for living.
"""

import contextlib
import logging
import math
import secrets
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from caviar.errors import RunError
from caviar.storage.location import LOCK, Location, Lock, in_use, this_process

Version = Mapping[str, str]
"""Tag of a version of an object, given by the store."""
_LOG = logging.getLogger(__name__)
RENEWALS: Final = 12
"""Renewals within the time after which a lease that is not renewed expires."""
RENEWED_WITHIN_S: Final = 1.0
"""Seconds after a renewal within which `confirm` does not renew: some stores take one write a second to an object."""


class LeasedLocation(Location):
    """A location in a store that writes under conditions."""

    lease_s: float

    @abstractmethod
    def read_version(self) -> tuple[bytes, Version]:
        """Return the content of this file, and its version."""

    @abstractmethod
    def write_version(self, content: bytes, before: Version | None) -> Version | None:
        """Replace one version of this file, or no file, and return the new one; None if it has another version."""

    @abstractmethod
    def written_at(self) -> datetime:
        """Return when this file was written, by the clock of the store."""

    def holder(self) -> str | None:
        with contextlib.suppress(FileNotFoundError):
            file = self / LOCK
            age_s = (datetime.now(UTC) - file.written_at()).total_seconds()
            if age_s < self.lease_s:
                return _holder(file.read_version()[0].decode(errors="replace"))
        return None

    def follow_holder(self) -> Callable[[], str | None]:
        renewed: tuple[Version | None, float] = (None, -math.inf)

        def holder() -> str | None:
            nonlocal renewed
            text, version = _read(self)
            if version is not None and version != renewed[0]:
                renewed = version, time.monotonic()
            is_held = version is not None and time.monotonic() - renewed[1] < self.lease_s
            return _holder(text) if is_held else None

        return holder


class Lease(Lock):
    """A lease that this process holds. Use `acquire`."""

    def __init__(self, folder: LeasedLocation, found: Version | None) -> None:
        self._folder, self._file, self._version = folder, folder / LOCK, found
        self._token, self._renewed = secrets.token_hex(8), (-math.inf, -math.inf)
        self._taken_by: str | None = None
        self._released, self._renewing = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)

    @classmethod
    def acquire(cls, folder: LeasedLocation, take_over: bool) -> "Lease":
        """Acquire the lease of a run directory.

        Args:
            folder: the run directory.
            take_over: wait for a lease that is there to expire, and take it over if it does.

        Raises:
            InUseError: another driver holds it.
        """
        text, found = _read(folder)
        if found is not None:
            if not take_over:
                raise in_use(folder, _holder(text))
            found = _await_expiry(folder, found)
        lease = cls(folder, found)
        lease._renew()
        if lease._taken_by is not None:
            raise in_use(folder, lease._taken_by)
        if lease._file.write_version(b"", None) is not None:
            raise RunError(f"{folder}: its store ignores the conditions of writes; use another store")
        lease._thread.start()
        return lease

    def check(self) -> None:
        if self._taken_by is not None:
            raise RunError(
                f"{self._folder} was taken over by another caviar ({self._taken_by}), because this one did not renew "
                f"its lock for {self._folder.lease_s:.0f} s; it writes nothing more, and what it recorded is safe"
            )

    def confirm(self) -> None:
        ages = (now - then for now, then in zip(_clocks(), self._renewed, strict=True))
        if any(abs(age) >= RENEWED_WITHIN_S for age in ages):
            self._renew()
        self.check()

    def release(self) -> None:
        if self._released.is_set():
            return
        self._released.set()
        self._thread.join()
        with contextlib.suppress(RunError):  # the store is gone: the next driver waits for the expiry
            self._renew()
            if self._taken_by is None:
                self._folder.remove([LOCK])

    def _keep_renewing(self) -> None:
        while not self._released.wait(self._folder.lease_s / RENEWALS) and self._taken_by is None:
            with contextlib.suppress(RunError):  # the next renewal or the next write tries again
                self._renew()

    def _renew(self) -> None:
        """Write the lease, or notice who has taken it over."""
        with self._renewing:
            while self._taken_by is None and not self._write():
                text, self._version = _read(self._folder)
                if not text.startswith(self._token):  # else the answer to an earlier write was lost
                    self._taken_by = _holder(text)

    def _write(self) -> bool:
        began = _clocks()
        text = f"{self._token} {began[0]}\n{this_process()}\n"
        written = self._file.write_version(text.encode(), self._version)
        if written is not None:
            self._version, self._renewed = written, began
        return written is not None


def _read(folder: LeasedLocation) -> tuple[str, Version | None]:
    """Return the text of a run directory's lease, and its version; None if there is no lease."""
    try:
        content, version = (folder / LOCK).read_version()
    except FileNotFoundError:
        return "", None
    return content.decode(errors="replace"), version


def _holder(text: str) -> str:
    return text.partition("\n")[2].strip() or "unknown"


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.time()  # the first may stand still while the machine sleeps


def _await_expiry(folder: LeasedLocation, found: Version) -> Version | None:
    """Wait until a lease has expired; return its version, or None if it is released meanwhile.

    Raises:
        InUseError: it is renewed.
    """
    _LOG.warning("%s is locked; waiting %.0f s to see if its driver still runs", folder, folder.lease_s)
    for _ in range(2 * RENEWALS):
        time.sleep(folder.lease_s / (2 * RENEWALS))
        text, version = _read(folder)
        if version is None:
            return None
        if version != found:
            raise in_use(folder, _holder(text))
    return found
