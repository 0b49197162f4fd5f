"""Tests of caviar/data/splits.py."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.data.splits import Dataset, Split, split
from caviar.errors import DataError

Array = npt.NDArray[Any]


def rows(count: int = 100, classes: int = 3, features: int = 4) -> tuple[Array, Array]:
    """Return random features, and classes in turn."""
    x = np.random.default_rng(0).normal(loc=3.0, scale=5.0, size=(count, features))
    return x, np.arange(count) % classes


def parts(data: Dataset) -> tuple[Split, Split, Split]:
    """Return train, dev and test."""
    assert data.test is not None
    return data.train, data.dev, data.test


def numbered(y: Array, **more: Any) -> tuple[list[int], list[int], list[int]]:
    """Return the row numbers of train, dev and test."""
    x = np.arange(len(y), dtype=np.float64).reshape(-1, 1)
    train, dev, test = (
        part.x[:, 0].astype(int).tolist() for part in parts(split("n", x, y, preprocess="none", **more))
    )
    return train, dev, test


@given(
    st.lists(st.integers(8, 40), min_size=2, max_size=5),
    st.sampled_from([(0.6, 0.2, 0.2), (0.5, 0.25, 0.25), (0.34, 0.33, 0.33), (0.2, 0.4, 0.4)]),
    st.integers(0, 1_000),
)
def test_splits_hold_every_row_once_and_are_stratified(
    sizes: list[int], shares: tuple[float, float, float], seed: int
) -> None:
    y = np.repeat(np.arange(len(sizes)), sizes)
    found = numbered(y, shares=shares, seed=seed)
    assert sorted(row for part in found for row in part) == list(range(len(y)))
    for part, share in zip(found, shares, strict=True):
        counts = np.bincount(y[part], minlength=len(sizes))
        assert np.abs(counts - share * np.array(sizes)).max() <= 2
        assert (counts > 0).all()


def test_rows_keep_their_classes_and_order() -> None:
    y = np.array(["b", "a", "c"])[np.arange(60) % 3]
    data = split("letters", np.arange(60).reshape(-1, 1), y, preprocess="none")
    assert data.classes == ("a", "b", "c")
    for part in parts(data):
        numbers = part.x[:, 0].astype(int)
        assert [data.classes[label] for label in part.y] == y[numbers].tolist()
        assert (np.diff(numbers) > 0).all()


def test_split_depends_on_its_seed_alone() -> None:
    _, y = rows()
    first = numbered(y)
    np.random.seed(5)  # noqa: NPY002 (the generator that scikit-learn falls back on)
    assert numbered(y) == first
    assert numbered(y, seed=0) == first
    others = [numbered(y, seed=seed) for seed in range(1, 6)]
    assert all(other != first for other in others)


def test_preprocessing_keeps_the_split() -> None:
    x, y = rows()
    y_by_kind = [
        [part.y.tolist() for part in parts(split("n", x, y, preprocess=k))] for k in ("standardize", "none")
    ]
    assert y_by_kind[0] == y_by_kind[1]


def test_standardizing_uses_the_train_split_alone() -> None:
    x, y = rows()
    data = split("n", x, y)
    assert data.train.x.mean(axis=0) == pytest.approx(0.0, abs=1e-6)
    assert data.train.x.std(axis=0) == pytest.approx(1.0, abs=1e-6)
    assert np.abs(data.dev.x.mean(axis=0)).max() > 0.01
    train, dev, test = numbered(y)
    elsewhere = x.copy()
    elsewhere[dev + test] += 1_000.0
    other = split("n", elsewhere, y)
    assert np.array_equal(other.preprocessing.shift, data.preprocessing.shift)
    assert np.array_equal(other.preprocessing.scale, data.preprocessing.scale)
    assert np.array_equal(other.train.x, data.train.x)
    np.testing.assert_allclose(data.preprocessing.shift, x[train].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(data.dev.x, (x[dev] - x[train].mean(axis=0)) / x[train].std(axis=0), atol=1e-5)


def test_scaling_divides_by_the_largest_training_magnitude() -> None:
    images = np.random.default_rng(0).integers(0, 256, size=(100, 8, 8)).astype(np.uint8)
    y = np.arange(100) % 2
    data = split("images", images, y, preprocess="scale")
    assert data.features == 64
    assert data.train.x.min() >= 0.0
    assert data.train.x.max() == 1.0
    train, _, _ = numbered(y)
    np.testing.assert_allclose(data.train.x, images[train].reshape(-1, 64) / images[train].max(), rtol=1e-6)
    signed = split("signed", -3.0 * np.random.default_rng(0).random((100, 2)), y, preprocess="scale")
    assert signed.train.x.min() == -1.0


def test_preprocess_none_keeps_features() -> None:
    x, y = rows()
    data = split("n", x, y, preprocess="none")
    train, _, _ = numbered(y)
    assert np.array_equal(data.train.x, x[train].astype(np.float32))


@given(st.floats(-1e6, 1e6, allow_subnormal=False), st.integers(20, 400))
def test_constant_training_feature_is_not_blown_up(constant: float, count: int) -> None:
    y = np.arange(count) % 2
    x = np.full((count, 2), constant, np.float32)
    x[:, 1] = 0.0
    _, dev, _ = numbered(y)
    x[dev, 0] += np.float32(1.0)
    data = split("n", x, y)
    assert data.preprocessing.scale.tolist() == [1.0, 1.0]
    assert np.abs(data.dev.x).max() <= 2.0
    assert np.abs(data.train.x).max() <= 0.5


@pytest.mark.parametrize("kind", ["standardize", "scale"])
def test_scale_is_never_zero(kind: Any) -> None:
    y = np.arange(100) % 2
    x = np.zeros((100, 2), np.float32)
    x[numbered(y)[0][0], 1] = 1e-45
    data = split("n", x, y, preprocess=kind)
    assert (data.preprocessing.scale > 0).all()
    assert np.isfinite(data.train.x).all()


def test_preprocessing_applies_to_new_rows() -> None:
    x, y = rows()
    data = split("n", x, y)
    _, _, test = numbered(y)
    assert data.test is not None
    assert np.array_equal(data.preprocessing.apply(x[test]), data.test.x)


def test_arrays_are_contiguous_float32_and_int64() -> None:
    x, y = rows()
    for part in parts(split("n", np.asfortranarray(x), y)):
        assert part.x.dtype == np.float32
        assert part.y.dtype == np.int64
        assert part.x.flags.c_contiguous
        assert part.y.flags.c_contiguous
        assert part.x.shape == (len(part.y), 4)


def test_workers_get_no_test_split() -> None:
    data = split("n", *rows())
    assert data.test is not None
    workers = data.without_test()
    assert workers.test is None
    assert workers.train is data.train
    assert workers.dev is data.dev
    assert workers.fingerprint == data.fingerprint
    assert data.test is not None


def test_fingerprint_covers_rows_classes_and_splits() -> None:
    x, y = rows()
    same = split("another name", x.copy(), y.copy()).fingerprint
    assert split("n", x, y).fingerprint == same
    assert re.fullmatch("[0-9a-f]{64}", same)
    changed_x, changed_y = x.copy(), y.copy()
    changed_x[99, 3] += 1e-3
    changed_y[99] = (changed_y[99] + 1) % 3
    others = [
        split("n", changed_x, y).fingerprint,
        split("n", x, changed_y).fingerprint,
        split("n", x, np.array(["a", "b", "c"])[y]).fingerprint,
        split("n", x, y, seed=1).fingerprint,
        split("n", x, y, shares=(0.5, 0.25, 0.25)).fingerprint,
        split("n", x, y, preprocess="none").fingerprint,
        split("n", x[:, ::-1], y).fingerprint,
    ]
    assert len({same, *others}) == 8


@pytest.mark.parametrize(
    ("x", "y", "sentence"),
    [
        (
            np.zeros(6),
            np.arange(6) % 2,
            "features must be (rows, columns) and classes (rows,), not (6,) and (6,)",
        ),
        (np.zeros((6, 2)), np.eye(3)[[0, 1, 2, 0, 1, 2]], "one column a class"),
        (np.zeros((6, 2)) + 1j, np.arange(6) % 2, "complex numbers"),
        (np.zeros((6, 2)), np.arange(5) % 2, "not (6, 2) and (5,)"),
        (np.zeros((0, 2)), np.zeros(0), "no rows or no features: (0, 2)"),
        (np.zeros((6, 0)), np.arange(6) % 2, "no rows or no features: (6, 0)"),
        (np.array([["a", "b"]] * 6), np.arange(6) % 2, "the features must be numbers"),
        (np.array([[{}, 1]] * 6, dtype=object), np.arange(6) % 2, "the features must be numbers"),
        (np.zeros((6, 2)), np.full(6, 7), "there is only one class (7)"),
        (
            np.zeros((6, 2)),
            np.array([0, 0, 0, 0, 0, 1]),
            "class 1 has only 1 row; each class needs at least 5 for split=(0.6,",
        ),
        (
            np.zeros((4, 2)),
            np.arange(4) % 2,
            "2 classes have too few rows: 0, 1; each class needs at least 5",
        ),
        (np.zeros((12, 2)), np.array([0] * 8 + [1] * 2 + [2] * 2), "2 classes have too few rows: 1, 2; each"),
        (
            np.zeros((60, 2)),
            np.arange(60) % 40,
            "y looks like a number to predict, not a class: it has 40 different",
        ),
        (
            np.zeros((60, 2)),
            np.arange(60).astype(str),
            "60 classes have too few rows: 0, 1, 10 and 57 more; each",
        ),
        (
            np.zeros((20, 2)),
            np.array(["a", "b"] * 9 + ["a", "word " * 99]),
            "class word word word word word word word wo... has only 1 row",
        ),
        (
            np.zeros((20, 2)),
            np.array([0.0, np.nan] + [1.0] * 18),
            "1 class is missing, in row 1",
        ),
        (
            np.zeros((20, 2)),
            np.array([0.0, 1.0, np.nan, 1.0] * 5),
            "5 classes are missing, the first in row 2",
        ),
        (
            np.zeros((20, 2)),
            np.array(["a", None] * 10, dtype=object),
            "10 classes are missing, the first in row 1",
        ),
        (np.zeros((20, 2)), np.array(["a", 1] * 10, dtype=object), "the classes must be of one type"),
    ],
)
def test_unusable_rows_are_refused(x: Array, y: Array, sentence: str) -> None:
    with pytest.raises(DataError) as refused:
        split("mine", x, y)
    assert str(refused.value).startswith("mine: ")
    assert sentence in str(refused.value)


@given(st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20)), st.integers(2, 30), st.data())
def test_least_number_of_rows_per_class_suffices(
    parts: tuple[int, int, int], classes: int, data: st.DataObject
) -> None:
    shares = tuple(part / sum(parts) for part in parts)
    with pytest.raises(DataError, match="each class needs at least") as refused:
        numbered(np.arange(2) % 2, shares=shares)
    found = re.search(r"at least (\d+) ", str(refused.value))
    assert found is not None
    sizes = data.draw(st.lists(st.integers(int(found[1]), 60), min_size=classes, max_size=classes))
    numbered(np.repeat(np.arange(classes), sizes), shares=shares)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_missing_value_is_located_by_row_and_column(bad: float) -> None:
    """1e300 is finite, but not for a network in float32."""
    x, y = rows()
    x[17, 2] = bad
    with pytest.raises(
        DataError,
        match=rf"mine: 1 value is missing or not finite: {bad} in row 17, column 2".replace("+", r"\+"),
    ):
        split("mine", x, y)
    x[40, 0] = bad
    with pytest.raises(
        DataError, match=r"mine: 2 values are missing or not finite, the first is \S+ in row 17, column 2"
    ):
        split("mine", x, y)


@pytest.mark.parametrize(
    "shares",
    [(0.6, 0.4), (0.6, 0.4, 0.0), (0.6, 0.6, -0.2), (0.5, 0.2, 0.2), (0.25,) * 4, (float("nan"), 0.5, 0.5)],
)
def test_shares_must_be_three_positive_that_sum_to_one(shares: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match=r"mine: split=.* must be three shares above 0 that sum to 1"):
        split("mine", *rows(), shares=shares)


def test_unknown_preprocessing_is_refused() -> None:
    with pytest.raises(DataError, match=r"preprocess='whiten' is unknown"):
        split("mine", *rows(), preprocess="whiten")  # type: ignore[arg-type]


def test_large_features_keep_small_differences() -> None:
    """Unix times within a minute: in float32 they would all be the same."""
    times = 1_700_000_100 + np.arange(60.0)
    data = split("times", np.stack([times, times % 7], axis=1), np.arange(60) % 2)
    kept = np.concatenate([part.x[:, 0] for part in (data.train, data.dev, data.test) if part is not None])
    assert len(np.unique(kept)) == 60
    assert data.preprocessing.apply(np.array([[times[0], 0.0]]))[0, 0] == min(kept)


def test_classes_may_be_one_column() -> None:
    y = np.arange(20) % 2
    assert np.array_equal(split("mine", np.eye(20), y[:, None]).train.y, split("mine", np.eye(20), y).train.y)


def test_dev_rows_join_the_train_rows() -> None:
    dataset = split("data", np.arange(40.0).reshape(20, 2), np.arange(20) % 4 // 2)
    joined = dataset.with_dev_in_train()
    assert joined.train.x.tolist() == dataset.train.x.tolist() + dataset.dev.x.tolist()
    assert joined.train.y.tolist() == dataset.train.y.tolist() + dataset.dev.y.tolist()
    assert (joined.dev, joined.test) == (dataset.dev, dataset.test)


def test_frequent_class_is_that_of_the_train_rows() -> None:
    assert split("data", np.zeros((20, 1)), np.repeat([2, 7], [5, 15])).frequent_class == 1
