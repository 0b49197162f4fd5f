"""The choice of the candidate to train: the one that promises the largest improvement.

Drawing a candidate costs almost nothing compared with training it. So several are drawn, and a Gaussian process of the
finished trials predicts how good each one is, and how uncertain that is. The one with the largest expected improvement
(Jones, Schonlau & Welch 1998) over the best known trial is trained: it is probably good, or little is known near it.

The process learns from ranks, so the sizes of losses do not matter. It learns how much each parameter matters, and how
noisy the results are, so that a single lucky trial does not decide. It learns from a bounded number of trials, and anew
each time, so that a choice depends on the finished trials alone.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import NormalDist

import numpy as np

from caviar.search.gaussian_process import Floats, GaussianProcess, learn_hyperparameters
from caviar.space import Choice, Domain, Space
from caviar.trial import Value

MAX_LEARNED = 100
"""Largest number of trials that the hyperparameters are learned from."""
MAX_MODELED = 200
"""Largest number of trials that the process knows."""
DECIMALS = 6
"""Decimals of a prediction, so that the rounding errors of different processors hardly ever decide."""


class CandidateRanking:
    """A ranking of candidates by a model of the finished trials.

    Each number is scaled to its range in coordinates of its scale. Two options of a choice are as far from each other
    as the two ends of a range.

    Example:
        >>> from caviar.space import Space, linear
        >>> finished = [{"x": x / 10} for x in (8, 7, 9, 6, 5, 4, 3, 2, 1)]
        >>> CandidateRanking(Space(x=linear(0, 1)), finished).best_candidate([{"x": 0.3}, {"x": 0.85}])
        1
    """

    def __init__(self, declared: Space, finished: Sequence[Mapping[str, Value]]) -> None:
        """Take the declared space, and the params of the finished trials, best first."""
        self._domains = {name: declared[name].domain for name in sorted(declared)}
        self._finished = finished

    def best_candidate(self, candidates: Sequence[Mapping[str, Value]]) -> int:
        """Return the index of the candidate with the largest expected improvement; of equal ones the first.

        Args:
            candidates: the params of each.
        """
        if len(candidates) == 1 or not self._finished:
            return 0
        means, deviations = self._process.predict(
            self._squared_distances(self._coordinates(candidates), self._known)
        )
        best = round(self._process.smallest_mean, DECIMALS)
        predictions = zip(means.round(DECIMALS).tolist(), deviations.round(DECIMALS).tolist(), strict=True)
        gains = [_expected_improvement(best - mean, deviation) for mean, deviation in predictions]
        return gains.index(max(gains))

    def expected_scores(self, candidates: Sequence[Mapping[str, Value]]) -> Floats:
        """Return the expected score of each candidate: smaller is better, and 0 is the median of the finished trials.

        Args:
            candidates: the params of each.
        """
        return self._process.predict(self._squared_distances(self._coordinates(candidates), self._known))[0]

    @property
    def noise(self) -> float:
        """The standard deviation of a score around its expected one."""
        return self._process.noise

    @cached_property
    def _known(self) -> Floats:
        """The coordinates of the trials that the process knows."""
        return self._coordinates(
            [self._finished[index] for index in _spread(len(self._finished), MAX_MODELED)]
        )

    @cached_property
    def _process(self) -> GaussianProcess:
        """The model. The score of a trial is the normal quantile of its rank: the smaller, the better."""
        normal, count = NormalDist(), len(self._finished)
        scores = np.array([normal.inv_cdf((rank + 0.5) / count) for rank in _spread(count, MAX_MODELED)])
        squared, some = self._squared_distances(self._known, self._known), _spread(len(scores), MAX_LEARNED)
        hyperparameters = learn_hyperparameters(squared[:, some][:, :, some], scores[some])
        return GaussianProcess(hyperparameters, squared, scores)

    def _coordinates(self, params: Sequence[Mapping[str, Value]]) -> Floats:
        """Return an array with a row for each parameter and a column for each trial."""
        return np.array(
            [
                [_coordinate(domain, p[name]) if name in p else _default(domain) for p in params]
                for name, domain in self._domains.items()
            ]
        )

    def _squared_distances(self, some: Floats, others: Floats) -> Floats:
        """Return the squared distances by parameter, an array (parameters, some, others)."""
        gaps = some[:, :, None] - others[:, None, :]
        is_choice = np.array([isinstance(domain, Choice) for domain in self._domains.values()])
        return np.where(is_choice[:, None, None], gaps != 0, gaps * gaps)


def _spread(count: int, limit: int) -> list[int]:
    """Return at most `limit` of so many ranks: the best ones, and as many others at equal distances."""
    if count <= limit:
        return list(range(count))
    best = limit // 2
    others = limit - best
    return [*range(best), *(best + i * (count - best) // others for i in range(others))]


def _expected_improvement(gain: float, deviation: float) -> float:
    """Return the expected improvement of a score whose mean is better by `gain` than the best known one."""
    if deviation == 0:
        return max(gain, 0.0)
    u = gain / deviation
    above = 0.5 * math.erfc(-u / math.sqrt(2))
    return gain * above + deviation * math.exp(-0.5 * u * u) / math.sqrt(2 * math.pi)


def _coordinate(domain: Domain, value: Value) -> float:
    """Return a number's position in its range, from 0 to 1, or the index of an option."""
    if isinstance(domain, Choice):
        return float(domain.options.index(value))
    low, high = domain.ends
    return (domain.coordinate(value) - low) / (high - low)  # type: ignore[arg-type]


def _default(domain: Domain) -> float:
    """Return the coordinate of a parameter that does not apply: no option, or the middle of the range."""
    return -1.0 if isinstance(domain, Choice) else 0.5
