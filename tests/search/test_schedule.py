"""The steps of a search cover its trials, and each learns from all but the trials in flight."""

from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from caviar.rounds import MAX_SHARES, Confirmation, Halving, Round, Search
from caviar.search.schedule import INITIAL_SHARE, STEPS_IN_FLIGHT, search_steps


@st.composite
def searches(draw: st.DrawFn) -> Search:
    trials = draw(st.integers(1, 3_000))
    in_flight = draw(st.integers(-(-trials // MAX_SHARES), trials))
    return Search(trials, 9, in_flight, draw(st.none() | st.just(Halving(cohort=9))))


@given(st.lists(searches() | st.builds(Round, st.integers(1, 50), st.just(9)), min_size=1, max_size=3))
def test_steps_cover_the_trials_in_order(stages: list[Round | Search]) -> None:
    steps = search_steps([*stages, Confirmation()])
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert steps[0].first == 0
    assert all(before.first + before.count == after.first for before, after in pairwise(steps))
    assert steps[-1].first + steps[-1].count == sum(stage.trials for stage in stages)
    assert all(step.count > 0 for step in steps)
    assert all(step.known <= step.first for step in steps)
    assert all(before.known <= after.known for before, after in pairwise(steps))


@given(searches())
def test_a_trial_learns_from_all_but_those_in_flight(search: Search) -> None:
    first, *later = search_steps([search])
    assert first.known == 0
    assert first.count >= min(search.trials, search.in_flight, INITIAL_SHARE * search.trials)
    for step in later:
        assert step.first + step.count - step.known == search.in_flight


@given(searches())
def test_a_search_has_few_steps(search: Search) -> None:
    steps = search_steps([search])
    assert len(steps) <= 2 + STEPS_IN_FLIGHT * 2 * search.trials / search.in_flight
    assert len(steps) <= 2 * MAX_SHARES
    assert all(step.count <= search.in_flight for step in steps[1:])


@given(searches())
def test_the_windows_shrink_as_more_is_known(search: Search) -> None:
    shrinkages = [step.shrinkages for step in search_steps([search])]
    assert shrinkages == sorted(shrinkages)


@pytest.mark.parametrize(("in_flight", "size"), [(16, 8), (54, 27), (400, 54)])
def test_a_step_that_halves_holds_whole_cohorts(in_flight: int, size: int) -> None:
    steps = search_steps([Search(1_000, 9, in_flight, Halving(cohort=27))])
    assert size * 0.8 <= steps[-1].count <= size
