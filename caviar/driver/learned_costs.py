"""Costs of trials learned from the times of finished ones, for the order in which trials start.

The logarithm of a trial's seconds, relative to what its objective predicts, is fitted by ridge regression on its
params. Times differ from run to run, so nothing learned here may change which trials are drawn (law 1).
"""

from collections import deque
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from caviar.space import Choice, Domain, Space
from caviar.trial import Value

MIN_TRIALS, MAX_TRIALS = 20, 300
"""Smallest and largest number of finished trials to learn from."""
MIN_S = 0.01
"""Seconds below which a trial's length does not matter, because many of them are sent at once."""
RIDGE = 1.0
"""Weight of the penalty, in units of one trial's squared error."""


class LearnedCosts:
    """Factors that correct the predicted seconds of trials.

    Args:
        space: the space of the trials.
        min_trials: smallest number of finished trials to learn from.

    Example:
        >>> from caviar.space import integer
        >>> costs = LearnedCosts(Space(layers=integer(1, 4)))
        >>> for layers in 20 * [1, 2, 3, 4]:
        ...     costs.note({"layers": layers}, predicted_s=1.0, observed_s=2.0**layers)
        >>> costs.learn()
        >>> costs.factor({"layers": 4}) > 4 * costs.factor({"layers": 1})
        True
    """

    def __init__(self, space: Space, min_trials: int = MIN_TRIALS) -> None:
        self._space, self._min_trials = space, min_trials
        self._noted: deque[tuple[Mapping[str, Value], float, float]] = deque(maxlen=MAX_TRIALS)
        self._weights: npt.NDArray[np.float64] = np.zeros(0)
        self._limits = 0.0, 0.0  # logarithms of the smallest and the largest ratio observed
        self.gain = 0.0
        """Share of the squared error of an equal factor for all that the learned factors save on trials left out."""

    def note(self, params: Mapping[str, Value], predicted_s: float, observed_s: float) -> None:
        """Note the seconds of a finished trial, unless it was so short that its length does not matter."""
        if predicted_s > 0 and observed_s >= MIN_S:
            self._noted.append((params, predicted_s, observed_s))

    def learn(self) -> None:
        """Learn from the trials noted last, unless they are few."""
        if len(self._noted) < self._min_trials:
            return
        features = np.array([_features(self._space, params) for params, _, _ in self._noted])
        logs = np.log([observed_s / predicted_s for _, predicted_s, observed_s in self._noted])
        self._limits = float(logs.min()), float(logs.max())
        penalty = RIDGE * np.eye(features.shape[1])
        penalty[0, 0] = 0.0  # the first feature is constant
        solved = np.linalg.solve(features.T @ features + penalty, features.T)
        self._weights = solved @ logs
        leverages = np.einsum("ij,ji->i", features, solved)
        left_out = (logs - features @ self._weights) / (1.0 - leverages)
        equal = (logs - logs.mean()) * len(logs) / (len(logs) - 1)
        spread = float(np.square(equal).sum())
        self.gain = 1.0 - float(np.square(left_out).sum()) / spread if spread > 0 else 0.0

    def factor(self, params: Mapping[str, Value]) -> float:
        """Return the factor for a trial, within the range of those observed; 1 if nothing is learned."""
        if not self._weights.size:
            return 1.0
        log = float(np.dot(_features(self._space, params), self._weights))
        return float(np.exp(np.clip(log, *self._limits)))


def _features(space: Space, params: Mapping[str, Value]) -> list[float]:
    """Return a constant, and for each parameter its place in the range and its square, or which option it is."""
    features = [1.0]
    for name in space:
        domain = space[name].domain
        features += _absent(domain) if name not in params else _present(domain, params[name])
    return features


def _present(domain: Domain, value: Value) -> list[float]:
    if isinstance(domain, Choice):
        index = domain.options.index(value)
        return [float(index == option) for option in range(len(domain.options))]
    low, high = domain.ends
    place = 2 * (domain.coordinate(value) - low) / (high - low) - 1  # type: ignore[arg-type]
    return [1.0, place, place * place]


def _absent(domain: Domain) -> list[float]:
    return [0.0] * (len(domain.options) if isinstance(domain, Choice) else 3)
