"""Law 4: a bad trial harms only itself: the others finish, and its row says why."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import caviar as cv
from caviar.backends.ray.backend import RayBackend
from caviar.records.frames import Run, load, reproducible
from caviar.rounds import Confirmation, Round
from caviar.runner import run_study
from caviar.space import Space, choice, integer, linear, log
from caviar.study import Study
from caviar.training.classifier import Classifier
from caviar.trial import Outcome
from tests import functions
from tests.functions import function_study
from tests.objectives import Bowl, bowl_study
from tests.runs import run_inline

HARMED = frozenset({3, 11})


def assert_only_the_harmed_differ(undisturbed: pd.DataFrame, disturbed: pd.DataFrame, rounds: int) -> None:
    """In the first round, which no result precedes, all other rows are the same bit for bit."""
    one, other = (
        reproducible(trials[(trials["round"] <= rounds) & ~trials["trial"].isin(HARMED)])
        for trials in (undisturbed, disturbed)
    )
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_trial_that_raises_fails_alone_with_its_cause(tmp_path: Path) -> None:
    good = run_inline(bowl_study(), tmp_path)
    bad = run_inline(bowl_study(objective=Bowl("raise", HARMED)), tmp_path)
    rows = bad.trials[bad.trials["trial"].isin(HARMED)]
    assert set(rows["outcome"]) == {Outcome.FAILED}
    assert set(rows["failure"]) == {"ArithmeticError: two and two are five"}
    assert bad.finished
    assert_only_the_harmed_differ(good.trials, bad.trials, rounds=1)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("harm", ["exit", "segfault"])
def test_a_trial_that_kills_its_worker_is_found_and_its_neighbours_finish(tmp_path: Path, harm: str) -> None:
    good = run_inline(bowl_study(), tmp_path)
    study = bowl_study(objective=Bowl(harm, HARMED))
    bad = run_study(
        study,
        runs=tmp_path,
        progress=False,
        backend=lambda data: RayBackend(study.objective, data, workers=2),
    )
    rows = bad.trials[bad.trials["trial"].isin(HARMED)]
    assert set(rows["outcome"]) == {Outcome.FAILED}
    assert rows["failure"].str.contains("its worker died 2 times").all()
    assert (rows["attempt"] >= 2).all()
    assert_only_the_harmed_differ(good.trials, bad.trials, rounds=1)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.filterwarnings("ignore:it is only a warning")
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    "fn", [functions.harmful_for_a_moment, pytest.param(functions.harmful, marks=pytest.mark.slow)]
)
def test_functions_that_do_harm_end_alone_with_their_cause(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], fn: functions.Body
) -> None:
    """One study with all of them at once: the others must not notice."""
    limited = cv.Resources(cpus=1, memory_gib=2)
    good = run_inline(function_study(functions.careful_bowl, rounds=(40,)), tmp_path)
    bad = run_on_ray(function_study(fn, rounds=(40,), resources=limited), tmp_path)
    assert bad.finished
    rows = bad.trials.set_index("trial")
    harms = dict(functions.HARMS)
    if fn is functions.harmful_for_a_moment:
        harms = {number: harm for number, harm in harms.items() if number not in functions.LONGEST}
    for number, harm in harms.items():
        assert (number, rows.loc[number, "outcome"]) == (number, harm.outcome)
        failure = str(rows.loc[number, "failure"])
        assert (harm.says or "<NA>") in failure
        assert len(failure) <= 1_000
    assert "flood" not in "".join(capfd.readouterr())
    first, other = (
        reproducible(t[(t["round"] == 1) & ~t["trial"].isin(harms)]) for t in (good.trials, bad.trials)
    )
    pd.testing.assert_frame_equal(first, other, check_exact=True)
    assert_no_child_is_left()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_harm_that_only_the_main_thread_can_do_stays_with_its_trial(tmp_path: Path) -> None:
    def study(fn: Callable[[functions.Params], float]) -> Study:
        harms = choice("none", *functions.MAIN_HARMS)
        return Study(
            name="main",
            objective=cv.Function(fn),
            space=Space(x=linear(0.0, 1.0), harm=harms),
            rounds=[Round(40, 1), Confirmation(1, 1)],
        )

    good = run_inline(study(functions.plain_bowl), tmp_path)
    bad = run_on_ray(study(functions.harmful_in_main), tmp_path)
    first, other = (
        reproducible(t[(t["round"] == 1) & (t["params_harm"] == "none")]) for t in (good.trials, bad.trials)
    )
    pd.testing.assert_frame_equal(first, other, check_exact=True)
    assert 5 < len(first) < 35
    for name, (_, says) in functions.MAIN_HARMS.items():
        rows = bad.trials[bad.trials["params_harm"] == name]
        assert set(rows["outcome"]) == {Outcome.FAILED if says else Outcome.COMPLETED}
        assert rows["failure"].isna().all() if says is None else rows["failure"].str.contains(says).all()
        assert (rows["attempt"] == 1).all()


def assert_no_child_is_left() -> None:
    """Of those that sleep as the children of hostile functions do; it may take a moment."""

    def children() -> list[str]:
        found = subprocess.run(
            ["ps", "-eo", "stat=,args="], capture_output=True, text=True, check=True
        ).stdout
        return [line for line in found.splitlines() if line.endswith(f"sleep {functions.CHILD}")]

    deadline = time.monotonic() + 120
    while children():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def run_on_ray(study: Study, runs: Path) -> Run:
    return run_study(
        study,
        runs=runs,
        progress=False,
        backend=lambda data: RayBackend(study.objective, data, workers=2),
    )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_functions_that_never_end_are_killed_and_the_others_are_as_without_them(tmp_path: Path) -> None:
    good = run_inline(function_study(rounds=(12,)), tmp_path)
    study = function_study(
        functions.hanging, rounds=(12,), time_limit_s=5.0
    )  # on a busy machine, any may stand still for a while
    bad = run_study(
        study,
        runs=tmp_path,
        progress=False,
        backend=lambda data: RayBackend(study.objective, data, workers=2),
    )
    assert_no_child_is_left()
    hung = bad.trials[bad.trials["trial"].isin(functions.HANGS)]
    assert set(hung["outcome"]) == {Outcome.FAILED}
    assert set(hung["failure"]) == {"took longer than 5 s"}
    assert (hung["attempt"] <= 2).all(), "first among others, then alone"
    first, other = (
        reproducible(t[(t["round"] == 1) & ~t["trial"].isin(functions.HANGS)])
        for t in (good.trials, bad.trials)
    )
    pd.testing.assert_frame_equal(first, other, check_exact=True)


def test_a_network_that_diverges_ends_early_and_the_others_are_as_without_it(tmp_path: Path) -> None:
    def study(high: float) -> Study:
        return Study(
            name="diverging",
            objective=Classifier(data="sklearn:iris", fixed={"optimizer": "sgd", "batch_norm": False}),
            space=Space(learning_rate=log(1e-3, high)),
            rounds=[Round(12, 3), Confirmation(1, 1)],
        )

    trials = run_inline(study(1e6), tmp_path).trials
    diverged = trials[trials["outcome"] == Outcome.DIVERGED]
    assert len(diverged) > 0
    assert diverged["failure"].str.contains("loss").all()
    assert diverged["value"].isna().all()
    assert (diverged["epochs_trained"] < diverged["epochs"]).any()
    assert (trials["outcome"] == Outcome.COMPLETED).sum() >= 3


def test_a_study_in_which_no_trial_completes_says_so_and_keeps_its_rows(tmp_path: Path) -> None:
    study = bowl_study(objective=Bowl("raise", frozenset(range(1000))))
    with pytest.raises(Exception, match=r"none of its 30 trials completed.*two and two are five"):
        run_inline(study, tmp_path)
    assert len(load(tmp_path / "bowl").trials) == 30


def test_params_that_do_not_go_together_fail_their_own_trials_only(tmp_path: Path) -> None:
    study = Study(
        name="impossible",
        objective=Classifier(data="sklearn:iris"),
        space=Space(batch_size=choice(1, 8, 32), layers=integer(0, 2), learning_rate=log(1e-3, 1.0)),
        rounds=[Round(20, 2), Confirmation(2, 1)],
    )
    trials = run_inline(study, tmp_path).trials
    failed = trials[trials["outcome"] == Outcome.FAILED]
    assert len(failed) > 0
    assert failed["failure"].str.contains("batch_size=1 with batch norm").all()
    assert (trials["outcome"] == Outcome.COMPLETED).sum() > 10
