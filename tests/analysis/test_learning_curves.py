"""Tests of caviar/analysis/learning_curves.py."""

import pytest

from caviar.analysis.learning_curves import by_outcome, sample_curves
from caviar.records.frames import Run
from caviar.rounds import Halving
from tests.objectives import Bowl, bowl_study
from tests.runs import run_inline


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    study = bowl_study(rounds=(60, 30), epochs=9, halving=Halving(), objective=Bowl("raise", frozenset({3})))
    return run_inline(study, tmp_path_factory.mktemp("runs"))


def test_all_curves_of_a_small_search_are_there(run: Run) -> None:
    curves = sample_curves(run, "loss", best=5, points=100_000, epochs=100)
    search = run.trials.query("stage == 'search' and epochs_trained > 0")
    assert set(curves["trial"]) == set(search["trial"])
    assert len(curves) == search["epochs_trained"].sum()


def test_curves_of_the_best_stay_when_others_are_left_out(run: Run) -> None:
    curves = sample_curves(run, "loss", best=5, points=1, epochs=100)
    completed = run.trials.query("stage == 'search' and outcome == 'completed'")
    assert set(curves.loc[curves["is_best"], "trial"]) == set(completed.nsmallest(5, "value")["trial"])


def test_long_curves_lose_epochs_but_not_their_ends(run: Run) -> None:
    curves = sample_curves(run, "loss", best=5, points=100_000, epochs=3)
    assert sorted(curves["epoch"].unique()) == [1, 5, 9]


def test_outcomes_are_apart_from_the_best(run: Run) -> None:
    curves = sample_curves(run, "loss", best=5, points=100_000, epochs=100)
    groups = by_outcome(curves)
    assert sum(map(len, groups.values())) == (~curves["is_best"]).sum()
    assert {outcome.value for outcome in groups} == {"completed", "stopped"}
