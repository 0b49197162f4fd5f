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
        import sequences
        import tables

        loaded = [tables.load(name) for name in TABLES]
        searches = [(table, default.coarse_to_fine(table, 100, s)) for table in loaded for s in SEEDS]
        yield SimpleNamespace(
            tables=loaded,
            searches=searches,
            random_search=baselines.random_search,
            sequence=default.sequence,
            sequences=sequences,
        )
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


def test_sequence_ends_with_the_winner(experiment: SimpleNamespace) -> None:
    table, found = experiment.searches[0]
    plan = experiment.sequence(table, 100, SEEDS[0])
    assert len(plan.trainings) == found.evaluations
    assert plan.leaders[-1] == (found.evaluations, found.row)
    assert all(training.needs <= place for place, training in enumerate(plan.trainings))


def test_trainings_wait_for_those_they_need(experiment: SimpleNamespace) -> None:
    """Two workers: rows 0 and 1 search for 5 and 1 s, row 1 trains again after both, and leads."""
    training = experiment.sequences.Training
    plan = experiment.sequences.Plan([training(0, 0.1), training(1, 0.2), training(1, 0.3, 2)], 2, [(3, 1)])
    handed = experiment.sequences.hand_overs(plan, 2, np.array([5.0, 1.0]))
    assert handed.moments == [1.0, 5.0, 6.0]
    assert handed.rows == [1, 0, 1]
    assert handed.end == 6.0
