"""The default search is worth its name: ahead of random search with four times the budget, on tables of real trainings.

`experiments/search_quality` compares it with more, on all tables and at all budgets; this is to notice a change that
spoils it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "search_quality"
SEEDS = range(12)


@pytest.fixture(scope="module")
def experiment() -> Iterator[SimpleNamespace]:
    """Its scripts, which import each other by name."""
    sys.path.insert(0, str(EXPERIMENT))
    try:
        import baselines
        import default
        import tables

        yield SimpleNamespace(baselines=baselines, default=default, tables=tables)
    finally:
        sys.path.remove(str(EXPERIMENT))


def test_the_default_beats_random_search_with_four_times_the_trials(experiment: SimpleNamespace) -> None:
    ours, theirs = [], []
    for name in ("car", "vehicle", "kc1"):
        table = experiment.tables.load(name)
        for seed in SEEDS:
            found = experiment.default.coarse_to_fine(table, 100, seed)
            assert found.evaluations <= 100, "confirmation is part of the budget"
            ours.append(table.regret(found.row))
            drawn = experiment.baselines.random_search(table, 400, seed)
            theirs.append(table.regret(min(drawn, key=lambda evaluation: evaluation[1])[0]))
    assert np.mean(ours) < 0.9 * np.mean(theirs), (np.mean(ours), np.mean(theirs))


def test_what_is_said_of_the_winner_holds_as_often_as_it_says(experiment: SimpleNamespace) -> None:
    table, held = experiment.tables.load("vehicle"), []
    for seed in range(40):
        found = experiment.default.coarse_to_fine(table, 100, seed)
        held.append(found.holds(table))
    assert np.mean(held) >= 0.85, "a 95 % interval of the mean over all trainings"
