"""Tests of caviar/analysis/history.py and what it uses."""

import numpy as np
import pandas as pd
import pytest

from caviar.analysis.history import history
from caviar.analysis.thinning import thin, thin_trials
from caviar.analysis.value_scale import ValueScale
from caviar.records.frames import Run
from tests.objectives import bowl_study
from tests.runs import run_inline


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_inline(bowl_study(), tmp_path_factory.mktemp("runs"))


def test_best_never_gets_worse(run: Run) -> None:
    table = history(run)
    assert table["best"].is_monotonic_decreasing
    assert table["best"].iloc[-1] == table["value"].min()
    assert table.loc[table["is_improvement"], "value"].tolist() == table["best"].unique().tolist()


def test_order_of_time_is_that_of_the_ends(run: Run) -> None:
    table = history(run, "time")
    assert table["elapsed_s"].is_monotonic_increasing
    assert (table["elapsed_s"] > 0).all()


def test_trials_of_lost_workers_have_no_time(run: Run) -> None:
    part = Run(run.location)
    part.__dict__["trials"] = run.trials.assign(ended=run.trials["ended"].where(run.trials["trial"] != 3))
    assert 3 not in history(part, "time")["trial"].tolist()
    assert 3 in history(part)["trial"].tolist()


def test_accuracies_become_errors_on_a_log_scale() -> None:
    scale = ValueScale.of_values("dev_accuracy", [0.1, 0.9, 0.99, 1.0], maximize=True)
    assert (scale.name, scale.is_log, scale.maximize) == ("dev_error", True, False)
    assert scale.shown([0.9, 1.0]).round(6).tolist() == [0.1, 0.005]


def test_near_values_are_linear() -> None:
    assert not ValueScale.of_values("loss", [1.0, 1.1, 1.2], maximize=False).is_log
    assert not ValueScale.of_values("loss", [-1.0, 1.0, 100.0], maximize=False).is_log


def test_poor_values_lie_at_the_edge() -> None:
    values = [*np.linspace(1, 2, 20), 1e9]
    scale = ValueScale.of_values("loss", values, maximize=False)
    assert scale.clipped([1e9]).tolist() == [scale.worst] == [scale.high]
    gain = ValueScale.of_values("reward", [-1e9, *np.linspace(1, 2, 20)], maximize=True)
    assert gain.clipped([-1e9]).tolist() == [gain.worst] == [gain.low]


@pytest.mark.parametrize("values", [[], [np.nan], [0.0], [3.0, 3.0]])
def test_scales_of_few_values_have_a_range(values: list[float]) -> None:
    scale = ValueScale.of_values("loss", values, maximize=False)
    assert scale.low < scale.high


def test_thinning_keeps_what_must_stay() -> None:
    table = pd.DataFrame({"value": range(1_000)})
    keep = table["value"] % 100 == 0
    thinned = thin(table, 50, keep)
    assert len(thinned) == 50
    assert thinned["value"].is_monotonic_increasing
    assert set(table["value"][keep]) <= set(thinned["value"])
    pd.testing.assert_frame_equal(thinned, thin(table, 50, keep))
    assert thin(table, 1_000) is table


def test_completed_trials_make_up_most_of_a_sample() -> None:
    trials = pd.DataFrame({"outcome": ["completed"] * 100 + ["stopped"] * 900})
    thinned = thin_trials(trials, 60, keep=[False] * 1_000)
    assert thinned["outcome"].value_counts().to_dict() == {"completed": 40, "stopped": 20}
    assert thinned.index.is_monotonic_increasing
    few = thin_trials(trials.iloc[95:], 60, keep=[False] * 905)
    assert few["outcome"].value_counts().to_dict() == {"stopped": 55, "completed": 5}
