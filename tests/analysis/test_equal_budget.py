"""The best of a search at equal budget, and the one to expect."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.analysis.equal_budget import BUDGETS, best_at, expected_best, spent
from tests.objectives import bowl_study
from tests.runs import run_inline

values = st.lists(st.floats(-5, 5) | st.just(float("nan")), min_size=1, max_size=7)


@given(values, st.booleans())
def test_the_expected_best_is_the_mean_over_all_subsets(found: list[float], maximize: bool) -> None:
    best, worst = (max, np.nanmin) if maximize else (min, np.nanmax)
    if np.isnan(found).all():
        assert np.isnan(expected_best(found, [1], maximize)).all()
        return
    known = np.where(np.isnan(found), worst(found), found)
    for n in range(1, len(found) + 1):
        truth = np.mean([best(subset) for subset in combinations(known, n)])
        assert expected_best(found, [n], maximize) == pytest.approx(truth, abs=1e-9)


@given(values.filter(lambda found: not np.isnan(found).all()), st.booleans())
def test_more_draws_are_never_worse(found: list[float], maximize: bool) -> None:
    curve = expected_best(found, range(1, len(found) + 1), maximize) * (1 if maximize else -1)
    assert (np.diff(curve) >= -1e-9).all()
    assert curve[-1] == pytest.approx(np.nanmax(np.array(found) * (1 if maximize else -1)), abs=1e-9)


def test_many_values_are_exact() -> None:
    rng = np.random.default_rng(0)
    found = expected_best(rng.random(100_000), [1, 9, 99], maximize=True)
    np.testing.assert_allclose(found, [0.5, 0.9, 0.99], atol=0.002)


def test_spending_grows_with_each_trial(tmp_path: object) -> None:
    run = run_inline(bowl_study(), str(tmp_path))
    table = spent(run)
    search = run.trials[run.trials["stage"] == "search"]
    assert table["trials"].tolist() == list(range(1, len(search) + 1))
    assert table["epochs"].iloc[-1] == search["epochs_trained"].sum()
    for budget in BUDGETS:
        assert table[budget].is_monotonic_increasing
        assert best_at(table, budget, table[budget].iloc[-1]) == search["value"].min()
        assert np.isnan(best_at(table, budget, 0))
