"""Values of trials over pairs of parameters, in bins: medians of what was measured, and nothing in between."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from caviar.analysis.parameter_axis import ParameterAxis
from caviar.space import Space

PARAMETERS = 4
"""Number of parameters whose pairs are looked at: the most important ones."""
Numbers = npt.NDArray[np.float64]
_TRIALS_PER_BIN = 4
"""Number of trials for each bin, on average."""
_MAX_BINS = 16
"""Largest number of bins of a parameter."""


@dataclass(frozen=True, slots=True)
class BinnedPair:
    """The trials over two parameters in bins."""

    x_edges: Numbers
    y_edges: Numbers
    medians: Numbers
    """Median value of each bin, by row of y and column of x; NaN where no trial is."""
    counts: npt.NDArray[np.int64]
    """Number of trials of each bin."""


def paired_parameters(space: Space, importance: pd.DataFrame) -> list[str]:
    """Return the names of the most important parameters, those that always apply first.

    Args:
        space: the space.
        importance: the result of `Run.importance`; parameters whose importance is unknown come last.
    """
    known = importance.loc[importance["importance"].notna(), "parameter"].tolist()
    ordered = [*known, *(name for name in space if name not in known)]
    return sorted(ordered, key=lambda name: bool(space[name].when))[:PARAMETERS]


def bin_pair(
    x: Numbers, y: Numbers, values: Numbers, axes: tuple[ParameterAxis, ParameterAxis]
) -> BinnedPair:
    """Put trials into bins of equal width on the scales of two parameters.

    Args:
        x: positions of the trials on the first axis.
        y: positions on the second axis.
        values: their values.
        axes: the axes of the two parameters.
    """
    bins = min(_MAX_BINS, max(2, round(math.sqrt(len(values) / _TRIALS_PER_BIN))))
    edges_x, edges_y = (_edges(axis, bins) for axis in axes)
    columns, rows = (
        np.clip(np.searchsorted(edges, positions, side="right") - 1, 0, len(edges) - 2)
        for edges, positions in ((edges_x, x), (edges_y, y))
    )
    shape = (len(edges_y) - 1, len(edges_x) - 1)
    medians, counts = np.full(shape, np.nan), np.zeros(shape, int)
    groups = pd.Series(values).groupby([rows, columns])
    places = tuple(np.array(list(groups.groups), int).reshape(-1, 2).T)
    medians[places], counts[places] = groups.median(), groups.size()
    return BinnedPair(edges_x, edges_y, medians, counts)


def _edges(axis: ParameterAxis, bins: int) -> Numbers:
    """Return the edges of the bins of a parameter: each option, and each of a few integers, has one of its own."""
    low, high = axis.ends
    if axis.is_jittered:
        half = 0.0 if axis.is_choice else 0.5  # the ends of a choice are half a step beyond its options
        low, high = low - half, high + half
        bins = round(high - low)
    return np.linspace(low, high, bins + 1)
