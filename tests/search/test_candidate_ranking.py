"""Of several draws, the one is trained whose nearest trials so far did best."""

from random import Random

import pytest
from hypothesis import given
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


def on_line(tried: list[float], drawn: list[float], n_neighbors: int = 1) -> Value:
    """The favourite of these draws after trials at these places, best first."""
    neighbours = NeighborRanking(LINE, [{"x": x} for x in tried])
    return drawn[neighbours.best_candidate([{"x": x} for x in drawn], n_neighbors)]


def is_nearer(space: Space, place: Params, one: Params, other: Params) -> bool:
    """Whether a place is nearer to one trial than to another: it is drawn beside the other, which ranks lower."""
    return NeighborRanking(space, [one, other]).best_candidate([other, place], n_neighbors=1) == 1


def test_the_draw_near_the_better_trials_is_the_favourite() -> None:
    assert on_line([0.2, 0.3, 0.8, 0.9], [0.85, 0.25], n_neighbors=2) == 0.25
    assert on_line([0.9, 0.8, 0.3, 0.2], [0.25, 0.85], n_neighbors=2) == 0.85


def test_one_lucky_trial_among_poor_ones_does_not_decide() -> None:
    tried, drawn = [0.5, 0.1, 0.11, 0.12, 0.49, 0.51, 0.52], [0.5, 0.1]
    assert on_line(tried, drawn, n_neighbors=1) == 0.5
    assert on_line(tried, drawn, n_neighbors=3) == 0.1


def test_trials_that_are_as_near_count_too() -> None:
    """Which of two equal ones is asked would be chance: here one is the best of all, one the worst."""
    assert on_line([0.5, 0.1, 0.2, 0.5], [0.5, 0.1], n_neighbors=1) == 0.1


def test_of_equal_draws_the_first_is_the_favourite() -> None:
    neighbours = NeighborRanking(Space(x=linear(0, 1), y=linear(0, 1)), [{"x": 0.5, "y": 0.5}])
    drawn: list[Params] = [{"x": 0.1, "y": 0.2}, {"x": 0.9, "y": 0.9}]
    assert neighbours.best_candidate(drawn, n_neighbors=5) == 0
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
def test_distances_are_those_of_the_scale(
    domain: Domain, place: Value, nearer: Value, farther: Value
) -> None:
    space = Space(p=domain)
    assert is_nearer(space, {"p": place}, {"p": nearer}, {"p": farther})
    assert not is_nearer(space, {"p": place}, {"p": farther}, {"p": nearer})


def test_another_option_is_as_far_as_half_a_range() -> None:
    space = Space(x=linear(0, 1), method=choice("a", "b", "c"))
    for other in ("b", "c"):
        here: Params = {"x": 0.0, "method": "a"}
        elsewhere: Params = {"x": 0.0, "method": other}
        assert is_nearer(space, here, {"x": 0.45, "method": "a"}, elsewhere)
        assert not is_nearer(space, here, {"x": 0.55, "method": "a"}, elsewhere)


def test_a_parameter_that_a_trial_does_not_have_is_in_the_middle() -> None:
    space = Space(method=choice("plain", "heavy"), beta=when(linear(0, 1), method="heavy"))
    middle: Params = {"method": "heavy", "beta": 0.5}
    end: Params = {"method": "heavy", "beta": 0.9}
    assert is_nearer(space, {"method": "plain"}, middle, end)
    assert not is_nearer(space, {"method": "plain"}, end, middle)


@given(strategies.spaces, st.integers(0, 1_000), st.randoms(use_true_random=False))
def test_it_does_not_depend_on_the_order_in_which_a_space_is_written(
    space: Space, seed: int, random: Random
) -> None:
    some = list(draw_params(Region(declared=space), Narrowing(), count=14, seed=seed, round_number=1))
    tried, drawn = some[:9], some[9:]
    favourite = NeighborRanking(space, tried).best_candidate(drawn, n_neighbors=3)
    names = list(space)
    random.shuffle(names)
    again = NeighborRanking(Space(**{name: space[name] for name in names}), tried)
    assert again.best_candidate(drawn, n_neighbors=3) == favourite
