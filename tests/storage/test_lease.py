"""Leases of run directories in a store have one holder at a time, and expire with it."""

import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from obstore.store import MemoryStore

from caviar.errors import InUseError, RefusedError, RunError
from caviar.storage import lease
from caviar.storage.lease import Lease
from caviar.storage.location import LOCK, this_process
from caviar.storage.object_store import Store
from tests.object_store import ObjectStore, in_memory

SHORT_S = 0.3
LONG_S = 6.0
"""Long enough for a living holder to renew on a busy machine."""


def dead(folder: Store) -> Lease:
    """Return a lease whose holder has died."""
    left = Lease.acquire(folder, take_over=False)
    left._released.set()
    left._thread.join()
    return left


def test_a_living_holder_is_detected_by_its_renewal(caplog: pytest.LogCaptureFixture) -> None:
    run = in_memory(LONG_S)
    held = Lease.acquire(run, take_over=False)
    began = time.monotonic()
    with pytest.raises(InUseError, match="in use by another caviar"):
        Lease.acquire(run, take_over=True)
    assert time.monotonic() - began < LONG_S / 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    held.confirm()
    held.release()


def test_a_lease_that_is_not_renewed_has_no_holder() -> None:
    run = in_memory(SHORT_S)
    holder = run.follow_holder()
    assert holder() is None
    held = Lease.acquire(run, take_over=False)
    deadline = time.monotonic() + 3 * SHORT_S
    while time.monotonic() < deadline:
        assert holder() == this_process()
        time.sleep(SHORT_S / 20)
    held.release()
    assert holder() is None
    dead(run)
    assert holder() == this_process(), "it may be alive"
    time.sleep(SHORT_S)
    assert holder() is None


def test_one_look_tells_a_live_lease_from_a_stale_one(monkeypatch: pytest.MonkeyPatch) -> None:
    run = in_memory(LONG_S)
    assert run.holder() is None
    held = Lease.acquire(run, take_over=False)
    assert run.holder() == this_process()
    written = (run / LOCK).written_at()
    monkeypatch.setattr(Store, "written_at", lambda lock: written - timedelta(seconds=2 * LONG_S))
    assert run.holder() is None
    held.release()
    monkeypatch.undo()
    assert run.holder() is None


def test_a_new_run_does_not_wait_for_a_lease(caplog: pytest.LogCaptureFixture) -> None:
    run = in_memory(LONG_S)
    dead(run)
    with pytest.raises(InUseError, match=r"in use by another caviar \(process \d+ on "):
        Lease.acquire(run, take_over=False)
    assert not caplog.records


def test_an_expired_lease_is_taken_over() -> None:
    run = in_memory(SHORT_S)
    left = dead(run)
    began = time.monotonic()
    taken = Lease.acquire(run, take_over=True)
    assert time.monotonic() - began >= SHORT_S
    taken.confirm()
    with pytest.raises(RunError, match="was taken over by another caviar"):
        left._renew() or left.check()  # type: ignore[func-returns-value]
    taken.release()
    assert not (run / LOCK).is_file()


def test_a_holder_that_wakes_up_has_lost_its_lease() -> None:
    run = in_memory(SHORT_S)
    left = dead(run)
    taken = Lease.acquire(run, take_over=True)
    left._released.clear()
    left._keep_renewing()  # ends at once
    with pytest.raises(RunError, match="was taken over"):
        left.check()
    left.release()
    taken.confirm()
    taken.release()


def test_a_lease_renewed_late_is_not_taken_over() -> None:
    run = in_memory(LONG_S)
    held = Lease.acquire(run, take_over=False)
    late = Lease(run, held._version)
    held._renew()
    late._renew()
    assert late._taken_by is not None
    held.confirm()
    held.release()


def test_a_lease_released_meanwhile_is_acquired(monkeypatch: pytest.MonkeyPatch) -> None:
    run = in_memory(LONG_S)
    held = Lease.acquire(run, take_over=False)
    monkeypatch.setattr(time, "sleep", lambda seconds: held.release())
    Lease.acquire(run, take_over=True).release()


def test_the_wall_clock_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    run = in_memory(LONG_S)
    held = Lease.acquire(run, take_over=False)
    monkeypatch.setattr(time, "time", lambda: 1e12)
    with pytest.raises(InUseError):
        Lease.acquire(run, take_over=True)
    held.confirm()
    held.release()


@pytest.mark.parametrize("was_there", [True, False])
def test_one_of_many_drivers_gets_a_lease(store: ObjectStore, was_there: bool) -> None:
    run = replace(store.location() / "run", lease_s=SHORT_S)
    if was_there:
        dead(run)
    taken, refused = list[Lease](), list[RunError]()
    together = threading.Barrier(5)

    def want() -> None:
        together.wait()
        try:
            taken.append(Lease.acquire(run, take_over=was_there))
        except InUseError as error:
            refused.append(error)

    threads = [threading.Thread(target=want) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (1, 4)
    taken[0].confirm()
    taken[0].release()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"driver": 1}'])
def test_a_lease_of_unknown_content_belongs_to_another_driver(content: bytes) -> None:
    run = in_memory(SHORT_S)
    held = dead(run)
    (run / LOCK).write(content)
    with pytest.raises(RunError, match=r"was taken over by another caviar \(unknown\)"):
        held._renew() or held.check()  # type: ignore[func-returns-value]
    held.release()
    taken = Lease.acquire(run, take_over=True)
    taken.confirm()
    taken.release()


def test_a_lease_that_was_deleted_is_lost() -> None:
    run = in_memory(SHORT_S)
    held = dead(run)
    run.remove([LOCK])
    held._renew()
    with pytest.raises(RunError, match=r"was taken over"):
        held.check()


def test_confirm_renews_a_lease_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    run = in_memory(LONG_S)
    held, written = dead(run), list[bytes]()
    for fresh_s in (60.0, 0.0):
        monkeypatch.setattr(lease, "RENEWED_WITHIN_S", fresh_s)
        held.confirm()
        written.append((run / LOCK).read())
    assert written[0] != written[1]


class Careless:
    """A store that ignores the conditions of writes."""

    def __init__(self) -> None:
        self._store = MemoryStore()

    def put(self, key: str, content: bytes, mode: object) -> Any:
        return self._store.put(key, content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_store_without_conditional_writes_is_refused() -> None:
    client: Any = Careless()
    with pytest.raises(RunError, match="ignores the conditions"):
        Lease.acquire(replace(in_memory(LONG_S), client=client), take_over=False)


class Unsteady:
    """A store whose next answers to writes are lost."""

    def __init__(self) -> None:
        self._store, self.lost = MemoryStore(), 0

    def put(self, *args: Any, **options: Any) -> Any:
        result = self._store.put(*args, **options)
        if self.lost:
            self.lost -= 1
            raise FileNotFoundError("NoSuchBucket: it is gone for a while")
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_renewal_without_an_answer_keeps_the_lease() -> None:
    client: Any = Unsteady()
    run = replace(in_memory(LONG_S), client=client)
    held = dead(run)
    client.lost = 1
    with pytest.raises(RefusedError):
        held._renew()
    held._renew()
    held.check()
