"""Parts of the kernels: the exponential of vectors, and softmax."""

from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caviar.training.native.arrays import VECTOR_SIZE, aligned_zeros
from caviar.training.native.simd import exp_nonpositive, load, store
from caviar.training.native.softmax import count_correct, softmax_cross_entropy


@numba.njit
def _exponentials(results: Any, numbers: Any) -> None:
    for i in range(0, len(numbers), VECTOR_SIZE):
        store(exp_nonpositive(load(numbers, i)), results, i)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponential_agrees_with_numpy_to_two_ulp(dtype: type) -> None:
    lowest = -87.0 if dtype is np.float32 else -708.0
    numbers: Any = np.concatenate(
        [np.linspace(lowest, 0, 4096 - VECTOR_SIZE), -np.logspace(-30, 0, VECTOR_SIZE)]
    ).astype(dtype)
    results = np.empty_like(numbers)
    _exponentials(results, numbers)
    np.testing.assert_allclose(
        results, np.exp(numbers.astype(np.float64)), rtol=float(2 * np.finfo(dtype).eps)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_exponential_of_infinity_and_nan(dtype: type) -> None:
    numbers: Any = np.array([0, -0.0, -np.inf, np.nan, -1e30] + [0] * 11, dtype=dtype)
    results = np.empty_like(numbers)
    _exponentials(results, numbers)
    assert results[:5].tolist() == pytest.approx([1, 1, 0, np.nan, 0], nan_ok=True)


def _by_class(z_BC: Any) -> Any:
    rows, classes = z_BC.shape
    z_CB = aligned_zeros(VECTOR_SIZE * classes * -(-rows // VECTOR_SIZE), z_BC.dtype).reshape(classes, -1)
    z_CB[:] = 1e30  # numbers after the last row must not matter
    z_CB[:, :rows] = z_BC.T
    return z_CB


def _classes(y_B: Any, dtype: Any) -> Any:
    y = aligned_zeros(len(y_B) + VECTOR_SIZE, dtype)
    y[: len(y_B)] = y_B
    return y


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("classes", [1, 2, 10, 33])
def test_cross_entropy_agrees_with_numpy_for_any_shape(rows: int, classes: int) -> None:
    rng = np.random.default_rng(rows * classes)
    z_BC, y_B = 5 * rng.standard_normal((rows, classes)), rng.integers(classes, size=rows)
    p_BC = np.exp(z_BC) / np.exp(z_BC).sum(axis=1, keepdims=True)
    p_CB = _by_class(z_BC)
    loss = softmax_cross_entropy(p_CB, _classes(y_B, np.float64), rows, classes)
    assert loss == pytest.approx(-np.log(p_BC[np.arange(rows), y_B]).sum(), rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(p_CB[:, :rows], p_BC.T, rtol=1e-12)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0, -2.0, np.nan, np.inf]), min_size=3, max_size=3), min_size=1)
)
def test_largest_class_is_first_maximum_or_first_nan(rows: list[list[float]]) -> None:
    z_BC = np.array(rows)
    for guess in range(3):
        found = count_correct(_by_class(z_BC), _classes([guess] * len(rows), np.float64), len(rows), 3)
        assert found == (z_BC.argmax(axis=1) == guess).sum()
