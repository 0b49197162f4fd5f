"""`caviar retune`: the old best, its neighbourhood and a fresh search on other data, and the verdict."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import caviar as cv
from caviar.analysis.retuning import FRESH, NEIGHBOUR, OLD, retuning
from caviar.errors import StudyError
from caviar.operations.retune import begin_at, declare
from caviar.records.frames import Run, load
from caviar.reporting.report.page import render
from caviar.starting_point import Origin
from caviar.study import Study
from caviar.trial import Stage, Value, derive_seed
from tests.cli.commands import run_failing
from tests.reporting.test_summary import shown
from tests.runs import assert_same_frames, resume_inline, run_inline, run_until_failure


def bowl(params: Mapping[str, Value], trial: cv.TrialContext, middle: float) -> float:
    """Return a noisy square of the distance from the best rate."""
    noise = 0.02 * derive_seed(trial.seed, "noise") / 2**63
    return float((np.log10(float(str(params["rate"]))) - middle) ** 2 + noise)


def old_data(params: Mapping[str, Value], trial: cv.TrialContext) -> float:
    return bowl(params, trial, -2.0)


def shifted_data(params: Mapping[str, Value], trial: cv.TrialContext) -> float:
    return bowl(params, trial, -1.85)


def deep(params: Mapping[str, Value], trial: cv.TrialContext, middle: float) -> float:
    """Return a noisy square of the distance from a place in eight dimensions, far too many for a short search."""
    noise = 0.001 * derive_seed(trial.seed, "noise") / 2**63
    return sum((float(str(x)) - middle) ** 2 for x in params.values()) + noise


def deep_old(params: Mapping[str, Value], trial: cv.TrialContext) -> float:
    return deep(params, trial, 0.2)


def deep_shifted(params: Mapping[str, Value], trial: cv.TrialContext) -> float:
    return deep(params, trial, 0.25)


def other_data(params: Mapping[str, Value], trial: cv.TrialContext) -> float:
    return bowl(params, trial, 0.5)


def failing(params: Mapping[str, Value], trial: cv.TrialContext) -> float:
    if abs(np.log10(float(str(params["rate"]))) + 2) < 0.5:
        raise ValueError("no such rate")
    return other_data(params, trial)


def make_study(fn: Any, **changed: Any) -> Study:
    declared = {"name": "old", "space": cv.Space(rate=cv.log(1e-4, 10.0), x=cv.linear(0, 1))}
    return cv.Study(
        **{
            **declared,
            "objective": cv.Function(fn),
            "rounds": cv.coarse_to_fine(60, 1, in_flight=12),
            **changed,
        }
    )


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_inline(make_study(old_data), tmp_path_factory.mktemp("old"))


def retuned(old: Run, fn: Any, trials: int = 40) -> Study:
    return begin_at(declare(make_study(fn), trials, 3, "old-retuned"), old, "runs/old")


@pytest.mark.parametrize(
    ("fn", "verdict", "chosen"), [(old_data, "keep", OLD), (other_data, "tune again", FRESH)]
)
def test_the_verdict_names_the_clearly_best(
    tmp_path: Path, old: Run, fn: Any, verdict: str, chosen: str
) -> None:
    run = run_inline(retuned(old, fn), tmp_path)
    found = retuning(run)
    assert found is not None
    assert (found.verdict, found.chosen.name) == (verdict, chosen)
    assert [this.name for this in found.candidates] == [OLD, NEIGHBOUR, FRESH]
    assert sum(this.trained for this in found.candidates) == 40
    for this in found.candidates:
        assert this.score.low < this.score.value < this.score.high
        assert this.gain is None or this.gain.low < this.gain.value < this.gain.high
    assert str(found).startswith(verdict)
    assert verdict in shown(run, width=300)
    assert "its winner had value" in shown(run, width=300)
    assert f"<b>Verdict</b> {verdict}" in render(run)


def test_a_small_change_of_many_parameters_asks_for_a_neighbour(tmp_path: Path) -> None:
    space = cv.Space(**{f"x{n}": cv.linear(0, 1) for n in range(8)})
    old = run_inline(make_study(deep_old, space=space, rounds=cv.coarse_to_fine(300, 1)), tmp_path)
    study = declare(make_study(deep_shifted, space=space), 40, 3, "old-retuned")
    found = retuning(run_inline(begin_at(study, old, "runs/old"), tmp_path))
    assert found is not None
    assert (found.verdict, found.chosen.name) == ("its neighbourhood is better", NEIGHBOUR)
    assert OLD in found.chosen.beats


def test_the_best_of_each_kind_trains_equally_often(tmp_path: Path, old: Run) -> None:
    run = run_inline(retuned(old, shifted_data), tmp_path)
    trials = run.trials
    step = trials[trials["stage"] == Stage.CONFIRMATION]
    first = step[step["round"] == step["round"].min()]
    assert first["confirms"].value_counts().tolist() == [3, 3, 3]
    search = trials[trials["stage"] == Stage.SEARCH].set_index("trial")
    assert old.best is not None
    assert search.loc[0, "params_rate"] == old.best.params["rate"]
    assert search["origin"].tolist()[:20] == [Origin.START, *[Origin.NEAR_START] * 19]
    kinds = search.loc[first["confirms"].unique(), "origin"]
    assert kinds.tolist()[:2] == [Origin.START, Origin.NEAR_START]
    for _, rows in search.groupby(search["origin"].isin([Origin.START, Origin.NEAR_START])):
        assert rows["value"].idxmin() in first["confirms"].tolist() or 0 in rows.index


def test_the_fresh_search_learns_nothing_from_the_old_best(tmp_path: Path, old: Run) -> None:
    elsewhere = run_inline(make_study(other_data, seed=3), tmp_path / "elsewhere")
    fresh = []
    for number, run in enumerate((old, elsewhere)):
        found = run_inline(retuned(run, shifted_data), tmp_path / str(number)).trials
        own = found[
            (found["stage"] == Stage.SEARCH) & ~found["origin"].isin([Origin.START, Origin.NEAR_START])
        ]
        fresh.append(own[["params_rate", "params_x", "value", "seed"]])
    assert len(fresh[0]) == 20
    assert fresh[0].equals(fresh[1])


def test_an_old_best_that_fails_is_said_to(tmp_path: Path, old: Run) -> None:
    found = retuning(run_inline(retuned(old, failing), tmp_path))
    assert found is not None
    assert OLD not in [this.name for this in found.candidates]
    assert found.verdict == "tune again"
    assert "does not train" in str(found)


def test_an_interrupted_retuning_comes_to_the_same_end(tmp_path: Path, old: Run) -> None:
    study = retuned(old, shifted_data)
    whole = run_inline(study, tmp_path / "whole")
    broken = run_until_failure(study, tmp_path)
    assert retuning(broken) is None
    assert_same_frames(resume_inline(study, broken.path), whole)


@pytest.mark.parametrize(("trials", "seeds"), [(3, 3), (40, 1), (40.5, 3)])
def test_impossible_budgets_are_refused(trials: Any, seeds: int) -> None:
    with pytest.raises(StudyError, match="retune"):
        declare(make_study(old_data), trials, seeds, "again")


def test_other_runs_have_no_verdict(old: Run) -> None:
    assert retuning(old) is None


# The command

SCRIPT = """
import caviar as cv
study = cv.Study(
    name="iris",
    objective=cv.Classifier(data="sklearn:iris"),
    space=cv.Space(learning_rate=cv.log(1e-3, 1.0), units=cv.choice(4, 16)),
    rounds=cv.coarse_to_fine(16, 2),
)
"""


def test_retune_trains_on_new_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("iris.py").write_text(SCRIPT)
    from caviar.cli.main import main

    assert main(["run", "iris.py", "--address", "here"]) == 0
    data = [
        "runs/iris",
        "iris.py",
        "--data",
        "sklearn:wine",
        "--trials",
        "12",
        "--seeds",
        "2",
        "--address",
        "here",
    ]
    capsys.readouterr()
    assert main(["retune", *data, "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["verdict"] in ("keep", "its neighbourhood is better", "tune again")
    assert [this["search_trials"] for this in out["candidates"]] == [1, 5, 6]
    run = load("runs/iris-retuned")
    assert run.study_file.data is not None
    assert run.study_file.data["name"] == "sklearn:wine"
    again = run.study_file.resume_command(run.location)
    assert again.startswith(
        "caviar retune runs/iris iris.py --data sklearn:wine --trials 12 --seeds 2 --resume "
    )
    assert "--resume runs/iris-retuned" in run_failing(capsys, "resume", "runs/iris-retuned")
    assert not run.study_file.can_end_early
    assert main([*again.split()[1:], "--address", "here"]) == 0
    assert "Verdict" in capsys.readouterr().out


def test_retune_refuses_what_has_no_data(
    old: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "import caviar as cv\n"
        "study = cv.Study(name='old', objective=cv.Function(lambda params: 1.0), space=cv.Space(x=cv.linear(0, 1)),\n"
        "    rounds=cv.coarse_to_fine(60, 1))\n"
    )
    assert "--script" in run_failing(capsys, "retune", old.path, script, "--data", "new.csv")


@pytest.mark.parametrize("option", ["--study", "--target"])
def test_options_without_an_effect_are_refused(
    old: Run, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert option in run_failing(capsys, "retune", old.path, "--data", "sklearn:wine", option, "mine")


def test_a_retuned_study_is_not_extended(tmp_path: Path, old: Run) -> None:
    from caviar.operations.resume import extend_study

    study = retuned(old, old_data)
    run = run_inline(study, tmp_path)
    with pytest.raises(StudyError, match="verdict"):
        extend_study(replace(study), run.path, 5, progress=False)
