"""Workers on Ray: as many as asked for, replaced when they die, refused in clear words."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from caviar.backends.ray import backend as ray_backend
from caviar.backends.ray import inflight
from caviar.backends.ray.actor import STREAM_S
from caviar.backends.ray.backend import RayBackend
from caviar.data.splits import Dataset
from caviar.driver.backend import BackendEvent, Measured
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

ROOT = Path(__file__).parents[3]


def tasks(*numbers: int) -> list[Task]:
    trials = [Trial(number=n, round=1, params={"rate": 0.1}, epochs=2, seed=n) for n in numbers]
    return [Task(trial=trial) for trial in trials]


def wait_for(backend: RayBackend, count: int) -> list[BackendEvent]:
    """The next so many happenings, but for measurements: how often these are told of depends on the machine."""
    happened: list[BackendEvent] = []
    deadline = time.monotonic() + 300
    while len(happened) < count:
        assert time.monotonic() < deadline
        happened += [h for h in backend.poll(0.5) if not isinstance(h, Measured)]
    return happened


def wait_until_lost(ray: Any, reference: Any) -> None:
    """Until Ray knows that an object has gone with its owner."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            ray.get(reference, timeout=1.0)
        except ray.exceptions.ObjectLostError:
            return
        except ray.exceptions.GetTimeoutError:
            continue
        time.sleep(0.05)
    raise AssertionError("it is still there")


@dataclass(frozen=True)
class Unready(Bowl):
    """Its engine cannot be built."""

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        raise DataError("the rows are gone")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_every_chunk_comes_back_from_the_worker_it_was_sent_to() -> None:
    backend = RayBackend(Bowl(), None, workers=2)
    try:
        assert {h.worker for h in wait_for(backend, 2) if isinstance(h, WorkerJoined)} == {"cpu-0", "cpu-1"}
        for chunk in range(6):
            backend.submit(f"cpu-{chunk % 2}", chunk, tasks(2 * chunk, 2 * chunk + 1), None)
        arrived = wait_for(backend, 6)
        assert all(isinstance(h, ChunkDone) for h in arrived)
        assert {(h.worker, h.chunk) for h in arrived if isinstance(h, ChunkDone)} == {
            (f"cpu-{chunk % 2}", chunk) for chunk in range(6)
        }
        results = [r for h in arrived if isinstance(h, ChunkDone) for r in h.results]
        assert sorted(r.trial.number for r in results) == list(range(12))
        assert {r.outcome for r in results} == {Outcome.COMPLETED}
        assert all(r.node and r.worker for r in results)
    finally:
        backend.close()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_workers_whose_cores_others_hold_are_waited_for_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_backend, "WARN_AFTER_S", 0.05)
    others = RayBackend(Bowl(), None, workers=2)
    ours = None
    try:
        wait_for(others, 2)
        ours = RayBackend(Bowl(), None, workers=2)
        deadline = time.monotonic() + 300
        while not caplog.messages:
            assert time.monotonic() < deadline
            assert ours.poll(0.1) == []
        (said,) = caplog.messages
        assert said == "waiting for 2 workers: the cluster's cores are in use (0 of 2 CPU free)"
        others.close()
        assert len(wait_for(ours, 2)) == 2
    finally:
        others.close()
        if ours is not None:
            ours.close()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_workers_whose_processes_take_their_time_do_not_wait_for_cores(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_backend, "WARN_AFTER_S", 0.05)
    backend = RayBackend(Function(noisy_bowl, resources=Resources(cpus=0.25)), None)
    try:
        joined = 0
        while joined < 8:  # more than Ray has processes in store
            joined += len(backend.poll(0.02))
            assert not caplog.messages
    finally:
        backend.close()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_dead_worker_is_reported_with_its_suspects_and_replaced() -> None:
    backend = RayBackend(Bowl("exit", frozenset({7})), None, workers=1)
    try:
        wait_for(backend, 1)
        backend.submit("cpu-0", 0, tasks(1), None)
        assert isinstance(wait_for(backend, 1)[0], ChunkDone)
        backend.submit("cpu-0", 1, tasks(7), None)
        backend.submit("cpu-0", 2, tasks(2), None)
        happened = wait_for(backend, 2)
        (lost,) = [h for h in happened if isinstance(h, WorkerLost)]
        assert (lost.worker, lost.suspects) == ("cpu-0", frozenset({1, 2}))
        assert WorkerJoined("cpu-1") in happened
        backend.submit("cpu-0", 3, tasks(3), None)  # the loop may not have read of its death yet
        backend.submit("cpu-1", 4, tasks(2), None)
        (arrived,) = wait_for(backend, 1)
        assert isinstance(arrived, ChunkDone)
        assert arrived.chunk == 4
    finally:
        backend.close()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("dies", [False, True])
