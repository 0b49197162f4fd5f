"""Runs whose figures are drawn in tests: an ordinary one, parts of it, and one with hostile names."""

from pathlib import Path
from typing import Any

import pandas as pd

import caviar as cv
from caviar.records.frames import Run
from tests.objectives import Bowl, bowl_study
from tests.runs import run_inline

HOSTILE = "<a href='https://example.org'>%{x} $x$</a>"
"""Text that plotly would read as a link, a template and a formula."""


def full_run(folder: Path) -> Run:
    """Return a run with trials of every outcome but diverged, a conditional parameter, and a confirmation."""
    harmed = Bowl("raise", frozenset({3, 7, 31}))
    return run_inline(
        bowl_study(rounds=(40, 30, 30), epochs=9, halving=cv.Halving(), objective=harmed), folder
    )


def hostile_run(folder: Path) -> Run:
    """Return a run whose parameters, options and failures hold what plotly would interpret."""

    def fail_or_square(params: dict[str, Any]) -> float:
        if params[HOSTILE] > 1.5:
            raise ValueError(HOSTILE)
        return float(params[HOSTILE] ** 2) if params["<i>kind"] == HOSTILE else float("nan")

    scales: dict[str, Any] = {
        HOSTILE: cv.linear(-2, 2),
        "<i>kind": cv.choice(HOSTILE, "<script>alert(1)</script>"),
    }
    study = cv.Study(
        name="hostile",
        objective=cv.Function(fail_or_square, metric="<b>loss"),
        space=cv.Space(**scales),
        rounds=[cv.Round(30, 1), cv.Round(10, 1)],
    )
    return run_inline(study, folder)


def with_trials(run: Run, trials: pd.DataFrame) -> Run:
    """Return a run as it is with these trials alone, such as none."""
    part = Run(run.location)
    assert len(part.trials)  # read once, so that curves know their files
    part.__dict__["trials"] = trials.reset_index(drop=True)
    return part


def parts_of(run: Run) -> dict[str, Run]:
    """Return runs that have little to show."""
    trials = run.trials
    failed = trials.head(5).assign(outcome="failed", value=float("nan"), failure="no")
    for time in ("started", "ended"):
        failed[time] = failed[time].where(failed["trial"] < 0)
    return {
        "empty": with_trials(run, trials.head(0)),
        "of one trial": with_trials(run, trials[trials["outcome"] == "completed"].head(1)),
        "unfinished": with_trials(run, trials.head(50)),
        "of failures": with_trials(run, failed),
    }
