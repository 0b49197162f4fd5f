"""Fresh trainings decide the winner, in steps that cost no more than planned."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

import caviar as cv
from caviar.backends.inline import InlineBackend
from caviar.backends.simulated import SimulatedBackend, SimulatedCluster, heavy_tailed
from caviar.data.splits import Split
from caviar.driver.backend import BackendEvent
from caviar.driver.messages import ChunkDone, Task
from caviar.errors import ClusterError
from caviar.operations.resume import resume_study
from caviar.operations.run import run_study
from caviar.rounds import ConfirmationStep
from caviar.search.confirmation import (
    certain_contenders,
    certain_to_continue,
    choose_contenders,
    choose_winner,
    loss_by_pauses,
    next_contenders,
    rank_contenders,
    t_interval,
)
from caviar.space import Space, choice, integer, linear, when
from caviar.trial import Outcome, Stage, Value
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, inline, resume_inline, run_inline
from tests.search.frames import searched, trained_again

LINE = Space(x=linear(0.0, 1.0))


def in_search(values: Sequence[float | None]) -> pd.DataFrame:
    """Return search trials with these values."""
    return searched(LINE, [{"x": 0.1}] * len(values), list(values))


def step_after(
    searched_values: Sequence[float | None], *fresh: Mapping[int, Sequence[float | None]]
) -> list[int]:
    """Return the contenders of a step that is planned for four, twice each."""
    return next_contenders(
        in_search(searched_values), trained_again(fresh), ConfirmationStep(4, 2), maximize=True
    )


ALIKE = in_search([0.5] * 10)


def test_contenders_are_the_best_trials_that_completed() -> None:
    trials = searched(LINE, [{"x": n / 10} for n in range(5)], [0.3, None, 0.9, 0.5, 0.7])
    assert choose_contenders(trials, 3, maximize=True) == [2, 4, 3]
    assert choose_contenders(trials, 10, maximize=False) == [0, 3, 4, 2]


def test_trials_with_fewer_epochs_do_not_contend() -> None:
    trials = searched(LINE, [{"x": 0.1}, {"x": 0.2}, {"x": 0.3}], [0.3, 0.9, 0.5])
    trials.loc[1, "epochs"] = 1
    assert choose_contenders(trials, 3, maximize=True) == [2, 0]


def test_contenders_have_different_params() -> None:
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


def test_search_values_do_not_decide_the_winner() -> None:
    """The frame of confirming trials does not have them."""
    confirmed = trained_again([{7: [0.80, 0.82], 3: [0.90, 0.88]}])
    assert rank_contenders(ALIKE, confirmed, maximize=True) == [3, 7]
    best = choose_winner(ALIKE, confirmed, maximize=True)
    assert best is not None
    assert (best.trial, best.seeds) == (3, 2)
    assert best.value == pytest.approx(0.89)


def test_contenders_that_gain_without_pauses_are_found() -> None:
    values = [0.60, 0.62, 0.61, 0.66, 0.58]
    search = searched(LINE, [{"x": 0.1}] * 5, values)

    def means(*fresh: float | None) -> tuple[float, float] | None:
        return loss_by_pauses(search, trained_again([{n: [v] for n, v in enumerate(fresh)}]), maximize=False)

    assert means(0.45, 0.47, 0.44, 0.50, 0.44) == pytest.approx((0.614, 0.46))
    assert means(0.45, 0.47, 0.44, 0.50, None) is None, "four say too little"
    assert means(0.45, 0.47, 0.44, 0.50, 0.59) is None, "one did worse"
    assert means(0.599, 0.60, 0.609, 0.20, 0.579) is None, "one alone gained"
    assert means(*values) is None


def test_last_step_alone_gives_the_winners_value() -> None:
    confirmed = trained_again(
        [{1: [0.99], 2: [0.90], 3: [0.1]}, {1: [0.80, 0.82], 2: [0.81, 0.80]}],
    )
    best = choose_winner(ALIKE, confirmed, maximize=True)
    assert best is not None
    assert best.trial == 1  # mean of three: 0.87 against 0.84
    assert best.value == pytest.approx(0.81)
    assert best.seeds == 2
    assert best.interval == t_interval([0.80, 0.82], [[0.99, 0.80, 0.82], [0.90, 0.81, 0.80], [0.1]])


def test_contenders_that_dropped_out_do_not_come_back() -> None:
    confirmed = trained_again([{1: [0.5], 2: [0.5], 3: [0.4]}, {1: [0.1, 0.1], 2: [0.2, 0.2]}])
    assert rank_contenders(ALIKE, confirmed, maximize=True) == [2, 1]


def test_contender_that_diverged_once_comes_last() -> None:
    confirmed = trained_again([{1: [0.99, None], 2: [0.5, 0.6]}])
    assert rank_contenders(ALIKE, confirmed, maximize=True) == [2, 1]
    assert rank_contenders(ALIKE, trained_again([{1: [None, None], 2: [0.99, None]}]), maximize=True) == [
        2,
        1,
    ]


def test_no_completed_training_gives_no_winner() -> None:
    assert choose_winner(ALIKE, trained_again([{1: [None, None]}]), maximize=True) is None
    assert choose_winner(ALIKE, pd.DataFrame(), maximize=True) is None


def test_ties_go_to_the_higher_rank_in_the_search() -> None:
    search, confirmed = in_search([0.6, 0.8, 0.7]), trained_again([{0: [0.5], 1: [0.5], 2: [0.5]}])
    assert rank_contenders(search, confirmed, maximize=True) == [1, 2, 0]
    assert rank_contenders(search, confirmed, maximize=False) == [0, 2, 1]


def test_final_seed_is_of_the_best_fresh_training() -> None:
    best = choose_winner(ALIKE, trained_again([{1: [0.7, 0.9, 0.8]}]), maximize=True)
    assert best is not None
    assert best.best_training == 1_001


def test_one_training_each_gives_no_interval() -> None:
    assert t_interval([0.5], [[0.5], [0.4]]) is None


def test_interval_uses_the_noise_of_all_contenders() -> None:
    groups = [[0.9, 0.9], [0.8, 0.86], [0.7, 0.74], [0.6, 0.68]]
    low, high = t_interval([0.9, 0.9], groups) or (0.0, 0.0)
    assert 0.01 < 0.9 - low < 0.1, "its own two equal values would give an interval of no width"
    assert 0.9 - low == pytest.approx(high - 0.9)
    (alone_low, _) = t_interval([0.8, 0.86], [[0.8, 0.86]]) or (0.0, 0.0)
    assert 0.83 - alone_low > 0.3, "two values alone give a very wide interval"


def test_t_interval_covers_the_mean_in_95_percent() -> None:
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(1_000):
        groups = [random.normal(mean, 1.0, 3).tolist() for mean in (0.0, 5.0, 9.0)]
        low, high = t_interval(groups[0], groups) or (0.0, 0.0)
        inside += low < 0.0 < high
    assert 930 < inside < 970


def test_the_better_half_stays() -> None:
    fresh = {0: [0.9, 0.5], 1: [0.4, 0.9], 2: [0.8, 0.5], 3: [0.5, 0.7], 4: [0.3, 0.8], 5: [0.9, 0.1]}
    assert step_after([0.9] * 6, fresh) == [0, 1, 2, 3]


def test_deterministic_training_ends_confirmation() -> None:
    values = [0.9, 0.8, 0.7, 0.6]
    assert step_after(values, {0: [0.9], 1: [0.8], 2: [0.7]}) == []
    assert step_after(values, {0: [0.9], 1: [0.8], 2: [0.69]}) == [0, 1, 2]


def test_ties_do_not_count_as_deterministic() -> None:
    alike = step_after([1.0, 1.0, 0.99, 0.9], {0: [0.98], 1: [0.98], 2: [0.97]})
    assert alike == [0, 1, 2], "accuracies on few rows are often equal by chance"
    assert t_interval([0.98, 0.98], [[0.98, 0.98], [0.97, 0.97]]) is None


def test_single_contender_ends_confirmation() -> None:
    assert step_after([0.9, None], {0: [0.8]}) == [0]
    assert step_after([0.9, None], {0: [0.8, 0.9]}) == []
    assert step_after([0.9] * 3, {0: [0.8, 0.9], 1: [None, 0.9], 2: [None, None]}) == []


def test_failing_contender_stays_only_if_all_fail() -> None:
    fresh: dict[int, list[float | None]] = {
        0: [0.90, 0.91],
        1: [0.90, None],
        2: [0.89, 0.90],
        3: [None, None],
    }
    assert step_after([0.9] * 4, fresh) == [0, 2]
    assert step_after([0.9] * 2, {0: [None, 0.9], 1: [None, 0.8]}) == [0, 1]
    assert step_after([0.9] * 2, {0: [None], 1: [None]}) == []


def test_contenders_are_certain_if_the_missing_cannot_displace_them() -> None:
    search, step = in_search([0.3, None, 0.9, 0.5, 0.7]), ConfirmationStep(3, 1)
    search["params_x"] = [0.1, 0.2, 0.3, 0.4, 0.5]

    def certain(missing: int, epochs: int = 5) -> list[int]:
        return certain_contenders(search, step, maximize=True, epochs=epochs, missing=missing)

    assert [certain(missing) for missing in (0, 1, 2, 3)] == [[2, 4, 3], [2, 4], [2], []]
    assert certain(0, epochs=9) == [], "none has trained for as long as the missing ones"


def test_contenders_continue_if_the_missing_cannot_displace_them() -> None:
    def certain(fresh: Mapping[int, Sequence[float | None]]) -> list[int]:
        before, step = ConfirmationStep(6, 2), ConfirmationStep(3, 4)
        return certain_to_continue(ALIKE, trained_again([fresh]), before, step, maximize=True)

    done: dict[int, list[float | None]] = {0: [0.7, 0.8], 1: [0.9, 0.8], 2: [0.8, 0.8], 3: [0.6, 0.6]}
    assert certain(done) == [], "one may be the only one left, if all others fail"
    assert certain(done | {4: [0.9]}) == [], "its second training is missing"
    assert certain(done | {4: [0.9, 0.9]}) == [4, 1]
    assert certain(done | {4: [0.9, 0.9], 5: [0.1, 0.1]}) == [4, 1, 2]
    assert certain(done | {4: [0.9, None], 5: [None, 0.1]}) == [1, 2, 0]


def test_nobody_continues_before_noise_is_seen() -> None:
    step = ConfirmationStep(2, 1)
    for last, certain in ((0.5, []), (0.4, [0, 1])):
        confirmed = trained_again([{0: [0.5], 1: [0.5], 2: [last]}])
        before = ConfirmationStep(3, 1)
        assert certain_to_continue(ALIKE, confirmed, before, step, maximize=True) == certain


def test_deterministic_function_is_confirmed_once(tmp_path: Path) -> None:
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
    assert run.trials["trial"].is_unique


def test_contenders_have_the_longest_training_that_any_completed() -> None:
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


def bowl(params: dict[str, Any]) -> float:
    return float((params["x"] - 0.3) ** 2)


def steps(params: dict[str, Any], trial: cv.TrialContext) -> None:
    for epoch in trial.remaining():
        trial.report(epoch, value=bowl(params) + 1 / epoch)
        trial.save(epoch)


def plain_study(fn: Callable[..., Any], halving: cv.Halving | None = None) -> cv.Study:
    trials, epochs = (100, 1) if halving is None else (300, 9)
    search, confirmation = cv.coarse_to_fine(trials=trials, epochs=epochs, halving=halving)
    rounds = [cv.Round(search.trials // 4 * share, epochs, halving) for share in (2, 1, 1)]
    return cv.Study(name="plain", objective=cv.Function(fn), space=LINE, rounds=[*rounds, confirmation])


def test_without_noise_extra_rounds_replace_the_confirmation(tmp_path: Path) -> None:
    study = plain_study(bowl)
    run = run_inline(study, tmp_path)
    search = run.trials[run.trials["stage"] == Stage.SEARCH]
    first, *others = study.confirmation.steps
    planned = sum(declared.trials for declared in study.search_rounds)
    assert len(search) == planned + sum(step.contenders * step.seeds for step in others)
    assert (run.trials["stage"] == Stage.CONFIRMATION).sum() == first.contenders
    assert len(run.trials) == 101
    assert run.rounds["round"].unique().tolist() == [1, 2, 3, *range(5, 4 + len(study.confirmation.steps))]
    assert run.best is not None
    assert (run.best.value, run.best.seeds) == (search["value"].min(), 0)
    assert run.best.trial == run.trials.iloc[-1]["confirms"] == search["value"].idxmin()
    assert run.trials.iloc[-1]["value"] == run.best.value


def test_without_noise_extra_rounds_halve_too(tmp_path: Path) -> None:
    study = plain_study(steps, cv.Halving())
    trials = run_inline(study, tmp_path).trials
    extra = trials[(trials["stage"] == Stage.SEARCH) & (trials["round"] > 3)]
    planned = sum(step.contenders * step.seeds for step in study.confirmation.steps[1:])
    assert (extra["outcome"] == Outcome.STOPPED).any()
    assert extra["epochs_trained"].sum() == pytest.approx(9 * planned, rel=0.1)


def test_a_user_sampler_gets_no_extra_rounds(tmp_path: Path) -> None:
    study = replace(plain_study(bowl), sampler=lambda seed: optuna.samplers.RandomSampler(seed=seed))
    assert run_inline(study, tmp_path).trials["round"].isin([1, 2, 3, 4, 7]).all()


class DiesInRound(InlineBackend):
    """Workers whose cluster dies when a round begins."""

    def __init__(self, objective: cv.Objective, number: int) -> None:
        super().__init__(objective, None)
        self._number = number

    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        if tasks[0].trial.round == self._number:
            raise ClusterError("the cluster has died")
        super().submit(worker, chunk, tasks, test)


def run_until_round(study: cv.Study, number: int, runs: Path) -> cv.Run:
    with pytest.raises(ClusterError):
        run_study(study, runs=runs, progress=False, backend=lambda _: DiesInRound(study.objective, number))
    return cv.load(runs / study.name)


def test_confirmation_begins_while_the_search_is_under_way(tmp_path: Path) -> None:
    study = bowl_study(rounds=(cv.Search(60, 1, in_flight=12),), confirmation=cv.Confirmation(16))
    cluster = SimulatedCluster(workers=12, cost_s=heavy_tailed(10.0), driver_s=0.0)
    ended: dict[int, float] = {}
    sent: dict[int, float] = {}

    class Timed(SimulatedBackend):
        """A simulated cluster that notes when each stage's first trial is sent, and its last one has ended."""

        def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
            sent.setdefault(tasks[0].trial.round, self.clock())
            super().submit(worker, chunk, tasks, test)

        def poll(self, timeout_s: float) -> list[BackendEvent]:
            events = super().poll(timeout_s)
            done = (event for event in events if isinstance(event, ChunkDone))
            ended.update({event.results[0].trial.round: self.clock() for event in done})
            return events

    run_study(
        study, runs=tmp_path, progress=False, backend=lambda data: Timed(study.objective, data, cluster)
    )
    *_, last_of_search, first_step, second_step, _, _, _ = sorted(ended)
    assert sent[first_step] < ended[last_of_search]
    assert sent[second_step] < ended[first_step]


def test_a_run_stopped_in_an_extra_round_resumes(tmp_path: Path) -> None:
    study = plain_study(bowl)
    whole = run_inline(study, tmp_path / "whole")
    half = run_until_round(study, 6, tmp_path)
    assert half.trials["round"].max() == 5
    assert_same_frames(resume_inline(study, half.path), whole)


def test_a_search_that_was_ended_gets_no_extra_rounds(tmp_path: Path) -> None:
    study = plain_study(bowl)
    half = run_until_round(study, 3, tmp_path)
    searched = half.trials
    run = resume_study(study, half.path, progress=False, backend=inline(study), finish=True)
    assert run.best is not None
    assert run.best.value == searched["value"].min()
    assert len(run.trials) == len(searched) + study.confirmation.top + 1
