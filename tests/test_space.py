"""Scales map numbers to coordinates, and invalid spaces are refused."""

import json
import math
from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from caviar.errors import SpaceError
from caviar.space import (
    Choice,
    Interval,
    Parameter,
    Space,
    choice,
    integer,
    linear,
    log,
    reverse_log,
    space_from_json,
    when,
)
from tests import strategies


@given(strategies.places())
def test_value_comes_back_from_its_coordinate(place: tuple[Interval, float]) -> None:
    domain, r = place
    x = domain.value(r)
    back = domain.value(domain.coordinate(x))
    if domain.integer:
        assert back == x
    elif domain.scale == "reverse_log":
        assert back == pytest.approx(x, rel=1e-12, abs=0)
        assert 1 - back == pytest.approx(1 - x, rel=1e-6, abs=0)  # 1 - x down to 1e-9
    else:
        assert back == pytest.approx(x, rel=1e-12, abs=0)


@given(strategies.places(strategies.real_intervals))
def test_coordinate_comes_back_from_its_value(place: tuple[Interval, float]) -> None:
    domain, r = place
    assert domain.coordinate(domain.value(r)) == pytest.approx(r, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-9, 1e-12])
def test_reverse_log_is_exact_near_zero_and_near_one(distance: float) -> None:
    domain = reverse_log(0.0, 1 - 1e-13)
    assert domain.value(domain.coordinate(distance)) == pytest.approx(distance, rel=1e-12, abs=0)
    assert domain.coordinate(distance) == pytest.approx(distance / math.log(10), rel=2e-3, abs=0)
    assert 1 - domain.value(domain.coordinate(1 - distance)) == pytest.approx(distance, rel=1e-3, abs=0)
    assert domain.coordinate(1 - distance) == pytest.approx(-math.log10(distance), rel=1e-4)


def test_coordinates_count_decades() -> None:
    assert log(1e-4, 1.0).ends == (-4, 0)
    assert log(1e-4, 1.0).width == 4
    assert reverse_log(0.9, 0.999).ends == pytest.approx((1, 3))
    assert linear(-1.0, 3.0).ends == (-1, 3)
    assert integer(1, 1000, scale="log").width == pytest.approx(3)
    assert log(1e-4, 1.0).value(-2) == pytest.approx(0.01)
    assert reverse_log(0.9, 0.999).value(2) == pytest.approx(0.99)


@given(strategies.places(), st.floats(0.0, 1.0))
def test_scales_are_monotone(place: tuple[Interval, float], share: float) -> None:
    domain, r = place
    other = domain.ends[0] + share * domain.width
    low, high = sorted((r, other))
    assert domain.value(low) <= domain.value(high)
    assert domain.coordinate(domain.value(low)) <= domain.coordinate(domain.value(high))


@given(strategies.intervals, st.floats(-20.0, 20.0))
def test_every_coordinate_gives_a_value_inside_the_bounds(domain: Interval, r: float) -> None:
    x = domain.value(r)
    assert x in domain
    assert type(x) is (int if domain.integer else float)


@given(strategies.intervals, st.data())
def test_part_of_an_interval_lies_within_it(domain: Interval, data: st.DataObject) -> None:
    low, high = domain.ends
    first, last = sorted(
        low + share * (high - low) for share in data.draw(st.tuples(*[st.floats(-0.5, 1.5)] * 2))
    )
    assume(first < high)
    assume(last > low)
    part = domain.between(first, last)
    assert domain.low <= part.low < part.high <= domain.high
    assert (part.scale, part.integer) == (domain.scale, domain.integer)


@given(strategies.integer_intervals, st.data())
def test_part_of_the_integers_loses_none_and_holds_two(domain: Interval, data: st.DataObject) -> None:
    inside = st.integers(int(domain.low), int(domain.high))
    first, last = sorted(data.draw(st.tuples(inside, inside)))
    part = domain.between(domain.coordinate(first), domain.coordinate(last))
    assert first in part
    assert last in part
    assert part.high - part.low >= 1
    assert type(part.low) is int
    assert type(part.high) is int


