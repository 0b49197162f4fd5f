"""The lease of a run directory in a store: one holder at a time, and a dead one's is taken over."""

import threading
import time
from pathlib import Path

import pytest

from caviar.errors import RunError
from caviar.storage import lease
from caviar.storage.lease import Lease
from caviar.storage.local import Disk
from caviar.storage.location import Location
from caviar.storage.uri import locate
from tests.object_store import ObjectStore


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"LEASE_S": 1.0, "RENEW_S": 0.1, "SETTLE_S": 0.05}.items():
        monkeypatch.setattr(lease, name, seconds)


@pytest.fixture
def folder(tmp_path: Path) -> Disk:
    """A lease needs no more of a place than whole files, which a disk has, too."""
    return Disk(tmp_path)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No holder is taken for dead because the machine is busy."""
    monkeypatch.setattr(lease, "LEASE_S", 60.0)


def dead(folder: Location) -> Lease:
    """A lease whose holder has died."""
    left = Lease.of_new(folder)
    assert left is not None
    left._over.set()
    left._thread.join()
    return left


@pytest.mark.usefixtures("patient")
def test_a_living_holder_is_noticed_at_its_next_renewal(folder: Disk) -> None:
    held, said = Lease.of_new(folder), list[str]()
    assert held is not None
    began = time.monotonic()
    with pytest.raises(RunError, match="in use by another caviar"):
        Lease.of_known(folder, said.append)
    assert time.monotonic() - began < lease.LEASE_S
    assert len(said) == 1
    assert "waiting" in said[0]
    held.confirm()
    held.release()


def test_a_dead_holders_lease_is_taken_over_when_it_is_over(folder: Disk) -> None:
    left = dead(folder)
    began = time.monotonic()
    taken = Lease.of_known(folder, lambda text: None)
    assert time.monotonic() - began >= lease.LEASE_S
    taken.confirm()
    with pytest.raises(RunError, match="was taken over by another caviar"):
        left.confirm()
    taken.release()
    assert not (folder / ".lock").exists()


def test_a_holder_that_wakes_up_does_not_take_its_lease_back(folder: Disk) -> None:
    left = dead(folder)
    taken = Lease.of_known(folder, lambda text: None)
    left._over.clear()
    left._renew()  # ends at once
    with pytest.raises(RunError, match="was taken over"):
        left.check()
    left.release()
    taken.confirm()
    taken.release()


@pytest.mark.usefixtures("patient")
def test_the_wall_clock_has_no_say(folder: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Lease.of_new(folder)
    assert held is not None
    monkeypatch.setattr(time, "time", lambda: 1e12)
    with pytest.raises(RunError, match="in use by another caviar"):
        Lease.of_known(folder, lambda text: None)
    held.confirm()
    held.release()


def test_of_many_who_want_a_dead_holders_lease_one_gets_it(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SETTLE_S", 2.0)
    folder = locate(f"s3://{store.new_bucket()}/run")
    dead(folder)
    taken, refused = list[Lease](), list[RunError]()

    def want() -> None:
        try:
            taken.append(Lease.of_known(folder, lambda text: None))
        except RunError as error:
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
def test_a_lease_that_says_nothing_is_another_drivers_too(
    folder: Disk, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_S", 60.0)  # else a renewal under way may write over it
    held = Lease.of_new(folder)
    assert held is not None
    (folder / ".lock").write(content)
    with pytest.raises(RunError, match=r"was taken over by another caviar \(unknown\)"):
        held.confirm()
    held.release()
    taken = Lease.of_known(folder, lambda text: None)
    taken.confirm()
    taken.release()


@pytest.mark.usefixtures("patient")
def test_a_holder_that_was_long_silent_makes_sure_before_it_writes(folder: Disk) -> None:
    silent = dead(folder)
    fresh, written = list[bool](), list[bytes]()
    for silence_s in (0.0, lease.LEASE_S / 2):
        silent._renewed -= silence_s
        fresh.append(silent.is_fresh)
        silent.confirm()
        written.append((folder / ".lock").read())
    assert fresh == [True, False]
    assert written[0] != written[1]
    assert silent.is_fresh


@pytest.mark.usefixtures("patient")
def test_who_was_suspended_while_they_watched_looks_once_more(
    folder: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Lease.of_new(folder)
    assert held is not None
    began, clock = time.monotonic(), time.monotonic
    # Half a day has passed when the first look is over.
    monkeypatch.setattr(time, "monotonic", lambda: clock() + (4e4 if clock() - began > 0.01 else 0.0))
    with pytest.raises(RunError, match="in use by another caviar"):
        Lease(folder)._watch((folder / ".lock").read())
    monkeypatch.undo()
    held.release()
