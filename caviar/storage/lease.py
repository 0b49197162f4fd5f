"""The lock of a run directory in an object store, which has no locks: an object that its holder keeps changing.

A holder renews `.lock` every few seconds. Who finds one watches it for a while by their own clock: if it changes, its
holder is alive; if not, they take it over: write it, wait a little, and read back whether it is still theirs. A
holder that finds another's in place of its own has lost it, and writes nothing more. The clocks of two machines are
never compared.
"""

import contextlib
import json
import math
import os
import secrets
import socket
import threading
import time
from typing import Final

from caviar.errors import RunError
from caviar.storage.location import Location, Lock, Say

LEASE_S = 60.0
"""A lease that does not change for this long is that of a dead driver. Twice as long as a request may take (`locate`):
what a holder began to write while its lease was fresh has been written before another can take over."""
RENEW_S = 5.0
"""How often a living one changes it."""
SETTLE_S = 1.0
"""Whoever writes at the same time as we do has written after this long."""
NAME: Final = ".lock"
SIZE: Final = 512
"""Bytes of it, always: a store's client asks how long an object is before it reads it, and would cut a longer one."""


class Lease(Lock):
    """The lease that this process holds on a run directory. Use `of_new` or `of_known`.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: Location) -> None:
        self._folder, self._file = folder, folder / NAME
        self._driver, self._beat = secrets.token_hex(8), 0
        self._renewed = time.monotonic()
        self._taken_by: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    @classmethod
    def of_new(cls, folder: Location) -> "Lease | None":
        """The lease of a folder that is not there yet; None if another driver was quicker."""
        lease = cls(folder)
        return lease if lease._take() else None

    @classmethod
    def of_known(cls, folder: Location, say: Say) -> "Lease":
        """The lease of a run directory, from its last holder if that is dead.

        Raises:
            RunError: its holder is alive.
        """
        lease = cls(folder)
        found = lease._read()
        if found is not None:
            say(f"{folder}: the last driver did not say goodbye; waiting {LEASE_S:.0f} s for a sign of life")
            lease._watch(found)
        if not lease._take():
            raise _in_use(folder, lease._read())
        return lease

    def check(self) -> None:
        if self._taken_by is not None:
            raise RunError(
                f"{self._folder} was taken over by another caviar ({self._taken_by}), for this one gave no sign of "
                f"life for {LEASE_S:.0f} s; it writes nothing more, and what it recorded is safe"
            )

    def confirm(self) -> None:
        try:
            self._notice(self._read())
            if self._taken_by is None and not self.is_fresh:
                self._make_sure()
        except RunError as error:
            raise RunError(
                f"{error}; what was recorded is safe: `caviar resume {self._folder.typed}` then"
            ) from error
        self.check()

    @property
    def is_fresh(self) -> bool:
        """Whether nobody can have taken it over yet, nor can before what is written now has been written."""
        return time.monotonic() - self._renewed < LEASE_S / 3

    def release(self) -> None:
        if self._over.is_set():
            return
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        with contextlib.suppress(RunError):  # the store is gone: the next driver will wait
            if self._is_ours(self._read()):
                self._folder.remove([NAME])

    def _take(self) -> bool:
        """Write the lease, and see whether it is still ours when all who wrote at the same time have written."""
        self._make_sure()
        if self._taken_by is not None:
            return False
        self._thread.start()
        return True

    def _make_sure(self) -> None:
        began = time.monotonic()
        self._write()
        time.sleep(max(SETTLE_S, 2 * (time.monotonic() - began)))
        self._notice(self._read())

    def _watch(self, found: bytes) -> None:
        """Wait until a lease has not changed for as long as a living driver would need to change it several times."""
        looks = math.ceil(2 * LEASE_S / RENEW_S)
        for _ in range(looks):  # not until a time: one who was suspended looks once more, too
            time.sleep(LEASE_S / looks)
            now = self._read()
            if now is None:
                return  # given back meanwhile
            if now != found:
                raise _in_use(self._folder, now)

    def _renew(self) -> None:
        while not self._over.wait(RENEW_S) and self._taken_by is None:
            with contextlib.suppress(RunError):  # no answer: whoever wants to write asks again
                found = self._read()
                self._notice(found)
                if self._is_ours(found):
                    self._write() if self.is_fresh else self._make_sure()

    def _notice(self, found: bytes | None) -> None:
        if not self._is_ours(found):
            self._taken_by = _holder(found)

    def _is_ours(self, found: bytes | None) -> bool:
        return found is not None and _said(found).get("driver") == self._driver

    def _read(self) -> bytes | None:
        try:
            return self._file.read()
        except FileNotFoundError:
            return None

    def _write(self) -> None:
        self._beat += 1
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        said = {"driver": self._driver, "holder": holder, "beat": self._beat}
        began = time.monotonic()
        self._file.write(json.dumps(said).encode().ljust(SIZE))
        self._renewed = began


def _said(content: bytes) -> dict[str, object]:
    try:
        said = json.loads(content)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _holder(content: bytes | None) -> str:
    return str(_said(content or b"").get("holder", "unknown"))


def _in_use(folder: Location, content: bytes | None) -> RunError:
    return RunError(
        f"{folder} is in use by another caviar ({_holder(content)}): wait for its end, or stop it first"
    )
