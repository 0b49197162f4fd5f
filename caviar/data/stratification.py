"""Stratified split of rows, row for row that of scikit-learn's `train_test_split`, whose import takes a second."""

import math

import numpy as np
import numpy.typing as npt


def split_in_two(
    y_N: npt.NDArray[np.int64], share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Divide rows at random into two parts, each with the same shares of the classes.

    Args:
        y_N: class numbers (N,).
        share: share of the first part, between 0 and 1.
        seed: seed of the draws.

    Returns:
        The row numbers of both parts, in order.

    Raises:
        ValueError: a class has a single row, or a part has fewer rows than there are classes.
    """
    _, classes_N, counts = np.unique(y_N, return_inverse=True, return_counts=True)
    n_first = math.floor(share * len(y_N))
    if len(y_N) == 0 or counts.min() < 2 or min(n_first, len(y_N) - n_first) < len(counts):
        raise ValueError("too few rows")
    rng = np.random.RandomState(seed)
    firsts = _apportion(counts, n_first, rng)
    _apportion(counts - firsts, len(y_N) - n_first, rng)  # for its draws
    by_class = np.split(np.argsort(classes_N, kind="stable"), np.cumsum(counts)[:-1])
    is_first = np.zeros(len(y_N), dtype=bool)
    for rows, n in zip(by_class, firsts, strict=True):
        is_first[rows[rng.permutation(len(rows))[:n]]] = True
    return np.flatnonzero(is_first), np.flatnonzero(~is_first)


def _apportion(counts: npt.NDArray[np.int64], n: int, rng: np.random.RandomState) -> npt.NDArray[np.int64]:
    """Apportion n rows among classes by their counts; the largest remainders are rounded up, ties at random."""
    exact = counts / counts.sum() * n
    whole = np.floor(exact)
    left, remainders = int(n - whole.sum()), exact - whole
    for remainder in np.unique(remainders)[::-1]:
        if left <= 0:
            break
        (tied,) = np.where(remainders == remainder)
        chosen = rng.choice(tied, size=min(len(tied), left), replace=False)
        whole[chosen] += 1
        left -= len(chosen)
    counted: npt.NDArray[np.int64] = whole.astype(np.int64)
    return counted
