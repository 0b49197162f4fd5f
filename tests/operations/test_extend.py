"""Extensions of finished studies: what they learn from, what stays as it is, and what is refused."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

import caviar as cv
from caviar.errors import DamagedError, RunError, StudyError
from caviar.operations.resume import extend_study, resume_study
from caviar.records import json_files, winner
from caviar.records.frames import Run, load
from caviar.records.winner import BEST
from caviar.reporting.report.page import render
from caviar.rounds import Confirmation, Halving, Round, Search
from caviar.study import Study
from caviar.training.classifier import Classifier
from caviar.trial import Stage, Value
from tests.objectives import bowl_study
from tests.reporting.test_summary import shown
from tests.runs import Failing, assert_same_frames, inline, resume_inline, run_inline, run_until_failure

SEARCH = bowl_study(rounds=(Search(16, 2, in_flight=4),), confirmation=Confirmation(3))


def extend_inline(study: Study, run: Run, trials: int, workers: int = 1) -> Run:
    """Extend a run in this process."""
    return extend_study(study, run.path, trials, progress=False, backend=inline(study, workers))


def extend_until_failure(study: Study, run: Run, trials: int, polls: int) -> bool:
    """Extend a run on a cluster that dies after some polls; return False if the extension ended before."""

    def make(dataset: Any) -> Failing:
        backend = Failing(study.objective, dataset)
        backend.polls_left = polls
        return backend

    try:
        extend_study(study, run.path, trials, progress=False, backend=make)
    except cv.ClusterError:
        return True
    return False


def rows_of(run: Run, stage: Stage, first_round: int) -> pd.DataFrame:
    trials = run.trials
    return trials[(trials["stage"] == stage) & (trials["round"] >= first_round)]


def quiet(params: Mapping[str, Value]) -> float:
    """Return a value without noise."""
    return (float(params["x"]) - 0.3) ** 2  # type: ignore[arg-type]


def quiet_study(**changed: Any) -> Study:
    declared = {"name": "quiet", "space": cv.Space(x=cv.linear(0, 1)), "rounds": cv.coarse_to_fine(40, 1)}
    return Study(**{**declared, "objective": cv.Function(quiet), **changed})


STUDIES = {
    "search": SEARCH,
    "rounds": bowl_study(rounds=(9, Round(6, 3)), confirmation=Confirmation(3)),
    "halving": bowl_study(rounds=(Search(30, 9, 8, Halving(cohort=4)),), confirmation=Confirmation(3)),
    "tpe": replace(SEARCH, sampler="tpe"),
    "no noise": quiet_study(),
    "own sampler": quiet_study(
        sampler=lambda seed: optuna.samplers.GridSampler({"x": [n / 99 for n in range(100)]}, seed=seed)
    ),
}


@pytest.mark.parametrize("name", STUDIES)
def test_extensions_keep_all_earlier_rows(tmp_path: Path, name: str) -> None:
    study = STUDIES[name]
    run = run_inline(study, tmp_path)
    for trials in (12, 3):
        before = load(run.path)
        last = before.trials["round"].max()
        run = extend_inline(study, before, trials)
        assert run.finished
        kept = run.trials[run.trials["trial"].isin(before.trials["trial"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(kept, before.trials, check_exact=True)
        pd.testing.assert_frame_equal(
            run.rounds.head(len(before.rounds)), before.rounds, check_exact=True, check_dtype=False
        )
        new = run.trials[~run.trials["trial"].isin(kept["trial"])]
        assert new["trial"].min() > kept["trial"].max()
        assert new["round"].min() > last
        assert run.trials["trial"].is_unique
        assert run.trials["seed"][run.trials["stage"] != Stage.FINAL].is_unique
        planned = new[(new["stage"] == Stage.SEARCH)].head(trials)
        assert len(planned) == trials
        assert (planned["learned_from"] > kept["trial"].max()).all()
        assert (new["stage"] == Stage.CONFIRMATION).any()
        resumed = resume_inline(study, run.path)
        pd.testing.assert_frame_equal(resumed.trials, run.trials)


def test_a_sampler_goes_on_where_it_was(tmp_path: Path) -> None:
    study = STUDIES["own sampler"]
    run = extend_inline(study, run_inline(study, tmp_path), 40)
    assert run.trials.loc[run.trials["stage"] == Stage.SEARCH, "params_x"].is_unique


def test_an_extension_searches_near_the_elite(tmp_path: Path) -> None:
    study = bowl_study(rounds=(Search(80, 3, in_flight=8),))
    run = extend_inline(study, run_inline(study, tmp_path), 40)
    entries = run.rounds[run.rounds["parameter"] == "rate"]
    declared, later = entries[entries["round"] == 1], entries[entries["learned_from"] > 80]
    assert later["width"].max() <= entries.loc[entries["learned_from"] <= 80, "width"].min()
    assert (later["action"] != "declared").all()
    assert later["high"].max() < 0.5 * declared["high"].iloc[0]


@pytest.mark.parametrize(
    ("name", "every"),
    [
        ("search", 16),
        *(pytest.param(name, 7, marks=pytest.mark.slow) for name in ("search", "halving", "no noise")),
    ],
)
def test_an_interrupted_extension_comes_to_the_same_end(tmp_path: Path, name: str, every: int) -> None:
    """Whenever the cluster dies; and the winner before the extension can be read all the time."""
    study = STUDIES[name]
    whole = extend_inline(study, run_inline(study, tmp_path / "whole"), 12, workers=3)
    run = run_inline(study, tmp_path)
    before, polls = run.best, 1
    assert before is not None
    while extend_until_failure(study, load(run.path), 12, polls):
        broken = load(run.path)
        if not broken.finished:
            assert broken.best is not None
            assert replace(broken.best, location=before.location) == before
            assert broken.best_so_far == broken.best
            assert "extension 1" in shown(broken)
            with pytest.raises(RunError, match="not finished"):
                extend_inline(study, broken, 12)
        assert_same_frames(resume_inline(study, run.path), whole)
        polls += every
        run = run_inline(study, tmp_path / str(polls))
    assert polls > 20


def test_an_extension_can_be_ended_early(tmp_path: Path) -> None:
    study = SEARCH
    run = run_inline(study, tmp_path)
    assert extend_until_failure(study, run, 200, polls=12)
    finished = resume_study(study, run.path, progress=False, finish=True, backend=inline(study))
    searched = rows_of(finished, Stage.SEARCH, 1 + run.trials["round"].max())
    assert finished.finished
    assert 0 < len(searched) < 200
    assert f"extension 1 was ended after {len(searched)} of 200 trials" in shown(finished)
    again = extend_inline(study, finished, 5)
    assert again.finished
    assert again.study_file.extensions[0]["search_ended"]
    assert not again.study_file.extensions[1]["search_ended"]


def test_a_study_that_was_ended_early_can_be_extended(tmp_path: Path) -> None:
    study = bowl_study(rounds=(30, 400))
    run = run_until_failure(study, tmp_path)
    finished = resume_study(study, run.path, progress=False, finish=True, backend=inline(study))
    extended = extend_inline(study, finished, 30)
    assert extended.finished
    new = rows_of(extended, Stage.SEARCH, 1 + finished.trials["round"].max())
    assert len(new) == 30
    assert resume_inline(study, run.path).finished


# The winner


def test_the_same_winner_is_not_trained_again(tmp_path: Path) -> None:
    study = quiet_study(space=cv.Space(x=cv.choice(0.1, 0.3, 0.9)), rounds=[Round(20, 1), Confirmation(3)])
    run = run_inline(study, tmp_path)
    extended = extend_inline(study, run, 1)
    assert run.winner == extended.winner
    assert extended.study_file.extensions[0]["keeps_winner"]
    assert extended.finished
    assert not len(rows_of(extended, Stage.FINAL, 1 + run.trials["round"].max()))
    assert extended.confirmed["winner"].sum() == 1


def iris(seed: int = 0) -> Study:
    return Study(
        name="iris",
        objective=Classifier(data="sklearn:iris"),
        space=cv.Space(learning_rate=cv.log(1e-4, 1.0), units=cv.choice(4, 16)),
        rounds=[Search(8, 3, in_flight=2), Confirmation(2)],
        seed=seed,
    )


@pytest.fixture(scope="module")
def extensions(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, tuple[Run, Run]]:
    """Runs before and after an extension that keeps the winner, and before and after one that finds another."""
    found: dict[bool, tuple[Run, Run]] = {}
    for seed in range(12):
        folder = tmp_path_factory.mktemp("iris")
        before = run_inline(iris(seed), folder / "before")
        same = run_inline(iris(seed), folder / "after")
        after = extend_inline(iris(seed), same, 4)
        found.setdefault(bool(after.study_file.extensions[0]["keeps_winner"]), (before, after))
        if len(found) == 2:
            break
    assert len(found) == 2
    return found


def test_a_kept_network_is_not_scored_again(extensions: dict[bool, tuple[Run, Run]]) -> None:
    before, after = extensions[True]
    assert before.best is not None
    assert after.best is not None
    assert (after.trials["stage"] == Stage.FINAL).sum() == 1
    assert after.best.test_uses == 1
    kept = {
        name: getattr(before.best, name) for name in ("trial", "params", "seed", "test_accuracy", "files")
    }
    assert {name: getattr(after.best, name) for name in kept} == kept
    assert after.best.network() is not None
    assert "came to the same winner" in shown(after)
    assert "rows that nothing else used" in shown(after, width=200)


def test_an_extension_confirms_a_rival_of_the_winner(tmp_path: Path) -> None:
    study = bowl_study(rounds=(Search(16, 2, in_flight=4),), confirmation=Confirmation(1))
    run = run_inline(study, tmp_path)
    assert run.best is not None
    extended = extend_inline(study, run, 1)
    contenders = extended.confirmed["trial"].tolist()
    assert len(contenders) == 2
    assert run.best.trial in contenders
    note = "extension 1, with 1 search trial,"
    assert note in shown(extended)
    assert note in render(extended)


def test_an_extension_accepts_an_edited_function(tmp_path: Path) -> None:
    study = quiet_study()
    run = run_inline(study, tmp_path)
    edited = quiet_study(objective=cv.Function(lambda params: quiet(params) + 0.0))
    with pytest.raises(RunError, match="--same-function"):
        extend_inline(edited, run, 4)
    extended = extend_study(
        edited, run.path, 4, progress=False, same_function=True, backend=inline(edited, 1)
    )
    (edit,) = extended.study_file.edits
    assert edit["after_trials"] == len(run.trials)
    assert_same_frames(extended, resume_inline(edited, run.path))


def test_another_winner_is_scored_and_counted(extensions: dict[bool, tuple[Run, Run]]) -> None:
    before, after = extensions[False]
    assert before.best is not None
    assert after.best is not None
    final = after.trials[after.trials["stage"] == Stage.FINAL]
    assert final["test_accuracy"].notna().all()
    assert len(final) == 2
    assert (before.best.test_uses, after.best.test_uses) == (1, 2)
    assert after.best.test_accuracy == final["test_accuracy"].iloc[-1]
    assert after.best.trial == final["confirms"].iloc[-1] == after.winner
    assert after.best.network() is not None
    assert sorted((after.location / "best").files()) == ["best.json"]
    assert "used 2 times, for 2 winners in turn" in shown(after, width=200)


def test_the_earlier_winner_is_readable_until_the_new_one_is(
    tmp_path: Path, extensions: dict[bool, tuple[Run, Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = extensions[False]
    study = iris(before.study["seed"])
    run = run_inline(study, tmp_path)
    write = json_files.write_checked

    def die(file: Any, content: Any) -> None:
        if str(file).endswith(BEST):
            raise KeyboardInterrupt
        write(file, content)

    monkeypatch.setattr(winner, "write_checked", die)
    with pytest.raises(cv.InterruptedStudy):
        extend_inline(study, run, 4)
    broken = load(run.path)
    assert not broken.finished
    assert broken.best is not None
    broken.best.require_files()
    assert broken.best == replace(before.best, location=broken.best.location)  # type: ignore[type-var]
    monkeypatch.undo()
    resumed = resume_inline(study, run.path)
    assert resumed.best is not None
    resumed.best.require_files()
    assert_same_frames(resumed, after)


def remove_final_rows(run: Run) -> None:
    """Damage the file with the last rows."""
    file = max((run.path / "trials").glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-40])


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("harm", [remove_final_rows, lambda run: (run.path / BEST).unlink()])
def test_a_repair_restores_an_extended_run(
    tmp_path: Path, extensions: dict[bool, tuple[Run, Run]], keeps: bool, harm: Callable[[Run], None]
) -> None:
    after = extensions[keeps][1]
    study = iris(after.study["seed"])
    run = extend_inline(study, run_inline(study, tmp_path), 4)
    harm(run)
    repaired = resume_inline(study, run.path, repair=True)
    assert_same_frames(repaired, after)
    assert repaired.best is not None
    assert after.best is not None
    assert repaired.best == replace(after.best, location=repaired.best.location)
    repaired.best.require_files()


# What is refused


def test_a_run_without_its_winner_is_not_extended(tmp_path: Path) -> None:
    run = run_inline(SEARCH, tmp_path)
    (run.path / BEST).unlink()
    with pytest.raises(DamagedError, match="is missing"):
        extend_inline(SEARCH, run, 5)


def test_an_unfinished_run_is_not_extended(tmp_path: Path) -> None:
    run = run_until_failure(bowl_study(), tmp_path)
    with pytest.raises(RunError, match="is not finished"):
        extend_inline(bowl_study(), run, 5)


@pytest.mark.parametrize("trials", [0, -3, 2.5, True, 10**9])
def test_impossible_numbers_of_trials_are_refused(tmp_path: Path, trials: Any) -> None:
    run = run_inline(SEARCH, tmp_path)
    with pytest.raises(StudyError, match="trials"):
        extend_inline(SEARCH, run, trials)
    assert not load(run.path).study_file.extensions


def test_another_study_is_not_extended(tmp_path: Path) -> None:
    run = run_inline(SEARCH, tmp_path)
    with pytest.raises(RunError, match="another study"):
        extend_inline(replace(SEARCH, seed=1), run, 5)


def test_a_grid_is_not_extended(tmp_path: Path) -> None:
    study = quiet_study(sampler="grid")
    with pytest.raises(StudyError, match="as many points"):
        extend_inline(study, run_inline(study, tmp_path), 5)
