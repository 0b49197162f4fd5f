"""Workers on Ray: they join, train, die, are replaced, and take too long."""

import os
import signal
import socket
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from caviar.backends.ray.actor import STREAM_S
from caviar.backends.ray.backend import RayBackend, Timing
from caviar.data.splits import Dataset
from caviar.driver.backend import BackendEvent, Measured, TrialFailed
from caviar.driver.messages import ChunkDone, Task, WorkerJoined, WorkerLost
from caviar.engine import Engine
from caviar.errors import ClusterError, DataError
from caviar.resources import Resources
from caviar.training.classifier import Classifier
from caviar.training.function.objective import Function
from caviar.training.function.trial_context import TrialContext
from caviar.trial import Cause, Outcome, Result, Trial
from tests.functions import noisy_bowl
from tests.objectives import Bowl

pytestmark = pytest.mark.ray


def make_tasks(*numbers: int, epochs: int = 2) -> list[Task]:
    trials = [Trial(number=n, round=1, params={"rate": 0.1}, epochs=epochs, seed=n) for n in numbers]
    return [Task(trial=trial) for trial in trials]


def wait_for(backend: RayBackend, count: int) -> list[BackendEvent]:
    """Return the next events, but no measurements: their number depends on the machine."""
    events: list[BackendEvent] = []
    deadline = time.monotonic() + 300
    while len(events) < count:
        assert time.monotonic() < deadline
        events += [event for event in backend.poll(0.5) if not isinstance(event, Measured)]
    return events


def train(backend: RayBackend, worker: str, task: Task) -> Result:
    """Return the result of a task that a worker trains alone."""
    backend.submit(worker, task.trial.number, [task], None)
    while True:
        for event in wait_for(backend, 1):
            if isinstance(event, ChunkDone):
                return event.results[0]


def send_until_it_fails(backend: RayBackend, worker: str) -> None:
    """Send one chunk after the other, because a worker that is being killed may still return one."""
    for number in range(1, 10):
        backend.submit(worker, number, make_tasks(1 + number), None)
        wait_for(backend, 1)


