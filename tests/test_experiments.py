"""The experiments do what they say, as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from caviar.records.frames import load

ROOT = Path(__file__).parents[1]
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
print(len(run.trials), round(run.best.params["x"], 1))
"""


def python(*arguments: str | Path, folder: Path, typed: str | None = None) -> str:
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=typed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_a_function_of_a_notebook_which_has_no_file_is_searched_over(tmp_path: Path) -> None:
    said = python("-", folder=tmp_path, typed=CELL)
    assert said.split() == ["41", "0.3"]


@pytest.mark.slow
def test_the_main_job_finds_a_good_network_says_how_and_its_frames_answer_questions(tmp_path: Path) -> None:
    said = python("-m", "caviar", "run", ROOT / "experiments" / "digits.py", folder=tmp_path)
    run = load(tmp_path / "runs" / "digits")
    search = run.trials[run.trials["stage"] == "search"]
    assert len(run.trials) > 300
    assert search["round"].nunique() >= 3
    assert run.best is not None
    assert run.best.test_accuracy is not None
    assert run.best.test_accuracy >= 0.97
    assert f"winner: trial {run.best.trial}" in said
    assert f"test accuracy: {run.best.test_accuracy:.4f}" in said
    for number in sorted(search["round"].unique())[1:]:
        assert f"round {number}, which drew within" in said
    assert str(Path("runs", "digits", "trials")) in said

    answers = python(ROOT / "experiments" / "analyse_digits.py", "--figures", "figures", folder=tmp_path)
    assert "Which hyperparameters mattered?" in answers
    for name in ("digits_rounds.png", "digits_analysis.png"):
        assert (tmp_path / "figures" / name).stat().st_size > 20_000


@pytest.mark.slow
def test_the_search_over_a_function_keeps_all_its_metrics(tmp_path: Path) -> None:
    python(ROOT / "experiments" / "function.py", folder=tmp_path)
    trials = load(tmp_path / "runs" / "function").trials
    assert trials["value"].max() > 0.9
    assert (trials["train_accuracy"].dropna() <= 1.0).all()
