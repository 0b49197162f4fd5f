"""Softmax, its loss and its gradient, for LANES rows of a mini-batch at a time.

Classes are few, rows many: the matrices here are transposed, one row of a mini-batch a lane, so that a sum
over the classes needs nothing from a neighbour. The classes y_B are numbers of the network's dtype.

Shape legend: B rows of a mini-batch, C classes.
"""

import math
from typing import Any

from caviar.training.native.arrays import LANES, Array, kernel
from caviar.training.native.simd import exponential, lane, load, numbers, store, where, zeros


@kernel
def add_bias(z_CB: Array, bias_C: Array, rows: int, classes: int) -> None:
    """Sets z = z + b."""
    for b in range(0, rows, LANES):
        for c in range(classes):
            store(load(z_CB, c, b) + bias_C[c], z_CB, c, b)


@kernel
def cross_entropy(z_CB: Array, y_B: Array, rows: int, classes: int) -> float:
    """Sum of -log p of the right classes; p = softmax z takes the place of z.

    -log p_y = log sum_c e^(z_c - max z) - (z_y - max z). The sums, each from 1 to C, are multiplied before
    the log is taken, because a log costs as much as several rows.
    """
    loss = 0.0
    for b in range(0, rows, LANES):
        y = load(y_B, b)
        largest = load(z_CB, 0, b)
        for c in range(1, classes):
            z = load(z_CB, c, b)
            largest = where(z > largest, z, largest)
        total, missing = zeros(z_CB), zeros(z_CB)
        for c in range(classes):
            z = load(z_CB, c, b) - largest  # at most 0: nothing overflows
            missing = where(y == c, -z, missing)
            e = exponential(z)
            total += e
            store(e, z_CB, c, b)
        share = 1 / total
        for c in range(classes):
            store(load(z_CB, c, b) * share, z_CB, c, b)
        is_row = numbers(z_CB) < rows - b
        loss += _sum_of_logs(where(is_row, total, 1)) + _sum(where(is_row, missing, 0))
    return loss


@kernel
def count_right(z_CB: Array, y_B: Array, rows: int, classes: int) -> int:
    """Rows whose class has the largest z: the first largest, or the first NaN, as in torch.argmax."""
    right = 0.0
    no, yes = zeros(z_CB), zeros(z_CB) + 1
    for b in range(0, rows, LANES):
        best, largest = zeros(z_CB), load(z_CB, 0, b)
        for c in range(1, classes):
            z = load(z_CB, c, b)
            larger = where(z <= largest, no, yes)  # NaN too
            larger = where(largest == largest, larger, no)  # but nothing is larger than NaN
            best = where(larger == 1, c, best)
            largest = where(larger == 1, z, largest)
        is_row = numbers(z_CB) < rows - b
        right += _sum(where(is_row, where(best == load(y_B, b), yes, no), 0))
    return int(right)


@kernel
def softmax_gradient(p_CB: Array, y_B: Array, rows: int, classes: int) -> None:
    """Gradient dz = (p - y) / B, in place of p."""
    share = p_CB.dtype.type(1.0 / rows)
    for b in range(0, rows, LANES):
        y = load(y_B, b)
        for c in range(classes):
            p = load(p_CB, c, b)
            store(where(y == c, p - 1, p) * share, p_CB, c, b)


@kernel
def _sum(vector: Any) -> float:
    """The sum of the lanes."""
    total = 0.0
    for number in range(LANES):
        total += lane(vector, number)
    return total


@kernel
def _sum_of_logs(vector: Any) -> float:
    """The sum of the logs of the lanes."""
    product = 1.0
    for number in range(LANES):
        product *= lane(vector, number)
    return math.log(product)
