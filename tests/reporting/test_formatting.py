"""Tests of caviar/reporting/formatting.py."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.reporting.formatting import duration_text, metric_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.9833333, "0.9833"),
        (0.00003, "3.000e-05"),
        (0.0, "0"),
        (1.0, "1.0000"),
        (0.999973, "0.999973"),
        (-2.5, "-2.5000"),
        (1234.5678, "1,234.6"),
        (1e12, "1.000e+12"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_metrics_keep_the_digits_that_matter(value: float, text: str) -> None:
    assert metric_text(value) == text


@given(st.floats(-1e300, 1e300))
def test_metrics_keep_three_significant_digits(value: float) -> None:
    assert float(metric_text(value).replace(",", "")) == pytest.approx(value, rel=1e-3, abs=0)


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0:00"), (59.6, "1:00"), (3_725, "1:02:05")])
def test_durations_are_minutes_and_seconds(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
