"""A Gaussian process that predicts scores (Rasmussen & Williams 2006, "Gaussian Processes for Machine Learning").

The covariance of two points is signal * exp(-d / 2), where d is the sum over the parameters of squared distance /
squared length scale. A parameter with a large length scale hardly matters. The scores are noisy.

Linear algebra runs on one thread: the last digits of its results depend on the number of threads.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

LEARNING_STEPS = 15
"""Number of steps in which the hyperparameters are learned."""
FIRST_STEP, SMALLEST_STEP, LARGEST_STEP = 0.3, 1e-3, 0.5
"""Sizes of a step in the logarithm of a hyperparameter."""
REACH = 3.5
"""Largest distance of the logarithm of a hyperparameter from its most probable value."""
USUAL_NOISE = 0.5
"""Most probable standard deviation of the noise before any score is known; that of the signal and each length are 1."""
JITTER = 1e-6
"""Variance added to the noise, so that the covariance can be inverted."""

Floats = npt.NDArray[np.float64]

_BLAS = ThreadpoolController().select(user_api="blas")
"""NumPy's linear algebra."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The hyperparameters of a Gaussian process."""

    precisions: Floats
    """For each parameter 1 / squared length scale."""
    noise: float
    """Variance of the noise."""
    signal: float
    """Variance of the score without noise."""

    def covariance(self, squared: Floats) -> Floats:
        """Return the covariance between some points and others.

        Args:
            squared: squared distances by parameter, an array (parameters, points, others).
        """
        with _BLAS.limit(limits=1):
            distances = np.tensordot(self.precisions, squared, axes=1)
        covariance: Floats = self.signal * np.exp(-0.5 * distances)
        return covariance


class GaussianProcess:
    """A Gaussian process that knows the noisy scores of some points.

    Example:
        >>> x = np.linspace(0, 1, 20)
        >>> squared, scores = ((x[:, None] - x) ** 2)[None], np.sin(6 * x)
        >>> process = GaussianProcess(learn_hyperparameters(squared, scores), squared, scores)
        >>> means, deviations = process.predict(((np.array([[0.25], [3.0]]) - x) ** 2)[None])
        >>> means[:1].round(1), (deviations < 0.5).tolist()
        (array([1.]), [True, False])
    """

    def __init__(self, hyperparameters: Hyperparameters, squared: Floats, scores: Floats) -> None:
        """Take the hyperparameters, the squared distances between the points, and their scores.

        Args:
            hyperparameters: the hyperparameters, as of `learn_hyperparameters`.
            squared: squared distances by parameter, an array (parameters, points, points).
            scores: the score of each point. Their mean is about 0 and their variance about 1.
        """
        self._hyperparameters = hyperparameters
        covariance = hyperparameters.covariance(squared)
        with _BLAS.limit(limits=1):
            self._inverse = np.linalg.inv(covariance + (hyperparameters.noise + JITTER) * np.eye(len(scores)))
            self._weights = self._inverse @ scores
            self.smallest_mean = float((covariance @ self._weights).min())
        """The smallest expected score of the points."""
        self.noise = float(np.sqrt(hyperparameters.noise))
        """The standard deviation of a score around its expected one."""

    def predict(self, squared: Floats) -> tuple[Floats, Floats]:
        """Return the expected score of each candidate, and its standard deviation without noise.

        Args:
            squared: squared distances by parameter, an array (parameters, candidates, points).
        """
        covariance = self._hyperparameters.covariance(squared)
        with _BLAS.limit(limits=1):
            means, explained = (
                covariance @ self._weights,
                ((covariance @ self._inverse) * covariance).sum(axis=1),
            )
        return means, np.sqrt(np.maximum(self._hyperparameters.signal - explained, 0.0))


def learn_hyperparameters(squared: Floats, scores: Floats) -> Hyperparameters:
    """Return the most probable hyperparameters, up to the error that a few steps leave.

    Their logarithms have normal priors. The steps go by the signs of the slope alone: a step grows while its sign
    stays and shrinks where it changes (Riedmiller & Braun 1993).

    Args:
        squared: squared distances between points by parameter, an array (parameters, points, points).
        scores: the score of each point. Their mean is about 0 and their variance about 1.
    """
    count = len(squared) + 2
    prior, spread = np.zeros(count), np.ones(count)
    prior[-2], spread[-1] = np.log(USUAL_NOISE), 0.5
    at, step, before = prior, np.full(count, FIRST_STEP), np.zeros(count)
    for _ in range(LEARNING_STEPS):
        slope = _likelihood_slope(squared, scores, _from_logarithms(at)) - (at - prior) / spread**2
        factor = np.choose(np.sign(slope * before).astype(int) + 1, [0.5, 1.0, 1.2])
        step, before = np.clip(step * factor, SMALLEST_STEP, LARGEST_STEP), slope
        at = np.clip(at + np.sign(slope) * step, prior - REACH, prior + REACH)
    return _from_logarithms(at)


def _from_logarithms(at: Floats) -> Hyperparameters:
    """Return the hyperparameters from logarithms of their square roots, noise and signal last."""
    *precisions, noise, signal = np.exp(2 * at)
    return Hyperparameters(np.array(precisions), float(noise), float(signal))


def _likelihood_slope(squared: Floats, scores: Floats, these: Hyperparameters) -> Floats:
    """Return the slope of the logarithm of the likelihood in the logarithms of the hyperparameters' square roots."""
    covariance = these.covariance(squared)
    with _BLAS.limit(limits=1):
        inverse = np.linalg.inv(covariance + (these.noise + JITTER) * np.eye(len(scores)))
        weights = inverse @ scores
        pull = np.outer(weights, weights) - inverse  # twice the slope in the covariance
        by_length = -0.5 * these.precisions * np.tensordot(squared, pull * covariance, axes=2)
    return np.append(by_length, [these.noise * np.trace(pull), (pull * covariance).sum()])
