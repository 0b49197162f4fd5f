"""PED-ANOVA: how much the best trials differ from all trials in each parameter (Watanabe, Bansal & Hutter 2023).

    Shuhei Watanabe, Archit Bansal, Frank Hutter: PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
    Arbitrary Subspaces. IJCAI 2023.

The divergence of a parameter is the mean over its range of (p_top / p_all - 1)^2: 0 if the best trials are spread like
all trials, and large if only a small part of the range is good. Both densities are estimated on a grid. A conditional
parameter is compared among the trials that have it, and counts by how often they are among the best (Conditional
PED-ANOVA, 2026).

`optuna.importance.PedAnovaImportanceEvaluator` comes to the same numbers, which a test holds. It takes half a second
for 10,000 trials, and a bootstrap needs hundreds of repetitions; here, each of them only counts weights in cells. There
is one difference: Optuna smooths choices more than numbers, and so makes them seem less important.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from caviar.space import Choice, Domain

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GRID = 50
"""Number of grid points on a range of real numbers."""
TOP = 0.1
"""Share of the trials that are compared with all, the best first."""
MIN_TOP = 25
"""Smallest number of those trials, unless it is more than half of all."""
_TINY = 1e-12
"""Density that is added everywhere, because none may be 0."""


@dataclass(frozen=True)
class Column:
    """The values of one parameter as cells of its grid."""

    cells: Ints
    """The number of the cell of each trial; -1 for those that do not have the parameter."""
    size: int
    """Number of cells."""
    is_number: bool
    """True if neighbouring cells are alike."""

    @cached_property
    def rows(self) -> Ints:
        """The trials that have the parameter."""
        return np.flatnonzero(self.cells >= 0)

    def counts(self, weights_N: Floats) -> Floats:
        """Return the weight in each cell, given the weights of the first trials."""
        cells = self.cells[: len(weights_N)]
        rows = self.rows[: np.searchsorted(self.rows, len(weights_N))]
        return np.bincount(cells[rows], weights_N[rows], self.size).astype(np.float64)


def grid_size(domain: Domain) -> int:
    """Return the number of cells of a parameter: its options, or points on its range."""
    if isinstance(domain, Choice):
        return len(domain.options)
    if not domain.integer:
        return GRID
    count = int(domain.high - domain.low) + 1
    return min(GRID, count if domain.scale == "linear" else math.ceil(math.log2(count)) + 1)


def divergences(columns: Sequence[Column], ends_N: Ints, samples: Iterable[Floats]) -> Floats:
    """Return the divergence of each parameter between the best trials and all trials.

    Args:
        columns: the P parameters. The trials are sorted, the best first.
        ends_N: for each trial the number of trials that are as good as it or better.
        samples: how often each trial counts, for each of B samples of the trials.

    Returns:
        Array (B, P).
    """
    tops, totals, counted = [], [], []
    for weights_N in samples:
        best_N = weights_N[: top_count(weights_N, ends_N)]
        tops.append(best_N.sum())
        totals.append(weights_N.sum())
        counted.append([(column.counts(best_N), column.counts(weights_N)) for column in columns])
    top_B, all_B = np.array(tops), np.array(totals)
    found = [
        compare_counts(
            np.array([best for best, _ in counts]),
            np.array([every for _, every in counts]),
            top_B,
            all_B,
            column.is_number,
        )
        for column, counts in zip(columns, zip(*counted, strict=True), strict=True)
    ]
    return np.array(found).T


def chance_divergences(
    columns: Sequence[Column], top: int, repetitions: int, rng: np.random.Generator
) -> Floats:
    """Return the divergences of randomly chosen trials from all trials: those of parameters without any effect.

    Args:
        columns: the parameters.
        top: number of trials that are chosen.
        repetitions: number of times, B.
        rng: the source of randomness.

    Returns:
        Array (B, P).
    """
    n = len(columns[0].cells)
    chosen = [rng.choice(n, top, replace=False) for _ in range(repetitions)]
    found = []
    for column in columns:
        cells = [column.cells[rows] for rows in chosen]
        top_BM = np.array([np.bincount(c[c >= 0], minlength=column.size) for c in cells], np.float64)
        all_BM = np.broadcast_to(column.counts(np.ones(n)), top_BM.shape)
        totals = np.full(repetitions, float(n))
        found.append(compare_counts(top_BM, all_BM, np.full(repetitions, top), totals, column.is_number))
    return np.array(found).T


def top_count(weights_N: Floats, ends_N: Ints) -> int:
    """Return how many trials are among the best: all that are as good as the last one of them are."""
    total = weights_N.sum()
    wanted = max(math.ceil(TOP * total), min(MIN_TOP, total // 2))
    return int(ends_N[np.searchsorted(np.cumsum(weights_N), wanted)])


def compare_counts(
    top_BM: Floats, all_BM: Floats, top_B: npt.NDArray[np.generic], all_B: Floats, is_number: bool
) -> Floats:
    """Return the divergence of one parameter in each of several samples.

    Args:
        top_BM: number of the best trials in each of M cells.
        all_BM: number of all trials in each cell.
        top_B: number of the best trials, with those that do not have the parameter.
        all_B: number of all trials, likewise.
        is_number: True if neighbouring cells are alike.
    """
    density = smooth_numbers if is_number else smooth_choices
    p_BM, q_BM = density(top_BM) + _TINY, density(all_BM) + _TINY
    pearson_B = (q_BM * (p_BM / q_BM - 1) ** 2).sum(axis=1)
    with np.errstate(invalid="ignore"):
        weight_B = (top_BM.sum(axis=1) / top_B) ** 2 / (all_BM.sum(axis=1) / all_B)
    return np.where(top_BM.sum(axis=1) > 0, weight_B * pearson_B, 0.0)


def smooth_choices(counts_BM: Floats) -> Floats:
    """Return the probability of each option, as if one more trial were spread over all of them."""
    size = counts_BM.shape[1]
    smoothed: Floats = (counts_BM + 1 / size) / (counts_BM.sum(axis=1, keepdims=True) + 1)
    return smoothed


def smooth_numbers(counts_BM: Floats) -> Floats:
    """Return the probability of each cell by a kernel density estimate.

    The kernels are normal distributions of Scott's bandwidth, cut off at the ends of the range, and a broad one in the
    middle that counts as one more trial.
    """
    from scipy.special import ndtr  # scipy takes a tenth of a second to import

    size = counts_BM.shape[1]
    cells_M = np.arange(size)
    # Below each distance between two cells, from 1 - M to M, lies this probability of the normal distribution.
    below_BK = ndtr((np.arange(1 - size, size + 1) - 0.5) / _bandwidths(counts_BM)[:, None])
    inside_BM = below_BK[:, 2 * size - 1 - cells_M] - below_BK[:, size - 1 - cells_M]
    kernel_BK = np.diff(below_BK)
    kernels_BMM = kernel_BK[:, cells_M[:, None] - cells_M[None, :] + size - 1]
    smoothed_BM: Floats = (kernels_BMM @ (counts_BM / inside_BM)[:, :, None])[:, :, 0]
    prior_M = np.diff(ndtr((np.arange(size + 1) - size / 2) / size))
    smoothed_BM += prior_M / prior_M.sum()
    smoothed_BM /= smoothed_BM.sum(axis=1, keepdims=True)
    return smoothed_BM


def _bandwidths(counts_BM: Floats) -> Floats:
    """Return the bandwidths by Scott's rule (Scott 1992), which are at least a third of a cell."""
    cells_M = np.arange(counts_BM.shape[1], dtype=np.float64)
    total_B = np.maximum(counts_BM.sum(axis=1), 1)
    mean_B = counts_BM @ cells_M / total_B
    squares_B = (counts_BM * (cells_M - mean_B[:, None]) ** 2).sum(axis=1)
    deviation_B = np.sqrt(squares_B / np.maximum(1, total_B - 1))
    cumulative_BM = np.cumsum(counts_BM, axis=1)
    first_B = np.argmax((cumulative_BM >= total_B[:, None] // 4) & (counts_BM > 0), axis=1)
    third_B = np.argmax(cumulative_BM > total_B[:, None] * 3 // 4, axis=1)
    spread_B = np.minimum((third_B - first_B) / 1.34, deviation_B)
    bandwidth_B: Floats = np.maximum(1.059 * spread_B * total_B**-0.2, 0.5 / 1.64)
    return bandwidth_B
