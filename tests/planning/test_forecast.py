"""Forecasts on simulated workers, and the number of trials that fit a time."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from statistics import fmean, stdev

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.driver.learned_costs import LearnedCosts
from caviar.planning.advice import LEAST_TRIALS, Way, advise, chance_of_good, trials_in
from caviar.planning.costs import TrialCosts, learn_costs
from caviar.planning.forecast import Forecast, Forecaster, fit_trials
from caviar.planning.measuring import TimedPart
from caviar.planning.stand_in import ValueModel
from caviar.rounds import Halving, Round, coarse_to_fine
from caviar.search.stages import open_stage
from caviar.space import Space, linear
from caviar.study import Study
from caviar.trial import Outcome, Trial
from tests.objectives import bowl_study


def forecaster(study: Study, workers: int, second_s: float = 1e5) -> Forecaster:
    """Return a forecaster of trials whose costs are as the objective predicts, times a factor."""
    costs = TrialCosts(learned=LearnedCosts(study.space), rate=second_s)
    return Forecaster(study=study, dataset=None, costs=costs, parts=(), workers=workers, cores=None)


def straight(start_s: float, each_s: float) -> Callable[[int], Forecast]:
    """Return a forecast whose seconds grow with the number of trials."""
    return lambda trials: Forecast(
        trials=trials,
        trained_s=start_s + each_s * trials,
        mean_s=each_s,
        late_s=each_s,
        driver_s=0.0,
        disk_bytes=0.0,
    )


@given(start_s=st.floats(0.0, 20.0), each_s=st.floats(1e-3, 5.0), time_s=st.floats(1.0, 1e5))
def test_the_trials_fit_the_time_and_nearly_fill_it(start_s: float, each_s: float, time_s: float) -> None:
    trials, found = fit_trials(straight(start_s, each_s), time_s, LEAST_TRIALS, 10**7)
    assert trials == found.trials
    if found.trained_s > time_s:
        assert trials == LEAST_TRIALS
    else:
        assert (
            found.trained_s > 0.95 * time_s
            or trials in (LEAST_TRIALS, 10**7)
            or time_s - found.trained_s < each_s
        )


@pytest.mark.parametrize("workers", [1, 5])
def test_a_forecast_is_the_work_shared_by_the_workers(workers: int) -> None:
    study = replace(bowl_study(), rounds=coarse_to_fine(trials=60, epochs=3))
    found = forecaster(study, workers).forecast()
    assert found.trials == 60
    assert found.trained_s >= 61 * found.mean_s / workers
    assert found.trained_s <= 1.4 * (61 + 5 * workers) * found.mean_s / workers


def test_many_trials_are_extrapolated_from_few() -> None:
    study = replace(bowl_study(), rounds=coarse_to_fine(trials=100, epochs=3))
    found = replace(forecaster(study, workers=2), max_simulated=100).forecast(20_000)
    assert found.trials == 20_000
    assert found.trained_s == pytest.approx(20_000 * found.mean_s / 2, rel=0.1)


def test_the_drivers_work_for_a_trial_falls_with_their_number() -> None:
    """The trials take no time."""
    study = replace(bowl_study(), rounds=coarse_to_fine(trials=100, epochs=1))
    quick = replace(forecaster(study, workers=2, second_s=1e-9), max_simulated=100)
    few, many = quick.forecast(48), quick.forecast(50_000)
    assert many.trials == 50_000
    assert few.trained_s < many.trained_s < 0.7 * 50_000 / 48 * few.trained_s


@pytest.mark.parametrize("trials", [500, 5_000, 100_000])
def test_rounds_are_forecast_for_any_number_of_trials(trials: int) -> None:
    """A default confirmation that was resized to many trials may not be one for few."""
    study = replace(bowl_study(), rounds=[Round(80, 3), Round(40, 9), Round(20, 9)])
    found = replace(forecaster(study, workers=2), max_simulated=80).forecast(trials)
    assert found.trials == trials
    assert found.trained_s == pytest.approx(trials * found.mean_s / 2, rel=0.15)


def test_a_long_search_costs_what_its_narrowed_trials_cost() -> None:
    study = replace(bowl_study(), rounds=coarse_to_fine(trials=2_000, epochs=3))
    parts = timed_by_rate(study)
    costs = learn_costs(parts, study.space)
    assert costs is not None
    one = Forecaster(
        study=study, dataset=None, costs=costs, parts=parts, workers=1, cores=None, max_simulated=100
    )
    found = one.forecast(20_000)
    assert found.trained_s == pytest.approx(20_000 * found.late_s, rel=0.05)


def test_halving_is_part_of_a_forecast() -> None:
    study = replace(bowl_study(), rounds=coarse_to_fine(trials=60, epochs=9, halving=Halving()))
    found = forecaster(study, workers=1).forecast()
    assert found.trained_s < 0.7 * found.trials * found.mean_s


def test_each_part_of_a_halved_trial_pays_for_its_start() -> None:
    study = replace(bowl_study(), rounds=coarse_to_fine(trials=60, epochs=9, halving=Halving()))
    costs = TrialCosts(learned=LearnedCosts(study.space), rate=0.0, start_s=10.0)
    one = Forecaster(study=study, dataset=None, costs=costs, parts=(), workers=1, cores=None)
    assert one.forecast().mean_s == pytest.approx(10.0)
    assert one.forecast().trained_s > 1.2 * 10.0 * 61


def timed_by_rate(study: Study) -> list[TimedPart]:
    """Return timed parts of a study's first trials: the best have a large rate, and these take longer."""
    trials = list(open_stage(study, 1, pd.DataFrame(), None).trials)[:20]
    rates = [float(trial.params["rate"]) for trial in trials]  # type: ignore[arg-type]
    return [
        TimedPart(
            trial=trial,
            predicted_s=3e-4,
            epochs=3,
            took_s=60.0 if rate > 0.01 else 1.0,
            value=-rate,
            outcome=Outcome.COMPLETED,
        )
        for trial, rate in zip(trials, rates, strict=True)
    ]


