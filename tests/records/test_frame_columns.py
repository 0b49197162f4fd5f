"""Every column of every frame has a type, a unit and a meaning, and the frames of real runs agree with them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import caviar as cv
from caviar.columns import param_column
from caviar.frame_columns import ROUND_COLUMNS, FrameColumns
from caviar.records.frames import Run, load
from tests.objectives import Bowl, bowl_study
from tests.records.ledgers import new_ledger
from tests.runs import run_inline, run_until_failure

FRAMES = ("trials", "curves", "rounds", "confirmed")


def classifier(folder: Path) -> Run:
    study = cv.Study(
        name="iris",
        objective=cv.Classifier(data="sklearn:iris", engine="reference"),
        space=cv.Space(
            learning_rate=cv.log(1e-3, 1.0),
            optimizer=cv.choice("sgd", "adam"),
            beta1=cv.when(cv.reverse_log(0.8, 0.99), optimizer="adam"),
        ),
        rounds=[cv.Round(6, 1), cv.Round(4, 1), cv.Confirmation(2)],
    )
    return run_inline(study, folder)


def function(folder: Path) -> Run:
    def train(params: dict[str, Any], trial: cv.TrialContext) -> None:
        if params["kind"] == 1:
            raise ValueError("no such kind")
        trial.report(1, value=math.nan if params["kind"] is None else trial.seed % 100)

    study = cv.Study(
        name="function",
        objective=cv.Function(train),
        space=cv.Space(
            kind=cv.choice("a", 1, None, 0.5),
            flag=cv.choice(True, False),
            nested=cv.when(cv.choice(True, False), flag=True),
            size=cv.when(cv.choice(1, 2.5), nested=(True,)),
        ),
        rounds=[cv.Search(24, 1, in_flight=6), cv.Confirmation(3)],
    )
    return run_inline(study, folder)


def halved(folder: Path) -> Run:
    harmed = Bowl("raise", frozenset({3, 7}))
    return run_inline(bowl_study(objective=harmed, epochs=9, halving=cv.Halving()), folder)


def unfinished(folder: Path) -> Run:
    return run_until_failure(bowl_study(), folder)


def empty(folder: Path) -> Run:
    new_ledger(folder).close()
    return load(folder / "bowl")


@pytest.mark.parametrize("make", [classifier, function, halved, unfinished, empty])
def test_frames_have_the_columns_of_the_schema(make: Callable[[Path], Run], tmp_path: Path) -> None:
    run = make(tmp_path)
    assert tuple(run.schema["frame"].unique()) == FRAMES
    for name in FRAMES:
        frame, described = getattr(run, name), run.schema[run.schema["frame"] == name].set_index("column")
        assert frame.columns.tolist() == described.index.tolist()
        assert frame.dtypes.astype(str).to_dict() == described["type"].to_dict()
        with_gaps = frame.columns[frame.isna().any()]
        assert described.loc[with_gaps, "optional"].all(), with_gaps


def test_every_column_has_a_meaning_in_a_sentence() -> None:
    for row in FrameColumns().rows():
        assert row["meaning"].endswith("."), row["column"]
        assert row["meaning"][0].isupper() or row["column"] == "<metric>"
        assert not row["column"].endswith("_s") or row["unit"] == "s"


def test_meanings_name_ranges_and_conditions() -> None:
    columns = {column.name: column for column in FrameColumns(bowl_study().space, ("loss",)).trials}
    assert "0 .. 1, if method is heavy" in columns[param_column("beta")].meaning
    assert columns[param_column("beta")].optional
    assert not columns[param_column("rate")].optional


def test_metrics_of_a_classifier_are_described() -> None:
    space, metrics = bowl_study().space, ("dev_loss", "own")
    described, own = FrameColumns(space, metrics, "classifier").curves[2:]
    assert (described.unit, own.unit) == ("nats", "")
    assert "cross-entropy" in described.meaning
    assert "cross-entropy" not in FrameColumns(space, metrics, "function").curves[2].meaning


def test_columns_of_a_frame_are_unique() -> None:
    columns = FrameColumns()
    for frame in (columns.trials, columns.curves, columns.confirmed, ROUND_COLUMNS):
        assert len({column.name for column in frame}) == len(frame)