def test_a_paused_trial_goes_on_at_another_worker_also_where_its_state_went_down_with_the_first(
    dies: bool,
) -> None:
    whole = Trial(number=0, round=1, params={"x": 0.1}, epochs=6, seed=0)
    objective = Function(noisy_bowl, metric="loss", metrics=("loss", "draws"))
    backend = RayBackend(objective, None, workers=2)

    def train(worker: str, task: Task) -> Result:
        backend.submit(worker, 0, [task], None)
        while True:
            for happened in wait_for(backend, 1):
                if isinstance(happened, ChunkDone):
                    return happened.results[0]

    try:
        wait_for(backend, 2)
        first = train("cpu-0", Task(trial=whole, parts=(2,)))
        second = train("cpu-0", Task(trial=whole, parts=(2, 4), so_far=first))
        third = Task(trial=whole, parts=(2, 4, 6), so_far=second.after(first))
        expected = train("cpu-0", third).measurements
        if dies:
            backend._ray.kill(backend._actors["cpu-0"].handle)
            wait_until_lost(backend._ray, second.checkpoint.chunk)
        last = train("cpu-1", third)
    finally:
        backend.close()
    assert [first.outcome, second.outcome] == [Outcome.STOPPED, Outcome.STOPPED]
    assert last.outcome is Outcome.COMPLETED
    assert [m.epoch for m in last.measurements] == ([1, 2, 3, 4, 5, 6] if dies else [5, 6])
    assert last.measurements[-2:] == expected


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_that_cannot_start_ends_the_study_with_its_reason() -> None:
    backend = RayBackend(Unready(), None, workers=1)
    try:
        with pytest.raises(ClusterError, match="worker cpu-0 cannot start: DataError: the rows are gone"):
            wait_for(backend, 1)
    finally:
        backend.close()


@dataclass(frozen=True)
class FirstAlone(Bowl):
    """Of its workers only the first can start; the others find out once there is a file `go`."""

    folder: str = ""

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        try:
            Path(self.folder, "first").touch(exist_ok=False)
        except FileExistsError:
            while not Path(self.folder, "go").exists():
                time.sleep(0.02)
            raise DataError("there is room for one") from None
        return super().make_engine(dataset, device)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_while_others_are_at_work_a_worker_that_cannot_start_costs_its_machine_the_next_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = RayBackend(FirstAlone(folder=str(tmp_path)), None, workers=2)
    try:
        (first,) = wait_for(backend, 1)
        assert isinstance(first, WorkerJoined)
        (tmp_path / "go").touch()
        while not caplog.messages:
            assert backend.poll(0.5) == []
        (said,) = caplog.messages
        assert said.startswith(f"starting no more workers on {socket.gethostname()} (")
        assert "cannot start: DataError: there is room for one" in said
        backend.submit(first.worker, 0, tasks(1), None)
        assert isinstance(wait_for(backend, 1)[0], ChunkDone)
        backend._check_nodes_at = 0.0
        assert backend.poll(0.5) == [], "nobody has come"

        backend._ray.kill(backend._actors[first.worker].handle)
        backend.submit(first.worker, 1, tasks(2), None)
        with pytest.raises(
            ClusterError,
            match=r"cannot start on any machine: worker cpu-\d cannot start: DataError: there is room",
        ):
            wait_for(backend, 2)
    finally:
        backend.close()


