"""Law 4: failures stay inside the trial that caused them.

NaN, exception, segfault, out of memory, endless loop, unprintable text. The others finish; its row says why.
(Text on terminals: tests/reporting. Out of memory: also tests/backends/ray/test_memory_guard.py.)
"""

import subprocess
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import caviar as cv
from caviar.backends.ray.backend import Timing
from caviar.errors import StudyError
from caviar.records.frames import Run, load, reproducible
from caviar.rounds import Confirmation, Round
from caviar.space import Space, choice, integer, linear, log
from caviar.study import Study
from caviar.training.classifier import Classifier
from caviar.trial import Outcome
from tests import functions
from tests.functions import function_study
from tests.objectives import Bowl, bowl_study
from tests.runs import run_inline, run_on_ray
from tests.training.module import modules


def assert_others_unchanged(undisturbed: Run, disturbed: Run, harmed: Collection[int]) -> None:
    """Compare the other trials of the first round bit for bit; later rounds learn from the failures."""
    one, other = (
        reproducible(run.trials[(run.trials["round"] == 1) & ~run.trials["trial"].isin(harmed)])
        for run in (undisturbed, disturbed)
    )
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def assert_no_child_is_left() -> None:
    """Wait until the children of hostile functions have ended; it may take a moment."""

    def children() -> list[str]:
        found = subprocess.run(
            ["ps", "-eo", "stat=,args="], capture_output=True, text=True, check=True
        ).stdout
        return [line for line in found.splitlines() if line.endswith(f"sleep {functions.CHILD}")]

    deadline = time.monotonic() + 120
    while children():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_exception_fails_only_its_trial(tmp_path: Path) -> None:
    harmed = frozenset({3, 11})
    good = run_inline(bowl_study(), tmp_path)
    bad = run_inline(bowl_study(objective=Bowl("raise", harmed)), tmp_path)
    rows = bad.trials[bad.trials["trial"].isin(harmed)]
    assert set(rows["outcome"]) == {Outcome.FAILED}
    assert set(rows["failure"]) == {"ArithmeticError: two and two are five"}
    assert bad.finished
    assert_others_unchanged(good, bad, harmed)


def test_unclean_messages_fail_only_their_trials(tmp_path: Path) -> None:
    messages = {0.25: "caf\udce9.csv: no rows", 0.5: "\x00\x1b[2J\u202e", 0.75: "é" * 10_000_000, 1.0: ""}

    def train(params: dict[str, Any]) -> float:
        if message := messages[params["x"]]:
            raise ValueError(message)
        return float(params["x"])

    space = Space(x=choice(*messages))
    study = Study(name="unclean", objective=cv.Function(train), space=space, rounds=[Round(20, 1)])
    run = run_inline(study, tmp_path)
    failures = run.trials.loc[run.trials["outcome"] == Outcome.FAILED, "failure"]
    assert {str(failure)[:40] for failure in failures} == {
        r"ValueError: caf\udce9.csv: no rows (test_"[:40],
        r"ValueError: \x00\x1b[2J\u202e (test_law_4"[:40],
        f"ValueError: {'é' * 28}",
    }
    assert run.finished
    run.trials.to_csv(tmp_path / "trials.csv")
    read = pd.read_csv(tmp_path / "trials.csv")
    assert read["failure"].dropna().tolist() == failures.tolist()


@pytest.mark.ray
def test_a_segfault_fails_only_its_trial(tmp_path: Path) -> None:
    good = run_inline(bowl_study(), tmp_path)
    bad = run_on_ray(bowl_study(objective=Bowl("segfault", frozenset({3}))), tmp_path)
    row = bad.trials.set_index("trial").loc[3]
    assert row["outcome"] == Outcome.FAILED
    assert "its worker died 2 times" in row["failure"]
    assert row["attempt"] >= 2
    assert_others_unchanged(good, bad, {3})


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:it is only a warning")
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    "fn", [functions.quickly_harmful, pytest.param(functions.harmful, marks=pytest.mark.slow)]
)
def test_many_harmful_functions_fail_only_their_trials(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], fn: functions.Body
) -> None:
    good = run_inline(function_study(functions.careful_bowl, rounds=(40,)), tmp_path)
    limited = cv.Resources(cpus=1, memory_gib=2)
    bad = run_on_ray(function_study(fn, rounds=(40,), resources=limited), tmp_path)
    assert bad.finished
    slow = functions.SLOW_HARMS if fn is functions.quickly_harmful else frozenset()
    harms = {number: harm for number, harm in functions.HARMS.items() if number not in slow}
    rows = bad.trials.set_index("trial")
    for number, harm in harms.items():
        assert (number, rows.loc[number, "outcome"]) == (number, harm.outcome)
        failure = str(rows.loc[number, "failure"])
        assert (harm.failure or "nan") in failure
        assert len(failure) <= 1_000
    assert "flood" not in "".join(capfd.readouterr())
    assert_others_unchanged(good, bad, harms)
    assert_no_child_is_left()


