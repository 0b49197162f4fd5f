"""The scripts in experiments/ run and answer what they promise, with smaller budgets."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import caviar as cv
from caviar.errors import StudyError
from caviar.experiment_script import load_study
from caviar.records.frames import Run
from caviar.space import Choice, Interval
from tests.runs import run_inline

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
CELL = """
import random

import caviar as cv

centre = 0.3


def bowl(params):
    return (params["x"] - centre) ** 2 + 0.01 * random.random()


study = cv.Study(
    name="bowl", objective=cv.Function(bowl), space=cv.Space(x=cv.linear(-1, 1)),
    rounds=cv.coarse_to_fine(trials=40, epochs=1),
)
run = study.run(progress=False)
"""


def run_small(script: str, runs: Path, *, trials: int, epochs: int) -> Run:
    """Run an experiment's study with fewer trials and epochs, in this process."""
    study = load_study(EXPERIMENTS / script)
    return run_inline(replace(study, rounds=cv.coarse_to_fine(trials, epochs)), runs)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_function_of_a_notebook_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    monkeypatch.chdir(tmp_path)
    exec(CELL, vars(notebook))
    run = notebook.run
    assert len(run.trials) == 41
    assert run.best.params["x"] == pytest.approx(0.3, abs=0.1)


def test_digits_finds_a_good_network_and_answers_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_small("digits.py", tmp_path, trials=32, epochs=5)
    assert run.best is not None
    assert run.best.test_accuracy is not None
    assert run.best.test_accuracy >= 0.95

    analyse(run, monkeypatch)
    answers = capsys.readouterr().out
    for question in (
        "Which hyperparameters mattered?",
        "What did narrowing gain?",
        "How did the best learn?",
    ):
        assert question in answers


def analyse(run: Run, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    """Analyse a run as `python experiments/analyse_run.py` does."""
    script = str(EXPERIMENTS / "analyse_run.py")
    monkeypatch.setattr(sys, "argv", [script, str(run.path), *options])
    runpy.run_path(script, run_name="__main__")


@pytest.mark.slow
def test_figures_of_a_run_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_small("digits.py", tmp_path, trials=32, epochs=5)
    analyse(run, monkeypatch, "--figures", str(tmp_path / "figures"))
    for name in ("digits_history.png", "digits_rounds.png"):
        assert (tmp_path / "figures" / name).stat().st_size > 20_000


@pytest.mark.parametrize(
    "space", [{"x": cv.linear(-1, 1), "k": cv.choice("a", None, 3)}, {"k": cv.choice(1, 2)}]
)
def test_any_run_is_analysed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    space: dict[str, Interval | Choice],
) -> None:
    study = cv.Study(
        name="any",
        objective=cv.Function(lossy),
        space=cv.Space(**space),
        rounds=[cv.Round(12, 1), cv.Round(8, 1), cv.Confirmation(1)],
    )
    analyse(run_inline(study, tmp_path), monkeypatch)
    assert "What did narrowing gain?" in capsys.readouterr().out


def lossy(params: dict[str, Any]) -> float:
    """Return a negative loss; some trials fail."""
    if params.get("x", 0) > 0.8:
        raise ValueError("too large")
    return float(params.get("x", 0)) - (params["k"] in ("a", 1)) - 2


def test_convolutions_find_a_good_network(tmp_path: Path) -> None:
    run = run_small("digits_conv.py", tmp_path, trials=10, epochs=4)
    assert run.best is not None
    assert run.best.test_accuracy is not None
    assert run.best.test_accuracy >= 0.95


def test_experiment_without_skorch_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skorch", None)
    with pytest.raises(StudyError, match="pip install skorch"):
        load_study(EXPERIMENTS / "skorch_digits.py")


def test_function_experiment_keeps_all_its_metrics(tmp_path: Path) -> None:
    trials = run_small("function.py", tmp_path, trials=16, epochs=1).trials
    assert trials["value"].max() > 0.9
    assert (trials["train_accuracy"].dropna() <= 1.0).all()
