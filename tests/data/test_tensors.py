"""Rows of any shape and type, split or given apart, as the user's own networks take them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import TensorDataset

from caviar.data.sources import read_source
from caviar.data.splits import split
from caviar.data.tensors import load_tensors, require_data
from caviar.errors import DataError, StudyError

X = np.random.default_rng(0).normal(size=(60, 3, 4)).astype(np.float32)
Y = np.arange(60) % 3


class Sentences:
    """A data set with length and items, as torch's are; the last sentence may have another length."""

    def __init__(self, last: int = 5) -> None:
        self.last = last

    def __len__(self) -> int:
        return 20

    def __getitem__(self, number: int) -> tuple[Any, int]:
        return torch.arange(self.last if number == 19 else 5) + number, number % 2


def test_images_keep_their_shape_and_classes_are_balanced() -> None:
    dataset = load_tensors((X, Y))
    assert dataset.train.x.shape == (36, 3, 4)
    assert dataset.train.x.dtype == np.float32
    assert [np.bincount(part.y).tolist() for part in (dataset.train, dataset.dev)] == [[12] * 3, [4] * 3]
    assert (dataset.features, dataset.classes) == (12, ("0", "1", "2"))
    for part in (dataset.train, dataset.dev):
        places = [int(np.flatnonzero((row == X).all(axis=(1, 2)))[0]) for row in part.x]
        assert part.y.tolist() == [Y[place] for place in places]


def test_tables_are_split_as_for_classifiers() -> None:
    rows = read_source("sklearn:wine")
    one = split("sklearn:wine", *rows, preprocess="standardize")
    other = load_tensors("sklearn:wine", preprocess="standardize")
    assert np.array_equal(one.train.x, other.train.x)
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("preprocess", ["standardize", "scale"])
def test_preprocessing_is_fitted_on_the_train_split(preprocess: Any) -> None:
    dataset = load_tensors((X, Y), preprocess=preprocess)
    assert dataset.preprocessing.shift.shape == (3, 4)
    if preprocess == "standardize":
        assert np.abs(dataset.train.x.mean(axis=0)).max() < 1e-6
    else:
        assert np.abs(dataset.train.x).max() == 1
    assert load_tensors((X, Y)).fingerprint != dataset.fingerprint


def test_tensors_and_data_sets_are_read() -> None:
    arrays = load_tensors((X, Y))
    tensors = load_tensors((torch.from_numpy(X), torch.from_numpy(Y)))
    items = load_tensors(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)))
    assert arrays.fingerprint == tensors.fingerprint == items.fingerprint
    assert items.name == "TensorDataset"
    sentences = load_tensors(Sentences())
    assert sentences.train.x.dtype == np.int64
    assert sentences.preprocessing.is_whole
    with pytest.raises(DataError, match="all rows must have the same shape"):
        load_tensors(Sentences(last=6))


def test_whole_numbers_stay_whole_unless_they_are_scaled() -> None:
    pixels = (X * 10).astype(np.uint8)
    assert load_tensors((pixels, Y)).train.x.dtype == np.int64
    assert load_tensors((pixels, Y), preprocess="scale").train.x.dtype == np.float32


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (Y / 2, np.float32),
        (Y, np.int64),
        (X[:, 0], np.float32),
        (Y[:, None] / 2, np.float32),
        (Y.astype(str), np.float32),
    ],
)
def test_numbers_are_not_stratified(y: Any, kind: type) -> None:
    dataset = load_tensors((X, y), targets="numbers", shares=(0.5, 0.25, 0.25))
    assert dataset.classes == ()
    assert dataset.train.y.dtype == kind
    assert [len(part.y) for part in (dataset.train, dataset.dev, dataset.test) if part] == [30, 15, 15]
    seen = np.concatenate([part.x for part in (dataset.train, dataset.dev, dataset.test) if part])
    assert len(np.unique(seen, axis=0)) == 60
    other = load_tensors((X, y), targets="numbers", shares=(0.5, 0.25, 0.25), seed=1)
    assert not np.array_equal(other.train.x, dataset.train.x)


def test_splits_given_apart_stay_apart() -> None:
    parts = (
        (X[:40], Y[:40]),
        TensorDataset(torch.from_numpy(X[40:50]), torch.from_numpy(Y[40:50])),
        (X[50:], Y[50:]),
    )
    dataset = load_tensors(parts)
    assert dataset.test is not None
    assert [len(part.x) for part in (dataset.train, dataset.dev, dataset.test)] == [40, 10, 10]
    assert np.array_equal(dataset.dev.x, X[40:50])
    assert dataset.test.y.tolist() == Y[50:].tolist()


def test_tables_keep_their_names(tmp_path: Path) -> None:
    table = pd.DataFrame(X[:, 0], columns=list("abcd"))
    assert load_tensors((table, Y)).feature_names == tuple("abcd")
    table.assign(price=Y * 1.5).to_csv(tmp_path / "prices.csv", index=False)
    dataset = load_tensors(tmp_path / "prices.csv", target="price", targets="numbers")
    assert dataset.feature_names == tuple("abcd")
    assert set(dataset.train.y.tolist()) == {0.0, 1.5, 3.0}


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        ((X, Y[:-1]), {}, "same number of rows"),
        ((X, X), {}, 'or targets="numbers"'),
        ((X, [None] * 60), {"targets": "numbers"}, "y must hold numbers|not finite"),
        ((X, np.where(Y == 1, np.nan, 1.0)), {"targets": "numbers"}, "not finite in row 1;"),
        ((np.where(X > 2, np.nan, X), Y), {}, "missing or not finite"),
        ((X[:3], Y[:3] / 2), {"targets": "numbers"}, "too few"),
        ((X, Y), {"shares": (0.5, 0.6, 0.1), "targets": "numbers"}, "three shares"),
        ((X, Y), {"preprocess": "whiten"}, "preprocess='whiten' is unknown"),
        (((X, Y), (X[:, :2], Y), (X, Y)), {}, "rows of one shape"),
        ((torch.zeros(60, 2, dtype=torch.bfloat16), Y), {}, "x.float"),
    ],
)  # fmt: skip
def test_invalid_data_are_refused(data: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_tensors(data, **options)


@pytest.mark.parametrize("data", [3, X, {"x": X}, [X, Y], (X,), ((X, Y), (X, Y), X)])
def test_other_data_are_refused_at_once(data: Any) -> None:
    with pytest.raises(StudyError):
        require_data("Module: data", data)
