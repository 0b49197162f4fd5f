"""Runs that are continued, ended early or repeated: what is refused, what is noted, and the winner."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import caviar as cv
from caviar.backends.inline import InlineBackend
from caviar.data.splits import Split
from caviar.driver.backend import BackendEvent
from caviar.driver.messages import Task
from caviar.errors import RunError
from caviar.operations.resume import resume_study
from caviar.operations.run import run_study
from caviar.records.frames import Run, load
from caviar.records.ledger import Ledger
from caviar.reporting.run_list import list_runs
from caviar.storage.local import Disk
from caviar.study import Study
from caviar.trial import Outcome, Stage
from tests.objectives import Bowl, bowl_study
from tests.reporting.test_summary import shown
from tests.runs import Failing, assert_same_frames, inline, resume_inline, run_inline, run_until_failure


def finish_inline(study: Study, run: Run) -> Run:
    return resume_study(study, run.path, progress=False, finish=True, backend=inline(study))


def function_study(fn: Callable[..., Any], **changed: Any) -> Study:
    declared = {"name": "mine", "space": cv.Space(x=cv.linear(0, 1)), "rounds": (cv.Round(40, 1),)}
    return cv.Study(**{**declared, "objective": cv.Function(fn), **changed})


def interrupted(study: Study, runs: Path, polls: int = 6) -> Run:
    def make(dataset: Any) -> Failing:
        backend = Failing(study.objective, dataset)
        backend.polls_left = polls
        return backend

    with pytest.raises(cv.ClusterError):
        run_study(study, runs=runs, progress=False, backend=make)
    return load(runs / study.name)


class SearchOnly(InlineBackend):
    """A backend that trains the search alone, and then dies."""

    confirms = False

    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        if tasks[0].trial.stage is Stage.SEARCH:
            super().submit(worker, chunk, tasks, test)
        else:
            self.confirms = True

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        events = super().poll(timeout_s)
        if self.confirms and not events:
            raise cv.ClusterError("the cluster has died")
        return events


# The best so far, and a search that is ended early


def test_an_unfinished_run_has_a_best_so_far(tmp_path: Path) -> None:
    run = run_until_failure(bowl_study(), tmp_path)
    best = run.best_so_far
    assert run.best is None
    assert best is not None
    row = run.trials.sort_values("value").iloc[0]
    assert (best.trial, best.value) == (row["trial"], row["value"])
    assert best.params["rate"] == row["params_rate"]
    finished = resume_inline(bowl_study(), run.path)
    assert finished.best_so_far == finished.best


def test_finishing_confirms_what_is_there(tmp_path: Path) -> None:
    study = bowl_study(rounds=(30, 400))
    run = interrupted(study, tmp_path)
    searched = len(run.trials)
    assert 0 < searched < 430
    finished = finish_inline(study, run)
    assert finished.finished
    trials = finished.trials
    assert (trials["stage"] == Stage.SEARCH).sum() == searched
    assert (trials["stage"] == Stage.CONFIRMATION).sum() > 0
    assert trials["trial"].is_unique
    best = finished.best
    assert best is not None
    completed = trials[(trials["stage"] == Stage.SEARCH) & (trials["outcome"] == Outcome.COMPLETED)]
    assert best.trial in completed.nsmallest(3, "value")["trial"].tolist()
    assert f"ended after {searched} of 430 trials" in shown(finished)
    assert_same_frames(finished, resume_inline(study, run.path))


def test_an_interrupted_finish_is_continued(tmp_path: Path) -> None:
    study = bowl_study(rounds=(30, 400))
    run, twin = interrupted(study, tmp_path / "one"), interrupted(study, tmp_path / "two")
    calls = []

    def make(dataset: Any) -> Failing:
        backend = Failing(study.objective, dataset)
        backend.polls_left = 3
        calls.append(backend)
        return backend

    with pytest.raises(cv.ClusterError):
        resume_study(study, run.path, progress=False, finish=True, backend=make)
    assert load(run.path).study_file.search_ended
    resumed = resume_inline(study, run.path)
    assert (resumed.trials["stage"] == Stage.SEARCH).sum() == (run.trials["stage"] == Stage.SEARCH).sum()
    assert_same_frames(resumed, finish_inline(study, twin))


def test_finishing_a_whole_search_changes_nothing(tmp_path: Path) -> None:
    run = run_inline(bowl_study(), tmp_path / "whole")
    with pytest.raises(cv.ClusterError):
        run_study(
            bowl_study(),
            runs=tmp_path,
            progress=False,
            backend=lambda data: SearchOnly(bowl_study().objective, data),
        )
    again = load(tmp_path / "bowl")
    assert (again.trials["stage"] == Stage.SEARCH).sum() == 50
    finished = finish_inline(bowl_study(), again)
    assert not finished.study_file.search_ended
    assert_same_frames(run, finished)


def test_a_run_without_completed_trials_cannot_be_finished(tmp_path: Path) -> None:
    study = bowl_study(rounds=(400,), objective=Bowl("raise", frozenset(range(400))))
    run = interrupted(study, tmp_path)
    assert (run.trials["outcome"] == Outcome.FAILED).all()
    with pytest.raises(RunError, match="no completed trial"):
        finish_inline(study, run)


# Other studies, and edited functions


def test_a_refused_resume_shows_old_and_new_values(tmp_path: Path) -> None:
    run = run_until_failure(bowl_study(), tmp_path)
    with pytest.raises(RunError, match=r"seed \(0 then, 7 now\)"):
        resume_inline(bowl_study(seed=7), run.path)
    with pytest.raises(RunError, match=r"rounds\[1\]\.trials \(20 then, 25 now\)"):
        resume_inline(bowl_study(rounds=(30, 25)), run.path)
    changed = function_study(lambda p: p["x"])
    with pytest.raises(RunError, match=r"name \(\"bowl\" then, \"mine\" now\).* and \d+ more"):
        resume_inline(changed, run.path)


def test_changed_data_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def study(text: str) -> Study:
        (tmp_path / "data.csv").write_text(text)
        objective = cv.Classifier(data=str(tmp_path / "data.csv"), target="label")
        return cv.Study(
            name="csv",
            objective=objective,
            space=cv.Space(learning_rate=cv.log(1e-3, 1.0)),
            rounds=[cv.Round(8, 1)],
        )

    rows = [f"{number % 7},{number % 5},{'ab'[number % 2]}" for number in range(200)]
    run = interrupted(study("\n".join(["one,two,label", *rows])), tmp_path / "runs", polls=4)
    with pytest.raises(RunError, match=r"train \(\d+ then, \d+ now\)"):
        resume_inline(study("\n".join(["one,two,label", *rows, *rows])), run.path)


def test_an_edited_function_is_refused_or_noted(tmp_path: Path) -> None:
    run = interrupted(function_study(lambda p: p["x"]), tmp_path, polls=3)
    recorded = len(run.trials)
    edited = function_study(lambda p: p["x"] + 0)
    with pytest.raises(RunError, match="--same-function"):
        resume_inline(edited, run.path)
    finished = resume_study(edited, run.path, progress=False, same_function=True, backend=inline(edited))
    (edit,) = finished.study_file.edits
    assert edit["after_trials"] == recorded
    assert edit["before"] != edit["after"]
    assert f"edited after {recorded} trial" in shown(finished)
    assert_same_frames(finished, resume_inline(edited, run.path))


def test_only_the_function_may_have_been_edited(tmp_path: Path) -> None:
    run = interrupted(function_study(lambda p: p["x"]), tmp_path, polls=3)
    other = function_study(lambda p: p["x"] + 0, seed=3)
    with pytest.raises(RunError, match=r"seed \(0 then, 3 now\)") as refused:
        resume_study(other, run.path, progress=False, same_function=True, backend=inline(other))
    assert "--same-function" not in str(refused.value)
    assert load(run.path).study_file.edits == ()


# Repetitions


def test_a_repeated_study_is_said_to_be_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_inline(bowl_study(), tmp_path)
    run_inline(bowl_study(seed=1), tmp_path)
    assert caplog.messages == []
    run_inline(bowl_study(), tmp_path)
    (message,) = caplog.messages
    assert f"`caviar show {tmp_path / 'bowl'}`" in message
    assert "same numbers" in message


def test_an_unfinished_repetition_can_be_continued(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_until_failure(bowl_study(), tmp_path, script=Path("bowl.py"))
    run_inline(bowl_study(), tmp_path)
    assert f"`caviar resume {tmp_path / 'bowl'}`" in caplog.messages[-1]
    assert caplog.records[-1].levelno == logging.WARNING


def test_a_taken_name_is_refused_before_workers_start(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").touch()
    with pytest.raises(RunError, match="exists already"):
        run_study(
            bowl_study(),
            runs=tmp_path,
            name="taken",
            progress=False,
            backend=lambda _: pytest.fail("workers were started"),
        )


# Lists


def test_a_list_has_a_line_for_each_run(tmp_path: Path) -> None:
    finished = run_inline(bowl_study(), tmp_path)
    run_until_failure(bowl_study(), tmp_path / "other")
    (tmp_path / "other" / "bowl").rename(tmp_path / "stopped")
    (tmp_path / "notes").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "study.json").write_text("{")
    header, *lines = list_runs(Disk(tmp_path)).splitlines()
    assert header.split() == ["run", "state", "trials", "best", "age", "size"]
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert rows.keys() == {"bowl", "broken", "stopped"}
    assert finished.best is not None
    assert rows["bowl"][:4] == ["finished", "65", "loss", f"{finished.best.value:.4f}"]
    assert rows["stopped"][0] == "unfinished"
    assert rows["broken"][0] == "unreadable"


def test_folders_of_runs_and_runs_are_told_apart(tmp_path: Path) -> None:
    run = run_until_failure(bowl_study(), tmp_path)
    with pytest.raises(RunError, match=f"caviar list {tmp_path}"):
        load(tmp_path)
    with pytest.raises(RunError, match=f"caviar show {run.path}"):
        list_runs(Disk(run.path))
    with pytest.raises(RunError, match="no runs"):
        list_runs(Disk(tmp_path / "none"))
    ledger = Ledger.reopen(run.location, run.study_file)
    assert "running" in list_runs(Disk(tmp_path))
    ledger.close()
