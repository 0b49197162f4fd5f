"""The winner predicts from rows as they are in the data, and refuses rows that it would misread."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from rich.console import Console

import caviar as cv
from caviar.errors import DamagedError, DataError, RunError
from caviar.records.frames import load
from caviar.records.json_files import write_checked
from caviar.records.winner import Baseline, Best
from caviar.reporting.summary import show
from caviar.storage.local import Disk
from caviar.training.recipe import used_hyperparameters
from tests.objectives import bowl_study
from tests.runs import run_inline

COLUMNS = ["a", "b", "c", "d"]


def table() -> pd.DataFrame:
    """Return rows whose class depends on the first and the last column, on different scales."""
    x = np.random.default_rng(0).normal(size=(200, 4)) * [1, 2, 3, 4] + [5, 0, 0, -9]
    right = x[:, 0] - x[:, 3] / 4 > 5 + 9 / 4
    return pd.DataFrame(x, columns=COLUMNS).assign(label=np.where(right, "right", "left"))


def trained(data: Any, runs: Path, **fixed: Any) -> Best:
    study = cv.Study(
        name="table",
        objective=cv.Classifier(data=data, engine="reference", fixed=fixed),
        space=cv.Space(learning_rate=cv.log(1e-2, 1.0)),
        rounds=[cv.Round(4, 4), cv.Confirmation(1, 1)],
    )
    best = run_inline(study, runs).best
    assert best is not None
    return best


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a CSV file."""
    folder = tmp_path_factory.mktemp("best")
    table().to_csv(folder / "my.csv", index=False)
    trained(folder / "my.csv", folder)
    return folder / "table"


@pytest.fixture
def best(folder: Path) -> Best:
    best = load(folder).best
    assert best is not None
    return best


def test_test_predictions_are_those_behind_the_test_score(best: Best) -> None:
    rows = best.test_predictions()
    assert rows is not None
    assert len(rows) == best.test_rows
    assert list(rows["actual"].cat.categories) == ["left", "right"]
    assert (rows["actual"] == rows["predicted"]).mean() == best.test_accuracy
    assert rows["confidence"].between(0.5, 1).all()


def test_damaged_test_predictions_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "table")
    file = tmp_path / "table" / "best" / "test.npz"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DamagedError):
        load(tmp_path / "table").best.test_predictions()  # type: ignore[union-attr]


def test_columns_of_frames_are_selected_by_name(best: Best) -> None:
    rows = table()
    right = best.predict(rows[COLUMNS].to_numpy())
    assert (right == rows["label"]).mean() > 0.8
    for frame in (
        rows[COLUMNS],
        rows[COLUMNS[::-1]],
        rows,
        rows.assign(more="?")[["more", *"dabc", "label"]],
    ):
        assert best.predict(frame).tolist() == right.tolist()
    assert best.predict(pa.Table.from_pandas(rows[COLUMNS[::-1]])).tolist() == right.tolist()


def test_missing_columns_are_named(best: Best) -> None:
    rows = table()
    with pytest.raises(DataError, match="predict: there is no column b, d; there are a, c, label"):
        best.predict(rows.drop(columns=["b", "d"]))
    with pytest.raises(DataError, match=r"no column a, b, c, d; there are 0, 1, 2, 3 .*give an array"):
        best.predict(pd.DataFrame(rows[COLUMNS].to_numpy()))
    with pytest.raises(DataError, match="predict: several columns are called a"):
        best.predict(pd.concat([rows, rows[["a"]]], axis=1))
    twice = pd.concat([rows, rows[["label"]]], axis=1)
    assert best.predict(twice).tolist() == best.predict(rows).tolist()


def test_invalid_values_are_refused_with_their_place(best: Best) -> None:
    rows = table()[COLUMNS[::-1]]
    rows.loc[3, "b"] = np.nan
    with pytest.raises(DataError, match="predict: 1 value is missing or not finite: nan in row 3, column b"):
        best.predict(rows)
    rows.loc[[3, 7], "b"] = np.inf
    with pytest.raises(DataError, match="the first is inf in row 3, column b"):
        best.predict(rows[COLUMNS].to_numpy())
    with pytest.raises(DataError, match="predict: columns that are not numbers: c"):
        best.predict(rows.assign(c="red"))
    with pytest.raises(DataError, match="predict: the features must be numbers"):
        best.predict(np.array([["1", "2", "3", "red"]]))


def test_arrays_of_other_shapes_are_refused(best: Best) -> None:
    with pytest.raises(DataError, match=r"4 features \(a, b, c, d\), \(N, 4\), not \(2, 5\)"):
        best.predict(np.zeros((2, 5)))
    assert best.predict(np.zeros((0, 4))).shape == best.predict(table().head(0)).shape == (0,)


