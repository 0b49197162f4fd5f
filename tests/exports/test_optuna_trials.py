"""Optuna's own plots, importances and samplers read a run's trials."""

import math
from datetime import UTC

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

import caviar as cv
from caviar.exports.optuna_trials import optuna_names, optuna_study, optuna_trials
from caviar.records.frames import Run
from tests.exports.conftest import HOSTILE, OPTIONS


@pytest.fixture(scope="module")
def trials(run: Run) -> list[FrozenTrial]:
    return optuna_trials(run.space, run.trials, run.curves, metric="score", others=["%loss </script>"])


@pytest.fixture(scope="module")
def study(trials: list[FrozenTrial]) -> optuna.Study:
    return optuna_study(trials, name="exported", maximize=True)


def test_optuna_finds_the_trials_valid(trials: list[FrozenTrial]) -> None:
    for trial in trials:
        trial._validate()


def test_the_search_trials_are_exported_in_order(run: Run, trials: list[FrozenTrial]) -> None:
    search = run.trials[run.trials["stage"] == "search"]
    assert [trial.user_attrs["trial"] for trial in trials] == search["trial"].tolist()
    assert [trial.number for trial in trials] == list(range(len(search)))


def test_outcomes_become_states_with_values(run: Run, trials: list[FrozenTrial]) -> None:
    states = {
        "completed": TrialState.COMPLETE,
        "stopped": TrialState.PRUNED,
        "diverged": TrialState.FAIL,
        "failed": TrialState.FAIL,
    }
    rows = run.trials.set_index("trial")
    for trial in trials:
        row = rows.loc[trial.user_attrs["trial"]]
        assert trial.state == states[row["outcome"]]
        assert trial.value == (None if math.isnan(row["value"]) else row["value"])
        assert trial.user_attrs["seed"] == str(row["seed"])
        assert trial.user_attrs.get("failure") == (None if pd.isna(row["failure"]) else row["failure"])


def test_a_reverse_log_parameter_has_a_log_scale(run: Run, trials: list[FrozenTrial]) -> None:
    expected = run.trials.set_index("trial")["params_momentum"]
    for trial in trials:
        momentum = expected[trial.user_attrs["trial"]]
        if math.isnan(momentum):
            assert "1 - momentum" not in trial.params
        else:
            assert trial.params["1 - momentum"] == 1 - momentum
            assert trial.distributions["1 - momentum"] == FloatDistribution(1 - 0.9999, 0.5, log=True)
        assert "momentum" not in trial.params


def test_names_that_users_took_are_not_given_twice() -> None:
    momenta = cv.reverse_log(0.9, 0.99)
    space = cv.Space(**{"a": momenta, "1 - a": cv.linear(0, 1), "(a)": momenta, "1 - (a)": cv.log(1, 2)})
    assert len(set(optuna_names(space).values())) == 4


def test_options_and_integers_keep_their_types(run: Run, trials: list[FrozenTrial]) -> None:
    assert {type(trial.params["mixed"]) for trial in trials} == {type(option) for option in OPTIONS}
    assert {type(trial.params["flag"]) for trial in trials} == {bool}
    assert trials[0].distributions["width"] == IntDistribution(1, 64, log=True)
    assert trials[0].params["width"] == run.trials["params_width"][0]


def test_curves_become_finite_intermediate_values(run: Run, trials: list[FrozenTrial]) -> None:
    curves = run.curves[np.isfinite(run.curves["score"])].groupby("trial")
    for trial in trials:
        number = trial.user_attrs["trial"]
        points = curves.get_group(number)[["epoch", "score"]].to_numpy() if number in curves.groups else []
        assert trial.intermediate_values == dict(points)
    assert any(t.user_attrs["outcome"] == "diverged" and t.intermediate_values for t in trials)


def test_times_are_local_and_never_empty(run: Run) -> None:
    frame = run.trials.copy()
    frame.loc[[1, 2], "started"] = pd.NaT
    frame.loc[[2, 3], "ended"] = pd.NaT
    found = optuna_trials(run.space, frame, metric="score")
    assert found[0].datetime_start is not None
    assert found[0].datetime_start.astimezone(UTC) == frame["started"][0]
    for trial in found[:4]:
        trial._validate()
        assert trial.duration is not None
        assert trial.duration.total_seconds() >= 0


def test_an_empty_run_has_no_trials(run: Run) -> None:
    assert optuna_trials(run.space, run.trials.head(0), run.curves.head(0), metric="score") == []


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("plot", ["optimization_history", "parallel_coordinate", "timeline", "edf"])
def test_optuna_draws_the_trials(study: optuna.Study, plot: str) -> None:
    figure = getattr(optuna.visualization, f"plot_{plot}")(study)
    assert figure.data
    assert figure.to_json()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("plot", ["slice", "contour", "rank"])
def test_optuna_draws_params_of_all_kinds(study: optuna.Study, plot: str) -> None:
    figure = getattr(optuna.visualization, f"plot_{plot}")(study, params=["1 - momentum", "mixed", HOSTILE])
    assert figure.data
    assert figure.to_json()


def test_optuna_draws_momentum_on_a_log_axis(study: optuna.Study) -> None:
    figure = optuna.visualization.plot_slice(study, params=["1 - momentum"])
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.xaxis.title.text == "1 - momentum"


def test_optuna_draws_the_curves_of_those_that_trained(study: optuna.Study) -> None:
    figure = optuna.visualization.plot_intermediate_values(study)
    drawn = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    assert len(figure.data) == len([trial for trial in drawn if trial.intermediate_values])


def test_optuna_finds_the_important_parameters(study: optuna.Study) -> None:
    importances = optuna.importance.get_param_importances(study)
    assert {"rate", "1 - momentum", HOSTILE} <= set(importances)
    assert max(importances, key=lambda name: importances[name]) == "rate"


def test_optuna_continues_the_search(study: optuna.Study) -> None:
    study.sampler = optuna.samplers.TPESampler(seed=0)
    drawn = study.ask({"rate": FloatDistribution(1e-3, 1.0, log=True)})
    assert 1e-3 <= drawn.params["rate"] <= 1
