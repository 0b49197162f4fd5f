"""The values of a parameter as numbers: positions on a scale, and numbers of options."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from caviar.columns import to_cell
from caviar.space import Choice, Interval


def coordinates(domain: Interval, x: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the coordinates of numbers on the scale of a range, as `Interval.coordinate` does for one.

    Args:
        domain: the range.
        x: numbers; those that are NaN stay so.
    """
    numbers: npt.NDArray[np.float64] = np.asarray(x, np.float64)
    if domain.scale == "log":
        numbers = np.log10(numbers)
    elif domain.scale == "reverse_log":
        numbers = -np.log1p(-numbers) / np.log(10)
    return numbers


def positions(domain: Interval, cells: pd.Series) -> npt.NDArray[np.float64]:
    """Return the places of numbers in their range on its scale, between 0 and 1.

    Args:
        domain: the range.
        cells: a column of the trials, or a part of it, without empty cells.

    Example:
        >>> from caviar.space import log
        >>> positions(log(1e-4, 1.0), pd.Series([1e-4, 0.01, 1.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    low, high = domain.ends
    return np.clip((coordinates(domain, cells) - low) / (high - low), 0, 1)


def option_numbers(domain: Choice, cells: pd.Series) -> npt.NDArray[np.int64]:
    """Return the number of each option among those of the choice, from 0.

    Args:
        domain: the choice.
        cells: a column of the trials, or a part of it, without empty cells.
    """
    numbers = {to_cell(domain, option): number for number, option in enumerate(domain.options)}
    return np.asarray(cells.map(numbers), np.int64)
