"""Law 6: flat cost.

The driver's memory does not grow with finished trials beyond their rows, and the cost of a trial does not grow with how
many went before.
"""

import gc
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from caviar.driver import controller, loop
from caviar.driver.controller import State
from caviar.driver.loop import Loop
from caviar.driver.messages import Command, Event
from caviar.driver.watcher import Watcher
from caviar.operations.run import run_study
from caviar.records import ledger
from caviar.records.frames import load
from caviar.reporting.summary import show
from caviar.rounds import Confirmation
from caviar.trial import Result
from tests.objectives import bowl_study
from tests.runs import run_inline

MAX_BYTES = 300
"""Bytes of objects that a finished trial may leave in the driver; its result takes about a thousand."""
MAX_RESIDENT_BYTES = 2_000
"""Bytes of the driver's resident memory that a finished trial may take."""
MAX_RATIO = 2.5
"""Largest processor time of a late trial, as a multiple of an early one's; it varies with a machine's load."""
Mark = tuple[int, float, int]
"""Recorded trials, processor time in seconds, memory in bytes."""


class Meter(Watcher):
    """A watcher that measures processor time and memory after each recorded batch."""

    def __init__(self, read_memory: Callable[[], int]) -> None:
        self._done, self._read_memory = 0, read_memory
        self.marks: list[Mark] = []

    def recorded(self, results: list[Result]) -> None:
        self._done += len(results)
        self.marks.append((self._done, time.process_time(), self._read_memory()))

    def per_trial(self, low: int, high: int) -> tuple[float, float]:
        """Return the seconds and bytes of a trial between two numbers of recorded trials."""
        done, cpu_s, size = max((mark for mark in self.marks if mark[0] <= low), default=self.marks[0])
        later_done, later_cpu_s, later_size = min(
            (mark for mark in self.marks if mark[0] >= high), default=self.marks[-1]
        )
        count = later_done - done
        return (later_cpu_s - cpu_s) / count, (later_size - size) / count


def install_meter(monkeypatch: pytest.MonkeyPatch, read_memory: Callable[[], int]) -> Meter:
    """Have the next study watched by a meter."""
    meter = Meter(read_memory)
    monkeypatch.setattr("caviar.operations.execution.Watcher", lambda: meter)
    return meter


def read_resident_memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> list[Loop]:
    """The loops of all studies that the test has run, which hold their ledger, backend and watcher."""
    kept: list[Loop] = []
    run = Loop.run

    def kept_run(self: Loop) -> bool:
        kept.append(self)
        return run(self)

    monkeypatch.setattr(Loop, "run", kept_run)
    return kept


def test_a_finished_trial_takes_little_memory(loops: list[Loop], tmp_path: Path) -> None:
    def measure(trials: int) -> int:
        """Return the bytes in use at the end of a study, before its loop is let go."""
        loops.clear()
        study = bowl_study(rounds=(trials,), epochs=1, confirmation=Confirmation(1, 1))
        run_inline(study, tmp_path, workers=2)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        measure(40)  # caches are filled once
        small, large = measure(40), measure(140)
    finally:
        tracemalloc.stop()
    assert (large - small) / 100 < MAX_BYTES


def test_the_controller_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    step = controller.step

    def measured(state: State, event: Event, now: float) -> tuple[State, tuple[Command, ...]]:
        state, commands = step(state, event, now)
        sizes.append(len(state.waiting) + sum(len(c.tasks) for cs in state.running.values() for c in cs))
        return state, commands

    monkeypatch.setattr(controller, "step", measured)
    monkeypatch.setattr(controller, "CHUNK_S", 0.01)
    run_inline(bowl_study(rounds=(1_500,), epochs=1), tmp_path, workers=2)
    third = len(sizes) // 3
    assert max(sizes[-third:]) <= 1.5 * max(sizes[:third])


def test_many_small_chunks_leave_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "MAX_CHUNK", 1)
    monkeypatch.setattr(loop, "RECORD_S", 0.0)
    monkeypatch.setattr(loop, "RECORD_FACTOR", 0)
    monkeypatch.setattr(ledger, "MERGE_AT", 4)
    run = run_inline(bowl_study(rounds=(80,), epochs=1), tmp_path)
    assert len(list(run.path.rglob("*.parquet"))) < 20


def test_the_loop_forgets_recorded_trials(loops: list[Loop], tmp_path: Path) -> None:
    run_inline(bowl_study(), tmp_path)
    (finished,) = loops
    state = finished._state
    assert not finished._ledger.has_unwritten
    assert (len(state.waiting), dict(state.paused), any(state.running.values())) == (0, {}, False)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_late_trials_cost_as_much_as_early_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = install_meter(monkeypatch, lambda: 0)
    run_inline(bowl_study(rounds=(20_000,), epochs=1), tmp_path, workers=2)
    assert meter.per_trial(13_000, 20_000)[0] < MAX_RATIO * meter.per_trial(0, 7_000)[0]


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.ray
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads its memory from /proc")
def test_a_long_study_on_ray_stays_small_and_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = install_meter(monkeypatch, read_resident_memory)
    run = run_study(bowl_study(rounds=(20_000,), epochs=1), runs=tmp_path, workers=2, progress=False)
    early_s, _ = meter.per_trial(2_000, 6_000)
    late_s, _ = meter.per_trial(16_000, 20_000)
    assert late_s < MAX_RATIO * early_s
    assert meter.per_trial(4_000, 20_000)[1] < MAX_RESIDENT_BYTES
    assert sum(path.is_file() for path in run.path.rglob("*")) <= 100
    began = time.process_time()
    assert len(load(run.path).trials) == len(run.trials)
    show(load(run.path), Console(quiet=True))
    assert time.process_time() - began < 10
