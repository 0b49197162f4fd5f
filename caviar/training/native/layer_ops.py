"""The formulas of the course for hidden layers, one each: batch norm, activations, dropout; optimizers.

Those of hidden layers take LANES units at a time, from h on: a vector holds one number a unit, and stays in
registers while the rows of the mini-batch go by.

Shape legend: B rows of a mini-batch, H units of a layer. A name such as z_BH says what an array holds; around
it there may be zeros (see `memory`). Results go into arrays that exist already.
"""

import math
from typing import Any, NamedTuple

from caviar.training.native.arrays import LANES, Array, formula
from caviar.training.native.layout import MOMENTUM, RMSPROP, SGD, Hyper
from caviar.training.native.simd import exponential, load, load_as, store, where, zeros


class BatchNorm(NamedTuple):
    """Batch norm of LANES units, in registers: y = (z - mean) slope + beta."""

    mean: Any
    scale: Any
    """1 / sqrt(var + eps)"""
    slope: Any
    """gamma scale"""
    beta: Any


# Forward


@formula
def mean_and_variance(z_BH: Array, h: int, rows: int) -> Any:
    """Statistics mu = sum z / B, var = sum (z - mu)^2 / B."""
    share = z_BH.dtype.type(1.0 / rows)
    total, squares = zeros(z_BH), zeros(z_BH)
    for b in range(rows):
        total += load(z_BH, b, h)
    mean = total * share
    for b in range(rows):
        centred = load(z_BH, b, h) - mean
        squares += centred * centred
    return mean, squares * share


@formula
def move_average(running_H: Array, h: int, newest: Any, momentum: Any, correction: float) -> None:
    """Sets running = (1 - momentum) running + momentum newest."""
    new = running_H.dtype.type(momentum * correction)
    old = running_H.dtype.type(1.0 - momentum)
    store(old * load(running_H, h) + new * newest, running_H, h)


@formula
def activation(z: Any, tanh: bool) -> Any:
    """The activation tanh z or max(z, 0); NaN stays NaN."""
    if tanh:
        e = exponential(-2 * abs(z))
        t = (1 - e) / (1 + e)
        return where(z < 0, 0 - t, t)
    return where(z < 0, 0, z)


@formula
def normalise_and_activate(a_BH: Array, z_BH: Array, h: int, rows: int, norm: BatchNorm, tanh: bool) -> None:
    """Batch norm, a = activation of gamma (z - mu) / sqrt(var + eps) + beta."""
    for b in range(rows):
        y = (load(z_BH, b, h) - norm.mean) * norm.slope + norm.beta
        store(activation(y, tanh), a_BH, b, h)


@formula
def add_bias_and_activate(a_BH: Array, z_BH: Array, h: int, rows: int, bias: Any, tanh: bool) -> None:
    """Without batch norm, a = activation of z + b."""
    for b in range(rows):
        store(activation(load(z_BH, b, h) + bias, tanh), a_BH, b, h)


@formula
def drop(a_BH: Array, bits: Array, h: int, rows: int, units: int, hyper: Hyper) -> None:
    """A unit stays, divided by the share that is kept, where its bits are at least the threshold."""
    per_kept = 1 / hyper.kept
    for b in range(rows):
        is_dropped = load_as(a_BH, bits, b * units + h) < hyper.dropout_threshold
        store(where(is_dropped, 0, load(a_BH, b, h) * per_kept), a_BH, b, h)


# Backward


@formula
def through_activation(da_BH: Array, a_BH: Array, b: int, h: int, y: Any, hyper: Hyper) -> Any:
    """From da to the gradient at y, a = activation of y: times 1 - tanh^2 y, or 0 where ReLU gave 0.

    With dropout, what is kept of a is divided by the share kept, and the gradient of the rest is 0 already.
    """
    da = load(da_BH, b, h)
    if hyper.tanh:
        t = load(a_BH, b, h) * hyper.kept
        return da * (1 - t * t)
    return where(y <= 0, 0, da)  # y is computed again: that is faster than to load a


