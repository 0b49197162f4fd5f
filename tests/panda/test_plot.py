"""Curves as characters."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caviar.panda.plot import Axis, draw

FALLING = [(epoch, 0.5**epoch) for epoch in range(1, 11)]


@pytest.mark.parametrize("colored", [True, False])
def test_a_figure_has_the_size_that_is_asked_for(colored: bool) -> None:
    lines = draw([("dev_loss", FALLING)], 60, 12, colored=colored, marks=[4]).plain.splitlines()
    assert len(lines) == 12
    assert max(map(len, lines)) <= 60
    assert "dev_loss" in lines[0]
    assert lines[-1].endswith("10")
    assert "log scale" in lines[-1]
    assert sum("┊" in line for line in lines) > 2


def test_without_colours_curves_have_symbols() -> None:
    rising = [(epoch, 1.0 - value) for epoch, value in FALLING]
    figure = draw([("train", FALLING), ("dev", rising)], 60, 12, colored=False)
    assert figure.spans == []
    drawn = "".join(line[10:] for line in figure.plain.splitlines()[1:-2])
    assert set(drawn) == {".", "o", " "}


def test_a_falling_curve_falls() -> None:
    lines = draw([("loss", FALLING)], 40, 12, colored=False).plain.splitlines()[1:-2]
    columns = [line.index(".", 10) for line in lines if "." in line[10:]]
    assert columns == sorted(columns)


def test_what_cannot_be_drawn_is_said() -> None:
    assert "no epoch" in draw([("loss", [])], 60, 12).plain
    assert "too small" in draw([("loss", FALLING)], 10, 3).plain


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30),
    st.integers(24, 100),
    st.integers(6, 30),
    st.booleans(),
)
def test_any_curve_is_drawn(values: list[float], width: int, height: int, colored: bool) -> None:
    figure = draw([("loss", list(enumerate(values, start=1)))], width, height, colored=colored)
    assert len(figure.plain.splitlines()) == height
    axis = Axis.of(values)
    assert all(-1e-6 <= axis.share(value) <= 1 + 1e-6 for value in values)
    assert math.isfinite(axis.middle)
