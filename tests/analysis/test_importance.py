"""Importance: known functions, Optuna as the reference, conditional parameters, and too little data."""

import math
import warnings
from random import Random
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caviar as cv
from caviar.analysis import fanova, ped_anova
from caviar.analysis.importance import MIN_TRIALS, Method, _column, importance_among
from caviar.analysis.quality import quality

METHODS: tuple[Method, ...] = ("ped_anova", "fanova")
SPACE = cv.Space(
    strong=cv.log(1e-4, 1.0),
    weak=cv.linear(-1, 1),
    idle=cv.reverse_log(0.9, 0.999),
    kind=cv.choice("a", "b", None),
    layers=cv.integer(1, 4),
    units=cv.when(cv.integer(16, 256, scale="log"), kind="a"),
)


def loss(params: dict[str, Any]) -> float:
    """Return what the parameters come to; `idle` and `layers` have no effect."""
    units = 0.2 * (math.log2(params["units"]) - 6) ** 2 if "units" in params else 0.5
    strong = (math.log10(params["strong"]) + 2.5) ** 2
    total: float = (
        strong + 0.4 * (params["weak"] - 0.5) ** 2 + (0.5 if params["kind"] == "b" else 0.0) + 0.1 * units
    )
    return total


def drawn(n: int, seed: int = 0) -> pd.DataFrame:
    """Return trials drawn at random from the whole space, with their quality."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        params: dict[str, Any] = {
            "strong": 10 ** rng.uniform(-4, 0),
            "weak": rng.uniform(-1, 1),
            "idle": 1 - 10 ** rng.uniform(-3, -1),
            "layers": int(rng.integers(1, 5)),
            "units": round(2 ** rng.uniform(4, 8)),
        }
        kind = ("a", "b", None)[rng.integers(3)]
        params = SPACE.active(params | {"kind": kind})
        value = loss(params) + 0.01 * rng.normal()
        cells = {f"params_{name}": params.get(name) for name in SPACE} | {
            "params_kind": {"a": '"a"', "b": '"b"', None: "null"}[kind]
        }
        rows.append({"trial": number, "outcome": "completed", "value": value, "epochs_trained": 1, **cells})
    return graded(pd.DataFrame(rows, columns=["trial", "outcome", "value", "epochs_trained", *cells]))


def graded(trials: pd.DataFrame) -> pd.DataFrame:
    return trials.assign(quality=quality(trials, maximize=False))


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    return drawn(400)


@pytest.mark.parametrize("method", METHODS)
def test_parameters_with_an_effect_come_first(trials: pd.DataFrame, method: Method) -> None:
    found = importance_among(trials, SPACE, method=method)
    by_name = found.set_index("parameter")
    assert found["parameter"][0] == "strong"
    assert by_name["low"]["strong"] > 0.3
    assert (by_name["low"][["idle", "layers"]] < 0.01).all()
    assert (by_name["high"][["idle", "layers"]] < 0.1).all()
    assert found["reliable"].all()
    assert ((found["low"] <= found["importance"]) & (found["importance"] <= found["high"])).all()


def test_shares_of_ped_anova_sum_to_one(trials: pd.DataFrame) -> None:
    assert importance_among(trials, SPACE)["importance"].sum() == pytest.approx(1)


@pytest.mark.parametrize("method", METHODS)
def test_importance_is_near_the_truth(method: Method) -> None:
    """The truth is the importance among very many trials; forests of few trials understate weak parameters a little."""
    space = cv.Space(x=cv.linear(0, 1), y=cv.linear(0, 1), idle=cv.linear(0, 1))
    truth = {"ped_anova": [0.748, 0.252, 0.0], "fanova": [0.845, 0.116, 0.0]}[method]
    inside = []
    for seed in range(1, 9 if method == "ped_anova" else 3):
        x_ND = np.random.default_rng(seed).random((300, 3))
        value = 4 * (x_ND[:, 0] - 0.3) ** 2 + (x_ND[:, 1] - 0.7) ** 2
        cells = {f"params_{name}": x_ND[:, axis] for axis, name in enumerate(space)}
        outcome = {"trial": range(300), "outcome": "completed", "value": value, "epochs_trained": 1}
        trials = graded(pd.DataFrame({**outcome, **cells}))
        found = importance_among(trials, space, method=method).set_index("parameter").loc[list(space)]
        inside += ((found["low"] - 0.002 <= truth) & (truth <= found["high"] + 0.002)).tolist()
        np.testing.assert_allclose(found["importance"], truth, atol=0.2 if method == "ped_anova" else 0.03)
    assert method == "fanova" or sum(inside) >= 0.9 * len(inside)


def test_a_conditional_parameter_is_judged_where_it_applies(trials: pd.DataFrame) -> None:
    applies = int(trials["params_units"].notna().sum())
    assert 0 < applies < len(trials)
    for method in METHODS:
        found = importance_among(trials, SPACE, method=method).set_index("parameter")["trials"]
        assert found["units"] == applies
        assert (found.drop("units") == len(trials)).all()


def test_ped_anova_gives_what_optuna_gives() -> None:
    trials = drawn(300)
    names: dict[str, optuna.distributions.BaseDistribution] = {
        "strong": optuna.distributions.FloatDistribution(1e-4, 1, log=True),
        "weak": optuna.distributions.FloatDistribution(-1, 1),
        "layers": optuna.distributions.IntDistribution(1, 4),
        "units": optuna.distributions.IntDistribution(16, 256, log=True),
    }
    study = optuna.create_study()
    for row in trials.to_dict("records"):
        params = {n: row[f"params_{n}"] for n in names if not pd.isna(row[f"params_{n}"])}
        params = {n: int(v) if n in ("layers", "units") else v for n, v in params.items()}
        dists = {n: names[n] for n in params}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=dists, value=row["value"]))
    theirs = optuna.importance.get_param_importances(study)
    ranked = trials.sort_values("value", ignore_index=True)
    columns = [_column(SPACE[n].domain, ranked[f"params_{n}"]) for n in names]
    ours = ped_anova.divergences(columns, np.arange(1, 301), [np.ones(300)])[0]
    assert dict(zip(names, ours / ours.sum(), strict=True)) == pytest.approx(theirs)


def test_fanova_gives_what_optuna_gives() -> None:
    rng = np.random.default_rng(0)
    x_ND = rng.random((40, 3))
    y_N = x_ND[:, 0] + 0.3 * x_ND[:, 1] * x_ND[:, 2]
    uniform: dict[str, optuna.distributions.BaseDistribution]
    uniform = {name: optuna.distributions.FloatDistribution(0, 1) for name in "abc"}
    study = optuna.create_study()
    for x, y in zip(x_ND.tolist(), y_N.tolist(), strict=True):
        params = dict(zip("abc", x, strict=True))
        study.add_trial(optuna.trial.create_trial(params=params, distributions=uniform, value=y))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=fanova.TREES, seed=7)
    theirs = evaluator.evaluate(study)
    ours = fanova.shares(fanova.grow_forest(x_ND, y_N, 7), [(0,), (1,), (2,)])
    assert {"abc"[axis]: float(np.mean(share)) for (axis,), share in ours} == pytest.approx(theirs)


def test_two_parameters_and_their_pair_explain_everything() -> None:
    x_ND = np.random.default_rng(0).random((100, 2))
    forest = fanova.grow_forest(x_ND, x_ND[:, 0] * x_ND[:, 1], seed=0)
    shares = dict(fanova.shares(forest, [(0,), (1,), (0, 1)]))
    np.testing.assert_allclose(sum(shares.values()), 1)
    assert shares[0, 1].mean() > 0.05


def test_pairs_that_interact_come_first() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.random((300, 3)), columns=[f"params_{n}" for n in "abc"])
    value = (frame["params_a"].to_numpy() > 0.5) ^ (frame["params_b"].to_numpy() > 0.5)
    frame = graded(frame.assign(trial=range(300), outcome="completed", value=value, epochs_trained=1))
    found = importance_among(frame, cv.Space(**dict.fromkeys("abc", cv.linear(0, 1))), pairs=True)
    assert (found["parameter"][0], found["other"][0]) == ("a", "b")
    assert found["importance"][0] > 0.7
    assert len(found) == 3


@settings(max_examples=8)
@given(st.randoms(use_true_random=False), st.floats(0.1, 9))
def test_scale_of_values_and_order_of_rows_change_nothing(random: Any, power: float) -> None:
    require_same_importance("ped_anova", random, power)


def test_fanova_ignores_scale_of_values_and_order_of_rows() -> None:
    require_same_importance("fanova", Random(0), 3.0)


def require_same_importance(method: Method, random: Random, power: float) -> None:
    trials = drawn(40)
    order = list(range(len(trials)))
    random.shuffle(order)
    other = graded(trials.assign(value=np.exp(trials["value"] * power)).iloc[order])
    expected = importance_among(trials, SPACE, method=method)
    pd.testing.assert_frame_equal(importance_among(other, SPACE, method=method), expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [0, 1, 5, MIN_TRIALS - 1])
def test_few_trials_leave_importance_unknown(n: int, method: Method) -> None:
    found = importance_among(graded(drawn(MIN_TRIALS).head(n)), SPACE, method=method)
    assert sorted(found["parameter"]) == sorted(SPACE)
    assert found[["importance", "low", "high"]].isna().all(axis=None)
    assert not found["reliable"].any()
    assert found["trials"].max() == n


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("outcome", ["completed", "diverged", "failed"])
def test_equal_trials_say_nothing(trials: pd.DataFrame, outcome: str, method: Method) -> None:
    equal = graded(trials.assign(value=0.5 if outcome == "completed" else None, outcome=outcome))
    with warnings.catch_warnings(action="error"):
        found = importance_among(equal, SPACE, method=method)
    assert found["importance"].isna().all()
    assert not found["reliable"].any()
    assert found["trials"].max() == (0 if outcome == "failed" else len(trials))


def test_values_by_chance_alone_are_not_reliable() -> None:
    random = np.random.default_rng(3)
    for n in (30, 200):
        trials = drawn(n)
        noise = graded(trials.assign(value=random.permutation(trials["value"])))
        assert not importance_among(noise, SPACE)["reliable"].any()
        assert not importance_among(noise, SPACE, method="fanova")["reliable"].any()


@pytest.mark.parametrize("method", METHODS)
def test_diverged_trials_count_as_the_worst(trials: pd.DataFrame, method: Method) -> None:
    is_large = trials["params_layers"] == 4
    outcome = np.where(is_large, "diverged", "completed")
    some = graded(trials.assign(outcome=outcome, value=trials["value"].where(~is_large)))
    before, after = (importance_among(t, SPACE, method=method).set_index("parameter") for t in (trials, some))
    assert after["low"]["layers"] > before["importance"]["layers"]


def test_a_single_option_has_no_importance(trials: pd.DataFrame) -> None:
    space = cv.Space(**{name: SPACE[name] for name in ("strong", "weak")}, only=cv.choice(7))
    found = importance_among(trials.assign(params_only=7), space).set_index("parameter")
    assert found["importance"]["only"] == 0
    assert found["reliable"].all()


def test_quality_orders_outcomes_and_shares_places() -> None:
    frame = pd.DataFrame(
        {
            "outcome": ["stopped", "completed", "stopped", "diverged", "completed", "failed", "completed"],
            "value": [0.1, 0.5, 0.2, 0.0, 0.4, None, 0.5],
            "epochs_trained": [3, 9, 7, 1, 9, 0, 9],
        }
    )
    found = quality(frame, maximize=False)
    assert np.argsort(-found[[4, 1, 2, 0, 3]]).tolist() == [0, 1, 2, 3, 4]
    assert found[1] == found[6]
    assert math.isnan(found[5])


def fail_sometimes(params: dict[str, Any]) -> float:
    if params["layers"] == 4 and params["strong"] > 0.1:
        raise ValueError("no room")
    return math.nan if params["strong"] > 0.5 else loss(params)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> cv.Run:
    study = cv.Study(
        name="known",
        objective=cv.Function(fail_sometimes, metric="loss"),
        space=SPACE,
        rounds=[cv.Round(trials=150, epochs=1), cv.Round(trials=40, epochs=1), cv.Confirmation(top=2)],
    )
    return study.run(address="here", runs=tmp_path_factory.mktemp("runs"), progress=False)


def test_draws_from_the_whole_space_count_by_default(run: cv.Run) -> None:
    search = run.trials[(run.trials["stage"] == "search") & (run.trials["outcome"] != "failed")]
    expected = {1: int((search["round"] == 1).sum()), 2: int((search["round"] == 2).sum())}
    assert expected[1] < 150, "some trials fail"
    assert run.importance()["trials"].max() == expected[1]
    assert run.importance(2)["trials"].max() == expected[2]
    assert run.importance([1, 2])["trials"].max() == expected[1] + expected[2]
    assert run.importance()["parameter"][0] == "strong"
    pd.testing.assert_frame_equal(run.importance(), run.importance(1))


def test_what_cannot_be_answered_is_refused(run: cv.Run) -> None:
    for arguments in (
        {"round": 3},
        {"round": [1, 9]},
        {"method": "shap"},
        {"method": "ped_anova", "pairs": True},
    ):
        with pytest.raises(cv.RunError, match="importance: "):
            run.importance(**arguments)


def test_a_loaded_run_gives_the_same_importance(run: cv.Run) -> None:
    pd.testing.assert_frame_equal(cv.load(run.path).importance(seed=3), run.importance(seed=3))
