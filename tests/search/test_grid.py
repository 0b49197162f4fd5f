"""A grid has a point for each trial, evenly spaced on the scales, and is never narrowed."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caviar.errors import StudyError
from caviar.rounds import Confirmation, Search
from caviar.search.grid import MAX_TRIALS, grid_points
from caviar.space import Choice, Space, choice, integer, linear, log, reverse_log, when
from tests import strategies
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, resume_inline, run_inline, run_until_failure

PLANE = Space(rate=log(1e-4, 1.0), beta=reverse_log(0.9, 0.999))


def identities(points: list[Any]) -> set[frozenset[Any]]:
    return {frozenset((name, repr(value)) for name, value in point.items()) for point in points}


def test_a_square_grid_is_complete_and_even() -> None:
    points = grid_points(PLANE, 9, seed=0)
    rates, betas = ({float(f"{p[name]:.12g}") for p in points} for name in ("rate", "beta"))
    assert rates == {1e-4, 1e-2, 1.0}
    assert betas == {0.9, 0.99, 0.999}
    assert len(identities(points)) == 9
    assert grid_points(PLANE, 9, seed=0) == points
    assert grid_points(PLANE, 9, seed=1) != points


def test_all_trials_of_an_odd_number_differ() -> None:
    points = grid_points(PLANE, 10, seed=0)
    assert len(identities(points)) == 10
    assert {len({p[name] for p in points}) for name in PLANE} == {3, 4}


def test_choices_have_all_options_and_conditions_add_no_copies() -> None:
    space = Space(
        kind=choice("a", "b", None), deep=when(linear(0, 1), kind="b"), layers=integer(1, 4), rate=log(1, 100)
    )
    points = grid_points(space, 80, seed=0)
    assert len(identities(points)) == 80
    assert {p["kind"] for p in points} == {"a", "b", None}
    assert all(("deep" in p) == (p["kind"] == "b") for p in points)
    assert {p["layers"] for p in points} == {1, 2, 3, 4}


@settings(max_examples=40)
@given(strategies.spaces, st.integers(1, 200), st.integers(0, 2**63))
def test_grids_of_any_space_hold_its_trials(space: Space, count: int, seed: int) -> None:
    try:
        points = grid_points(space, count, seed)
    except StudyError:
        sizes = (len(p.domain.options) if isinstance(p.domain, Choice) else 2 for p in space.values())
        assert math.prod(sizes) > count
        return
    assert len(points) == count
    assert all(value in space[name].domain for p in points for name, value in p.items())
    repeats = Counter(frozenset((name, repr(value)) for name, value in p.items()) for p in points)
    assert max(repeats.values()) - min(repeats.values()) <= 1
    backward = Space(**{name: space[name] for name in reversed(list(space))})
    assert grid_points(backward, count, seed) == points


def test_points_keep_the_constraints() -> None:
    where = [lambda p: p["b"] <= p["a"], lambda p: 1 < p["b"] < 9]
    space = Space(a=integer(1, 9), b=linear(1, 9), where=where)
    points = grid_points(space, 30, seed=0)
    assert all(map(space.allows, points))
    assert len(identities(points)) == 30


@pytest.mark.parametrize(
    ("space", "count"),
    [
        (Space(**{name: linear(0, 1) for name in "abcdefgh"}), 255),
        (Space(kind=choice(*range(9))), 8),
        (PLANE, MAX_TRIALS + 1),
    ],
)
def test_grids_that_do_not_fit_are_refused(space: Space, count: int) -> None:
    with pytest.raises(StudyError, match="grid"):
        grid_points(space, count, seed=0)


def test_a_grid_that_does_not_fit_is_refused_before_work(tmp_path: Path) -> None:
    study = replace(bowl_study(rounds=(3, 2)), sampler="grid")
    with pytest.raises(StudyError, match="sampler='grid'"):
        run_inline(study, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_study_trains_each_point_once_without_narrowing(tmp_path: Path) -> None:
    study = replace(
        bowl_study(rounds=(Search(40, 3, in_flight=6),), confirmation=Confirmation(3, 2)),
        sampler="grid",
        try_first=[{"rate": 0.02}],
    )
    run = run_inline(study, tmp_path / "whole", workers=3)
    search = run.trials[run.trials["stage"] == "search"]
    columns = ["params_rate", "params_method", "params_beta"]
    assert not search[columns].duplicated().any()
    assert search["given"].tolist() == [True] + [False] * 39
    rates = search["params_rate"][1:].nunique()
    assert rates <= 9  # 3 methods, of which one has values of beta
    assert set(run.rounds["action"]) == {"declared", "kept"} or set(run.rounds["action"]) == {"declared"}
    assert_same_frames(run, resume_inline(study, run_until_failure(study, tmp_path).path))
