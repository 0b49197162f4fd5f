"""Frames behave as any other frame of pandas, whatever a study searches and measures."""

import warnings
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

import caviar as cv
from caviar.columns import params_from_row
from caviar.errors import DamagedError, RunError
from caviar.records.frames import Run, load
from caviar.trial import Stage
from tests.object_store import in_memory
from tests.objectives import bowl_study
from tests.records.ledgers import new_ledger, record
from tests.runs import run_inline

NUMBERS = ["value", "params_x", "params_n", "params_m", "seed", "confirms"]
"""Columns of numbers, some of which have empty cells."""


def measure(params: dict[str, Any]) -> float:
    if params["x"] > 0.9:
        raise ValueError("too large")
    return float(params["x"] + params.get("m", 0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with every kind of column, with empty cells and without."""
    space = cv.Space(
        x=cv.linear(0.1, 1),
        n=cv.integer(1, 9),
        flag=cv.choice(True, False),
        kind=cv.choice("a", 1, 0.5),
        m=cv.when(cv.integer(1, 3), flag=True),
        nested=cv.when(cv.choice(True, False), flag=True),
        text=cv.when(cv.choice("u", "v"), flag=True),
    )
    study = cv.Study(
        name="frames",
        objective=cv.Function(measure),
        space=space,
        rounds=[cv.Round(20, 1), cv.Round(12, 1), cv.Confirmation(2, 2)],
    )
    return run_inline(study, tmp_path_factory.mktemp("runs"))


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    matplotlib.use("agg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_columns_have_ordinary_dtypes(run: Run) -> None:
    types = run.trials.dtypes.astype(str)
    assert set(types[["trial", "round", "params_n", "epochs", "seed", "attempt"]]) == {"int64"}
    assert set(types[["value", "params_x", "params_m", "test_loss", "confirms", "train_s"]]) == {"float64"}
    assert set(types[["stage", "params_kind", "params_text", "failure", "node"]]) == {"str"}
    assert set(types[["started", "ended"]]) == {"datetime64[us, UTC]"}
    assert (types["params_flag"], types["params_nested"]) == ("bool", "boolean")
    assert set(run.curves.dtypes.astype(str)) == {"int64", "float64"}
    assert set(run.rounds.drop(columns="counts").dtypes.astype(str)) == {"int64", "float64", "str"}


def test_empty_frames_have_the_same_dtypes(run: Run, tmp_path: Path) -> None:
    new_ledger(tmp_path).close()
    empty = load(tmp_path / "bowl")
    for name in ("trial", "seed", "confirms", "outcome", "started"):
        assert empty.trials[name].dtype == run.trials[name].dtype
    assert empty.rounds.dtypes.equals(run.rounds.dtypes)


def test_frames_are_summarised_and_grouped(run: Run) -> None:
    trials = run.trials
    assert trials.describe().loc["mean", "value"] == trials["value"].mean()
    assert trials.describe(include="all").shape[1] == trials.shape[1]
    assert trials.sum(numeric_only=True)["params_n"] == trials["params_n"].sum()
    assert trials[NUMBERS].corr().notna().to_numpy().any()
    assert trials.groupby("params_kind")["value"].mean().notna().all()
    assert len(trials.query("params_flag and value > 0.2")) > 0
    assert (trials["ended"] >= trials["started"]).all()


def test_columns_become_arrays_of_floats(run: Run) -> None:
    array = run.trials[NUMBERS].to_numpy()
    assert array.dtype == np.float64
    assert np.isfinite(np.log(run.trials[["params_x", "params_n"]].to_numpy())).all()
    assert torch.tensor(array).dtype == torch.float64


def test_frames_are_plotted(run: Run) -> None:
    pd.plotting.scatter_matrix(run.trials[NUMBERS[:4]])
    run.trials.plot.scatter("params_x", "value", c="round")
    run.curves.pivot_table("value", "epoch", "trial").plot()
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize("name", ["trials", "curves", "rounds"])
def test_frames_come_back_from_files(run: Run, name: str, tmp_path: Path) -> None:
    frame = getattr(run, name).drop(columns="counts", errors="ignore")
    frame.to_parquet(tmp_path / "frame.parquet")
    frame.to_pickle(tmp_path / "frame.pickle")
    frame.to_csv(tmp_path / "frame.csv", index=False)
    for read in (pd.read_parquet(tmp_path / "frame.parquet"), pd.read_pickle(tmp_path / "frame.pickle")):
        pd.testing.assert_frame_equal(read, frame)
    csv = pd.read_csv(tmp_path / "frame.csv")
    kept = frame.select_dtypes(["int64", "float64", "str"])
    pd.testing.assert_frame_equal(csv[kept.columns], kept, check_exact=True, check_dtype=name != "rounds")


def test_frames_are_merged_with_those_of_users(run: Run) -> None:
    notes = pd.DataFrame({"trial": [0, 2], "note": ["good", "bad"]})
    assert run.trials.merge(notes, on="trial")["note"].tolist() == ["good", "bad"]
    prices = pd.DataFrame({"params_n": range(1, 10), "price": 1.5})
    assert run.trials.merge(prices)["price"].notna().sum() == len(run.trials)
    again = run.trials.merge(run.trials, left_on="confirms", right_on="trial")
    assert len(again) == run.trials["confirms"].notna().sum()


def test_confirmed_has_the_scores_of_the_winner(tmp_path: Path) -> None:
    run = run_inline(bowl_study(), tmp_path)
    confirmed, best = run.confirmed, run.best
    assert best is not None
    assert best.interval is not None
    won = confirmed[confirmed["winner"]].iloc[0]
    assert (won["trial"], won["value"], won["low"], won["high"]) == (best.trial, best.value, *best.interval)
    assert confirmed.index[confirmed["winner"]].tolist() == [0]
    again = run.trials[run.trials["stage"] == Stage.CONFIRMATION]
    assert confirmed["trainings"].sum() + confirmed["failures"].sum() == len(again)
    for row in confirmed.to_dict(orient="records"):
        own = again[again["confirms"] == row["trial"]]
        assert row["mean"] == pytest.approx(own["value"].mean())
        assert params_from_row(run.space, row) == params_from_row(run.space, own.iloc[0].to_dict())


def test_confirmed_says_how_far_each_contender_came(tmp_path: Path) -> None:
    study = bowl_study(rounds=(20,), confirmation=cv.Confirmation(top=8))
    confirmed = run_inline(study, tmp_path).confirmed
    assert confirmed["step"].tolist() == [3, 3, 2, 2, 1, 1, 1, 1]
    assert confirmed["trainings"].tolist() == [7, 7, 3, 3, 1, 1, 1, 1]
    for _, same in confirmed.groupby("step"):
        assert same["mean"].is_monotonic_increasing


def test_confirmed_shows_what_an_unfinished_run_knows(tmp_path: Path) -> None:
    run = run_inline(bowl_study(), tmp_path)
    trials = run.trials
    run.__dict__["trials"] = trials[trials["stage"] == Stage.SEARCH]
    assert run.confirmed.empty
    again = load(run.path)
    first = trials.index[trials["stage"] == Stage.CONFIRMATION][:2]
    again.__dict__["trials"] = trials[(trials["stage"] == Stage.SEARCH) | trials.index.isin(first)]
    assert again.confirmed["trainings"].sum() == 2
    assert not again.confirmed["winner"].any()


def test_curves_are_read_by_trial_and_column(run: Run) -> None:
    best = run.trials.nsmallest(3, "value")["trial"]
    expected = run.curves[run.curves["trial"].isin(best)].reset_index(drop=True)
    pd.testing.assert_frame_equal(run.read_curves(best), expected)
    pd.testing.assert_frame_equal(run.read_curves(best.tolist(), columns="value"), expected)
    assert run.read_curves(int(best.iloc[0]))["trial"].unique().tolist() == [best.iloc[0]]
    assert run.read_curves(columns=["epoch"]).columns.tolist() == ["trial", "epoch"]
    assert run.read_curves(trials=[]).dtypes.equals(run.curves.dtypes)


def test_trials_and_columns_that_are_not_there_are_refused(run: Run) -> None:
    with pytest.raises(RunError, match="trial 9999 "):
        run.read_curves([0, 9999])
    with pytest.raises(RunError, match=r"'loss'.*value"):
        run.read_curves(columns="loss")


def test_the_curve_of_a_trial_opens_no_file_of_others(tmp_path: Path) -> None:
    with closing(new_ledger(tmp_path)) as ledger:
        for number in range(4):
            record(ledger, [number])
    run = load(tmp_path / "bowl")
    damaged = sorted((run.path / "curves").iterdir())[1]
    damaged.write_bytes(b"")
    assert run.read_curves([0, 2, 3])["trial"].tolist() == [0, 0, 2, 2, 3, 3]
    with pytest.raises(DamagedError, match=damaged.name):
        run.read_curves(1)
    damaged.unlink()
    with pytest.raises(DamagedError, match="segment 1"):
        run.read_curves(3)


def test_curves_are_read_from_a_store() -> None:
    run = run_inline(bowl_study(), in_memory())
    first = run.curves[run.curves["trial"] < 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(Run(run.location).read_curves([0, 1]), first)


def test_curves_are_read_while_their_files_are_merged(tmp_path: Path) -> None:
    with closing(new_ledger(tmp_path)) as ledger:
        for number in range(3):
            record(ledger, [number])
        run = load(tmp_path / "bowl")
        assert len(run.trials) == 3
        record(ledger, [3])
        ledger.merge()
        assert run.read_curves(1)["trial"].tolist() == [1, 1]
        assert run.curves["trial"].unique().tolist() == [0, 1, 2]
        assert load(run.path).read_curves(3)["epoch"].tolist() == [1, 2]


def test_a_run_read_again_has_the_same_frames(run: Run) -> None:
    for name in ("trials", "curves", "rounds"):
        pd.testing.assert_frame_equal(getattr(load(run.path), name), getattr(run, name), check_exact=True)


def test_trials_say_when_they_were_trained(run: Run) -> None:
    now = pd.Timestamp(datetime.now(UTC))
    assert run.trials["started"].notna().all()
    assert (run.trials["started"] <= run.trials["ended"]).all()
    assert (now - run.trials["ended"]).between(pd.Timedelta(0), pd.Timedelta(hours=1)).all()
