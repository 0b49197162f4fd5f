"""Retries on real backends: the frames are those of a run in which nothing failed."""

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import caviar as cv
from caviar.backends.inline import InlineBackend
from caviar.data.splits import Split
from caviar.driver.backend import BackendEvent
from caviar.driver.messages import ChunkDone, Task, WorkerJoined, WorkerLost
from caviar.operations.run import run_study
from caviar.records.frames import Run
from caviar.study import Study
from caviar.trial import Cause, Outcome
from tests.functions import function_study, noisy_bowl
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, run_inline, run_on_ray

FLAKY = range(0, 100, 3)
"""Numbers of the trials that raise at first."""
ROUNDS = (20, cv.Round(10, 3, cv.Halving(rungs=(1, 2), cohort=9)))


@dataclass(frozen=True)
class Flaky:
    """A function that raises, in every third trial, on the first attempt at each of its parts, after one report."""

    folder: str

    def __call__(self, params: dict[str, Any], trial: cv.TrialContext) -> None:
        mark = Path(self.folder, f"{trial.number}-{trial.until}")
        if trial.number in FLAKY and not mark.exists():
            mark.touch()
            trial.report(trial.trained + 1, loss=0.0, draws=0.0)
            raise ConnectionError("the network is down")
        noisy_bowl(params, trial)


def flaky_study(folder: Path, errors: int) -> cv.Study:
    folder.mkdir()
    study = function_study(Flaky(str(folder)), rounds=ROUNDS)
    return replace(study, retries=cv.Retries(errors=errors))


@pytest.mark.parametrize(
    "run",
    [
        run_inline,
        pytest.param(run_on_ray, marks=pytest.mark.ray),
    ],
)
def test_retried_exceptions_show_in_the_attempt_alone(
    tmp_path: Path, run: Callable[[cv.Study, Path, int], Run]
) -> None:
    retried = run(flaky_study(tmp_path / "marks", errors=3), tmp_path, 2)
    assert_same_frames(run_inline(function_study(rounds=ROUNDS), tmp_path), retried)
    flaky = retried.trials["trial"].isin(FLAKY)
    assert (retried.trials.loc[flaky, "attempt"] > 1).all()
    assert (retried.trials.loc[~flaky, "attempt"] == 1).all()


def test_exceptions_are_not_retried_by_default(tmp_path: Path) -> None:
    trials = run_inline(flaky_study(tmp_path / "marks", errors=0), tmp_path).trials
    flaky = trials[trials["trial"].isin(FLAKY)]
    assert set(flaky["outcome"]) == {Outcome.FAILED}
    assert set(flaky["attempt"]) == {1}
    assert flaky["failure"].str.startswith("ConnectionError: the network is down").all()


class Unreliable(InlineBackend):
    """Workers that report every chunk twice, and of which some are lost: their results arrive late, right and wrong."""

    def __init__(self, study: Study, workers: int) -> None:
        super().__init__(study.objective, None, workers)
        self._late: list[BackendEvent] = []
        self._polls = 0
        self._causes = itertools.cycle([Cause.MEMORY, Cause.NODE, Cause.PREEMPTED])

    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        if worker in self._workers:
            super().submit(worker, chunk, tasks, test)

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        self._polls += 1
        events: list[BackendEvent] = []
        for event in super().poll(timeout_s):
            if not isinstance(event, ChunkDone) or event.worker not in self._workers:
                events.append(event)
            elif self._polls % 4 == 0:
                events += self._lose(event)
            else:
                events += [event, event]
        if self._polls % 3 == 0:
            events += self._late
            self._late = []
        return events

    def _lose(self, done: ChunkDone) -> list[BackendEvent]:
        """Replace a worker that has just finished a chunk; return its loss, twice, and wrong results."""
        new_name = f"inline-again-{self._polls}"
        self._workers[new_name] = self._workers.pop(done.worker)
        chunks = {chunk for worker, chunk, *_ in self._queue if worker == done.worker} | {done.chunk}
        self._queue = deque(sent for sent in self._queue if sent[0] != done.worker)
        wrong = replace(done.results[0], value=-1e9, measurements=(), checkpoint={"epoch": 99})
        wrongly_done = replace(done, results=(wrong, *done.results[1:]))
        self._late += [wrongly_done, done]
        lost = WorkerLost(done.worker, next(self._causes), "a test lost it", frozenset(chunks))
        return [lost, wrongly_done, WorkerJoined(new_name), lost]


def test_late_and_repeated_results_change_nothing(tmp_path: Path) -> None:
    study = bowl_study(rounds=(30, cv.Round(20, 9, cv.Halving(cohort=9))), epochs=9)
    study = replace(study, retries=cv.Retries(memory=50, nodes=50))
    backend = Unreliable(study, workers=3)
    run = run_study(study, runs=tmp_path, progress=False, backend=lambda dataset: backend)
    assert_same_frames(run_inline(study, tmp_path), run)
    assert (run.trials["attempt"] > 1).any(), "no worker was lost"


@pytest.mark.parametrize("wrong", [{"errors": -1}, {"crashes": 1.5}, {"nodes": True}, {"memory": "1"}])
def test_invalid_retries_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(cv.StudyError, match=f"{next(iter(wrong))} must be a whole number"):
        cv.Retries(**wrong)


def test_a_study_with_other_retries_cannot_resume_a_run(tmp_path: Path) -> None:
    study = bowl_study(rounds=(4,))
    run = run_inline(study, tmp_path)
    other = replace(study, retries=cv.Retries(errors=3))
    assert other != study
    with pytest.raises(cv.RunError, match="differs in retries"):
        other.resume(run.path)


def test_retries_must_be_a_retries_object() -> None:
    with pytest.raises(cv.StudyError, match=r"retries must be cv.Retries\(...\), not 3"):
        replace(bowl_study(), retries=3)  # type: ignore[arg-type]
