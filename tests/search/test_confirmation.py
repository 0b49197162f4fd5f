"""The winner is decided by fresh trainings, in heats that cost no more than their share."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import caviar as cv
from caviar.errors import StudyError
from caviar.rounds import CONFIRMATION_SHARE, Confirmation, ConfirmationStep, Round, coarse_to_fine
from caviar.search.confirmation import (
    choose_contenders,
    choose_winner,
    next_step,
    rank_contenders,
    t_interval,
)
from caviar.search.region import Region
from caviar.search.stages import open_stage, stage_count
from caviar.space import Space, choice, integer, linear, when
from caviar.trial import Outcome, Stage, Value
from tests.objectives import bowl_study
from tests.runs import run_inline
from tests.search.frames import searched, trained_again

LINE = Space(x=linear(0.0, 1.0))


def test_each_heat_halves_the_field_and_doubles_the_seeds() -> None:
    heats = [(heat.contenders, heat.seeds) for heat in Confirmation(top=16).steps]
    assert heats == [(16, 1), (8, 2), (4, 4), (2, 8)]
    assert [(h.contenders, h.seeds) for h in Confirmation(top=5, seeds=3).steps] == [(5, 3), (3, 6), (2, 12)]


@given(st.integers(1, 300), st.integers(1, 5))
def test_the_last_heat_is_between_two_at_most_and_trains_each_twice_at_least(top: int, seeds: int) -> None:
    confirmation = Confirmation(top, seeds)
    assert confirmation.steps[0].contenders == top
    assert confirmation.steps[-1].contenders <= 2
    assert confirmation.steps[-1].seeds >= 2
    assert confirmation.trials == sum(heat.contenders * heat.seeds for heat in confirmation.steps)


@given(st.integers(4, 100_000))
def test_a_budget_is_spent_exactly_and_confirmation_takes_a_fifth_at_most(trials: int) -> None:
    *rounds, confirmation = coarse_to_fine(trials=trials, epochs=3)
    assert isinstance(confirmation, Confirmation)
    assert all(isinstance(r, Round) and r.trials >= 1 for r in rounds)
    assert sum(stage.trials for stage in rounds) + confirmation.trials == trials
    assert confirmation.trials <= max(2, CONFIRMATION_SHARE * trials)


def test_a_larger_budget_lets_more_contend() -> None:
    tops = [coarse_to_fine(trials=n, epochs=1)[-1] for n in (10, 100, 400, 1_600)]
    assert [c.top for c in tops if isinstance(c, Confirmation)] == [1, 6, 16, 48]


def test_rounds_can_be_fewer_and_too_small_a_budget_is_refused() -> None:
    assert len(coarse_to_fine(trials=400, epochs=1, rounds=3)) == 4
    with pytest.raises(StudyError, match="at least 40 trials"):
        coarse_to_fine(trials=30, epochs=1, rounds=10)
    with pytest.raises(StudyError, match="at least 4 trials"):
        coarse_to_fine(trials=3, epochs=1)


def test_the_best_by_search_value_are_trained_again_and_diverged_ones_never() -> None:
    trials = searched(LINE, [{"x": n / 10} for n in range(5)], [0.3, None, 0.9, 0.5, 0.7])
    assert choose_contenders(trials, 3, maximize=True) == [2, 4, 3]
    assert choose_contenders(trials, 10, maximize=False) == [0, 3, 4, 2]


def test_trials_that_trained_for_less_do_not_contend() -> None:
    trials = searched(LINE, [{"x": 0.1}, {"x": 0.2}, {"x": 0.3}], [0.3, 0.9, 0.5])
    trials.loc[1, "epochs"] = 1
    assert choose_contenders(trials, 3, maximize=True) == [2, 0]


def test_no_two_contenders_have_the_same_params() -> None:
    space = Space(a=choice("x", "y"), b=when(integer(1, 3), a="y"))
    params: list[dict[str, Value]] = [
        {"a": "x"},
        {"a": "y", "b": 2},
        {"a": "x"},
        {"a": "y", "b": 3},
        {"a": "y", "b": 2},
    ]
    trials = searched(space, params, [0.7, 0.5, 0.9, 0.6, 0.8])
    assert choose_contenders(trials, 5, maximize=True) == [2, 4, 3]


def test_a_winner_is_never_decided_by_the_lucky_search_value() -> None:
    """The frame of the confirmation does not even hold it."""
    confirmed = trained_again([{7: [0.80, 0.82], 3: [0.90, 0.88]}])
    assert rank_contenders(confirmed, maximize=True) == [3, 7]
    best = choose_winner(confirmed, maximize=True)
    assert best is not None
    assert (best.trial, best.seeds) == (3, 2)
    assert best.value == pytest.approx(0.89)


def test_all_fresh_trainings_decide_who_goes_on_but_the_last_heat_says_how_good_the_winner_is() -> None:
    confirmed = trained_again(
        [{1: [0.99], 2: [0.90], 3: [0.1]}, {1: [0.80, 0.82], 2: [0.81, 0.80]}],
    )
    best = choose_winner(confirmed, maximize=True)
    assert best is not None
    assert best.trial == 1  # mean of three: 0.87 against 0.84
    assert best.value == pytest.approx(0.81)
    assert best.seeds == 2
    assert best.interval == t_interval([0.80, 0.82], [[0.99, 0.80, 0.82], [0.90, 0.81, 0.80], [0.1]])


def test_whoever_was_left_behind_in_an_earlier_heat_does_not_come_back() -> None:
    confirmed = trained_again([{1: [0.5], 2: [0.5], 3: [0.4]}, {1: [0.1, 0.1], 2: [0.2, 0.2]}])
    assert rank_contenders(confirmed, maximize=True) == [2, 1]


def test_one_that_diverged_in_any_fresh_training_comes_last() -> None:
    confirmed = trained_again([{1: [0.99, None], 2: [0.5, 0.6]}])
    assert rank_contenders(confirmed, maximize=True) == [2, 1]
    assert rank_contenders(trained_again([{1: [None, None], 2: [0.99, None]}]), maximize=True) == [2, 1]


def test_there_is_no_winner_where_no_fresh_training_completed() -> None:
    assert choose_winner(trained_again([{1: [None, None]}]), maximize=True) is None
    assert choose_winner(pd.DataFrame(), maximize=True) is None


def test_ties_go_to_the_one_that_ranked_higher_before() -> None:
    assert rank_contenders(trained_again([{9: [0.5, 0.5], 2: [0.5, 0.5]}]), maximize=True) == [9, 2]


def test_the_network_handed_over_is_the_winners_best_by_dev_value() -> None:
    best = choose_winner(trained_again([{1: [0.7, 0.9, 0.8]}]), maximize=True)
    assert best is not None
    assert best.best_training == 1_001


def test_where_nothing_trained_twice_there_is_no_interval() -> None:
    assert t_interval([0.5], [[0.5], [0.4]]) is None


def test_the_spread_of_all_contenders_says_how_sure_the_winners_mean_is() -> None:
    groups = [[0.9, 0.9], [0.8, 0.86], [0.7, 0.74], [0.6, 0.68]]
    low, high = t_interval([0.9, 0.9], groups) or (0.0, 0.0)
    assert 0.01 < 0.9 - low < 0.1, "its own two, by chance alike, would give an interval of no width"
    assert 0.9 - low == pytest.approx(high - 0.9)
    (alone_low, _) = t_interval([0.8, 0.86], [[0.8, 0.86]]) or (0.0, 0.0)
    assert 0.83 - alone_low > 0.3, "and two that differ by chance one of absurd width"


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(1_000):
        groups = [random.normal(mean, 1.0, 3).tolist() for mean in (0.0, 5.0, 9.0)]
        low, high = t_interval(groups[0], groups) or (0.0, 0.0)
        inside += low < 0.0 < high
    assert 930 < inside < 970


def heat_after(
    searched_values: Sequence[float | None], *fresh: Mapping[int, Sequence[float | None]]
) -> tuple[list[int], int]:
    """Who goes on into a heat that was planned for four, twice each."""
    search = searched(LINE, [{"x": 0.1}] * len(searched_values), list(searched_values))
    return next_step(search, trained_again(fresh), ConfirmationStep(4, 2), maximize=True)


def test_who_is_behind_by_more_than_noise_explains_goes_and_leaves_its_trainings_to_the_others() -> None:
    values = [0.90, 0.89, 0.89, 0.71, 0.62, 0.50]
    assert heat_after(values, {0: [0.89], 1: [0.885], 2: [0.88], 3: [0.7], 4: [0.6], 5: [0.5]}) == (
        [0, 1, 2],
        2,
    )
    pairs = {0: [0.90, 0.91], 1: [0.90, 0.90], 2: [0.7, 0.71], 3: [0.7, 0.7]}
    assert heat_after(values, pairs) == ([0, 1], 4)


def test_where_noise_is_large_the_better_half_goes_on() -> None:
    noisy = {0: [0.9, 0.5], 1: [0.4, 0.9], 2: [0.8, 0.5], 3: [0.5, 0.7], 4: [0.3, 0.8], 5: [0.9, 0.1]}
    assert heat_after([0.9] * 6, noisy) == ([0, 1, 2, 3], 2)


def test_where_training_shows_no_noise_nothing_is_trained_again() -> None:
    values = [0.9, 0.8, 0.7, 0.6]
    assert heat_after(values, {0: [0.9], 1: [0.8], 2: [0.7]}) == ([], 0)
    assert heat_after(values, {0: [0.9], 1: [0.8], 2: [0.69]}) != ([], 0)


def test_ties_are_not_taken_for_the_absence_of_noise() -> None:
    alike = heat_after([1.0, 1.0, 0.99, 0.9], {0: [0.98], 1: [0.98], 2: [0.97]})
    assert alike == ([0, 1, 2], 2), "all lost the same, by chance: accuracies of few rows tie easily"
    pairs = heat_after([1.0, 1.0, 0.99, 0.9], {0: [0.98, 0.98], 1: [0.97, 0.97], 2: [0.96, 0.96]})
    assert pairs == ([0, 1, 2], 2)
    assert t_interval([0.98, 0.98], [[0.98, 0.98], [0.97, 0.97]]) is None


def test_where_only_one_is_left_nothing_is_trained_again() -> None:
    assert heat_after([0.9, None], {0: [0.8]}) == ([0], 8)
    assert heat_after([0.9, None], {0: [0.8, 0.9]}) == ([], 0)
    assert heat_after([0.9] * 3, {0: [0.8, 0.9], 1: [None, 0.9], 2: [None, None]}) == ([], 0)


def test_one_that_failed_to_complete_goes_on_only_where_others_fail_too() -> None:
    fresh: dict[int, list[float | None]] = {
        0: [0.90, 0.91],
        1: [0.90, None],
        2: [0.89, 0.90],
        3: [None, None],
    }
    assert heat_after([0.9] * 4, fresh) == ([0, 2], 4)
    assert heat_after([0.9] * 2, {0: [None, 0.9], 1: [None, 0.8]}) == ([0, 1], 4)
    assert heat_after([0.9] * 2, {0: [None], 1: [None]}) == ([], 0)


def test_a_deterministic_function_is_confirmed_once_and_wins_with_what_it_measured(tmp_path: Path) -> None:
    study = cv.Study(
        name="exact",
        objective=cv.Function(lambda params: (params["x"] - 0.3) ** 2),
        space=LINE,
        rounds=cv.coarse_to_fine(trials=100, epochs=1),
    )
    run = run_inline(study, tmp_path)
    assert run.best is not None
    assert run.best.value == run.trials.loc[run.trials["stage"] == Stage.SEARCH, "value"].min()
    assert (run.trials["stage"] == Stage.CONFIRMATION).sum() == study.confirmation.top
    assert run.trials["trial"].tolist() == list(range(len(run.trials)))


def test_a_study_goes_through_its_heats_with_fresh_seeds_and_numbers_without_gaps() -> None:
    study = bowl_study(rounds=(10,))
    trials = pd.DataFrame()
    region: Region | None = None
    seeds: list[int] = []
    numbers: list[int] = []
    for stage in range(1, stage_count(study) + 1):
        plan = open_stage(study, stage, trials, region)
        region = plan.region or region
        drawn = list(plan.trials)
        if plan.stage is Stage.FINAL:
            assert drawn[0].number == len(numbers)
            assert drawn[0].seed in seeds
            break
        seeds += [trial.seed for trial in drawn]
        numbers += [trial.number for trial in drawn]
        rows = [
            {
                "trial": t.number,
                "round": t.round,
                "stage": t.stage.value,
                "outcome": Outcome.COMPLETED.value,
                "value": float(t.seed % 1_000),
                "epochs": t.epochs,
                "seed": t.seed,
                "confirms": t.confirms,
                **{f"params_{name}": t.params.get(name) for name in ("rate", "beta")},
                "params_method": {"plain": '"plain"', "heavy": '"heavy"', None: "null"}[t.params["method"]],  # type: ignore[index]
            }
            for t in drawn
        ]
        trials = pd.concat([trials, pd.DataFrame(rows)], ignore_index=True)
    assert numbers == list(range(10 + study.confirmation.trials))
    assert len(set(seeds)) == len(seeds)


def test_where_no_trial_of_the_longest_training_completed_the_longest_that_did_is_confirmed() -> None:
    search = pd.DataFrame(
        {
            "trial": [0, 1, 2],
            "epochs": [5, 5, 40],
            "outcome": ["completed", "completed", "diverged"],
            "value": [0.5, 0.7, None],
            "params_x": [0.1, 0.2, 0.3],
        }
    )
    assert choose_contenders(search, 2, maximize=True) == [1, 0]
