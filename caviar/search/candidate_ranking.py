"""Which of several draws to train: the one whose nearest trials so far did best.

A draw costs next to nothing, a training does not. What the nearest few trials came to, by the mean of their ranks, says
something of a place before anyone trains there; one lucky trial among them says little.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from caviar.space import Choice, Domain, Space
from caviar.trial import Value

APART = 0.5
"""Different options of a choice are as far apart as numbers that differ by this share of their range."""


class Neighbours:
    """The trials so far, and how far from them a place lies, with every parameter on its scale.

    Example:
        >>> from caviar.space import Space, linear
        >>> tried = [{"x": 0.8}, {"x": 0.7}, {"x": 0.1}, {"x": 0.2}]
        >>> Neighbours(Space(x=linear(0, 1)), tried).favourite([{"x": 0.3}, {"x": 0.9}], nearest=2)
        1
    """

    def __init__(self, whole: Space, tried: Sequence[Mapping[str, Value]]) -> None:
        """Take the params of the trials, best first."""
        self._domains = {name: whole[name].domain for name in sorted(whole)}
        self._count = len(tried)
        self._axes = self._places(tried)

    def favourite(self, draws: Sequence[Mapping[str, Value]], nearest: int) -> int:
        """Which draw's nearest trials rank best on average; the first of equals.

        Trials that are as near as the last of the nearest count too, so that no tie is broken by chance.
        """
        if len(draws) == 1 or self._count == 0:
            return 0
        gaps = np.zeros((len(draws), self._count))
        for domain, mine, theirs in zip(self._domains.values(), self._places(draws), self._axes, strict=True):
            gap = mine[:, None] - theirs
            gaps += APART**2 * (gap != 0) if isinstance(domain, Choice) else gap * gap
        last = min(nearest, self._count) - 1
        near = gaps <= np.partition(gaps, last, axis=1)[:, [last]]
        ranks = (near * np.arange(self._count)).sum(axis=1) / near.sum(axis=1)
        return int(np.argmin(ranks))

    def _places(self, params: Sequence[Mapping[str, Value]]) -> list[npt.NDArray[np.float64]]:
        """Where each lies, one axis a parameter."""
        return [
            np.array([_place(domain, each[name]) if name in each else _absent(domain) for each in params])
            for name, domain in self._domains.items()
        ]


def _place(domain: Domain, value: Value) -> float:
    """A number's share of its range, on its scale; of an option, which one it is."""
    if isinstance(domain, Choice):
        return float(domain.options.index(value))
    low, high = domain.ends
    return (domain.coordinate(value) - low) / (high - low)  # type: ignore[arg-type]


def _absent(domain: Domain) -> float:
    """Of a parameter that a trial does not have: no option, or the middle of the range."""
    return -1.0 if isinstance(domain, Choice) else 0.5
