"""Studies in this process, `address="here"`: no Ray, live progress, failures, interruptions, and a clean process."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import caviar as cv
from caviar.backends.inline import ThisProcess
from caviar.driver.backend import BackendEvent, Measured, TrialFailed
from caviar.driver.messages import ChunkDone, Task, WorkerJoined
from caviar.trial import Cause, Outcome, Trial

ROOT = Path(__file__).parents[2]


def make_study(fn: Callable[..., Any], trials: int = 4, **declared: Any) -> cv.Study:
    return cv.Study(
        name="mine",
        objective=cv.Function(fn, **declared),
        space=cv.Space(x=cv.linear(0, 1)),
        rounds=[cv.Round(trials, 1), cv.Confirmation(1, 1)],
    )


def events_of(objective: cv.Objective, trials: int = 1, epochs: int = 1) -> list[BackendEvent]:
    """Return what a worker in this process says about one chunk, without measurements that a result has."""
    tasks = [
        Task(trial=Trial(number=n, round=1, params={"x": n}, epochs=epochs, seed=n)) for n in range(trials)
    ]
    with closing(ThisProcess(objective, None)) as backend:
        (joined,) = backend.poll(0.0)
        assert isinstance(joined, WorkerJoined)
        backend.submit(joined.worker, 0, tasks, None)
        events = backend.poll(0.0)
        while not isinstance(events[-1], ChunkDone):
            events += backend.poll(0.0)
        return [e for e in events if not isinstance(e, Measured) or epochs > 1]


def run_script(folder: Path, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "mine.py").write_text(textwrap.dedent(script))
    return subprocess.run(
        [sys.executable, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


SCRIPT = """
    import caviar as cv

    def train(params):
        print("trains here")
        return params["x"]

    study = cv.Study(
        name="mine", objective=cv.Function(train), space=cv.Space(x=cv.linear(0, 1)), rounds=[cv.Round(4, 1)]
    )
"""
COMMAND = (
    "import sys; from caviar.cli.main import main; status = main(sys.argv[1:]); print('ray' in sys.modules)"
)


def test_the_command_needs_no_ray_and_shows_prints(tmp_path: Path) -> None:
    ended = run_script(tmp_path, SCRIPT, "-c", COMMAND, "run", "mine.py", "--address", "here")
    assert ended.stdout.splitlines()[-1] == "False", ended.stderr
    assert ended.stdout.count("trains here") >= 5
    assert cv.load(tmp_path / "runs" / "mine").finished


def test_the_first_signal_waits_for_the_running_trials(tmp_path: Path) -> None:
    def interrupts(params: Mapping[str, Any], trial: cv.TrialContext) -> float:
        del params
        os.kill(os.getpid(), signal.SIGINT)
        return trial.number

    stopped = make_study(interrupts, trials=40)
    with pytest.raises(cv.InterruptedStudy, match="all finished trials are recorded"):
        stopped.run(address="here", runs=tmp_path, progress=False)
    assert 1 <= len(cv.load(tmp_path / "mine").trials) < 40
    with pytest.raises(cv.InterruptedStudy):
        stopped.resume(tmp_path / "mine", address="here", progress=False)


def test_the_second_signal_stops_at_once(tmp_path: Path) -> None:
    def sleeps(params: Mapping[str, Any]) -> float:
        del params
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
        return 0.0

    started = time.monotonic()
    with pytest.raises(cv.InterruptedStudy, match="stopped at once"):
        make_study(sleeps).run(address="here", runs=tmp_path, progress=False)
    assert time.monotonic() - started < 30


def test_failures_come_at_once_and_long_trials_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(params: Mapping[str, Any]) -> float:
        return 1 / float(params["x"])

    first, done = events_of(cv.Function(fails), trials=2)
    assert isinstance(first, TrialFailed)
    assert isinstance(done, ChunkDone)
    assert [result.outcome for result in done.results] == [Outcome.FAILED, Outcome.COMPLETED]

    def reports(params: Mapping[str, Any], trial: cv.TrialContext) -> None:
        for epoch in trial.remaining():
            trial.report(epoch, value=epoch)

    monkeypatch.setattr("caviar.backends.inline.SHOW_S", -1.0)
    *measured, _ = events_of(cv.Function(reports), epochs=3)
    assert len(measured) >= 3
    assert all(isinstance(event, Measured) for event in measured)


def test_trials_neither_share_variables_nor_change_arrays() -> None:
    seen: list[int] = []
    array = np.zeros(3)

    def counts(params: Mapping[str, Any]) -> float:
        seen.append(1)
        return len(seen)

    def writes(params: Mapping[str, Any]) -> float:
        array[0] += 1
        return 0.0

    (done,) = events_of(cv.Function(counts), trials=3)
    assert isinstance(done, ChunkDone)
    assert [result.value for result in done.results] == [1.0, 1.0, 1.0]
    assert seen == []
    (done,) = events_of(cv.Function(writes))
    assert isinstance(done, ChunkDone)
    assert "read-only" in str(done.results[0].failure)


def test_the_process_is_put_back() -> None:
    def disturbs(params: Mapping[str, Any]) -> float:
        os.environ["MINE"] = "7"
        return float(os.environ["OMP_NUM_THREADS"])

    random.seed(3)
    before, variables = random.getstate(), dict(os.environ)
    (done,) = events_of(cv.Function(disturbs, resources=cv.Resources(cpus=2)))
    assert isinstance(done, ChunkDone)
    assert done.results[0].value == float(variables.get("OMP_NUM_THREADS", 2))
    assert random.getstate() == before
    assert dict(os.environ) == variables


def test_a_damaged_process_trains_no_further_trial(tmp_path: Path) -> None:
    def breaks(params: Mapping[str, Any]) -> float:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    first, done = events_of(cv.Function(breaks), trials=2)
    assert isinstance(first, TrialFailed)
    assert isinstance(done, ChunkDone)
    assert [result.cause for result in done.results] == [Cause.ERROR, Cause.PREEMPTED]
    with pytest.raises(cv.ClusterError, match="cannot be replaced"):
        make_study(breaks).run(address="here", runs=tmp_path, progress=False)


@pytest.mark.parametrize(
    ("declared", "asked"),
    [
        ({}, {"workers": 2}),
        ({"resources": cv.Resources(gpus=1)}, {"gpus": 1}),
        ({"resources": cv.Resources(gpus=1)}, {}),
    ],
)
def test_what_one_process_cannot_give_is_refused(
    tmp_path: Path, declared: dict[str, Any], asked: dict[str, Any]
) -> None:
    with pytest.raises(cv.RunError, match="address here"):
        make_study(lambda params: 0.0, **declared).run(address="here", runs=tmp_path, **asked)
    assert not list(tmp_path.iterdir())


def test_limits_that_cannot_be_enforced_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def waits(params: Mapping[str, Any]) -> float:
        time.sleep(0.02)
        return 0.0

    study = make_study(waits, time_limit_s=0.01, resources=cv.Resources(memory_gib=1))
    with pytest.raises(cv.StudyError):
        study.run(address="here", runs=tmp_path, progress=False)
    trials = cv.load(tmp_path / "mine").trials
    assert (trials["failure"] == "took longer than 0.01 s").all()
    assert len(caplog.messages) == 2
