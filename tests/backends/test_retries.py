"""What is tried again, on real backends: the frames come out as if nothing had gone wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import caviar as cv
from caviar.backends.inline import InlineBackend
from caviar.backends.ray.backend import RayBackend
from caviar.data.splits import Split
from caviar.driver.backend import BackendEvent
from caviar.driver.messages import ChunkDone, Task, WorkerJoined, WorkerLost
from caviar.records.frames import Run
from caviar.runner import run_study
from caviar.study import Study
from caviar.trial import Cause, Outcome
from tests.functions import function_study, noisy_bowl
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, run_inline


@dataclass(frozen=True)
class Flaky:
    """Every third trial raises the first time that it, or a later part of it, comes along; halfway through."""

    folder: str

    def __call__(self, params: dict[str, Any], trial: cv.TrialContext) -> None:
        mark = Path(self.folder, f"{trial.number}-{trial.until}")
        if trial.number % 3 == 0 and not mark.exists():
            mark.touch()
            trial.report(trial.trained + 1, loss=0.0, draws=0.0)
            raise ConnectionError("the network is down")
        noisy_bowl(params, trial)


def flaky_study(folder: Path, halving: cv.Halving | None, errors: int) -> cv.Study:
    folder.mkdir()
    study = function_study(Flaky(str(folder)), halving=halving)
    return replace(study, retries=cv.Retries(errors=errors))


HALVINGS = pytest.mark.parametrize("halving", [None, cv.Halving(rungs=(1, 2), cohort=9)])


@HALVINGS
def test_an_exception_that_is_retried_leaves_no_trace_but_the_attempt(
    tmp_path: Path, halving: cv.Halving | None
) -> None:
    study = flaky_study(tmp_path / "marks", halving, errors=3)
    assert_flaky_trials_left_no_trace(run_inline(study, tmp_path, workers=2), halving, tmp_path)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@HALVINGS
def test_an_exception_that_is_retried_on_ray_leaves_no_trace_but_the_attempt(
    tmp_path: Path, halving: cv.Halving | None
) -> None:
    study = flaky_study(tmp_path / "marks", halving, errors=3)
    run = run_study(
        study,
        runs=tmp_path,
        progress=False,
        backend=lambda data: RayBackend(study.objective, data, workers=2),
    )
    assert_flaky_trials_left_no_trace(run, halving, tmp_path)


def assert_flaky_trials_left_no_trace(run: Run, halving: cv.Halving | None, runs: Path) -> None:
    assert_same_frames(run_inline(function_study(halving=halving), runs), run)
    flaky = run.trials["trial"].isin(range(0, 100, 3))
    assert (run.trials.loc[flaky, "attempt"] > 1).all()
    assert (run.trials.loc[~flaky, "attempt"] == 1).all()


def test_without_being_asked_an_exception_is_not_retried_and_its_row_names_it(tmp_path: Path) -> None:
    run = run_inline(flaky_study(tmp_path / "marks", None, errors=0), tmp_path)
    flaky = run.trials[run.trials["trial"].isin(range(0, 100, 3))]
    assert set(flaky["outcome"]) == {Outcome.FAILED}
    assert set(flaky["attempt"]) == {1}
    assert flaky["failure"].str.startswith("ConnectionError: the network is down").all()


class Unreliable(InlineBackend):
    """Its workers are lost after they have trained: what they trained arrives later, or twice, or both."""

    def __init__(self, study: Study, workers: int) -> None:
        super().__init__(study.objective, None, workers)
        self._late: list[BackendEvent] = []
        self._polls = 0
        self._causes = [cause for cause in Cause if cause not in (Cause.ERROR, Cause.CRASH, Cause.TIME)]

    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        if worker in self._workers:
            super().submit(worker, chunk, tasks, test)

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        self._polls += 1
        happened = super().poll(timeout_s)
        out: list[BackendEvent] = []
        for happening in happened:
            if not isinstance(happening, ChunkDone) or happening.worker not in self._workers:
                out.append(happening)
            elif self._polls % 4 == 0:
                out += self._lose(happening)
            else:
                out += [happening, happening]
        if self._polls % 3 == 0:
            out += self._late
            self._late = []
        return out

    def _lose(self, arrived: ChunkDone) -> list[BackendEvent]:
        engine = self._workers.pop(arrived.worker)
        chunks = {chunk for worker, chunk, *_ in self._queue if worker == arrived.worker} | {arrived.chunk}
        self._queue = type(self._queue)(sent for sent in self._queue if sent[0] != arrived.worker)
        name = f"inline-again-{self._polls}"
        self._workers[name] = engine
        cause = self._causes[self._polls // 4 % len(self._causes)]
        worse = replace(arrived.results[0], value=-1e9, measurements=(), checkpoint={"epoch": 99})
        self._late += [replace(arrived, results=(worse, *arrived.results[1:])), arrived]
        lost = WorkerLost(arrived.worker, cause, "struck by lightning", frozenset(chunks))
        return [lost, self._late[0], WorkerJoined(name), lost]


def lost_and_late(study: Study, runs: Path) -> Run:
    return run_study(study, runs=runs, progress=False, backend=lambda data: Unreliable(study, workers=3))


@pytest.mark.parametrize("halving", [None, cv.Halving(cohort=9)])
def test_what_a_lost_worker_reports_late_or_anybody_reports_twice_changes_nothing(
    tmp_path: Path, halving: cv.Halving | None
) -> None:
    study = replace(bowl_study(epochs=9, halving=halving), retries=cv.Retries(memory=50, nodes=50))
    run = lost_and_late(study, tmp_path)
    assert_same_frames(run_inline(study, tmp_path), run)
    assert (run.trials["attempt"] > 1).any(), "no worker was lost"


@pytest.mark.parametrize("wrong", [{"errors": -1}, {"crashes": 1.5}, {"nodes": True}, {"memory": "1"}])
def test_retries_that_cannot_be_are_refused_when_they_are_declared(wrong: dict[str, Any]) -> None:
    with pytest.raises(cv.StudyError, match=f"Retries\\({next(iter(wrong))}=.*whole number from 0"):
        cv.Retries(**wrong)


def test_retries_are_part_of_what_was_asked(tmp_path: Path) -> None:
    study = bowl_study(rounds=(4,))
    run = run_inline(study, tmp_path)
    other = replace(study, retries=cv.Retries(errors=3))
    assert other != study
    with pytest.raises(cv.RunError, match="differs in retries"):
        other.resume(run.path)
    with pytest.raises(cv.StudyError, match=r"retries must be cv.Retries\(...\), not 3"):
        replace(study, retries=3)  # type: ignore[arg-type]
