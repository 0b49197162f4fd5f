"""The choice of the candidate to train: the one whose nearest finished trials did best.

Drawing a candidate costs almost nothing compared with training it. So several are drawn, and a nearest-neighbour model
predicts how good each one is: by the mean rank of the finished trials nearest to it. A mean over several neighbours
limits the effect of a single lucky trial.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from caviar.space import Choice, Domain, Space
from caviar.trial import Value

OPTION_DISTANCE = 0.5
"""Distance between two options of a choice; the distance between the two ends of a range is 1."""


class NeighborRanking:
    """A ranking of candidates by their nearest finished trials.

    Distances are Euclidean. Each number is scaled to its range in coordinates of its scale.

    Example:
        >>> from caviar.space import Space, linear
        >>> finished = [{"x": 0.8}, {"x": 0.7}, {"x": 0.1}, {"x": 0.2}]
        >>> ranking = NeighborRanking(Space(x=linear(0, 1)), finished)
        >>> ranking.best_candidate([{"x": 0.3}, {"x": 0.9}], n_neighbors=2)
        1
    """

    def __init__(self, declared: Space, finished: Sequence[Mapping[str, Value]]) -> None:
        """Take the declared space, and the params of the finished trials, best first."""
        self._domains = {name: declared[name].domain for name in sorted(declared)}
        self._count = len(finished)
        self._finished = self._coordinates(finished)

    def best_candidate(self, candidates: Sequence[Mapping[str, Value]], n_neighbors: int) -> int:
        """Return the index of the candidate whose neighbours have the best mean rank; of equal ones the first.

        Args:
            candidates: the params of each.
            n_neighbors: number of nearest trials that count. Trials as near as the last of them count too, so that
                their order does not matter.
        """
        if len(candidates) == 1 or self._count == 0:
            return 0
        squared = np.zeros((len(candidates), self._count))
        coordinates = zip(self._domains.values(), self._coordinates(candidates), self._finished, strict=True)
        for domain, of_candidates, of_finished in coordinates:
            gap = of_candidates[:, None] - of_finished
            squared += OPTION_DISTANCE**2 * (gap != 0) if isinstance(domain, Choice) else gap * gap
        last = min(n_neighbors, self._count) - 1
        is_near = squared <= np.partition(squared, last, axis=1)[:, [last]]
        mean_ranks = (is_near * np.arange(self._count)).sum(axis=1) / is_near.sum(axis=1)
        return int(np.argmin(mean_ranks))

    def _coordinates(self, params: Sequence[Mapping[str, Value]]) -> list[npt.NDArray[np.float64]]:
        """Return an array for each parameter, with one coordinate for each trial."""
        return [
            np.array([_coordinate(domain, p[name]) if name in p else _default(domain) for p in params])
            for name, domain in self._domains.items()
        ]


def _coordinate(domain: Domain, value: Value) -> float:
    """Return a number's position in its range, from 0 to 1, or the index of an option."""
    if isinstance(domain, Choice):
        return float(domain.options.index(value))
    low, high = domain.ends
    return (domain.coordinate(value) - low) / (high - low)  # type: ignore[arg-type]


def _default(domain: Domain) -> float:
    """Return the coordinate of a parameter that does not apply: no option, or the middle of the range."""
    return -1.0 if isinstance(domain, Choice) else 0.5
