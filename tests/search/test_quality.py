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

from caviar.search.confirmation import rank_contenders

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
        import on_workers
        import tables

        loaded = [tables.load(name) for name in TABLES]
        searches = [(table, default.coarse_to_fine(table, 100, s)) for table in loaded for s in SEEDS]
        yield SimpleNamespace(
            tables=loaded,
            searches=searches,
            random_search=baselines.random_search,
            declare=default.declare,
            on_workers=on_workers,
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


def test_search_on_workers_hands_over_the_confirmed_winner(experiment: SimpleNamespace) -> None:
    table, on_workers = experiment.tables[1], experiment.on_workers
    study, seconds = experiment.declare(table, 40, seed=0), np.full(len(table.scores), 10.0)
    trainings = on_workers.run(study, table, 4, seconds)
    assert len(trainings) == 40
    assert 100 < trainings["ended_s"].max() < 200, "four workers train 40 times for 10 s"
    handed = on_workers.hand_overs(trainings)
    search, confirming = (trainings[trainings["stage"] == s] for s in ("search", "confirmation"))
    winner = rank_contenders(search, confirming, maximize=False)[0]
    assert handed.moments == sorted(handed.moments)
    assert handed.rows[0] == trainings["row"][0]
    assert handed.rows[-1] == search.set_index("trial")["row"][winner]


def test_confirmed_tpe_trains_as_tpe_did(experiment: SimpleNamespace) -> None:
    table, on_workers = experiment.tables[0], experiment.on_workers
    study, seconds = experiment.declare(table, 40, seed=0), np.linspace(5, 15, len(table.scores))
    asked = on_workers.ask_tpe(table, 40, 0, 4, seconds)
    confirmed = on_workers.run(on_workers.then_confirmed(study, asked), table, 4, seconds)
    replayed = confirmed[confirmed["stage"] == "search"].set_index("trial").sort_index()
    once = asked.trainings.set_index("trial").sort_index().head(len(replayed))
    assert replayed["row"].tolist() == once["row"].tolist()
    assert replayed["value"].tolist() == once["value"].tolist()
    assert np.allclose(replayed["ended_s"], once["ended_s"], atol=1.0)
    assert len(confirmed) == 40
