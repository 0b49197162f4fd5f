"""Tests of caviar/analysis/pairs.py."""

import numpy as np

from caviar.analysis.pairs import bin_pair
from caviar.analysis.parameter_axis import ParameterAxis
from caviar.space import choice, integer, linear

AXES = ParameterAxis(linear(0, 1)), ParameterAxis(choice("a", "b", "c"))


def test_bins_hold_the_medians_of_their_trials() -> None:
    x, y = np.array([0.1, 0.2, 0.3, 0.9]), np.array([0.0, 0.0, 0.0, 2.0])
    binned = bin_pair(x, y, np.array([1.0, 2.0, 9.0, 5.0]), AXES)
    assert binned.medians[0, 0] == 2
    assert binned.medians[2, -1] == 5
    assert binned.counts.sum() == 4


def test_nothing_is_filled_in_where_no_trial_was() -> None:
    binned = bin_pair(np.array([0.1]), np.array([1.0]), np.array([1.0]), AXES)
    assert np.isnan(binned.medians).sum() == binned.medians.size - 1


def test_ends_belong_to_the_outer_bins() -> None:
    binned = bin_pair(np.array([0.0, 1.0]), np.array([0.0, 2.0]), np.array([1.0, 2.0]), AXES)
    assert binned.medians[0, 0] == 1
    assert binned.medians[-1, -1] == 2


def test_each_of_a_few_integers_has_its_own_bin() -> None:
    axes = ParameterAxis(integer(1, 4)), AXES[1]
    binned = bin_pair(np.array([1.0, 2.0, 4.0, 4.0]), np.zeros(4), np.arange(4.0), axes)
    assert binned.counts[0].tolist() == [1, 1, 0, 2]
    assert binned.x_edges.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]


def test_each_option_has_its_own_bin() -> None:
    binned = bin_pair(np.linspace(0, 1, 400), np.tile([0.0, 1.0, 2.0, 0.0], 100), np.arange(400.0), AXES)
    assert binned.medians.shape == (3, 10)
