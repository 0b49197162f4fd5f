"""Advice follows from what the frames show."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

import caviar as cv
from caviar.analysis.advice import advice
from caviar.records.frames import Run
from tests.objectives import bowl_study
from tests.runs import run_inline


def bowl(low: float, runs: Path) -> Run:
    """Return a run of the bowl, whose minimum is at a rate of 0.01, in a space that begins at `low`."""
    space = cv.Space(rate=cv.log(low, 1.0), method=cv.choice("plain"))
    return run_inline(replace(bowl_study(rounds=(40, 40)), space=space), runs)


def with_trials(run: Run, **columns: Any) -> Run:
    """Return the run with other cells in all rows of its trials."""
    changed = Run(run.location)
    changed.__dict__["trials"] = run.trials.assign(**columns)
    return changed


def test_best_trials_at_an_edge_ask_for_a_wider_range(tmp_path: Path) -> None:
    found = advice(bowl(0.02, tmp_path))
    assert [text for text in found if "rate" in text and "smaller" in text]


def test_best_trials_inside_the_range_ask_for_nothing(tmp_path: Path) -> None:
    assert not [text for text in advice(bowl(1e-4, tmp_path)) if "edge" in text]


def test_many_failures_and_divergences_are_named(tmp_path: Path) -> None:
    run = bowl(1e-4, tmp_path)
    outcomes = pd.Series(["completed", "failed", "diverged"] * len(run.trials))[: len(run.trials)]
    found = " ".join(advice(with_trials(run, outcome=outcomes)))
    assert "34% of the trials failed" in found
    assert "33% of the trials diverged" in found


def test_idle_workers_are_named(tmp_path: Path) -> None:
    run = bowl(1e-4, tmp_path)
    many = pd.concat([run.trials] * 3, ignore_index=True)
    busy, idle = (Run(run.location) for _ in range(2))
    busy.__dict__["trials"] = many.assign(train_s=9.0, setup_s=0.0, dispatch_s=1.0)
    idle.__dict__["trials"] = many.assign(train_s=1.0, setup_s=0.0, dispatch_s=9.0)
    assert not [text for text in advice(busy) if "in_flight" in text]
    assert [text for text in advice(idle) if "10% of their time" in text]


def test_an_empty_run_gives_no_advice(tmp_path: Path) -> None:
    run = bowl(1e-4, tmp_path)
    empty = Run(run.location)
    empty.__dict__["trials"] = run.trials.head(0)
    assert advice(empty) == []
