"""Tests of caviar/reporting/standing.py."""

from pathlib import Path

import pytest

from caviar.reporting.standing import FINAL, Standing
from caviar.rounds import Confirmation, Halving, Round, Search, Stages
from caviar.search.schedule import plan_phases
from caviar.study import declared_stages
from caviar.trial import Outcome, Result, Stage, Trial
from tests.objectives import bowl_study
from tests.runs import run_inline


def standing(stages: Stages, maximize: bool = False, search_ended: bool = False) -> Standing:
    return Standing(plan_phases([stages], [search_ended])[0], maximize)


def result(number: int, round_number: int, value: float, stage: Stage = Stage.SEARCH) -> Result:
    trial = Trial(number=number, round=round_number, params={}, epochs=3, seed=0, stage=stage)
    return Result(trial=trial, outcome=Outcome.COMPLETED, value=value)


def test_recorded_rows_and_arriving_results_count_alike(tmp_path: Path) -> None:
    study = bowl_study()
    trials = run_inline(study, tmp_path).trials
    recalled, told = standing(study.rounds), standing(study.rounds)
    recalled.recall(trials.sample(frac=1, random_state=0))
    rows = zip(trials["trial"], trials["round"], trials["value"], trials["stage"], strict=True)
    told.add([result(n, r, v, Stage(stage)) for n, r, v, stage in rows])
    assert (recalled.done, recalled.best, recalled.ahead) == (told.done, told.best, told.ahead)
    assert recalled.done == {"round 1 of 2": 30, "round 2 of 2": 20, "confirmation": 14, FINAL: 1}
    assert (recalled.ahead, recalled.current) == (0, FINAL)


@pytest.mark.parametrize("maximize", [True, False])
def test_the_best_of_equal_trials_is_the_first(maximize: bool) -> None:
    equal = standing([Round(9, 1), Confirmation()], maximize=maximize)
    equal.add([result(n, 1, 0.5) for n in (3, 4)])
    assert equal.best == (3, 0.5)
    assert equal.best_text("loss") == "best loss 0.5000 (trial 3)"


def test_the_current_stage_is_the_first_that_lacks_trials() -> None:
    current = standing([Round(2, 1), Round(1, 1), Confirmation(top=2, seeds=1)])
    assert current.current == "round 1 of 2"
    current.add([result(0, 1, 0.1), result(2, 2, 0.1)])
    assert current.current == "round 1 of 2"
    current.add([result(1, 1, 0.1)])
    assert current.current == "confirmation"
    current.add([result(n, 3, 0.1, Stage.CONFIRMATION) for n in range(3, 7)])
    assert current.current == FINAL


def test_an_ended_search_is_over(tmp_path: Path) -> None:
    study = bowl_study()
    ended = standing(study.rounds, search_ended=True)
    ended.recall(run_inline(study, tmp_path).trials[:10])
    assert ended.current == "confirmation"
    assert ended.ahead == study.confirmation.trials + 1


def test_extra_rounds_follow_a_search_without_noise() -> None:
    study = bowl_study(rounds=[Search(40, 3, in_flight=4)], confirmation=Confirmation(top=8))
    extra = standing(study.rounds)
    steps = len(plan_phases([study.rounds])[0].steps)
    extra.add([result(n, 1, 0.1) for n in range(40)])
    assert extra.name(steps + 2, Stage.SEARCH) == "extra round 1 of 2"
    extra.add([result(40, steps + 2, 0.1)])
    assert extra.current == "extra round 1 of 2"
    assert extra.done_text(extra.current) == "1/8 trials"


@pytest.mark.parametrize("halving", [None, Halving(rungs=(1,), keep=0.25)])
def test_declared_stages_are_read_back(halving: Halving | None) -> None:
    study = bowl_study(rounds=[Round(9, 3), Search(40, 9, 4, halving)])
    assert declared_stages(study.to_json()) == study.rounds