@pytest.mark.ray
def test_harm_in_the_main_thread_fails_only_its_trials(tmp_path: Path) -> None:
    """Functions without a trial context run in the main thread, where they can set signal handlers and timers."""

    def make_study(fn: Callable[[functions.Params], float]) -> Study:
        return Study(
            name="main",
            objective=cv.Function(fn),
            space=Space(x=linear(0.0, 1.0), harm=choice("none", *functions.MAIN_HARMS)),
            rounds=[Round(20, 1), Confirmation(1, 1)],
        )

    good = run_inline(make_study(functions.plain_bowl), tmp_path)
    bad = run_on_ray(make_study(functions.harmful_in_main), tmp_path, workers=1)
    harmed = bad.trials.loc[bad.trials["params_harm"] != "none", "trial"].tolist()
    assert_others_unchanged(good, bad, harmed)
    assert 5 < len(harmed) < 20
    for name, (_, failure) in functions.MAIN_HARMS.items():
        rows = bad.trials[bad.trials["params_harm"] == name]
        assert set(rows["outcome"]) == {Outcome.FAILED if failure else Outcome.COMPLETED}
        assert (
            rows["failure"].isna().all() if failure is None else rows["failure"].str.contains(failure).all()
        )
        assert (rows["attempt"] == 1).all()


@pytest.mark.ray
def test_a_trial_that_never_ends_is_killed_alone(tmp_path: Path) -> None:
    good = run_inline(function_study(rounds=(12,)), tmp_path)
    limit_s = 1.0  # no less: on a busy machine any trial may stand still for a while
    study = function_study(functions.hanging, rounds=(12,), time_limit_s=limit_s)
    bad = run_on_ray(study, tmp_path, timing=Timing(grace_s=0.5))
    assert_no_child_is_left()
    row = bad.trials.set_index("trial").loc[functions.HANGING]
    assert (row["outcome"], row["failure"]) == (Outcome.FAILED, "took longer than 1 s")
    assert row["attempt"] <= 2, "first among others, then alone"
    assert_others_unchanged(good, bad, {functions.HANGING})


def test_diverging_networks_end_early_and_alone(tmp_path: Path) -> None:
    study = Study(
        name="diverging",
        objective=Classifier(data="sklearn:iris", fixed={"optimizer": "sgd", "batch_norm": False}),
        space=Space(learning_rate=log(1e-3, 1e6)),
        rounds=[Round(12, 3), Confirmation(1, 1)],
    )
    trials = run_inline(study, tmp_path).trials
    diverged = trials[trials["outcome"] == Outcome.DIVERGED]
    assert len(diverged) > 0
    assert diverged["failure"].str.contains("loss").all()
    assert diverged["value"].isna().all()
    assert (diverged["epochs_trained"] < diverged["epochs"]).any()
    assert (trials["outcome"] == Outcome.COMPLETED).sum() >= 3


def test_a_study_without_completed_trials_keeps_its_rows(tmp_path: Path) -> None:
    study = bowl_study(objective=Bowl("raise", frozenset(range(1000))))
    with pytest.raises(StudyError, match=r"none of its 30 trials completed.*two and two are five"):
        run_inline(study, tmp_path)
    assert len(load(tmp_path / "bowl").trials) == 30


def test_impossible_params_fail_only_their_trials(tmp_path: Path) -> None:
    study = Study(
        name="impossible",
        objective=Classifier(data="sklearn:iris"),
        space=Space(batch_size=choice(1, 8, 32), layers=integer(0, 2), learning_rate=log(1e-3, 1.0)),
        rounds=[Round(20, 2), Confirmation(2, 1)],
    )
    trials = run_inline(study, tmp_path).trials
    failed = trials[trials["outcome"] == Outcome.FAILED]
    assert len(failed) > 0
    assert failed["failure"].str.contains("batch_size must be at least 2 with batch norm").all()
    assert (trials["outcome"] == Outcome.COMPLETED).sum() > 10


@pytest.mark.ray
def test_harmful_modules_fail_only_their_trials(tmp_path: Path) -> None:
    harms = "raise", "exit", "nothing", "wide"
    study = Study(
        name="modules",
        objective=cv.Module(modules.hostile, data="sklearn:wine", preprocess="standardize"),
        space=Space(learning_rate=log(1e-3, 1.0), harm=choice("none", *harms)),
        rounds=[Round(16, 2)],
    )
    bad = run_on_ray(study, tmp_path)
    harmed = bad.trials["params_harm"] != "none"
    assert 3 < harmed[bad.trials["round"] == 1].sum() < 16
    assert set(bad.trials.loc[harmed, "outcome"]) == {Outcome.FAILED}
    assert set(bad.trials.loc[~harmed, "outcome"]) == {Outcome.COMPLETED}
    assert (bad.trials["attempt"] == 1).all()
