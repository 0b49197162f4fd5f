"""The default search is better than random search with four times the budget, on tables of real trainings.

`experiments/search_quality` compares more searches, on all tables and at all budgets. This quick check notices a change
for the worse.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "search_quality"
TABLES = ("car", "vehicle", "kc1")
SEEDS = range(9)


@pytest.fixture(scope="module")
def experiment() -> Iterator[SimpleNamespace]:
    """The experiment's scripts, with the default search run on each table with each seed."""
    sys.path.insert(0, str(EXPERIMENT))
    try:
        import baselines
        import default
        import tables

        loaded = [tables.load(name) for name in TABLES]
        searches = [(table, default.coarse_to_fine(table, 100, s)) for table in loaded for s in SEEDS]
        yield SimpleNamespace(tables=loaded, searches=searches, random_search=baselines.random_search)
    finally:
        sys.path.remove(str(EXPERIMENT))


def test_default_beats_random_search_with_four_times_the_trials(experiment: SimpleNamespace) -> None:
    assert all(found.evaluations <= 100 for _, found in experiment.searches)
    ours = [table.regret(found.row) for table, found in experiment.searches]
    theirs = []
    for table in experiment.tables:
        for seed in SEEDS:
            drawn = experiment.random_search(table, 400, seed)
            theirs.append(table.regret(min(drawn, key=lambda evaluation: evaluation[1])[0]))
    assert np.mean(ours) < 0.9 * np.mean(theirs), (np.mean(ours), np.mean(theirs))


def test_winners_interval_holds_the_true_mean(experiment: SimpleNamespace) -> None:
    held = [found.holds(table) for table, found in experiment.searches]
    assert np.mean([h for h in held if h is not None]) >= 0.85, "the intervals state 95 %"