def test_measured_trials_keep_their_values_and_others_vary() -> None:
    study = replace(bowl_study(), rounds=coarse_to_fine(trials=100, epochs=3))
    parts = timed_by_rate(study)
    models = [ValueModel(parts, study.space, False, number, is_sampled=number > 1) for number in range(3)]
    ranked = sorted(parts, key=lambda part: part.value or 0.0)
    other = replace(parts[0].trial, seed=1)
    for model in models:
        scores = [model.score(part.trial) for part in ranked]
        assert scores == sorted(scores)
    assert len({models[0].score(part.trial) - models[2].score(part.trial) for part in parts}) == 1
    assert len({model.score(other) for model in models}) == 3


def test_the_noise_of_the_best_trials_is_learned_apart() -> None:
    """Ranks tell the best apart, although they are equally good: no model can say which of them is better."""
    space = Space(rate=linear(0.0, 1.0), other=linear(0.0, 1.0))
    draw = Random(0)
    trials = [
        Trial(number=n, round=1, params={"rate": draw.random(), "other": draw.random()}, epochs=1, seed=n)
        for n in range(150)
    ]
    parts = [
        TimedPart(
            trial=trial,
            predicted_s=1.0,
            epochs=1,
            took_s=1.0,
            value=max(float(trial.params["rate"]), 0.3) + 1e-6 * draw.random(),  # type: ignore[arg-type]
            outcome=Outcome.COMPLETED,
        )
        for trial in trials
    ]
    models = [ValueModel(parts, space, False, number, is_sampled=True) for number in range(5)]

    def spread(rate: float) -> float:
        fresh = [replace(trials[0], params={"rate": rate, "other": 0.5}, seed=1_000 + n) for n in range(40)]
        return fmean(stdev(model.score(trial) for trial in fresh) for model in models)

    assert spread(0.1) > 2 * spread(0.9)


def test_a_search_that_narrows_to_long_trials_takes_longer() -> None:
    study = replace(bowl_study(), rounds=coarse_to_fine(trials=100, epochs=3))
    parts = timed_by_rate(study)
    costs = learn_costs(parts, study.space)
    assert costs is not None
    one = Forecaster(study=study, dataset=None, costs=costs, parts=parts, workers=1, cores=None)
    declared = sum(part.took_s for part in parts) / len(parts)
    assert one.forecast().mean_s > 1.3 * declared
    assert 0.05 < one.error < 1.0


@given(trials=st.integers(0, 10_000), trial_s=st.floats(1e-3, 1e5), workers=st.integers(1, 100))
def test_few_trials_are_for_the_panda(trials: int, trial_s: float, workers: int) -> None:
    advice = advise(trials, trial_s, workers, 3_600.0, 1e4)
    assert advice.way is (Way.CAVIAR if trials >= LEAST_TRIALS else Way.PANDA)
    assert 0.0 <= chance_of_good(trials) <= 1.0


@given(time_s=st.floats(0.0, 1e6), trial_s=st.floats(0.1, 1e5), workers=st.integers(1, 50))
def test_equal_trials_that_fit_end_in_time(time_s: float, trial_s: float, workers: int) -> None:
    count = trials_in(time_s, 0.0, trial_s, workers)
    assert count * trial_s / workers <= time_s * (1 + 1e-9)