def wait_until_lost(ray: Any, reference: Any) -> None:
    """Wait until Ray knows that an object was lost with its owner."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            ray.get(reference, timeout=1.0)
        except ray.exceptions.ObjectLostError:
            return
        except ray.exceptions.GetTimeoutError:
            continue
        time.sleep(0.05)
    raise AssertionError("the object is still there")


def reports_slowly(params: dict[str, Any], trial: TrialContext) -> None:
    """Report each epoch late enough for a message of its own."""
    for epoch in trial.remaining():
        time.sleep(1.1 * STREAM_S)
        trial.report(epoch, loss=1.0)


def reads_its_cores(params: dict[str, Any], trial: TrialContext) -> float:
    """Return the number of cores that Ray gave the worker."""
    import ray

    return float(ray.get_runtime_context().get_assigned_resources()["CPU"])  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Broken(Bowl):
    """An objective whose engine cannot be built."""

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        raise DataError("the rows are gone")


@dataclass(frozen=True)
class OnlyFirstStarts(Bowl):
    """An objective whose first worker starts; the others fail once there is a file `go`."""

    folder: str = ""

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        try:
            Path(self.folder, "first").touch(exist_ok=False)
        except FileExistsError:
            while not Path(self.folder, "go").exists():
                time.sleep(0.02)
            raise DataError("there is room for one") from None
        return super().make_engine(dataset, device)


class WithoutTorch(Classifier):
    """An objective whose workers refuse to start if torch was loaded."""

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        engine = super().make_engine(dataset, device)
        if "torch" in sys.modules:
            raise DataError("torch was loaded")
        return engine


def test_each_chunk_comes_back_from_its_worker() -> None:
    with closing(RayBackend(Bowl(), None, workers=2)) as backend:
        assert set(wait_for(backend, 2)) == {WorkerJoined("cpu-0"), WorkerJoined("cpu-1")}
        for chunk in range(6):
            backend.submit(f"cpu-{chunk % 2}", chunk, make_tasks(2 * chunk, 2 * chunk + 1), None)
        done = [event for event in wait_for(backend, 6) if isinstance(event, ChunkDone)]
    assert {(event.worker, event.chunk) for event in done} == {(f"cpu-{n % 2}", n) for n in range(6)}
    results = [result for event in done for result in event.results]
    assert sorted(result.trial.number for result in results) == list(range(12))
    assert {result.outcome for result in results} == {Outcome.COMPLETED}
    assert all(result.node and result.worker for result in results)


def test_a_failure_arrives_before_the_rest_of_its_chunk(tmp_path: Path) -> None:
    go = tmp_path / "go"

    def fails_first(params: dict[str, Any], trial: TrialContext) -> float:
        if trial.number == 0:
            raise KeyError("x")
        while not go.exists():
            time.sleep(0.02)
        return 1.0

    with closing(RayBackend(Function(fails_first), None, workers=1)) as backend:
        wait_for(backend, 1)
        backend.submit("cpu-0", 0, make_tasks(0, 1), None)
        (failed,) = wait_for(backend, 1)
        go.touch()
        (done,) = wait_for(backend, 1)
    assert isinstance(failed, TrialFailed)
    assert isinstance(done, ChunkDone)
    assert failed.trial == done.results[0].trial
    assert failed.failure == done.results[0].failure
    assert failed.failure.startswith("KeyError: 'x' (test_backend.py, line ")


def test_waiting_for_cores_in_use_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    whole_cluster = Function(noisy_bowl, resources=Resources(cpus=2))
    with closing(RayBackend(whole_cluster, None)) as others:
        wait_for(others, 1)
        with closing(RayBackend(whole_cluster, None, timing=Timing(warn_after_s=0.05))) as ours:
            deadline = time.monotonic() + 300
            while not caplog.messages:
                assert time.monotonic() < deadline
                assert ours.poll(0.1) == []
            others.close()
            wait_for(ours, 1)
    assert caplog.messages == ["waiting for 1 worker: the cluster's cores are in use (0 of 2 CPU free)"]


def test_each_worker_gets_its_share_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """More workers start than Ray has processes in reserve, so some have their cores before their process runs."""
    objective = Function(reads_its_cores, resources=Resources(cpus=0.5))
    with closing(RayBackend(objective, None, timing=Timing(warn_after_s=0.05))) as backend:
        joined = 0
        while joined < 4:
            joined += len(backend.poll(0.02))
        (task,) = make_tasks(0)
        assert train(backend, "cpu-0", task).value == 0.5
    assert not caplog.messages


def test_a_dead_worker_is_replaced() -> None:
    with closing(RayBackend(Bowl("exit", frozenset({7})), None, workers=1)) as backend:
        wait_for(backend, 1)
        backend.submit("cpu-0", 0, make_tasks(1), None)
        assert isinstance(wait_for(backend, 1)[0], ChunkDone)
        backend.submit("cpu-0", 1, make_tasks(7), None)
        backend.submit("cpu-0", 2, make_tasks(2), None)
        events = wait_for(backend, 2)
        (lost,) = [event for event in events if isinstance(event, WorkerLost)]
        assert (lost.worker, lost.cause, lost.suspects) == ("cpu-0", Cause.CRASH, frozenset({1, 2}))
        assert WorkerJoined("cpu-1") in events
        backend.submit("cpu-0", 3, make_tasks(3), None)  # the loop may not have read of its death yet
        backend.submit("cpu-1", 4, make_tasks(2), None)
        (done,) = wait_for(backend, 1)
    assert isinstance(done, ChunkDone)
    assert done.chunk == 4


def test_a_paused_trial_continues_on_another_worker() -> None:
    whole = Trial(number=0, round=1, params={"x": 0.1}, epochs=6, seed=0)
    objective = Function(noisy_bowl, metric="loss", metrics=("loss", "draws"))
    with closing(RayBackend(objective, None, workers=2)) as backend:
        wait_for(backend, 2)
        first = train(backend, "cpu-0", Task(trial=whole, parts=(2,)))
        second = train(backend, "cpu-0", Task(trial=whole, parts=(2, 4), so_far=first))
        third = Task(trial=whole, parts=(2, 4, 6), so_far=second.after(first))
        expected = train(backend, "cpu-0", third)
        elsewhere = train(backend, "cpu-1", third)
        backend._ray.kill(backend._actors["cpu-0"].handle)
        wait_until_lost(backend._ray, second.checkpoint.chunk)
        without_checkpoint = train(backend, "cpu-1", third)
    assert [first.outcome, second.outcome] == [Outcome.STOPPED, Outcome.STOPPED]
    assert [m.epoch for m in elsewhere.measurements] == [5, 6]
    assert elsewhere.measurements == expected.measurements
    assert [m.epoch for m in without_checkpoint.measurements] == [1, 2, 3, 4, 5, 6]
    assert without_checkpoint.measurements[-2:] == expected.measurements


def test_a_worker_that_cannot_start_ends_the_study() -> None:
    with (
        closing(RayBackend(Broken(), None, workers=1)) as backend,
        pytest.raises(ClusterError, match="cpu-0 cannot start: DataError: the rows are gone"),
    ):
        wait_for(backend, 1)


def test_no_more_workers_start_on_a_broken_machine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    timing = Timing(node_check_s=0.0)
    with closing(
        RayBackend(OnlyFirstStarts(folder=str(tmp_path)), None, workers=2, timing=timing)
    ) as backend:
        (first,) = wait_for(backend, 1)
        assert isinstance(first, WorkerJoined)
        (tmp_path / "go").touch()
        while not caplog.messages:
            assert backend.poll(0.5) == []
        (message,) = caplog.messages
        assert socket.gethostname() in message
        assert "there is room for one" in message
        backend.submit(first.worker, 0, make_tasks(1), None)
        assert isinstance(wait_for(backend, 1)[0], ChunkDone)
        assert backend.poll(0.1) == [], "no worker has joined"

        backend._ray.kill(backend._actors[first.worker].handle)
        with pytest.raises(ClusterError, match=r"cannot start on any machine: .*there is room for one"):
            send_until_it_fails(backend, first.worker)


def test_a_native_worker_does_not_load_torch() -> None:
    objective = WithoutTorch(data="sklearn:iris")
    with closing(RayBackend(objective, objective.load().without_test(), workers=1)) as backend:
        assert wait_for(backend, 1) == [WorkerJoined("cpu-0")]


def test_a_time_limit_counts_from_the_start_of_training() -> None:
    objective = Function(noisy_bowl, metric="loss", metrics=("loss", "draws"), time_limit_s=0.5)
    with closing(RayBackend(objective, None, workers=1, timing=Timing(grace_s=60.0))) as backend:
        wait_for(backend, 1)
        info = backend._actors["cpu-0"].info
        assert info is not None
        os.kill(info.pid, signal.SIGSTOP)
        trial = Trial(number=0, round=1, params={"x": 0.1}, epochs=1, seed=0)
        backend.submit("cpu-0", 0, [Task(trial=trial)], None)
        held_until = time.monotonic() + 0.7
        while time.monotonic() < held_until:
            assert backend.poll(0.2) == []
        os.kill(info.pid, signal.SIGCONT)
        (done,) = wait_for(backend, 1)
    assert isinstance(done, ChunkDone)
    assert done.results[0].outcome is Outcome.COMPLETED


def test_an_overdue_worker_is_replaced_unless_it_has_finished() -> None:
    """Every chunk is overdue at once, so the driver waits for the last results only."""
    objective = Function(reports_slowly, metric="loss", time_limit_s=600.0)
    timing = Timing(grace_s=-600.0, last_results_s=60.0)
    with closing(RayBackend(objective, None, workers=1, timing=timing)) as backend:
        wait_for(backend, 1)
        backend.submit("cpu-0", 0, make_tasks(0, epochs=1), None)
        backend._ray.get(backend._actors["cpu-0"].handle.__ray_ready__.remote())  # it has sent its results
        measured, done = backend.poll(0.0)
        assert isinstance(measured, Measured)
        assert isinstance(done, ChunkDone)
        assert done.results[0].outcome is Outcome.COMPLETED

        backend.submit("cpu-0", 1, make_tasks(0, epochs=100_000), None)
        measured, lost = backend.poll(0.0)
        assert isinstance(measured, Measured), "a trial that reports can be overdue all the same"
        assert lost == WorkerLost("cpu-0", Cause.TIME, "took longer than 600 s", frozenset({1}))
        assert wait_for(backend, 1) == [WorkerJoined("cpu-1")]
