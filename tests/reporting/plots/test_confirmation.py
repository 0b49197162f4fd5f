"""Tests of caviar/reporting/plots/confirmation.py."""

import random
from pathlib import Path
from typing import Any

import caviar as cv
from caviar.records.frames import Run
from tests.runs import run_inline


def guess(params: dict[str, Any]) -> float:
    return 1 - 0.3 * random.random() ** 2


def test_contenders_have_their_search_value_and_their_mean(run: Run) -> None:
    figure = run.plot.confirmation()
    search = next(trace for trace in figure.data if trace.name == "in the search")
    fresh = [trace for trace in figure.data if trace.name in ("fresh trainings", "winner")]
    assert search.x.tolist() == run.confirmed["search_value"].tolist()
    assert sum(len(trace.x) for trace in fresh) == len(run.confirmed)


def test_winner_has_a_symbol_of_its_own(run: Run) -> None:
    winner = next(trace for trace in run.plot.confirmation().data if trace.name == "winner")
    best = run.best
    assert best is not None
    assert winner.marker.symbol == "star"
    assert winner.customdata[0][0] == best.trial
    assert winner.x[0] == best.value
    assert best.interval is not None
    assert winner.x[0] - winner.error_x.arrayminus[0] == best.interval[0]


def test_intervals_of_an_error_stay_possible(tmp_path: Path) -> None:
    study = cv.Study(
        name="lucky",
        objective=cv.Function(guess, metric="dev_accuracy", maximize=True),
        space=cv.Space(x=cv.linear(0, 1)),
        rounds=[cv.Round(6, 1), cv.Confirmation(2, 2)],
    )
    run = run_inline(study, tmp_path)
    assert run.confirmed["high"].max() > 1
    for trace in run.plot.confirmation().data:
        if trace.error_x.arrayminus is not None:
            assert min(trace.x - trace.error_x.arrayminus) >= 0
