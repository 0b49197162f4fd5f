"""The errors of a classifier on its test rows: the confusion of classes, and the calibration of its probabilities."""

import numpy as np
import pandas as pd

from caviar.records.frames import Run
from caviar.search.confirmation import wilson_interval

MIN_ROWS = 20
"""Fewest test rows in a bin of the calibration: fewer tell nothing about a share."""
MAX_BINS = 10
"""Largest number of bins of the calibration."""


def winner_predictions(run: Run) -> pd.DataFrame:
    """Return what the winner predicts for the test rows, as `Best.test_predictions` does; an empty frame if nothing."""
    rows = None if run.best is None else run.best.test_predictions()
    return pd.DataFrame() if rows is None else rows


def confusion(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how many test rows of each class were predicted as each class.

    Args:
        rows: `Best.test_predictions()`.

    Returns:
        Counts (C, C): a row for each actual class, a column for each predicted one, in the order of the classes.

    Example:
        >>> kinds = ["cat", "dog"]
        >>> actual, predicted = (pd.Categorical(c, kinds) for c in (["cat", "dog"], ["cat", "cat"]))
        >>> confusion(pd.DataFrame({"actual": actual, "predicted": predicted})).to_numpy().tolist()
        [[1, 0], [1, 0]]
    """
    classes = rows["actual"].cat.categories
    places = rows["actual"].cat.codes.to_numpy(), rows["predicted"].cat.codes.to_numpy()
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, places, 1)
    return pd.DataFrame(counts, pd.Index(classes, name="actual"), pd.Index(classes, name="predicted"))


def calibration(rows: pd.DataFrame) -> pd.DataFrame:
    """Compare the probability of the predicted class with how often the prediction is right.

    The rows are sorted by confidence and divided into bins of equal size (Nguyen & O'Connor 2015), so that no bin is
    nearly empty.

    Args:
        rows: `Best.test_predictions()`.

    Returns:
        One row a bin: number of `rows`, mean `confidence`, `accuracy`, and its 95 % interval `low`, `high`.
    """
    ordered = rows.sort_values("confidence", kind="stable")
    is_right = (ordered["actual"].cat.codes == ordered["predicted"].cat.codes).to_numpy(float)
    bins = max(1, min(MAX_BINS, len(ordered) // MIN_ROWS))
    parts = [part for part in np.array_split(np.arange(len(ordered)), bins) if len(part)]
    found = []
    for part in parts:
        accuracy = float(is_right[part].mean())
        low, high = wilson_interval(accuracy, len(part))
        confidence = float(ordered["confidence"].to_numpy()[part].mean())
        found.append((len(part), confidence, accuracy, low, high))
    return pd.DataFrame(found, columns=["rows", "confidence", "accuracy", "low", "high"])


def calibration_error(bins: pd.DataFrame) -> float:
    """Return the expected calibration error: the mean distance between confidence and accuracy (Guo et al. 2017).

    Args:
        bins: what `calibration` returns.

    Example:
        >>> calibration_error(pd.DataFrame({"rows": [1, 3], "confidence": [0.5, 1.0], "accuracy": [0.5, 0.75]}))
        0.1875
    """
    distance = (bins["confidence"] - bins["accuracy"]).abs()
    return float((distance * bins["rows"]).sum() / max(1, bins["rows"].sum()))
