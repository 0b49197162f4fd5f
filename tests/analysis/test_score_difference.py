"""Differences of scores: Welch's test with pooled variances, Holm's method, and places."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import caviar as cv
from caviar.analysis.score_difference import Score, compare_pairs, difference, places
from caviar.search.confirmation import pooled_variance

scores = st.builds(
    Score,
    value=st.floats(-10, 10),
    variance=st.floats(1e-9, 1.0),
    degrees=st.integers(1, 50).map(float),
    n=st.integers(2, 9),
)


def score_of(values: list[float]) -> Score:
    return Score(
        float(np.mean(values)), float(np.var(values, ddof=1)) / len(values), len(values) - 1, len(values)
    )


def test_two_samples_give_what_scipy_gives() -> None:
    one, other = [0.91, 0.93, 0.92, 0.95], [0.90, 0.91, 0.89]
    found = difference(score_of(one), score_of(other), maximize=True)
    theirs = stats.ttest_ind(one, other, equal_var=False)
    interval = theirs.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(theirs.pvalue)


@given(scores, scores, st.booleans())
def test_the_other_order_gives_the_opposite(one: Score, other: Score, maximize: bool) -> None:
    forward, back = difference(one, other, maximize), difference(other, one, maximize)
    assert (forward.value, forward.low, forward.high) == (-back.value, -back.high, -back.low)
    assert forward.probability + back.probability == pytest.approx(1)
    assert forward.low <= forward.value <= forward.high


@given(scores, scores)
def test_minimizing_gives_the_opposite(one: Score, other: Score) -> None:
    up, down = difference(one, other, True), difference(one, other, False)
    assert up.value == -down.value
    assert up.probability + down.probability == pytest.approx(1)


def confirmed(rng: np.random.Generator, top: int, noise: float, spread: float) -> tuple[Score, float]:
    """Return the score of the winner of a confirmation, and its true mean."""
    truth = rng.normal(0, spread, top)
    values: list[list[float]] = [[] for _ in truth]
    alive = list(range(top))
    for step in cv.Confirmation(top=top).steps:
        alive = sorted(alive, key=lambda i: -np.mean(values[i]) if values[i] else 0.0)[: step.contenders]
        last = {i: rng.normal(truth[i], noise, step.seeds).tolist() for i in alive}
        for i in alive:
            values[i] += last[i]
    winner = max(alive, key=lambda i: np.mean(values[i]))
    pooled = pooled_variance(values)
    assert pooled is not None
    n = len(last[winner])
    return Score(float(np.mean(last[winner])), pooled[0] / n, pooled[1], n), truth[winner]


@pytest.mark.parametrize(("top", "spread", "noise"), [(4, 0.0, 3.0), (8, 1.0, 1.0)])
def test_intervals_after_a_confirmation_hold_the_truth(top: int, spread: float, noise: float) -> None:
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        one, truth = confirmed(rng, top, 1.0, spread)
        other, other_truth = confirmed(rng, top, noise, spread)
        found = difference(one, other, maximize=True)
        inside += found.low <= truth - other_truth <= found.high
    assert inside >= 0.93 * 400


def test_training_without_noise_leaves_no_doubt() -> None:
    exact = Score(0.9, 0.0, n=0)
    assert difference(exact, Score(0.8, 0.0, n=0), maximize=True).probability == 1.0
    assert difference(exact, Score(0.8, 0.0, n=0), maximize=False).probability == 0.0
    assert difference(exact, exact, maximize=True).probability == 0.5


def test_unknown_noise_leaves_the_probability_unknown() -> None:
    found = difference(Score(0.9), Score(0.8, 1e-6, 5, 3), maximize=True)
    assert found.value == pytest.approx(0.1)
    assert math.isnan(found.probability)
    pairs = compare_pairs([Score(0.9), Score(0.8)], maximize=True)
    assert not pairs["clear"].any()
    assert places(pairs, 2) == [(1, 2), (1, 2)]


def test_many_runs_need_larger_differences() -> None:
    """The two runs differ by 2.5 standard errors."""
    two = [Score(0.25, 0.005, n=4), Score(0.0, 0.005, n=4)]
    assert compare_pairs(two, maximize=True)["clear"].tolist() == [True]
    many = compare_pairs([*two, *[Score(0.1, 0.005, n=4)] * 6], maximize=True)
    assert not many["clear"].any()


def test_places_tell_ties() -> None:
    pairs = compare_pairs([Score(v, 1e-6, n=4) for v in (0.9, 0.8999, 0.5, 0.1)], maximize=True)
    assert places(pairs, 4) == [(1, 2), (1, 2), (3, 3), (4, 4)]


@given(st.lists(scores, min_size=2, max_size=6))
def test_places_are_possible(found: list[Score]) -> None:
    ranges = places(compare_pairs(found, maximize=True), len(found))
    best = max(range(len(found)), key=lambda i: found[i].value)
    assert ranges[best][0] == 1
    assert all(1 <= low <= high <= len(found) for low, high in ranges)
