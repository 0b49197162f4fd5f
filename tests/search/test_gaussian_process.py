"""A Gaussian process learns which parameters matter, and how noisy scores are."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from caviar.search.gaussian_process import Floats, GaussianProcess, learn_hyperparameters

POINTS = np.random.default_rng(0).random((2, 60))
"""The first row decides the score, the second one does not matter."""
SCORES = np.sin(5 * POINTS[0]) - np.sin(5 * POINTS[0]).mean()


def squared(some: Floats, others: Floats = POINTS) -> Floats:
    """Return the squared distances by parameter."""
    gaps: Floats = some[:, :, None] - others[:, None, :]
    return gaps * gaps


def process(scores: Floats, points: Floats = POINTS) -> GaussianProcess:
    """Return a process whose hyperparameters are learned from the same points."""
    distances = squared(points, points)
    return GaussianProcess(learn_hyperparameters(distances, scores), distances, scores)


def test_mean_follows_a_smooth_function() -> None:
    places = np.random.default_rng(1).random((2, 40))
    wanted = np.sin(5 * places[0]) - np.sin(5 * POINTS[0]).mean()
    means, _ = process(SCORES).predict(squared(places))
    assert np.abs(means - wanted).max() < 0.1


def test_parameter_without_effect_is_ignored() -> None:
    along_first, along_second = np.array([[0.3, 0.9], [0.5, 0.5]]), np.array([[0.3, 0.3], [0.1, 0.9]])
    first, second = (process(SCORES).predict(squared(places))[0] for places in (along_first, along_second))
    assert np.ptp(second) < 0.05 < 1.0 < np.ptp(first)


def test_noise_is_smoothed_out() -> None:
    noise = 0.5 * np.random.default_rng(2).standard_normal(60)
    means, _ = process(SCORES + noise).predict(squared(POINTS))
    assert (means - SCORES).std() < 0.5 * noise.std()


def test_deviation_grows_with_the_distance_from_points() -> None:
    _, deviations = process(SCORES).predict(squared(np.array([[0.5, 1.5, 5.0], [0.5, 0.5, 0.5]])))
    assert deviations[0] < deviations[1] < deviations[2]


def test_smallest_mean_is_that_of_a_point() -> None:
    known = process(SCORES)
    assert known.smallest_mean == pytest.approx(known.predict(squared(POINTS))[0].min())


def test_equal_points_with_equal_scores_are_modeled() -> None:
    known = process(np.zeros(30), np.zeros((2, 30)))
    for predicted in known.predict(np.zeros((2, 4, 30))):
        assert np.isfinite(predicted).all()


def test_number_of_threads_changes_no_bit() -> None:
    points = np.random.default_rng(3).random((2, 150))
    scores = np.sin(5 * points[0])
    means = []
    for threads in (1, 4):
        with threadpool_limits(threads):
            means.append(process(scores, points).predict(squared(POINTS, points))[0].tolist())
    assert means[0] == means[1]
