"""Law 6: memory grows by a finished trial's row at most, and a trial costs the same however many went before."""

import gc
import os
import time
import tracemalloc
from pathlib import Path

import pytest
from rich.console import Console

from caviar.driver import controller, loop
from caviar.driver.controller import State
from caviar.driver.loop import Loop
from caviar.driver.messages import Command, Event
from caviar.records.frames import load
from caviar.reporting.progress import NoProgress
from caviar.reporting.summary import show
from caviar.runner import run_study
from caviar.study import Study
from caviar.trial import Result
from tests.objectives import bowl_study
from tests.runs import inline

MOST_BYTES = 2_000
"""Of driver memory a finished trial."""
DEARER = 2.5
"""So much more processor time than an early trial a late one may take: even that depends on a machine's neighbours."""


class Clock(NoProgress):
    """Notes the processor time and the memory after every recorded batch."""

    def __init__(self) -> None:
        self.done = 0
        self.marks: list[tuple[int, float, int]] = []

    def recorded(self, results: list[Result]) -> None:
        self.done += len(results)
        self.marks.append((self.done, time.process_time(), tracemalloc.get_traced_memory()[0]))


def run_watched(study: Study, runs: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float, int]]:
    clock = Clock()
    monkeypatch.setattr("caviar.runner.NoProgress", lambda: clock)
    gc.collect()
    run_study(study, runs=runs, progress=False, backend=inline(study, workers=2))
    return clock.marks


def test_the_driver_keeps_little_of_a_finished_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "RECORD_FACTOR", 0)  # else a slow disk leaves a single mark
    study = bowl_study(rounds=(1_500,), epochs=1)
    tracemalloc.start()
    try:
        marks = run_watched(study, tmp_path, monkeypatch)
    finally:
        tracemalloc.stop()
    in_round = [mark for mark in marks if 300 <= mark[0] <= 1_500]
    (first, _, before), (last, _, after) = in_round[0], in_round[-1]
    assert (after - before) / (last - first) < MOST_BYTES


def test_the_controllers_state_does_not_grow_with_finished_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    step = controller.step

    def watched(state: State, event: Event, now: float) -> tuple[State, tuple[Command, ...]]:
        state, commands = step(state, event, now)
        sizes.append(len(state.waiting) + sum(len(c.tasks) for cs in state.running.values() for c in cs))
        return state, commands

    monkeypatch.setattr(controller, "step", watched)
    monkeypatch.setattr(controller, "CHUNK_S", 0.01)
    study = bowl_study(rounds=(2_000,), epochs=1)
    run_study(study, runs=tmp_path, progress=False, backend=inline(study, workers=2))
    third = len(sizes) // 3
    assert max(sizes[-third:]) <= 1.5 * max(sizes[:third])


def test_few_files_are_left_however_many_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "MAX_CHUNK", 1)
    study = bowl_study(rounds=(700,), epochs=1)
    run = run_study(study, runs=tmp_path, progress=False, backend=inline(study))
    assert len(list(run.path.rglob("*.parquet"))) < 30


def test_the_loop_holds_nothing_of_trials_that_are_recorded(tmp_path: Path) -> None:
    kept: list[Loop] = []
    run = Loop.run

    def watched(self: Loop) -> bool:
        kept.append(self)
        return run(self)

    study = bowl_study()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "run", watched)
        run_study(study, runs=tmp_path, progress=False, backend=inline(study))
    (loop,) = kept
    assert not loop._unrecorded
    state = loop._state
    assert (len(state.waiting), dict(state.paused), any(state.running.values())) == (0, {}, False)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_twenty_thousand_trials_cost_the_same_from_first_to_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = run_watched(bowl_study(rounds=(20_000,), epochs=1), tmp_path, monkeypatch)
    third = 20_000 // 3

    def seconds(low: int, high: int) -> float:
        inside = [when for done, when, _ in marks if low <= done <= high]
        return inside[-1] - inside[0]

    assert seconds(20_000 - third, 20_000) < DEARER * seconds(0, third)


class Resident(NoProgress):
    """Notes the driver's processor time and its memory after every recorded batch."""

    def __init__(self) -> None:
        self.done = 0
        self.marks: list[tuple[int, float, int]] = []

    def recorded(self, results: list[Result]) -> None:
        self.done += len(results)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.marks.append((self.done, time.process_time(), pages * os.sysconf("SC_PAGE_SIZE")))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads its memory from /proc")
def test_a_long_study_on_ray_stays_as_small_and_as_quick_as_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Resident()
    monkeypatch.setattr("caviar.runner.NoProgress", lambda: watcher)
    run = run_study(bowl_study(rounds=(20_000,), epochs=1), runs=tmp_path, workers=2, progress=False)

    def between(low: int, high: int) -> tuple[float, float]:
        """From the last mark before to the first after: results are recorded some thousands at a time, at times."""
        first, cpu_s, size = max((mark for mark in watcher.marks if mark[0] <= low), default=watcher.marks[0])
        last, later_cpu_s, later_size = min(
            (mark for mark in watcher.marks if mark[0] >= high), default=watcher.marks[-1]
        )
        return (later_cpu_s - cpu_s) / (last - first), (later_size - size) / (last - first)

    early_s, _ = between(2_000, 6_000)
    late_s, _ = between(16_000, 20_000)
    assert late_s < DEARER * early_s
    assert between(4_000, 20_000)[1] < MOST_BYTES
    assert sum(path.is_file() for path in run.path.rglob("*")) <= 100
    began = time.process_time()
    assert len(load(run.path).trials) == len(run.trials)
    show(load(run.path), Console(quiet=True))
    assert time.process_time() - began < 10
