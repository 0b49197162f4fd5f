"""Parameters as axes of figures: positions on their scales, and ticks in the user's units."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from caviar.analysis.positions import coordinates
from caviar.columns import to_cell
from caviar.space import Choice, Domain, Interval

Numbers = npt.NDArray[np.float64]
MAX_JITTERED = 10
"""Length of a range of integers up to which dots are spread a little."""
_FULL_DECADES = 2
"""Number of decades from which ticks are powers of ten alone."""


@dataclass(frozen=True, slots=True)
class ParameterAxis:
    """The axis of a parameter: coordinates on its scale for numbers, and 0, 1, 2, ... for the options of a choice.

    Example:
        >>> from caviar.space import reverse_log
        >>> axis = ParameterAxis(reverse_log(0.9, 0.999))
        >>> [text for _, text in axis.ticks()]
        ['0.9', '0.99', '0.999']
    """

    domain: Domain

    @property
    def is_choice(self) -> bool:
        """True if the parameter is a choice."""
        return isinstance(self.domain, Choice)

    @property
    def ends(self) -> tuple[float, float]:
        """The positions of the two ends, with half a step around the options of a choice."""
        if isinstance(self.domain, Choice):
            return -0.5, len(self.domain.options) - 0.5
        return self.domain.ends

    def positions(self, cells: "pd.Series[float] | pd.Series[str]") -> Numbers:
        """Return the positions of the cells of the parameter's column; NaN where it does not apply."""
        if isinstance(self.domain, Choice):
            places = {to_cell(self.domain, option): place for place, option in enumerate(self.domain.options)}
            return cells.map(places).to_numpy(dtype=float, na_value=np.nan)
        return coordinates(self.domain, cells.to_numpy(dtype=float, na_value=np.nan))

    def jittered(self, cells: "pd.Series[float] | pd.Series[str]") -> Numbers:
        """Return positions, spread a little where many trials share the same few, so that dots do not hide dots."""
        positions = self.positions(cells)
        if not self.is_jittered:
            return positions
        return positions + np.random.default_rng(0).uniform(-0.28, 0.28, len(positions))

    @property
    def is_jittered(self) -> bool:
        """True if the parameter has few values: a choice, or an integer in a short range."""
        domain = self.domain
        if isinstance(domain, Choice):
            return True
        return domain.integer and domain.scale == "linear" and domain.high - domain.low <= MAX_JITTERED

    def ticks(self, most: int = 6, ends: bool = False) -> list[tuple[float, str]]:
        """Return positions and texts of ticks.

        Args:
            most: the number of ticks on a range of numbers, at most about.
            ends: have ticks at both ends of a range, in place of those near them.
        """
        domain = self.domain
        if isinstance(domain, Choice):
            return [(float(place), str(option)) for place, option in enumerate(domain.options)]
        numbers = [x for x in _round_numbers(domain, most) if domain.low <= x <= domain.high]
        if ends or len(numbers) < 2:
            inner = [x for x in numbers if self._is_inner(domain, x, most)]
            numbers = [domain.low, *inner, domain.high]
        return [(domain.coordinate(x), domain.text(x)) for x in numbers]

    def _is_inner(self, domain: Interval, x: float, most: int) -> bool:
        """Return True if a number is not near the ends."""
        low, high = domain.ends
        distance = min(domain.coordinate(x) - low, high - domain.coordinate(x))
        return distance > (high - low) / (2 * most)


def _round_numbers(domain: Interval, most: int) -> list[float]:
    """Return round numbers on a scale, about as many as wanted, some of them outside the domain."""
    low, high = domain.ends
    if domain.scale == "linear" or (domain.scale == "log" and high - low < 1):
        step = _round_step(domain.high / most - domain.low / most)
        step = max(1.0, step) if domain.integer else step
        first = math.ceil(domain.low / step - 1e-9)
        return [
            float(f"{number * step:.12g}")
            for number in range(first, math.floor(domain.high / step + 1e-9) + 1)
        ]
    digits = (1,) if high - low >= _FULL_DECADES - 1e-9 else (1, 2, 5)
    every = max(1, math.ceil((high - low) / most)) if len(digits) == 1 else 1
    powers = range(math.floor(low), math.ceil(high) + 1)
    if domain.scale == "log":
        return [digit * 10.0**power for power in powers if power % every == 0 for digit in digits]
    found = sorted(1 - digit * 10.0**-power for power in powers if power % every == 0 for digit in digits)
    return [float(f"{x:.12g}") for x in found]


def _round_step(step: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least a step."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= step * (1 - 1e-9))
