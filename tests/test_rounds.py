"""Budgets are split as declared, and invalid settings are refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.errors import StudyError
from caviar.rounds import (
    LONG_SHARE,
    SHORT_BUDGET,
    SHORT_SHARE,
    Confirmation,
    Halving,
    Narrowing,
    Round,
    coarse_to_fine,
)


@given(st.data())
def test_coarse_to_fine_spends_exactly_its_budget(data: st.DataObject) -> None:
    trials = data.draw(st.integers(4, 20_000))
    search, confirmation = coarse_to_fine(trials, epochs=7)
    assert search.trials + confirmation.trials == trials
    assert search.epochs == 7
    share = SHORT_SHARE if trials <= SHORT_BUDGET else LONG_SHARE
    assert confirmation.trials <= max(2, share * trials)
    assert 1 <= search.in_flight <= max(1, search.trials / 3)


def test_trials_in_flight_are_as_declared() -> None:
    search, _ = coarse_to_fine(trials=10_000, epochs=1, in_flight=3_000)
    assert search.in_flight == 3_000


def test_larger_budgets_have_more_contenders() -> None:
    tops = [coarse_to_fine(trials=n, epochs=1)[-1] for n in (10, 100, 400, 1_600)]
    assert [c.top for c in tops if isinstance(c, Confirmation)] == [1, 6, 36, 128]


@pytest.mark.parametrize(
    ("budget", "phrase"),
    [
        ({"trials": 0}, "trials must be a whole number between 4 and"),
        ({"trials": -3}, "not -3"),
        ({"trials": 100.0}, "not 100.0"),
        ({"trials": True}, "not True"),
        ({"trials": 10**9}, "between 4 and 10,000,000"),
        ({"epochs": 0}, "epochs must be"),
        ({"epochs": 2.5}, "epochs must be"),
        ({"in_flight": 0}, "in_flight must be a whole number between 1 and 80, not 0"),
        ({"in_flight": 81}, "in_flight must be"),
        ({"in_flight": 2.5}, "in_flight must be"),
        ({"trials": 10_000, "in_flight": 20}, "in_flight must be a whole number between 75"),
        ({"trials": 3}, "not 3"),
        ({"halving": True}, r"halving must be cv\.Halving"),
    ],
)
def test_invalid_budget_is_refused(budget: dict[str, Any], phrase: str) -> None:
    with pytest.raises(StudyError, match=phrase):
        coarse_to_fine(**{"trials": 100, "epochs": 2, **budget})


@pytest.mark.parametrize("count", [0, -1, 1.0, "3", None, False])
@pytest.mark.parametrize("make", [Round, Confirmation])
def test_counts_are_whole_numbers_from_one(make: Callable[[Any, Any], object], count: Any) -> None:
    for arguments in ((count, 1), (1, count)):
        with pytest.raises(StudyError):
            make(*arguments)


@pytest.mark.parametrize(
    "changes",
    [
        {"elite": 0.0},
        {"elite": 1.5},
        {"shrink": 0.0},
        {"min_width": 0.0},
        {"crossover": -0.1},
        {"explore": 2},
        {"choice_mutation": float("nan")},
        {"min_elite": 1},
        {"candidates": 0},
        {"candidates": 2.5},
    ],
)
def test_invalid_narrowing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match=next(iter(changes))):
        Narrowing(**changes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Halving(keep=0),
        lambda: Halving(keep=1.0),
        lambda: Halving(rungs=0),
        lambda: Halving(rungs=()),
        lambda: Halving(rungs=(3, 1)),
        lambda: Halving(cohort=1),
        lambda: Round(10, 1, Halving()),
        lambda: Round(10, 5, Halving(rungs=(5,))),
        lambda: Round(10, 5, "yes"),  # type: ignore[arg-type]
    ],
)
def test_invalid_halving_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(StudyError):
        make()


@pytest.mark.parametrize(
    ("epochs", "rule", "rungs"),
    [
        (27, Halving(), (3, 9)),
        (20, Halving(), (3, 7)),
        (20, Halving(rungs=(1,)), (1,)),
        (20, Halving(keep=0.5, rungs=3), (3, 5, 10)),
        (2, Halving(), (1,)),
    ],
)
def test_rungs_are_spaced_by_the_share_kept(epochs: int, rule: Halving, rungs: tuple[int, ...]) -> None:
    assert rule.rung_epochs(epochs) == rungs


def test_steps_have_fewer_contenders_and_about_as_many_trainings() -> None:
    def steps(confirmation: Confirmation) -> list[tuple[int, int]]:
        return [(step.contenders, step.seeds) for step in confirmation.steps]

    assert steps(Confirmation(top=16)) == [(16, 1), (8, 2), (4, 4), (2, 8)]
    assert steps(Confirmation(top=5, seeds=3)) == [(5, 3), (3, 6), (2, 12)]
    assert steps(Confirmation(top=80, divisor=4)) == [(80, 1), (20, 4), (5, 16), (2, 48)]


@given(st.integers(1, 300), st.integers(1, 5))
def test_last_step_trains_at_most_two_at_least_twice(top: int, seeds: int) -> None:
    confirmation = Confirmation(top, seeds)
    assert confirmation.steps[0].contenders == top
    assert confirmation.steps[-1].contenders <= 2
    assert confirmation.steps[-1].seeds >= 2
    assert confirmation.trials == sum(step.contenders * step.seeds for step in confirmation.steps)


def test_numpy_counts_make_the_same_rounds() -> None:
    counts: Any = np.array([40, 9])
    assert Round(counts[0], counts[1]) == Round(40, 9)
    assert type(Round(counts[0], counts[1]).trials) is int
    assert Halving(rungs=tuple(counts[::-1])) == Halving(rungs=(9, 40))
    assert coarse_to_fine(trials=counts[0], epochs=counts[1]) == coarse_to_fine(trials=40, epochs=9)
    with pytest.raises(StudyError, match="must be a whole number"):
        Round(counts[0] / 3, 1)
