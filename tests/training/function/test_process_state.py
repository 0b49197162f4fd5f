"""Changes that a trial makes to its process are undone before the next trial."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import caviar as cv
from caviar.backends.worker import Worker
from caviar.driver.messages import Task
from caviar.training.function.process_state import ProcessState
from caviar.trial import Cause, Outcome, Result, Trial
from tests import functions

ROOT = Path(__file__).parents[3]
DEADLY = {
    number
    for number, harm in functions.HARMS.items()
    if "died" in str(harm.failure) or "memory" in str(harm.failure)
}

CLOSES, LEAVES = (
    next(number for number, harm in functions.HARMS.items() if harm.do is do)
    for do in (functions._closes_everything, functions._leaves_children)
)
"""Harms that would close the files of pytest, and leave children that nothing ends."""
DAMAGES = next(number for number, harm in functions.HARMS.items() if "CUDA" in str(harm.failure))
"""A harm that cannot be undone."""


def results(fn: functions.Body, *numbers: int) -> list[Result]:
    worker = Worker("here", "here", cv.Function(fn, metric="loss", metrics=("loss", "draws")), None)
    trials = [Trial(number=n, round=1, params={"x": 0.5}, epochs=3, seed=n) for n in numbers]
    return worker.run([Task(trial=trial) for trial in trials])


def test_a_damaged_process_leaves_the_next_trial_to_another() -> None:
    harmful, after = results(functions.harmful, DAMAGES, 1)
    assert harmful.cause is Cause.ERROR
    assert after.cause is Cause.PREEMPTED


@pytest.mark.usefixtures("recwarn")  # many warnings
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("number", sorted(functions.HARMS.keys() - DEADLY - {CLOSES, LEAVES, DAMAGES}))
def test_a_harmful_trial_does_not_change_the_next(number: int) -> None:
    import torch  # noqa: F401  before the harm

    harm = functions.HARMS[number]
    (undisturbed,) = results(functions.careful_bowl, 1)
    harmful, after = results(functions.harmful, number, 1)
    assert harmful.outcome is harm.outcome
    assert (harm.failure or "None") in str(harmful.failure)
    assert (after.outcome, after.failure) == (Outcome.COMPLETED, None)
    assert undisturbed.outcome is Outcome.COMPLETED
    assert after.measurements == undisturbed.measurements


def test_streams_that_a_trial_closed_are_restored() -> None:
    code = (
        "from tests.training.function.test_process_state import CLOSES, functions, results\n"
        "harmful, after = results(functions.harmful, CLOSES, 1)\n"
        "print(harmful.outcome, after.outcome, after.failure)"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert ended.stdout.splitlines() == ["this text is not lost", "completed completed None"]


def test_each_trial_seeds_torch_if_it_is_imported() -> None:
    import torch

    def draws(params: functions.Params, trial: cv.TrialContext) -> float:
        return float(torch.rand(()))

    one, other, again = results(draws, 1, 2, 1)
    assert one.value == again.value != other.value


def test_earlier_signal_handlers_and_timers_are_kept() -> None:
    def ours(number: int, frame: object) -> None:
        del number, frame

    before = signal.signal(signal.SIGUSR1, ours)
    timer = signal.getitimer(signal.ITIMER_REAL)
    signal.setitimer(signal.ITIMER_REAL, 100.0)
    try:
        with ProcessState().isolated(seed=1):
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGUSR1) is ours
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 90
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGUSR1, before)


def test_streams_are_the_same_objects_afterwards() -> None:
    streams = (sys.stdin, sys.stdout, sys.stderr)
    results(functions.harmful, 2, 1)
    assert all(one is other for one, other in zip(streams, (sys.stdin, sys.stdout, sys.stderr), strict=True))
    assert np.geterr()["divide"] == "warn"


def test_settings_that_cannot_be_restored_are_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(limit: int, value: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    state = ProcessState()
    before = resource.getrlimit(resource.RLIMIT_CORE)
    with monkeypatch.context() as patched, state.isolated(seed=1):
        resource.setrlimit(resource.RLIMIT_CORE, (1, before[1]))
        patched.setattr(resource, "setrlimit", refuse)
    assert "resource limits" in str(state.damage)
    resource.setrlimit(resource.RLIMIT_CORE, before)
    fresh = ProcessState()
    with fresh.isolated(seed=1):
        resource.setrlimit(resource.RLIMIT_CORE, (1, before[1]))
    assert fresh.damage is None
    assert resource.getrlimit(resource.RLIMIT_CORE) == before
