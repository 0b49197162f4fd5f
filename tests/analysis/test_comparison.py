"""Comparisons of runs: verdicts, ties, refusals, doubts, and names that hold markup."""

import shutil
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest

import caviar as cv
from tests.runs import run_inline, run_until_failure


def noisy(params: dict[str, Any], trial: cv.TrialContext) -> None:
    """Report a score that is best at x = 0.3 and depends on the seed."""
    trial.report(1, score=1 - (params["x"] - 0.3) ** 2 + Random(trial.seed).gauss(0, 0.01))


def exact(params: dict[str, Any]) -> float:
    return float(1 - params["x"] ** 2)


def study_of(low: float, high: float, **changes: Any) -> cv.Study:
    declared: dict[str, Any] = {
        "name": "run",
        "objective": cv.Function(noisy, metric="score", maximize=True),
        "space": cv.Space(x=cv.linear(low, high)),
        "rounds": [cv.Round(20, 1), cv.Confirmation(top=4)],
    }
    return cv.Study(**declared | changes)


def saved(folder: Path, name: str, study: cv.Study) -> cv.Run:
    run = run_inline(study, folder / "source")
    run.path.rename(folder / name)
    return cv.load(folder / name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, cv.Run]:
    folder = tmp_path_factory.mktemp("runs")
    studies = {"good": study_of(0, 0.6), "also": study_of(0.1, 0.5, seed=2), "poor": study_of(0.8, 1.0)}
    return {name: saved(folder, name, study) for name, study in studies.items()}


def test_a_clear_difference_has_a_winner(runs: dict[str, cv.Run]) -> None:
    found = cv.compare(runs["poor"], runs["good"])
    assert found.runs["run"].tolist() == ["good", "poor"]
    assert found.runs["place"].tolist() == found.runs["worst_place"].tolist() == [1, 2]
    pair = found.pairs.iloc[0]
    assert (pair["run"], pair["other"], pair["clear"]) == ("good", "poor", True)
    assert 0 < pair["low"] < pair["difference"] < pair["high"]
    assert found.verdict.startswith("good is better than poor")


def test_scores_are_those_of_the_winners(runs: dict[str, cv.Run]) -> None:
    found = cv.compare(*runs.values()).runs.set_index("run")
    for name, run in runs.items():
        assert run.best is not None
        assert run.best.interval is not None
        row = found.loc[name]
        assert row["value"] == run.best.value
        assert (row["low"], row["high"]) == pytest.approx(run.best.interval)
        assert row["seeds"] == run.best.seeds


def test_ties_share_their_places(runs: dict[str, cv.Run]) -> None:
    found = cv.compare(*runs.values())
    assert found.runs["run"].tolist()[-1] == "poor"
    assert found.runs["place"].tolist() == [1, 1, 3]
    assert found.runs["worst_place"].tolist() == [2, 2, 3]
    assert "not clearly better" in found.verdict
    assert "poor is clearly worse" in found.verdict


def test_budgets_are_equal(runs: dict[str, cv.Run], tmp_path: Path) -> None:
    short = saved(tmp_path, "short", study_of(0, 0.6, rounds=[cv.Round(8, 1), cv.Confirmation(top=2)]))
    budgets = cv.compare(runs["good"], short).budgets
    found = budgets[budgets["budget"] == "trials"].set_index("run").to_dict("index")
    search = runs["good"].trials[runs["good"].trials["stage"] == "search"]
    assert found["good"]["amount"] == 8
    assert found["good"]["best"] == search["value"].head(8).max()
    assert found["short"]["expected"] == found["short"]["best"] == short.trials["value"].head(8).max()


def test_a_search_that_learns_is_expected_too_much_of(tmp_path: Path) -> None:
    search = [cv.Search(20, 1, in_flight=4), cv.Confirmation(top=2)]
    long, short = (
        saved(tmp_path, name, study_of(0, 0.6, rounds=rounds))
        for name, rounds in (("long", search), ("short", [cv.Round(8, 1), cv.Confirmation(top=2)]))
    )
    assert any("too good for long" in note for note in cv.compare(long, short).notes)


def test_a_run_without_confirmation_has_no_place(runs: dict[str, cv.Run], tmp_path: Path) -> None:
    begun = run_until_failure(study_of(0, 0.6, name="begun"), tmp_path)
    found = cv.compare(begun, runs["good"], runs["poor"])
    last = found.runs.iloc[-1]
    assert last["run"] == "begun"
    assert pd.isna(last["place"])
    assert any("begun is not finished" in note for note in found.notes)
    assert found.verdict.startswith("good is better than poor")
    assert "At most one" in cv.compare(begun, runs["good"]).verdict


