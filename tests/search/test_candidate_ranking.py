"""The best candidate is the one whose nearest finished trials did best."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caviar.rounds import Narrowing
from caviar.search.candidate_ranking import NeighborRanking
from caviar.search.region import Region
from caviar.search.sampling import draw_params
from caviar.space import Domain, Space, choice, integer, linear, log, reverse_log, when
from caviar.trial import Value
from tests import strategies

Params = dict[str, Value]
LINE = Space(x=linear(0.0, 1.0))


def best_on_line(finished: list[float], candidates: list[float], n_neighbors: int = 1) -> Value:
    """Return the best candidate after trials at these places, best first."""
    ranking = NeighborRanking(LINE, [{"x": x} for x in finished])
    return candidates[ranking.best_candidate([{"x": x} for x in candidates], n_neighbors)]


def is_nearer(space: Space, place: Params, one: Params, other: Params) -> bool:
    """Return True if a place is nearer to one trial than to another.

    The other trial ranks lower, so a candidate at the other's place is best unless the place is nearer to the first.
    """
    return NeighborRanking(space, [one, other]).best_candidate([other, place], n_neighbors=1) == 1


def test_best_candidate_is_near_the_better_trials() -> None:
    assert best_on_line([0.2, 0.3, 0.8, 0.9], [0.85, 0.25], n_neighbors=2) == 0.25
    assert best_on_line([0.9, 0.8, 0.3, 0.2], [0.25, 0.85], n_neighbors=2) == 0.85


def test_one_lucky_trial_among_poor_ones_does_not_decide() -> None:
    finished, candidates = [0.5, 0.1, 0.11, 0.12, 0.49, 0.51, 0.52], [0.5, 0.1]
    assert best_on_line(finished, candidates, n_neighbors=1) == 0.5
    assert best_on_line(finished, candidates, n_neighbors=3) == 0.1


def test_trials_at_equal_distance_count_too() -> None:
    """Two trials at the same place are the best and the worst of all: the order of equals must not decide."""
    assert best_on_line([0.5, 0.1, 0.2, 0.5], [0.5, 0.1], n_neighbors=1) == 0.1


def test_first_of_equal_candidates_is_best() -> None:
    ranking = NeighborRanking(Space(x=linear(0, 1), y=linear(0, 1)), [{"x": 0.5, "y": 0.5}])
    candidates: list[Params] = [{"x": 0.1, "y": 0.2}, {"x": 0.9, "y": 0.9}]
    assert ranking.best_candidate(candidates, n_neighbors=5) == 0
    assert NeighborRanking(LINE, []).best_candidate([{"x": 0.7}, {"x": 0.1}], n_neighbors=5) == 0


@pytest.mark.parametrize(
    ("domain", "place", "nearer", "farther"),
    [
        (linear(0, 1), 0.5, 0.6, 0.3),
        (log(1e-4, 1.0), 1e-2, 0.1, 5e-4),
        (reverse_log(0.9, 0.9999), 0.99, 0.93, 0.999),
        (integer(16, 256, scale="log"), 64, 128, 20),
        (choice("a", "b", None), None, None, "a"),
    ],
)
def test_distances_follow_the_scale(domain: Domain, place: Value, nearer: Value, farther: Value) -> None:
    space = Space(p=domain)
    assert is_nearer(space, {"p": place}, {"p": nearer}, {"p": farther})
    assert not is_nearer(space, {"p": place}, {"p": farther}, {"p": nearer})


def test_another_option_is_half_a_range_away() -> None:
    space = Space(x=linear(0, 1), method=choice("a", "b", "c"))
    for other in ("b", "c"):
        here: Params = {"x": 0.0, "method": "a"}
        elsewhere: Params = {"x": 0.0, "method": other}
        assert is_nearer(space, here, {"x": 0.45, "method": "a"}, elsewhere)
        assert not is_nearer(space, here, {"x": 0.55, "method": "a"}, elsewhere)


def test_missing_parameter_counts_as_the_middle_of_its_range() -> None:
    space = Space(method=choice("plain", "heavy"), beta=when(linear(0, 1), method="heavy"))
    middle: Params = {"method": "heavy", "beta": 0.5}
    end: Params = {"method": "heavy", "beta": 0.9}
    assert is_nearer(space, {"method": "plain"}, middle, end)
    assert not is_nearer(space, {"method": "plain"}, end, middle)


@settings(max_examples=20)
@given(strategies.spaces, st.integers(0, 1_000), st.randoms(use_true_random=False))
def test_order_of_parameters_does_not_matter(space: Space, seed: int, random: Random) -> None:
    some = list(draw_params(Region(declared=space), Narrowing(), count=14, seed=seed, round_number=1))
    finished, candidates = some[:9], some[9:]
    best = NeighborRanking(space, finished).best_candidate(candidates, n_neighbors=3)
    names = list(space)
    random.shuffle(names)
    shuffled = NeighborRanking(Space(**{name: space[name] for name in names}), finished)
    assert shuffled.best_candidate(candidates, n_neighbors=3) == best
