"""Softmax over the classes, its loss and its gradient.

Classes are few and rows are many, so the matrices here are transposed: a vector holds VECTOR_SIZE rows of the
mini-batch, and a sum over the classes stays within each element. The classes y_B are numbers of the network's
dtype.

Shape legend: B rows of a mini-batch, C classes.
"""

import math
from typing import Any

from caviar.training.native.arrays import VECTOR_SIZE, Array
from caviar.training.native.jit import jit
from caviar.training.native.simd import (
    exp_nonpositive,
    extract_element,
    index_vector,
    load,
    store,
    where,
    zero_vector,
)


@jit
def add_bias(z_CB: Array, bias_C: Array, rows: int, classes: int) -> None:
    """Set z = z + bias."""
    for b in range(0, rows, VECTOR_SIZE):
        for c in range(classes):
            store(load(z_CB, c, b) + bias_C[c], z_CB, c, b)


@jit
def softmax_cross_entropy(z_CB: Array, y_B: Array, rows: int, classes: int) -> float:
    """Return the cross-entropy -log p_y summed over the rows, and set z to p = softmax(z).

    -log p_y = log sum_c exp(z_c - max z) - (z_y - max z). The sums of the rows, each between 1 and C, are multiplied
    before the logarithm is taken, because a logarithm costs as much as several rows.

    Args:
        z_CB: logits; on return, probabilities.
        y_B: class of each row.
        rows: B, without padding.
        classes: C.

    Returns:
        Loss in nats, float64.
    """
    loss = 0.0
    for b in range(0, rows, VECTOR_SIZE):
        y = load(y_B, b)
        largest = load(z_CB, 0, b)
        for c in range(1, classes):
            z = load(z_CB, c, b)
            largest = where(z > largest, z, largest)
        total, distance = zero_vector(z_CB), zero_vector(z_CB)
        for c in range(classes):
            z = load(z_CB, c, b) - largest  # at most 0, so nothing overflows
            distance = where(y == c, -z, distance)
            e = exp_nonpositive(z)
            total += e
            store(e, z_CB, c, b)
        share = 1 / total
        for c in range(classes):
            store(load(z_CB, c, b) * share, z_CB, c, b)
        is_row = index_vector(z_CB) < rows - b
        loss += _sum_of_logs(where(is_row, total, 1)) + _sum(where(is_row, distance, 0))
    return loss


@jit
def count_correct(z_CB: Array, y_B: Array, rows: int, classes: int) -> int:
    """Return the number of rows whose class has the largest logit.

    Of equal logits the first counts as the largest, and the first NaN before all, as in torch.argmax.

    Args:
        z_CB: logits.
        y_B: class of each row.
        rows: B, without padding.
        classes: C.
    """
    correct = 0.0
    no, yes = zero_vector(z_CB), zero_vector(z_CB) + 1
    for b in range(0, rows, VECTOR_SIZE):
        best, largest = zero_vector(z_CB), load(z_CB, 0, b)
        for c in range(1, classes):
            z = load(z_CB, c, b)
            larger = where(z <= largest, no, yes)  # NaN counts as larger than any number
            larger = where(largest == largest, larger, no)  # and nothing as larger than NaN
            best = where(larger == 1, c, best)
            largest = where(larger == 1, z, largest)
        is_row = index_vector(z_CB) < rows - b
        correct += _sum(where(is_row, where(best == load(y_B, b), yes, no), 0))
    return int(correct)


@jit
def softmax_cross_entropy_backward(p_CB: Array, y_B: Array, rows: int, classes: int) -> None:
    """Set p to dz = (p - onehot(y)) / B, the gradient of the mean loss at the logits.

    Args:
        p_CB: probabilities from `softmax_cross_entropy`; on return, gradients.
        y_B: class of each row.
        rows: B, without padding.
        classes: C.
    """
    share = p_CB.dtype.type(1.0 / rows)
    for b in range(0, rows, VECTOR_SIZE):
        y = load(y_B, b)
        for c in range(classes):
            p = load(p_CB, c, b)
            store(where(y == c, p - 1, p) * share, p_CB, c, b)


@jit
def _sum(vector: Any) -> float:
    """Return the sum of a vector's numbers."""
    total = 0.0
    for index in range(VECTOR_SIZE):
        total += extract_element(vector, index)
    return total


@jit
def _sum_of_logs(vector: Any) -> float:
    """Return the sum of the logarithms of a vector's numbers."""
    product = 1.0
    for index in range(VECTOR_SIZE):
        product *= extract_element(vector, index)
    return math.log(product)
