"""Durations as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.durations import UNITS, duration_words, parse_duration
from caviar.errors import RunError


@given(amounts=st.lists(st.integers(0, 500), min_size=4, max_size=4).filter(any))
def test_units_add_up(amounts: list[int]) -> None:
    text = "".join(f"{amount}{unit}" for amount, unit in zip(amounts, UNITS, strict=True) if amount)
    assert parse_duration(text) == sum(a * unit for a, unit in zip(amounts, UNITS.values(), strict=True))


@pytest.mark.parametrize("wrong", ["", "10", "m", "1x", "-5s", "0s", "30m1h", "1h 1h", True, 0, float("nan")])
def test_what_is_no_duration_is_refused(wrong: str | float) -> None:
    with pytest.raises(RunError, match="10m"):
        parse_duration(wrong)


@given(seconds=st.floats(0.1, 1e8))
def test_words_are_near_the_seconds(seconds: float) -> None:
    compact = duration_words(seconds).replace("min", "m").replace(",", "")
    assert parse_duration(compact) == pytest.approx(seconds, rel=0.06)
