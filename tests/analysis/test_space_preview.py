"""A preview counts what a study would draw, and says which scales look wrong."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from optuna.samplers import RandomSampler

import caviar as cv
from caviar.analysis.space_preview import DRAWS, ParameterDraws, part_edges, preview
from caviar.space import Domain, Interval, Space, choice, integer, linear, log, reverse_log, when
from caviar.study import Study
from tests import strategies


def study(space: Space, **more: Any) -> Study:
    objective = cv.Function(lambda p: 0.0)
    return Study(name="seen", objective=objective, space=space, **{"rounds": [cv.Round(20, 1)], **more})


def seen(domain: Domain) -> ParameterDraws:
    (parameter,) = preview(study(Space(x=domain))).parameters
    return parameter


def shares(domain: Domain) -> dict[str, float]:
    return {part.label: round(part.share, 1) for part in seen(domain).parts}


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        (log(1e-3, 1), {"0.001 .. 0.01": 0.3, "0.01 .. 0.1": 0.3, "0.1 .. 1": 0.3}),
        (linear(1e-3, 1), {"0.001 .. 0.01": 0.0, "0.01 .. 0.1": 0.1, "0.1 .. 1": 0.9}),
        (reverse_log(0.9, 0.999), {"0.9 .. 0.99": 0.5, "0.99 .. 0.999": 0.5}),
        (linear(0.9, 0.999), {"0.9 .. 0.99": 0.9, "0.99 .. 0.999": 0.1}),
        (linear(-1, 1), {"-1 .. -0.5": 0.2, "-0.5 .. 0": 0.2, "0 .. 0.5": 0.2, "0.5 .. 1": 0.2}),
        (integer(1, 2), {"1": 0.5, "2": 0.5}),
        (integer(10, 1000, scale="log"), {"10 .. 99": 0.5, "100 .. 1,000": 0.5}),
        (choice("a", None), {"a": 0.5, "None": 0.5}),
    ],
)
def test_shares_are_those_of_each_order_of_magnitude(domain: Domain, expected: dict[str, float]) -> None:
    assert shares(domain) == pytest.approx(expected, abs=0.11)


@pytest.mark.parametrize(
    ("domain", "better"),
    [
        (linear(1e-3, 1.0), "cv.log(0.001, 1.0)"),
        (linear(0.9, 0.999), "cv.reverse_log(0.9, 0.999)"),
        (log(0.9, 0.999), "cv.reverse_log(0.9, 0.999)"),
        (integer(1, 10_000), 'scale="log"'),
        (linear(0.0, 0.5), None),
        (linear(0.5, 2.0), None),
        (linear(0.01, 0.99), None),
        (log(1e-6, 1.0), None),
        (reverse_log(0.0, 0.9999), None),
        (integer(1, 8), None),
        (integer(16, 512), None),
        (choice(1, 1000), None),
    ],
)
def test_hints_name_the_better_scale(domain: Domain, better: str | None) -> None:
    hint = seen(domain).hint
    assert better in hint if better and hint else hint is None and better is None


@settings(max_examples=10)
@given(strategies.spaces)
def test_the_parts_of_any_parameter_hold_all_its_draws(space: Space) -> None:
    for parameter in preview(study(space)).parameters:
        assert sum(part.share for part in parameter.parts) == pytest.approx(1)
        domain = space[parameter.name].domain
        if isinstance(domain, Interval):
            edges = part_edges(domain)
            assert edges == sorted(set(edges))


def test_a_whole_number_is_in_one_part() -> None:
    labels = [part.label for part in seen(integer(1, 64)).parts]
    assert labels == ["1 .. 9", "10 .. 64"]
    assert [part.label for part in seen(integer(8, 32)).parts] == [
        "8 .. 13",
        "14 .. 19",
        "20 .. 25",
        "26 .. 32",
    ]


def test_conditions_constraints_and_given_trials_are_counted() -> None:
    space = Space(
        kind=choice("a", "b"),
        deep=when(linear(0, 1), kind="b"),
        rare=when(linear(0, 1), wide=1),
        wide=integer(1, 100),
        where=lambda p: p["kind"] == "b" or p["wide"] > 50,
    )
    found = preview(study(space, try_first=[{"kind": "a"}]))
    assert found.refused == pytest.approx(0.25, abs=0.04)
    assert (found.draws, found.first, found.given) == (DRAWS, 20, 1)
    parameters = {parameter.name: parameter for parameter in found.parameters}
    assert parameters["deep"].applies == pytest.approx(2 / 3, abs=0.06)
    assert "applies in" in (parameters["rare"].hint or "")


def test_each_sampler_is_looked_at_as_it_draws() -> None:
    space = Space(x=linear(0, 1), y=log(1, 100))
    whole = study(space)
    grid = preview(replace(whole, sampler="grid"))
    assert (grid.sampler, grid.draws) == ("grid", 20)
    assert preview(replace(whole, sampler=lambda seed: RandomSampler(seed=seed))).draws == 20
    assert preview(replace(whole, sampler="qmc")).draws == DRAWS
