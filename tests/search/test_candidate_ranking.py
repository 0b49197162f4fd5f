"""The best candidate is the one with the largest expected improvement over the finished trials."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caviar.rounds import Narrowing
from caviar.search.candidate_ranking import MAX_MODELED, CandidateRanking
from caviar.search.region import Region
from caviar.search.sampling import draw_params
from caviar.space import Domain, Space, choice, integer, linear, log, reverse_log, when
from caviar.trial import Value
from tests import strategies

Params = dict[str, Value]
LINE = Space(x=linear(0.0, 1.0))


def best_on_line(finished: list[float], candidates: list[float]) -> Value:
    """Return the best candidate after trials at these places, best first."""
    ranking = CandidateRanking(LINE, [{"x": x} for x in finished])
    return candidates[ranking.best_candidate([{"x": x} for x in candidates])]


def near(peak: float, count: int) -> list[float]:
    """Return evenly spaced places between 0 and 1, those near the peak first."""
    return sorted((index / (count - 1) for index in range(count)), key=lambda x: abs(x - peak))


@pytest.mark.parametrize("count", [8, 40, MAX_MODELED + 1, 1_000])
def test_best_candidate_is_near_the_better_trials(count: int) -> None:
    assert best_on_line(near(0.8, count), [0.1, 0.5, 0.78, 0.3]) == 0.78
    assert best_on_line(near(0.2, count), [0.9, 0.5, 0.78, 0.3]) == 0.3


def test_one_lucky_trial_among_poor_ones_does_not_decide() -> None:
    finished = near(0.2, 40)
    assert best_on_line([0.9, *finished], [0.9, 0.25]) == 0.25


def test_parameter_without_effect_does_not_decide() -> None:
    random = Random(0)
    space = Space(x=linear(0, 1), y=linear(0, 1))
    finished: list[Params] = [{"x": x, "y": random.random()} for x in near(0.5, 40)]
    candidates: list[Params] = [{**finished[0], "x": 0.2}, {"x": 0.45, "y": 0.99}]
    assert CandidateRanking(space, finished).best_candidate(candidates) == 1


def test_first_of_equal_candidates_is_best() -> None:
    ranking = CandidateRanking(LINE, [{"x": x} for x in near(0.5, 20)])
    assert ranking.best_candidate([{"x": 0.1}, {"x": 0.4}, {"x": 0.4}]) == 1


def test_without_finished_trials_the_first_candidate_is_best() -> None:
    assert best_on_line([], [0.1, 0.9]) == 0.1


def test_unknown_place_promises_more_than_a_known_poor_one() -> None:
    space = Space(x=linear(0, 1), y=linear(0, 1))
    known: list[Params] = [{"x": x, "y": 0.0} for x in near(0.5, 20)]
    candidates: list[Params] = [{"x": 0.0, "y": 0.0}, {"x": 0.0, "y": 1.0}]
    assert CandidateRanking(space, known).best_candidate(candidates) == 1


@pytest.mark.parametrize(
    ("domain", "values", "better", "poorer"),
    [
        (linear(0, 1), [x / 10 for x in range(11)], 0.02, 0.5),
        (log(1e-4, 1.0), [10 ** (-4 + x / 4) for x in range(17)], 3e-4, 1e-2),
        (reverse_log(0.9, 0.9999), [1 - 10 ** (-1 - x / 4) for x in range(13)], 0.93, 0.99),
        (integer(16, 256, scale="log"), [16, 20, 26, 32, 45, 64, 90, 128, 180, 256], 24, 64),
        (choice("a", "b", None), [*"aaaaaa", *"bbbbbb", *([None] * 6)], "a", "b"),
    ],
)
def test_first_values_of_each_scale_are_better(
    domain: Domain, values: list[Value], better: Value, poorer: Value
) -> None:
    ranking = CandidateRanking(Space(p=domain), [{"p": value} for value in values])
    assert ranking.best_candidate([{"p": poorer}, {"p": better}]) == 1


def test_parameter_that_does_not_apply_is_modeled() -> None:
    space = Space(method=choice("plain", "heavy"), beta=when(linear(0, 1), method="heavy"))
    heavy: list[Params] = [{"method": "heavy", "beta": beta} for beta in near(0.9, 12)]
    plain: list[Params] = [{"method": "plain"} for _ in range(6)]
    candidates: list[Params] = [
        {"method": "plain"},
        {"method": "heavy", "beta": 0.1},
        {"method": "heavy", "beta": 0.8},
    ]
    assert CandidateRanking(space, [*heavy[:6], *plain, *heavy[6:]]).best_candidate(candidates) == 2
    assert CandidateRanking(space, [*plain, *heavy]).best_candidate(candidates) == 0


@settings(max_examples=20)
@given(strategies.spaces, st.integers(0, 1_000), st.randoms(use_true_random=False))
def test_order_of_parameters_does_not_matter(space: Space, seed: int, random: Random) -> None:
    some = list(draw_params(Region(declared=space), Narrowing(), count=17, seed=seed, round_number=1))
    finished, candidates = some[:12], some[12:]
    best = CandidateRanking(space, finished).best_candidate(candidates)
    names = list(space)
    random.shuffle(names)
    shuffled = CandidateRanking(Space(**{name: space[name] for name in names}), finished)
    assert shuffled.best_candidate(candidates) == best
