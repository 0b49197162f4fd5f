"""What `caviar show` and the end of a run tell."""

import re
from pathlib import Path

from rich.console import Console

from caviar.records.frames import Run
from caviar.reporting.summary import show
from tests.objectives import Bowl, bowl_study
from tests.runs import run_inline


def shown(run: Run, *, every_round: bool = False) -> str:
    console = Console(record=True, width=118, file=open("/dev/null", "w"))  # noqa: SIM115
    show(run, console, every_round=every_round)
    return console.export_text()


def test_it_is_told_why_trials_failed_and_how_often(tmp_path: Path) -> None:
    run = run_inline(bowl_study(objective=Bowl("raise", frozenset({3, 7, 31}))), tmp_path)
    assert "failed: 3 x ArithmeticError: two and two are five" in shown(run)
    assert "failed:" not in shown(run_inline(bowl_study(), tmp_path))


def test_each_round_is_told_with_where_it_drew_and_why(tmp_path: Path) -> None:
    text = shown(run_inline(bowl_study(rounds=(30, 20, 20)), tmp_path), every_round=True)
    for number, share in ((2, "40%"), (3, "32%")):
        assert f"round {number}, which drew within {share} of the elite, the best bet of 8 each time" in text
    assert re.search(r"rate +narrowed +\S+ \.\. \S+ +the best \d: \S+ \.\. \S+ \(", text)
    assert re.search(r"method +weighted +plain \d+%, heavy \d+%, None \d+% +of the best \d: ", text)


def test_the_finest_round_alone_is_told_beside_what_was_declared(tmp_path: Path) -> None:
    text = shown(run_inline(bowl_study(rounds=(30, 20, 20)), tmp_path))
    assert "from the declared space to round 3" in text
    assert re.search(r"rate +0\.0001 \.\. 1 -> ", text)
