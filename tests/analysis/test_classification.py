"""Confusion and calibration count every test row once."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from caviar.analysis.classification import MAX_BINS, calibration, calibration_error, confusion

CLASSES = pd.CategoricalDtype(["cat", "dog", "eel"])


def predictions(actual: list[int], predicted: list[int], confidence: list[float]) -> pd.DataFrame:
    frame = {
        name: pd.Categorical.from_codes(codes, dtype=CLASSES)
        for name, codes in {"actual": actual, "predicted": predicted}.items()
    }
    return pd.DataFrame({**frame, "confidence": confidence})


rows = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.floats(0.34, 1.0)), min_size=1, max_size=300
).map(lambda given: predictions(*map(list, zip(*given, strict=True))))


@given(rows)
def test_confusion_counts_each_row_at_its_classes(rows: pd.DataFrame) -> None:
    counts = confusion(rows)
    expected = pd.crosstab(rows["actual"], rows["predicted"], dropna=False)
    np.testing.assert_array_equal(counts.to_numpy(), expected.to_numpy())


@given(rows)
def test_calibration_divides_the_rows_by_confidence(rows: pd.DataFrame) -> None:
    bins = calibration(rows)
    assert bins["rows"].sum() == len(rows)
    assert len(bins) <= MAX_BINS
    assert bins["confidence"].is_monotonic_increasing
    assert bins["accuracy"].between(bins["low"] - 1e-9, bins["high"] + 1e-9).all()
    assert 0 <= calibration_error(bins) <= 1


def test_honest_probabilities_have_a_small_calibration_error() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.4, 1.0, 20_000)
    is_right = rng.random(20_000) < confidence
    rows = predictions([0] * 20_000, np.where(is_right, 0, 1).tolist(), confidence.tolist())
    assert calibration_error(calibration(rows)) < 0.02
    boastful = rows.assign(confidence=0.99)
    assert calibration_error(calibration(boastful)) > 0.2