def test_frames_keep_column_names_and_arrays_have_none(tmp_path: Path) -> None:
    rows = table()
    x, y = rows[COLUMNS], rows["label"]
    by_name = trained((x, y), tmp_path / "frame")
    by_place = trained((x.to_numpy(), y.to_numpy()), tmp_path / "arrays")
    right = by_name.predict(x).tolist()
    assert by_name.feature_names == tuple(COLUMNS)
    assert by_name.predict(x[COLUMNS[::-1]]).tolist() == right
    assert by_place.feature_names is None
    assert by_place.predict(x).tolist() == by_place.predict(x.to_numpy()).tolist() == right
    with pytest.raises(DataError, match="in row 0, column 2"):
        by_place.predict(x.head(1).assign(c=np.nan))


def test_a_row_alone_is_predicted_as_among_others(best: Best) -> None:
    x = table()[COLUMNS].to_numpy()
    together = best.predict(x).tolist()
    assert [best.predict(row[None])[0] for row in x] == together
    rows = torch.tensor(np.random.default_rng(0).normal(size=(200, 4)), dtype=torch.float32)
    with torch.no_grad():
        network = best.network()
        alone = torch.cat([network(row[None]) for row in rows])
        torch.testing.assert_close(alone, network(rows), rtol=1e-5, atol=1e-5)  # rounding


def test_batch_statistics_fail_on_a_row_alone(best: Best) -> None:
    x, y = table()[COLUMNS].to_numpy(), table()["label"].to_numpy()
    assert (best.predict(x, batch_statistics=True) == y).mean() > 0.8
    alone = [best.predict(row[None], batch_statistics=True)[0] for row in x]
    assert len(set(alone)) == 1
    assert best.predict(x[:0], batch_statistics=True).shape == (0,)
    with pytest.raises(RunError, match="True or False"):
        best.predict(x, batch_statistics="yes")  # type: ignore[arg-type]


def test_batch_statistics_need_batch_norm(tmp_path: Path) -> None:
    plain = trained((table()[COLUMNS], table()["label"]), tmp_path, batch_norm=False)
    with pytest.raises(RunError, match="no batch norm"):
        plain.predict(table(), batch_statistics=True)


def test_feature_names_are_saved_and_checked(folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(folder, tmp_path / "table"))
    file = run / "best" / "best.json"
    written = json.loads(file.read_text())
    assert written["feature_names"] == COLUMNS
    hostile: Any
    for hostile in ("abcd", 3, {}, [1, 2, 3, 4], ["a", "b", "c", None]):
        write_checked(Disk(file), {**written, "feature_names": hostile})
        with pytest.raises(DamagedError, match=r"best\.json is damaged"):
            load(run).best  # noqa: B018
    write_checked(Disk(file), {name: value for name, value in written.items() if name != "feature_names"})
    with pytest.raises(DamagedError, match=r"best\.json is damaged"):
        load(run).best  # noqa: B018
    write_checked(Disk(file), {**written, "feature_names": ["a", "b", "c"]})
    with pytest.raises(DamagedError, match=r"inputs\.npz is damaged: its features are not those that"):
        load(run).best.predict(table())  # type: ignore[union-attr]


def test_whole_recipe_is_saved(folder: Path) -> None:
    written = json.loads((folder / "best" / "best.json").read_text())
    assert written["recipe"] == used_hyperparameters(written["params"])
    assert {"batch_size", "momentum", "units"} <= set(written["recipe"])
    assert (written["epochs"], written["refit"]) == (4, False)
    row = load(folder).trials.iloc[-1]
    assert (written["epochs"], written["seed"]) == (row["epochs"], row["seed"])


def test_frequent_class_is_the_baseline(best: Best, folder: Path) -> None:
    dataset = cv.Classifier(data=folder.parent / "my.csv").load()
    assert dataset.test is not None
    frequent = int(np.bincount(dataset.train.y).argmax())
    assert best.baseline == Baseline(
        label=dataset.classes[frequent],
        dev_accuracy=float((dataset.dev.y == frequent).mean()),
        test_accuracy=float((dataset.test.y == frequent).mean()),
    )
    assert best.beats_baseline


def test_network_that_learned_nothing_is_no_better_than_the_baseline(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(0)
    best = trained((random.normal(size=(200, 3)), random.random(200) < 0.8), tmp_path)
    assert best.baseline is not None
    assert best.baseline.label == "True"
    assert best.beats_baseline is False
    assert "most frequent class" in caplog.text
    output = io.StringIO()
    show(load(tmp_path / "table"), Console(file=output, width=118))
    assert "Warning" in output.getvalue()


def test_study_without_data_has_no_baseline(tmp_path: Path) -> None:
    best = run_inline(bowl_study(), tmp_path).best
    assert best is not None
    assert best.baseline is None
    assert best.beats_baseline is None
    assert best.recipe == best.params


@pytest.mark.parametrize("name", ["network.npz", "inputs.npz"])
def test_every_file_of_the_winner_has_a_checksum(folder: Path, tmp_path: Path, name: str) -> None:
    run = Path(shutil.copytree(folder, tmp_path / "table"))
    best = load(run).best
    assert best is not None
    file = run / "best" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedError, match=f"{name} is damaged"):
        best.predict(table())
    file.unlink()
    with pytest.raises(DamagedError, match=f"{name} is missing"):
        best.predict(table())
