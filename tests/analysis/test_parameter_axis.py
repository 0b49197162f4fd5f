"""Tests of caviar/analysis/parameter_axis.py."""

import numpy as np
import pandas as pd
import pytest

from caviar.analysis.parameter_axis import ParameterAxis
from caviar.space import Choice, Interval, choice, integer, linear, log, reverse_log


def texts(domain: Interval | Choice, ends: bool = False) -> list[str]:
    return [text for _, text in ParameterAxis(domain).ticks(ends=ends)]


def test_ticks_are_round_numbers_in_the_users_units() -> None:
    assert texts(log(1e-4, 1)) == ["0.0001", "0.001", "0.01", "0.1", "1"]
    assert texts(reverse_log(0.9, 0.999)) == ["0.9", "0.99", "0.999"]
    assert texts(reverse_log(0.9, 0.99)) == ["0.9", "0.95", "0.98", "0.99"]
    assert texts(linear(0, 0.5)) == ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]
    assert texts(integer(1, 4)) == ["1", "2", "3", "4"]
    assert texts(choice("a", None, 1)) == ["a", "None", "1"]


def test_ticks_at_the_ends_replace_near_ones() -> None:
    assert texts(integer(16, 256, scale="log"), ends=True) == ["16", "50", "100", "200", "256"]


@pytest.mark.parametrize(
    "domain",
    [
        linear(0.1, 0.1000001),
        linear(-3, 1e12),
        linear(-1e307, 1e307),
        log(1e-300, 1e300),
        reverse_log(0, 1 - 1e-12),
        integer(1, 2),
    ],
)
def test_extreme_domains_have_a_few_ticks_inside(domain: Interval) -> None:
    ticks = ParameterAxis(domain).ticks()
    low, high = domain.ends
    assert 2 <= len(ticks) <= 14
    assert all(low - 1e-9 <= place <= high + 1e-9 for place, _ in ticks)


@pytest.mark.parametrize("domain", [linear(0, 2), log(0.1, 10), reverse_log(0, 0.99), integer(1, 9)])
def test_positions_are_the_coordinates_of_the_scale(domain: Interval) -> None:
    numbers = [domain.low, domain.high]
    positions = ParameterAxis(domain).positions(pd.Series(numbers))
    assert positions.tolist() == pytest.approx([domain.coordinate(x) for x in numbers])


@pytest.mark.parametrize(
    ("domain", "cells"),
    [
        (choice(True, False), pd.Series([True, False, None], dtype="boolean")),
        (choice("a", "b"), pd.Series(["a", "b", None])),
        (choice(None, 1, "1"), pd.Series(["null", "1", None])),
        (choice(32, 64), pd.Series([32.0, 64.0, np.nan])),
    ],
)
def test_options_have_places_and_empty_cells_none(domain: Choice, cells: "pd.Series[str]") -> None:
    positions = ParameterAxis(domain).positions(cells)
    assert positions[:2].tolist() == [0.0, 1.0]
    assert np.isnan(positions[2])


def test_only_parameters_of_few_values_are_jittered() -> None:
    same = pd.Series([1.0] * 50)
    assert len(set(ParameterAxis(linear(0, 2)).jittered(same))) == 1
    assert len(set(ParameterAxis(integer(1, 4)).jittered(same))) == 50
    assert np.abs(ParameterAxis(choice(1.0, 2.0)).jittered(same)).max() < 0.3