def test_training_without_noise_decides(tmp_path: Path) -> None:
    objective = cv.Function(exact, metric="score", maximize=True)
    one, other = (
        saved(tmp_path, name, study_of(low, 1, objective=objective))
        for name, low in (("near", 0.1), ("far", 0.5))
    )
    found = cv.compare(one, other)
    assert found.pairs["probability"].tolist() == [1.0]
    assert "no noise" in found.verdict


@pytest.mark.parametrize("changes", [{"metric": "loss"}, {"metric": "score", "maximize": False}])
def test_other_metrics_are_refused(runs: dict[str, cv.Run], tmp_path: Path, changes: dict[str, Any]) -> None:
    objective = cv.Function(exact, **{"maximize": True} | changes)
    other = saved(tmp_path, "other", study_of(0, 1, objective=objective))
    with pytest.raises(cv.RunError, match="compare: "):
        cv.compare(runs["good"], other)


def test_too_few_runs_and_unknown_scores_are_refused(runs: dict[str, cv.Run]) -> None:
    for given in ([], [runs["good"]], [runs["good"], runs["good"]], [runs["good"], "/nowhere"]):
        with pytest.raises(cv.RunError):
            cv.compare(*given)
    with pytest.raises(cv.RunError, match="compare: by="):
        cv.compare(runs["good"], runs["poor"], by="luck")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, cv.Run]:
    folder = tmp_path_factory.mktemp("classifiers")

    def trained(name: str, data: str = "sklearn:iris", **options: Any) -> cv.Run:
        objective = cv.Classifier(data=data, metric="dev_loss", **options)
        space = cv.Space(learning_rate=cv.log(1e-3, 1.0))
        rounds = (cv.Round(4, 2), cv.Confirmation(top=2))
        return saved(folder, name, cv.Study(name="run", objective=objective, space=space, rounds=rounds))

    return {
        "iris": trained("iris"),
        "split": trained("split", split_seed=1),
        "raw": trained("raw", preprocess="none"),
        "wine": trained("wine", data="sklearn:wine"),
    }


def test_other_data_are_refused(classifiers: dict[str, cv.Run]) -> None:
    with pytest.raises(cv.RunError, match="different data"):
        cv.compare(classifiers["iris"], classifiers["wine"])


@pytest.mark.parametrize(("other", "setting"), [("split", "split_seed"), ("raw", "preprocess")])
def test_other_splits_and_preprocessing_are_doubtful(
    classifiers: dict[str, cv.Run], other: str, setting: str
) -> None:
    notes = cv.compare(classifiers["iris"], classifiers[other]).notes
    assert any(setting in note for note in notes)


def test_test_scores_rank_only_if_asked(classifiers: dict[str, cv.Run]) -> None:
    runs = [classifiers["iris"], classifiers["raw"]]
    usual, asked = cv.compare(*runs), cv.compare(*runs, by="test")
    assert usual.runs["test"].notna().all()
    assert usual.runs["value"].is_monotonic_increasing, "the runs minimize dev_loss"
    assert asked.runs["test"].is_monotonic_decreasing
    assert asked.runs["test"].nunique() == 2
    assert (asked.runs["test_low"] < asked.runs["test"]).all()
    assert (asked.runs["test_high"] <= 1).all()
    assert any("test split" in note for note in asked.notes)


def test_names_are_shown_as_text(runs: dict[str, cv.Run], tmp_path: Path) -> None:
    path = tmp_path / "<b>[red]\x1b[31m"
    shutil.copytree(runs["poor"].path, path)
    found = cv.compare(runs["good"], path)
    page = found._repr_html_()
    assert "&lt;b&gt;[red]" in page
    assert "<b>" not in page
    for text in (page, str(found)):
        assert "\x1b" not in text


def test_runs_of_one_name_are_told_apart(runs: dict[str, cv.Run], tmp_path: Path) -> None:
    shutil.copytree(runs["good"].path, tmp_path / "good")
    found = cv.compare(runs["good"], tmp_path / "good")
    assert set(found.runs["run"]) == {str(runs["good"].path), str(tmp_path / "good")}
    assert any("repeats" in note for note in found.notes)
    assert "the same score" in found.verdict