@pytest.mark.slow
def test_a_gpu_that_is_not_there_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("torch can use a GPU here")
    script = tmp_path / "experiment.py"
    script.write_text("from tests.objectives import bowl_study\nstudy = bowl_study()\n")
    command = [
        sys.executable,
        "-m",
        "caviar",
        "run",
        str(script),
        "--runs",
        str(tmp_path),
        "--workers",
        "0",
        "--gpus",
        "1",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert ended.returncode == 1
    assert "1 GPU workers asked for, but the cluster has 0 GPUs: use --gpus 0" in ended.stderr
    assert "Traceback" not in ended.stderr


class TorchFree(Classifier):
    """Its workers refuse to start if torch has been loaded."""

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        engine = super().make_engine(dataset, device)
        if "torch" in sys.modules:
            raise DataError("torch has been loaded")
        return engine


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_with_the_native_engine_does_not_load_torch() -> None:
    objective = TorchFree(data="sklearn:iris")
    backend = RayBackend(objective, objective.load().without_test(), workers=1)
    try:
        assert wait_for(backend, 1) == [WorkerJoined("cpu-0")]
    finally:
        backend.close()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_that_is_long_in_coming_has_its_whole_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflight, "GRACE_S", 60.0)
    limit_s = 2.0
    backend = RayBackend(Function(talkative, metric="loss", time_limit_s=limit_s), None, workers=1)
    try:
        wait_for(backend, 1)
        info = backend._actors["cpu-0"].info
        assert info is not None
        os.kill(info.pid, signal.SIGSTOP)
        backend.submit("cpu-0", 0, tasks(0), None)
        held_until = time.monotonic() + limit_s + 2 * ray_backend.LAST_RESULTS_S
        while time.monotonic() < held_until:
            assert backend.poll(0.5) == []
        os.kill(info.pid, signal.SIGCONT)
        (arrived,) = wait_for(backend, 1)
    finally:
        backend.close()
    assert isinstance(arrived, ChunkDone)
    assert arrived.results[0].outcome is Outcome.COMPLETED


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_that_ended_in_time_is_not_overdue_however_late_the_driver_hears_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inflight, "GRACE_S", -600.0)
    backend = RayBackend(Function(talkative, metric="loss", time_limit_s=600.0), None, workers=1)
    trial = Trial(number=0, round=1, params={}, epochs=4, seed=0)
    try:
        wait_for(backend, 1)
        backend.submit("cpu-0", 0, [Task(trial=trial)], None)
        backend._ray.get(
            backend._actors["cpu-0"].handle.__ray_ready__.remote()
        )  # it has ended, and sent it all
        happened = backend.poll(0.0)
    finally:
        backend.close()
    assert not [h for h in happened if isinstance(h, WorkerLost)]
    (arrived,) = [h for h in happened if isinstance(h, ChunkDone)]
    assert arrived.results[0].outcome is Outcome.COMPLETED
    assert len(happened) > 2, "it had said nothing before its end"


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_that_goes_on_reporting_is_overdue_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflight, "GRACE_S", -600.0)
    monkeypatch.setattr(ray_backend, "LAST_RESULTS_S", 60.0)
    backend = RayBackend(Function(talkative, metric="loss", time_limit_s=600.0), None, workers=1)
    trial = Trial(number=0, round=1, params={}, epochs=100_000, seed=0)
    try:
        wait_for(backend, 1)
        backend.submit("cpu-0", 0, [Task(trial=trial)], None)
        measured, *lost = backend.poll(0.0)
    finally:
        backend.close()
    assert isinstance(measured, Measured)
    assert lost == [WorkerLost("cpu-0", Cause.TIME, "took longer than 600 s", frozenset({0}))]


def talkative(params: dict[str, Any], trial: TrialContext) -> None:
    """Is heard of after each epoch."""
    for epoch in trial.remaining():
        time.sleep(1.2 * STREAM_S)
        trial.report(epoch, loss=1.0)