@formula
def sum_columns(dz_BH: Array, h: int, rows: int) -> Any:
    """Gradient db = sum dz."""
    db = zeros(dz_BH)
    for b in range(rows):
        db += load(dz_BH, b, h)
    return db


@formula
def sum_bias(da_BH: Array, a_BH: Array, z_BH: Array, h: int, rows: int, bias: Any, hyper: Hyper) -> Any:
    """Without batch norm, from da to dz in its place, and the gradient db = sum dz."""
    db = zeros(da_BH)
    for b in range(rows):
        dz = through_activation(da_BH, a_BH, b, h, load(z_BH, b, h) + bias, hyper)
        store(dz, da_BH, b, h)
        db += dz
    return db


@formula
def sum_scale_and_shift(
    da_BH: Array, a_BH: Array, z_BH: Array, h: int, rows: int, norm: BatchNorm, hyper: Hyper
) -> Any:
    """Gradients dgamma = sum dy z_norm, dbeta = sum dy; dy is the gradient at y = gamma z_norm + beta."""
    dgamma, dbeta = zeros(da_BH), zeros(da_BH)
    for b in range(rows):
        centred = load(z_BH, b, h) - norm.mean
        dy = through_activation(da_BH, a_BH, b, h, centred * norm.slope + norm.beta, hyper)
        dgamma += dy * centred
        dbeta += dy
    return dgamma * norm.scale, dbeta


@formula
def through_normalisation(
    da_BH: Array,
    a_BH: Array,
    z_BH: Array,
    h: int,
    rows: int,
    norm: BatchNorm,
    dgamma: Any,
    dbeta: Any,
    hyper: Hyper,
) -> None:
    """Gradient dz = gamma / sqrt(var + eps) (dy - dbeta / B - z_norm dgamma / B), in place of da."""
    share = da_BH.dtype.type(1.0 / rows)
    shift, tilt = dbeta * share, norm.scale * dgamma * share
    for b in range(rows):
        centred = load(z_BH, b, h) - norm.mean
        dy = through_activation(da_BH, a_BH, b, h, centred * norm.slope + norm.beta, hyper)
        store(norm.slope * (dy - shift - centred * tilt), da_BH, b, h)


# Update


@formula
def descend(
    w: Array,
    g: Array,
    v: Array,
    s: Array,
    start: int,
    stop: int,
    hyper: Hyper,
    l2: Any,
    learning_rate: float,
    step: int,
) -> None:
    """One pass over parameters w with gradient g and averages v (of gradients) and s (of their squares)."""
    rate = w.dtype.type(learning_rate)
    if hyper.optimizer == SGD:
        for i in range(start, stop, LANES):
            weight = load(w, i)
            store(weight - rate * (load(g, i) + l2 * weight), w, i)
    elif hyper.optimizer == MOMENTUM:
        for i in range(start, stop, LANES):
            weight = load(w, i)
            average = hyper.momentum * load(v, i) + (load(g, i) + l2 * weight)
            store(average, v, i)
            store(weight - rate * average, w, i)
    elif hyper.optimizer == RMSPROP:
        for i in range(start, stop, LANES):
            weight = load(w, i)
            gradient = load(g, i) + l2 * weight
            square = hyper.beta2 * load(s, i) + hyper.one_less_beta2 * gradient * gradient
            store(square, s, i)
            store(weight - rate * gradient / (math.sqrt(square) + hyper.epsilon), w, i)
    else:
        rate = w.dtype.type(learning_rate / (1 - hyper.beta1_exact**step))
        unbias = w.dtype.type(1 / math.sqrt(1 - hyper.beta2_exact**step))
        for i in range(start, stop, LANES):
            weight = load(w, i)
            gradient = load(g, i) + l2 * weight
            average = load(v, i)
            average += hyper.one_less_beta1 * (gradient - average)
            square = hyper.beta2 * load(s, i) + hyper.one_less_beta2 * gradient * gradient
            store(average, v, i)
            store(square, s, i)
            store(weight - rate * average / (math.sqrt(square) * unbias + hyper.epsilon), w, i)
