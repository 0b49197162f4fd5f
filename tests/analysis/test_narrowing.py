"""Tests of caviar/analysis/narrowing.py."""

from pathlib import Path

from caviar.analysis.narrowing import narrowing
from tests.objectives import bowl_study
from tests.runs import run_inline


def test_rounds_have_their_place_among_the_trials(tmp_path: Path) -> None:
    run = run_inline(bowl_study(rounds=(30, 20, 10)), tmp_path)
    rate = narrowing(run, most=10).query("parameter == 'rate'")
    assert rate["first"].tolist() == [0, 30, 50]
    assert rate["end"].tolist() == [30, 50, 60]


def test_first_and_last_rounds_stay_when_many_are_thinned(tmp_path: Path) -> None:
    run = run_inline(bowl_study(rounds=(10,) * 9), tmp_path)
    thinned = narrowing(run, most=3).query("parameter == 'rate'")
    assert thinned["round"].tolist() == [1, 5, 9]
    assert thinned["first"].tolist() == [0, 40, 80]
    assert thinned["end"].tolist() == [40, 80, 90]
