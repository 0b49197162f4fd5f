"""Tests of caviar/data/stratification.py: it splits row for row as scikit-learn does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from caviar.data.stratification import split_in_two


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=150), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1)
)
def test_parts_are_those_of_scikit_learn(classes: list[int], share: float, seed: int) -> None:
    y_N = np.array(classes)
    try:
        first, second = train_test_split(
            np.arange(len(y_N)), train_size=share, stratify=y_N, random_state=seed
        )
    except ValueError:
        with pytest.raises(ValueError, match="too few rows"):
            split_in_two(y_N, share, seed)
        return
    found = split_in_two(y_N, share, seed)
    np.testing.assert_array_equal(found[0], np.sort(first))
    np.testing.assert_array_equal(found[1], np.sort(second))
