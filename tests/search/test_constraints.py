"""Draws keep the constraints of their space, whatever the sampler, and depend on nothing but the study."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from optuna.samplers import GridSampler, RandomSampler
from scipy import stats

from caviar.errors import SpaceError, StudyError
from caviar.rounds import Confirmation, Narrowing, Search
from caviar.search.region import Region
from caviar.search.sampling import Observation, draw_params
from caviar.space import Space, choice, integer, linear, log, when
from caviar.study import SamplerFactory
from caviar.trial import Value, derive_seed
from tests import strategies
from tests.functions import function_study
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, resume_inline, run_inline, run_until_failure
from tests.search.test_sampling import brute_force, fixed, near

SAMPLERS: list[str | SamplerFactory] = ["random", "qmc", "tpe", lambda seed: RandomSampler(seed=seed)]
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=["random", "qmc", "tpe", "custom"])
TRIANGLE = Space(
    x=linear(0, 1),
    y=linear(0, 1),
    kind=choice("a", "b"),
    deep=when(integer(1, 9), kind="b"),
    where=[lambda p: p["x"] <= p["y"], lambda p: p.get("deep", 1) < 8],
)


def drawn(space: Space, region: Region | None = None, **more: Any) -> list[dict[str, Value]]:
    plain = {"count": 40, "seed": 0, "round_number": 1, **more}
    rule = Narrowing(explore=0.2)
    return list(draw_params(region or Region(declared=space), rule, **plain))


def keeps_half(seed: int) -> Any:
    """Return a constraint that allows half of all params, whatever they are."""
    return lambda p: derive_seed(seed, repr(sorted(p.items()))) % 2 == 0


@settings(max_examples=40)
@given(strategies.spaces, st.integers(0, 2**63), st.sampled_from(SAMPLERS))
def test_no_draw_of_any_space_breaks_a_constraint(
    plain: Space, seed: int, sampler: str | SamplerFactory
) -> None:
    space = Space(**plain, where=keeps_half(seed))
    try:
        params = drawn(space, count=6, seed=seed, sampler=sampler)
    except (SpaceError, StudyError):
        assume(False)  # the space has a few points, and none of them is allowed
    assert len(params) == 6
    assert all(space.allows(p) for p in params)


@every_sampler
def test_draws_near_the_elite_keep_the_constraints(sampler: str | SamplerFactory) -> None:
    elite: list[dict[str, Value]] = [
        {"x": 0.5, "y": 0.5, "kind": "b", "deep": 7},
        {"x": 0.1, "y": 0.9, "kind": "a", "deep": 2},
    ]
    region = replace(near(TRIANGLE, *elite, width=0.3), finished=tuple(elite))
    history = [Observation(p, p["x"]) for p in drawn(TRIANGLE, seed=9)]  # type: ignore[arg-type]
    params = drawn(TRIANGLE, region, sampler=sampler, history=history)
    assert all(map(TRIANGLE.allows, params))
    assert drawn(TRIANGLE, region, sampler=sampler, history=history) == params


def test_a_region_without_room_is_left_for_the_whole_space() -> None:
    space = Space(x=linear(0, 1), y=linear(0, 1), where=lambda p: p["x"] <= p["y"])
    region = near(space, {"x": 0.9, "y": 0.1}, width=0.01)
    assert all(map(space.allows, drawn(space, region, count=5)))


def test_a_constraint_that_refuses_nothing_changes_no_draw() -> None:
    plain = Space(**dict(TRIANGLE))
    free = Space(**plain, where=lambda p: True)
    region = near(plain, {"x": 0.5, "y": 0.5, "kind": "b", "deep": 7}, width=0.3)
    for sampler in SAMPLERS:
        assert drawn(plain, sampler=sampler) == drawn(free, sampler=sampler)
        there = [replace(region, declared=space) for space in (plain, free)]
        assert drawn(plain, there[0], sampler=sampler) == drawn(free, there[1], sampler=sampler)


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.sets(st.integers(0, 39)), st.booleans())
def test_a_draw_depends_on_no_other_draw(seed: int, skipped: set[int], has_elite: bool) -> None:
    region = Region(declared=TRIANGLE)
    if has_elite:
        region = near(TRIANGLE, {"x": 0.4, "y": 0.5, "kind": "b", "deep": 7}, width=0.2)
    whole = drawn(TRIANGLE, region, seed=seed)
    done = {index: whole[index] for index in skipped}
    left = [params for index, params in enumerate(whole) if index not in skipped]
    assert drawn(TRIANGLE, region, seed=seed, done=done) == left
    assert drawn(TRIANGLE, region, seed=seed, count=7) == whole[:7]


def test_the_first_draws_are_uniform_over_what_is_allowed() -> None:
    space = Space(x=linear(0, 1), y=linear(0, 1), where=lambda p: p["x"] <= p["y"])
    params = drawn(space, count=3_000)
    smaller = np.array([p["x"] for p in params], float)
    larger = np.array([p["y"] for p in params], float)
    assert stats.kstest(1 - (1 - smaller) ** 2, "uniform").pvalue > 0.01
    assert stats.kstest(larger**2, "uniform").pvalue > 0.01


@pytest.mark.parametrize("sampler", [brute_force, None])
def test_users_samplers_go_through_all_that_is_allowed(sampler: SamplerFactory | None) -> None:
    values: Sequence[int] = range(6)
    space = Space(a=integer(0, 5), b=integer(0, 5), where=lambda p: p["a"] < p["b"])
    grid = sampler or (lambda seed: GridSampler({"a": list(values), "b": list(values)}, seed=seed))
    params = drawn(space, count=15, sampler=grid)
    assert {(p["a"], p["b"]) for p in params} == {(a, b) for a in values for b in values if a < b}


def test_a_sampler_that_never_keeps_them_is_refused_before_work(tmp_path: Path) -> None:
    space = Space(rate=log(1e-4, 1.0), method=choice("plain", None), where=lambda p: p["rate"] < 0.1)
    study = replace(bowl_study(), space=space, sampler=fixed({"rate": 1.0}))
    with pytest.raises(StudyError, match="constraints refuse"):
        run_inline(study, tmp_path)
    assert not list(tmp_path.iterdir())


def constrained_study(sampler: str | SamplerFactory = "random") -> Any:
    return replace(
        bowl_study(rounds=(Search(40, 3, in_flight=6),), confirmation=Confirmation(3, 2)),
        space=Space(
            rate=log(1e-4, 1.0),
            method=choice("plain", "heavy", "none"),
            beta=when(linear(0.0, 1.0), method="heavy"),
            where=lambda p: p["method"] == "none" or p.get("beta", 0.5) > p["rate"],
        ),
        sampler=sampler,
        try_first=[{"rate": 0.01, "method": "heavy", "beta": 0.5}, {"beta": 0.9}, {}],
    )


@every_sampler
def test_whole_studies_keep_constraints_and_begin_with_given_params(
    tmp_path: Path, sampler: str | SamplerFactory
) -> None:
    study = constrained_study(sampler)
    run = run_inline(study, tmp_path / "whole", workers=3)
    trials = run.trials
    beta = trials["params_beta"].fillna(0.5)
    assert ((trials["params_method"] == "none") | (beta > trials["params_rate"])).all()
    first = trials.head(3)
    assert first["given"].all()
    assert not trials["given"][3:].any()
    assert first["params_rate"][0] == 0.01
    assert first["params_beta"][:2].tolist() == [0.5, 0.9]
    assert first["params_method"][1] == "heavy"
    assert (trials["stage"] == "search").sum() == 40
    broken = run_until_failure(study, tmp_path)
    assert_same_frames(run, resume_inline(study, broken.path))


def test_narrowing_learns_from_given_params(tmp_path: Path) -> None:
    study = replace(function_study(lambda p: (p["x"] - 0.3) ** 2), try_first=[{"x": 0.3}])
    run = run_inline(study, tmp_path)
    x = run.rounds[run.rounds["round"] == 2].iloc[0]
    assert x["best"] == "0.3"
    assert x["low"] < 0.3 < x["high"]


def test_more_params_than_the_first_step_has_are_all_given(tmp_path: Path) -> None:
    rates = [10**-n for n in (1, 1.5, 2, 2.5, 3, 3.5)]
    study = replace(
        bowl_study(rounds=(4, 4)), try_first=[{"rate": rate, "method": "plain"} for rate in rates]
    )
    trials = run_inline(study, tmp_path).trials
    assert trials["params_rate"][:6].tolist() == rates
    assert trials["given"].sum() == 6