@given(strategies.real_intervals)
def test_part_between_both_ends_is_the_interval(domain: Interval) -> None:
    whole = domain.between(*domain.ends)
    assert (whole.low, whole.high) == pytest.approx((domain.low, domain.high), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("domain", [linear(0.5, 1.0), log(1e-4, 1.0), reverse_log(0.9, 0.999)])
def test_interval_can_be_halved_without_end(domain: Interval) -> None:
    """The bounds must not meet after many rounds."""
    part = domain
    for _ in range(80):
        low, high = part.ends
        middle, quarter = (low + high) / 2, (high - low) / 4
        part = domain.between(middle - quarter, middle + quarter)
        assert domain.low <= part.low < part.high <= domain.high


def test_interval_contains_its_bounds_and_no_booleans() -> None:
    assert 1 in integer(1, 4)
    assert 4 in integer(1, 4)
    assert 2.5 not in integer(1, 4)
    assert 5 not in integer(1, 4)
    assert True not in integer(1, 4)
    assert "1" not in integer(1, 4)
    assert None not in linear(0, 1)
    assert 0.5 in linear(0, 1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: linear(2, 1), ["linear(2, 1)", "reversed"]),
        (lambda: linear(1, 1), ["linear(1, 1)", "empty"]),
        (lambda: linear(0, math.inf), ["linear(0, inf)", "finite"]),
        (lambda: linear(math.nan, 1), ["linear(nan, 1)", "finite"]),
        (lambda: linear(False, 1), ["linear(False, 1)", "False"]),
        (lambda: linear("0", 1), ["linear('0', 1)", "'0'"]),  # type: ignore[arg-type]
        (lambda: log(0.0, 1.0), ["log(0.0, 1.0)", "above 0"]),
        (lambda: log(-1.0, 1.0), ["log(-1.0, 1.0)", "above 0"]),
        (lambda: reverse_log(0.9, 1.0), ["reverse_log(0.9, 1.0)", "0 <= x < 1"]),
        (lambda: reverse_log(-0.1, 0.9), ["reverse_log(-0.1, 0.9)", "0 <= x < 1"]),
        (lambda: integer(1, 2.5), ["integer(1, 2.5): ", "whole"]),  # type: ignore[arg-type]
        (lambda: integer(0, 8, scale="log"), ['integer(0, 8, scale="log"): ', "above 0"]),
        (
            lambda: integer(0, 1, scale="reverse_log"),
            ['integer(0, 1, scale="reverse_log"): ', "linear or log"],
        ),
        (
            lambda: integer(1, 2, scale="cubic"),  # type: ignore[arg-type]
            ['integer(1, 2, scale="cubic"): ', "linear, log, reverse_log"],
        ),
    ],
)
def test_invalid_interval_is_refused(make: Callable[[], Any], words: list[str]) -> None:
    with pytest.raises(SpaceError) as refused:
        make()
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("made_of", "word"),
    [
        ((), "at least one"),
        (("a", "b", "a"), "duplicate"),
        ((1, True), "duplicate"),
        ((1, 1.0), "duplicate"),
        ((0, False), "duplicate"),
        ((math.nan,), "nan"),
        ((math.inf, 1), "inf"),
        (((1, 2),), "(1, 2)"),
    ],
)
def test_invalid_options_are_refused(made_of: tuple[Any, ...], word: str) -> None:
    """1, 1.0 and True are equal in Python, so one of them would come back as another."""
    with pytest.raises(SpaceError) as refused:
        choice(*made_of)
    assert word in str(refused.value)


class Optimizer(StrEnum):
    ADAM = "adam"


class Width(IntEnum):
    NARROW = 16
    WIDE = 64


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        (Optimizer.ADAM, "use its value, 'adam'"),
        (Width.WIDE, "use its value, 64"),
        (type("Text", (str,), {})("x"), "convert it from Text"),
        (type("Real", (float,), {})(1.0), "convert it from Real"),
        ((1, 2), "use its name"),
        (len, "use its name"),
    ],
)
def test_options_are_of_plain_types(option: Any, advice: str) -> None:
    with pytest.raises(SpaceError, match=advice):
        choice("sgd", option)
    with pytest.raises(SpaceError, match=advice):
        when(linear(0, 1), optimizer=[option])


def test_bounds_become_plain_numbers() -> None:
    interval = integer(Width.NARROW, Width.WIDE)
    assert {type(bound) for bound in (interval.low, interval.high, interval.value(1e9))} == {int}


def test_choice_contains_only_options_of_the_same_type() -> None:
    options = choice(None, True, 2, "2")
    assert all(option in options for option in (None, True, 2, "2"))
    assert not any(other in options for other in (False, 1, 2.0, "True", 0))


@given(strategies.spaces)
def test_space_comes_back_from_json(space: Space) -> None:
    back = space_from_json(json.loads(json.dumps(space.to_json(), allow_nan=False)))
    assert back == space
    assert list(back) == list(space)
    for name, parameter in space.items():
        domain, other = parameter.domain, back[name].domain
        if isinstance(domain, Choice):
            assert isinstance(other, Choice)
            assert [type(option) for option in other.options] == [type(option) for option in domain.options]


def test_conditions_come_back_from_json() -> None:
    space = Space(
        optimizer=choice("sgd", "adam", "momentum"),
        batch_norm=choice(True, False),
        beta1=when(reverse_log(0.8, 0.99), optimizer="adam", batch_norm=True),
        units_3=when(integer(1, 9), layers=range(3, 6)),
        layers=integer(1, 5),
    )
    back = space_from_json(json.loads(json.dumps(space.to_json())))
    assert back == space
    assert back["units_3"].when == {"layers": (3, 4, 5)}


@pytest.mark.parametrize(
    ("space", "can_repeat"),
    [
        (Space(layers=integer(1, 5), method=choice("plain", "heavy")), True),
        (Space(method=choice("plain", "heavy"), beta=when(linear(0, 1), method="heavy")), True),
        (Space(method=choice("plain", "heavy"), rate=log(1e-4, 1)), False),
    ],
)
def test_draws_repeat_unless_a_number_is_continuous(space: Space, can_repeat: bool) -> None:
    assert space.can_repeat is can_repeat


