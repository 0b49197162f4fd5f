"""Studies that start from another run: what they take, how they draw, and whether it helped."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import caviar as cv
from caviar.errors import RunError, StudyError
from caviar.records.frames import Run, load
from caviar.records.start_from import fit_into
from caviar.reporting.run_json import run_document
from caviar.rounds import Confirmation, Search
from caviar.space import Space, choice, integer, linear, log, when
from caviar.starting_point import Origin, StartingPoint
from caviar.study import Study
from caviar.trial import Stage
from tests.objectives import Bowl, bowl_study
from tests.reporting.test_summary import shown
from tests.runs import assert_same_frames, resume_inline, run_inline, run_until_failure

OLD = bowl_study(rounds=(Search(60, 2, in_flight=15),), confirmation=Confirmation(3))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_inline(OLD, tmp_path_factory.mktemp("old"))


def starting(old: Any, trials: int = 60, **changed: Any) -> Study:
    """Return a study that starts from another run."""
    study = bowl_study(
        rounds=(Search(trials, 2, in_flight=trials // 4),), confirmation=Confirmation(3), seed=7
    )
    return replace(study, **{"name": "new", "start_from": old, **changed})


def test_the_best_configurations_come_first(tmp_path: Path, old: Run) -> None:
    run = run_inline(starting(old.path), tmp_path)
    start = StartingPoint.from_json(run.study["start_from"])
    assert old.best is not None
    assert start.elite[0] == old.best.params
    first = run.trials.head(start.trained_first)
    assert (first["origin"] == Origin.START).all()
    assert first["params_rate"].tolist() == [params["rate"] for params in start.first]
    assert (start.source, start.study, start.trained_first) == (str(old.path), "bowl", 3)


def test_early_draws_lie_near_the_start_and_elsewhere(tmp_path: Path, old: Run) -> None:
    run = run_inline(starting(old, trials=200), tmp_path)
    early = run.trials[run.trials["learned_from"].eq(0) & run.trials["stage"].eq(Stage.SEARCH)]
    counts = early["origin"].value_counts()
    assert 0.2 < counts[Origin.WHOLE_SPACE] / len(early) < 0.5
    near = early[early["origin"] == Origin.NEAR_START]
    rates = [float(str(p["rate"])) for p in StartingPoint.from_json(run.study["start_from"]).elite]
    assert near["params_rate"].between(min(rates) / 10, max(rates) * 10).all()
    later = run.trials[(run.trials["learned_from"] > 0) & (run.trials["stage"] == Stage.SEARCH)]
    assert set(later["origin"]) == {Origin.SEARCH, Origin.WHOLE_SPACE}
    assert run.rounds["reason"].iloc[0].startswith("in bowl, ")


def test_a_resumed_study_needs_the_other_run_no_more(tmp_path: Path, old: Run) -> None:
    shutil.copytree(old.path, tmp_path / "old")
    study = starting(str(tmp_path / "old"))
    whole = run_inline(study, tmp_path / "whole")
    broken = run_until_failure(study, tmp_path)
    shutil.rmtree(tmp_path / "old")
    assert_same_frames(resume_inline(study, broken.path), whole)
    with pytest.raises(RunError, match="start_from"):
        resume_inline(replace(study, start_from="elsewhere"), broken.path)
    with pytest.raises(RunError, match="start_from"):
        resume_inline(replace(study, start_from=None), broken.path)


def test_it_says_whether_the_start_helped(tmp_path: Path, old: Run) -> None:
    run = run_inline(starting(old, trials=120), tmp_path)
    effect = run.start_effect
    assert effect is not None
    assert effect.verdict == "it helped"
    assert 0.5 < effect.low < effect.probability <= effect.high <= 1
    assert effect.best_started <= effect.median_started < effect.median_whole
    assert "it helped" in shown(run, width=200)
    assert run_document(run)["start_effect"]["verdict"] == "it helped"


def test_a_start_from_a_bad_place_is_said_to_mislead(tmp_path: Path) -> None:
    far = replace(OLD, space=Space(rate=log(0.5, 1.0), method=choice("plain", "heavy", None)))
    run = run_inline(starting(run_inline(far, tmp_path), trials=120), tmp_path)
    effect = run.start_effect
    assert effect is not None
    assert effect.verdict == "it misled"
    assert run.best is not None
    assert run.best.params["rate"] < 0.1, "the search could not leave the start"  # type: ignore[operator]


def test_a_study_on_its_own_has_no_start_effect(old: Run) -> None:
    assert old.start_effect is None
    assert "origin" not in old.trials.columns


# Spaces that differ


def test_values_outside_the_space_are_left_out() -> None:
    space = Space(rate=log(0.01, 1.0), units=integer(4, 64), kind=choice("a", "b"), new=linear(0, 1))
    found = [
        {"rate": 0.5, "units": 8.0, "kind": "a", "gone": 3},
        {"rate": 0.001, "units": 8.5, "kind": "c", "gone": 4},
    ]
    fitting, notes = fit_into(space, found)  # type: ignore[arg-type]
    assert fitting == [{"rate": 0.5, "units": 8, "kind": "a"}, {}]
    assert type(fitting[0]["units"]) is int
    assert any("gone is only in the other space" in note for note in notes)
    assert any("new is only in this space" in note for note in notes)
    assert any("1 of 2 values of rate" in note for note in notes)


def test_a_condition_that_does_not_hold_drops_the_parameter() -> None:
    space = Space(kind=choice("a", "b"), x=when(linear(0, 1), kind="b"))
    assert fit_into(space, [{"kind": "a", "x": 0.5}])[0] == [{"kind": "a"}]


def test_a_study_with_another_space_starts_from_what_is_shared(tmp_path: Path, old: Run) -> None:
    space = Space(rate=log(1e-3, 0.5), momentum=linear(0, 1), method=choice("heavy", "other"))
    run = run_inline(starting(old, space=space), tmp_path)
    assert run.finished
    assert run.trials["params_momentum"].notna().all()
    assert "momentum is only in this space" in shown(run, width=200)


def test_configurations_that_the_constraints_refuse_are_left_out(tmp_path: Path, old: Run) -> None:
    space = OLD.space.with_parameters(dict(OLD.space))
    with pytest.raises(StudyError, match="none of its best"):
        run_inline(starting(old, space=Space(**space, where=lambda p: p["rate"] > 0.2)), tmp_path)


# What is refused


def test_an_unfinished_run_can_be_started_from(tmp_path: Path) -> None:
    run = run_until_failure(bowl_study(), tmp_path)
    started = run_inline(starting(run), tmp_path)
    assert "nothing has confirmed" in shown(started, width=200)


class Upside(Bowl):
    """The bowl, ranked the other way."""

    @property
    def maximize(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"objective": Upside()}, "same direction"),
        ({"space": Space(x=linear(0, 1), rate=choice(0.3, 0.4))}, "none of its best"),
        ({"sampler": "grid"}, "whole space to the end"),
        ({"start_from": 3}, "must be a run directory"),
    ],
)
def test_impossible_starts_are_refused(tmp_path: Path, old: Run, changed: dict[str, Any], why: str) -> None:
    with pytest.raises(StudyError, match=why):
        run_inline(starting(old, **changed), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run"):
        run_inline(starting(str(tmp_path / "nowhere")), tmp_path / "runs")


def test_a_run_with_too_few_trials_is_refused(tmp_path: Path) -> None:
    empty = replace(
        OLD, objective=cv.Function(fail, metric="loss"), rounds=[Search(4, 2, 4), Confirmation(2)]
    )
    with pytest.raises(StudyError):
        run_inline(empty, tmp_path)
    with pytest.raises(StudyError, match="at least 4 must"):
        run_inline(starting(load(tmp_path / "bowl")), tmp_path)


def fail(params: Any) -> float:
    raise ValueError("no")
