"""Tests of caviar/driver/status_writer.py."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from caviar.backends.inline import InlineBackend
from caviar.driver import status_writer
from caviar.driver.backend import BackendEvent
from caviar.driver.messages import Chunk, Task
from caviar.driver.status_writer import MAX_LISTED, StatusWriter
from caviar.engine import Progress
from caviar.errors import ClusterError, RefusedError
from caviar.operations.run import run_study
from caviar.records.status import STATUS, Status
from caviar.storage.local import Disk
from caviar.storage.location import this_process
from caviar.trial import Measurement, Trial
from tests.objectives import bowl_study

Running = dict[str, tuple[Chunk, ...]]


def chunk(number: int, *trials: int) -> Chunk:
    points = [Trial(number=n, round=1, params={}, epochs=9, seed=0) for n in trials]
    return Chunk(number, tuple(Task(trial=trial) for trial in points), 1.0)


def eventually(run: Path, holds: Callable[[Status], bool]) -> Status:
    """Return the first status for which something holds."""
    deadline = time.monotonic() + 20
    while (status := Status.read(Disk(run))) is None or not holds(status):
        assert time.monotonic() < deadline, status
        time.sleep(0.01)
    return status


@pytest.fixture
def every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write as soon as the last write has ended."""
    monkeypatch.setattr(status_writer, "WRITE_S", 0.0)
    monkeypatch.setattr(status_writer, "WRITE_FACTOR", 0)


def repeat(writer: StatusWriter, running: Running) -> Callable[[Status], bool]:
    """Return a condition under which the writer is told the same again."""

    def tell(_: Status) -> bool:
        writer.waited(running)
        return True

    return tell


@pytest.mark.usefixtures("every_call")
def test_the_status_names_running_trials_and_their_measurements(tmp_path: Path) -> None:
    running: Running = {"cpu-0": (chunk(0, 3, 4), chunk(2, 8)), "cpu-1": (chunk(1, 5),), "cpu-2": ()}
    with StatusWriter(Disk(tmp_path), "loss") as writer:
        writer.measured([Progress(4, Measurement(n, {"loss": 1 / n})) for n in (1, 2)])
        writer.measured([Progress(5, Measurement(7, {"loss": math.nan}))])
        writer.waited(running)
        status = eventually(tmp_path, lambda status: True)
        assert (status.driver, status.workers, status.running) == (this_process(), 3, 2)
        shown = {t.trial: (t.worker, t.others, t.epoch, t.epochs, t.value) for t in status.trials}
        assert shown == {4: ("cpu-0", 1, 2, 9, 0.5), 5: ("cpu-1", 0, 7, 9, None)}
        del running["cpu-1"]
        status = eventually(tmp_path, lambda s: repeat(writer, running)(s) and s.workers == 2)
        assert [t.trial for t in status.trials] == [4]
        assert status.trials[0].since_s > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("every_call")
def test_of_many_running_trials_the_longest_are_listed(tmp_path: Path) -> None:
    late: Running = {f"cpu-{n}": (chunk(n, n),) for n in range(1, 2 * MAX_LISTED)}
    with StatusWriter(Disk(tmp_path), "loss") as writer:
        writer.waited({"cpu-0": (chunk(0, 0),)})
        eventually(tmp_path, lambda status: True)
        running: Running = {**late, "cpu-0": (chunk(0, 0),)}
        status = eventually(tmp_path, lambda s: repeat(writer, running)(s) and s.workers > 1)
    assert (status.running, len(status.trials)) == (2 * MAX_LISTED, MAX_LISTED)
    assert status.trials[0].trial == 0


class Slow(Disk):
    """A disk whose writes take a while, and one that refuses them."""

    def write(self, content: bytes, durable: bool = True) -> None:
        time.sleep(0.2)
        raise RefusedError("the disk is full")


def test_a_slow_disk_keeps_no_driver_waiting(tmp_path: Path) -> None:
    with StatusWriter(Slow(tmp_path), "loss") as writer:
        began = time.monotonic()
        for _ in range(100):
            writer.waited({"cpu-0": (chunk(0, 0),)})
        assert time.monotonic() - began < 0.1
        time.sleep(0.4)
        assert writer._due - began > 0.2 * status_writer.WRITE_FACTOR


class Failing(InlineBackend):
    """A backend that reads the status of its run at a late poll, and then fails."""

    run: Path
    polls_left = 9
    seen: Status | None = None

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        self.polls_left -= 1
        if self.polls_left == 0:
            self.seen = eventually(self.run, lambda status: True)
            raise ClusterError("the cluster has died")
        return super().poll(timeout_s)


def test_a_driver_writes_its_status_and_removes_it(tmp_path: Path) -> None:
    study = bowl_study()
    backend = Failing(study.objective, None)
    backend.run = tmp_path / "bowl"
    with pytest.raises(ClusterError):
        run_study(study, runs=tmp_path, progress=False, backend=lambda data: backend)
    assert backend.seen is not None
    assert backend.seen.trials[0].epochs == 3
    assert (tmp_path / "bowl" / "study.json").exists()
    assert not (tmp_path / "bowl" / STATUS).exists()