def test_parameters_come_after_those_they_depend_on() -> None:
    space = Space(
        c=when(linear(0, 1), b=True),
        b=when(choice(True, False), a="x"),
        a=choice("x", "y"),
        z=linear(0, 1),
    )
    assert list(space) == ["a", "b", "c", "z"]
    assert list(Space(z=linear(0, 1), a=linear(0, 1))) == ["z", "a"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, ["at least one parameter"]),
        ({"rate": 0.1}, ["rate=0.1", "not a scale"]),
        ({"a": when(linear(0, 1), b=1)}, ["a depends on b", "not in the space"]),
        ({"a": when(linear(0, 1), a=0.5)}, ["a", "cyclic"]),
        (
            {"a": when(choice(1, 2), b=1), "b": when(choice(1, 2), a=1), "c": linear(0, 1)},
            ["a, b", "cyclic"],
        ),
        ({"a": when(linear(0, 1), b="z"), "b": choice("x", "y")}, ["a", "b is 'z'", "never", "x, y"]),
        (
            {"a": when(linear(0, 1), b=("x", "z")), "b": choice("x", "y")},
            ["b is 'x', 'z'", "never 'z': x, y"],
        ),
        ({"a": when(linear(0, 1), b=(7, 8)), "b": integer(1, 4)}, ["b is 7, 8", "1 .. 4"]),
        ({"a": when(linear(0, 1), b=1), "b": choice(True, False)}, ["b is 1", "never"]),
    ],
)
def test_invalid_space_is_refused(parameters: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SpaceError) as refused:
        Space(**parameters)
    for word in words:
        assert word in str(refused.value)


def test_empty_condition_is_refused() -> None:
    with pytest.raises(SpaceError, match="give a condition"):
        when(linear(0, 1))
    with pytest.raises(SpaceError, match="b allows no value"):
        when(linear(0, 1), b=())
    with pytest.raises(SpaceError, match="must be a scale"):
        when(0.5, b=1)  # type: ignore[arg-type]


def test_string_is_one_value_of_a_condition() -> None:
    assert when(linear(0, 1), optimizer="adam") == Parameter(linear(0, 1), {"optimizer": ("adam",)})
    assert when(linear(0, 1), b=None).when == {"b": (None,)}


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ({"a": "x", "b": True, "c": 0.5, "d": 3}, ["a", "b", "c", "d"]),
        ({"a": "x", "b": False, "c": 0.5, "d": 3}, ["a", "b"]),
        ({"a": "y", "b": True, "c": 0.5, "d": 3}, ["a"]),
    ],
)
def test_parameter_is_active_only_if_all_its_conditions_hold(values: dict[str, Any], kept: list[str]) -> None:
    space = Space(
        a=choice("x", "y"),
        b=when(choice(True, False), a="x"),
        c=when(linear(0, 1), b=True),
        d=when(integer(1, 4), c=(0.5, 0.75), a=("x", "y")),
    )
    assert space.active(values) == {name: values[name] for name in kept}


def test_numpy_scalars_become_python_numbers() -> None:
    numpy: Any = np  # its scalar types are not those that the functions declare
    space = Space(
        a=choice(numpy.int64(3), numpy.float32(0.5), numpy.bool_(False), numpy.str_("x")),
        b=when(linear(numpy.float32(0.25), numpy.float64(1)), a=numpy.int64(3)),
        c=when(integer(numpy.int64(1), numpy.uint8(4)), a=numpy.array([3, 4])),
    )
    same = Space(
        a=choice(3, 0.5, False, "x"),
        b=when(linear(0.25, 1.0), a=3),
        c=when(integer(1, 4), a=(3, 4)),
    )
    assert space == same
    assert repr(space.to_json()) == repr(same.to_json())
    with pytest.raises(SpaceError, match=r"linear\(0.5, nan\): each bound must be a finite number"):
        linear(numpy.float32(0.5), numpy.float32("nan"))


@pytest.mark.parametrize(
    ("domain", "text"),
    [
        (log(1e-4, 1.0), "0.0001 .. 1"),
        (reverse_log(0.9, 0.999), "0.9 .. 0.999"),
        (reverse_log(0.5, 0.99995), "0.5 .. 0.99995"),
        (integer(1, 65536, scale="log"), "1 .. 65,536"),
        (choice("sgd", None, 3), "sgd, None, 3"),
    ],
)
def test_domain_is_formatted_with_the_digits_that_matter(domain: Any, text: str) -> None:
    assert str(domain) == text


@pytest.mark.parametrize("option", ["caf\udce9.csv", "x" * 100_000])
def test_options_that_no_table_can_hold_are_refused(option: str) -> None:
    with pytest.raises(SpaceError, match="choice: the option"):
        choice("plain", option)


@pytest.mark.parametrize("name", ["", "\udce9", "a\x00b", "\u202eabc", "x" * 1_000])
def test_names_that_no_column_can_have_are_refused(name: str) -> None:
    with pytest.raises(SpaceError, match="cannot be a column's"):
        Space(**{name: linear(0, 1)})
