"""Compiled training of the native engine: forward, backward and update, as the course writes them.

Shape legend: N rows, B rows of a mini-batch, D inputs of a layer, H its outputs, C classes. A name such as
z_BH says what an array holds; around it there may be zeros (see `memory`). Nothing here allocates.

A layer goes strip by strip of its units through product, batch norm, activation and dropout, while the strip is
in the nearest cache; likewise backward.
"""

import math
from typing import Any

from caviar.training.native.arrays import (
    LANES,
    Array,
    flush_denormals,
    formula,
    kernel,
    matrix,
    part,
    restore_denormals,
)
from caviar.training.native.kernel_cache import entry
from caviar.training.native.layer_ops import (
    BatchNorm,
    add_bias_and_activate,
    descend,
    drop,
    mean_and_variance,
    move_average,
    normalise_and_activate,
    sum_bias,
    sum_columns,
    sum_scale_and_shift,
    through_normalisation,
)
from caviar.training.native.layout import Hyper, Network
from caviar.training.native.matmul import multiply, multiply_columns, transpose
from caviar.training.native.simd import load, store
from caviar.training.native.softmax import add_bias, count_right, cross_entropy, softmax_gradient

STRIP = 2 * LANES
"""Columns of a layer that go through all its formulas while they are in the nearest cache."""


@kernel
def _weights(flat: Array, layer: Any) -> Array:
    """W_DH, or what is laid out like it."""
    return matrix(flat, layer.weight, layer.inputs, layer.stride)


@kernel
def _outputs(flat: Array, layer: Any, rows: int) -> Array:
    """z_BH or a_BH."""
    return matrix(flat, layer.output, rows, layer.stride)


@kernel
def _whole_words(count: int) -> int:
    """So many 16-bit numbers rounded up to 64-bit words, as `DropoutStream` hands them out."""
    return -(-count // 4) * 4


@kernel
def _bits_taken(layers: Array, rows: int) -> int:
    """16-bit numbers that dropout takes for a mini-batch."""
    total = 0
    for layer in layers[:-1]:
        total += _whole_words(rows * layer.units)
    return total


# Forward


@kernel
def forward(
    network: Network, layers: Array, hyper: Hyper, x_BD: Array, rows: int, training: bool, bits: Array
) -> Array:
    """z_CB of the output layer, transposed; leaves z and a of the hidden layers for the backward pass.

    Args:
        network: its parameters; in training, the running averages of batch norm move on.
        layers: its layout.
        hyper: its hyperparameters.
        x_BD: the rows.
        rows: B.
        training: with the statistics of the mini-batch and dropout; else with running averages, without.
        bits: 16 random bits for every unit that dropout may take, layer by layer.
    """
    a_BD, used = x_BD, 0
    for layer in layers[:-1]:
        units = layer.units
        z_BH, a_BH = _outputs(network.z, layer, rows), _outputs(network.a, layer, rows)
        w_DH = _weights(network.parameters, layer)
        for start in range(0, units, STRIP):
            stop = min(start + STRIP, units)
            multiply_columns(z_BH, a_BD, w_DH, rows, start, stop, layer.inputs)
            for h in range(start, stop, LANES):
                if hyper.batch_norm:
                    _take_statistics(network, layer, hyper, z_BH, h, rows, training)
                    norm = _batch_norm(network, layer, h)
                    normalise_and_activate(a_BH, z_BH, h, rows, norm, hyper.tanh)
                else:
                    bias = load(network.parameters, layer.shift + h)
                    add_bias_and_activate(a_BH, z_BH, h, rows, bias, hyper.tanh)
                if training and hyper.dropout:
                    drop(a_BH, bits[used:], h, rows, units, hyper)
        used += _whole_words(rows * units)
        a_BD = a_BH
    output = layers[-1]
    z_BC, z_CB = _outputs(network.z, output, rows), _by_class(network, output, rows)
    multiply(z_BC, a_BD, _weights(network.parameters, output), rows, output.units, output.inputs)
    transpose(z_CB, z_BC, rows, output.units)
    add_bias(z_CB, part(network.parameters, output.shift, output.units), rows, output.units)
    return z_CB


@kernel
def _by_class(network: Network, output: Any, rows: int) -> Array:
    """Where z_CB of the output layer lies, until the backward pass of the layer below."""
    return matrix(network.da, 0, output.units, -(-rows // LANES) * LANES)


@formula
def _take_statistics(
    network: Network, layer: Any, hyper: Hyper, z_BH: Array, h: int, rows: int, training: bool
) -> None:
    """Batch norm's mu and 1 / sqrt(var + eps) of LANES units: of the mini-batch, or running averages."""
    unit = layer.unit + h
    if training:
        mean, var = mean_and_variance(z_BH, h, rows)
        move_average(network.mean, unit, mean, hyper.batch_norm_momentum, 1.0)
        move_average(network.var, unit, var, hyper.batch_norm_momentum, rows / (rows - 1))
    else:
        mean, var = load(network.mean, unit), load(network.var, unit)
    store(mean, network.batch_mean, unit)
    store(1 / math.sqrt(var + hyper.batch_norm_epsilon), network.batch_scale, unit)


@formula
def _batch_norm(network: Network, layer: Any, h: int) -> BatchNorm:
    """Batch norm of LANES units, with the statistics taken last."""
    mean, scale = load(network.batch_mean, layer.unit + h), load(network.batch_scale, layer.unit + h)
    gamma, beta = load(network.parameters, layer.scale + h), load(network.parameters, layer.shift + h)
    return BatchNorm(mean, scale, gamma * scale, beta)


# Backward


@formula
def backward(
    network: Network, layers: Array, hyper: Hyper, x_BD: Array, p_CB: Array, rows: int, bits: Array
) -> None:
    """Gradients of the mean loss for every parameter, after `forward` and `cross_entropy`."""
    output = layers[-1]
    dz_BH = _outputs(network.z, output, rows)
    softmax_gradient(p_CB, network.y, rows, output.units)
    transpose(dz_BH, p_CB, output.units, rows)
    for c in range(0, output.units, LANES):
        store(sum_columns(dz_BH, c, rows), network.gradient, output.shift + c)
    unread = _bits_taken(layers, rows)
    for number in range(len(layers) - 1, 0, -1):
        layer, below = layers[number], layers[number - 1]
        inputs, units = layer.inputs, layer.units
        a_BD = _outputs(network.a, below, rows)
        multiply(_weights(network.gradient, layer), a_BD.T, dz_BH, inputs, units, rows)
        w_HD = matrix(network.transposed, 0, units, below.stride)
        transpose(w_HD, _weights(network.parameters, layer), inputs, units)
        da_BD = matrix(network.da if number % 2 else network.dz, 0, rows, below.stride)
        unread -= _whole_words(rows * inputs)
        for start in range(0, inputs, STRIP):
            stop = min(start + STRIP, inputs)
            multiply_columns(da_BD, dz_BH, w_HD, rows, start, stop, units)
            for d in range(start, stop, LANES):
                if hyper.dropout:
                    drop(da_BD, bits[unread:], d, rows, inputs, hyper)
                _hidden_gradient(network, below, hyper, da_BD, a_BD, d, rows)
        dz_BH = da_BD
    first = layers[0]
    multiply(_weights(network.gradient, first), x_BD.T, dz_BH, first.inputs, first.units, rows)


@formula
def _hidden_gradient(
    network: Network, layer: Any, hyper: Hyper, da_BH: Array, a_BH: Array, h: int, rows: int
) -> None:
    """From da to dz in its place, for LANES units; gradients of gamma and beta, or of the bias."""
    z_BH = _outputs(network.z, layer, rows)
    if hyper.batch_norm:
        norm = _batch_norm(network, layer, h)
        dgamma, dbeta = sum_scale_and_shift(da_BH, a_BH, z_BH, h, rows, norm, hyper)
        through_normalisation(da_BH, a_BH, z_BH, h, rows, norm, dgamma, dbeta, hyper)
        store(dgamma, network.gradient, layer.scale + h)
        store(dbeta, network.gradient, layer.shift + h)
    else:
        bias = load(network.parameters, layer.shift + h)
        store(sum_bias(da_BH, a_BH, z_BH, h, rows, bias, hyper), network.gradient, layer.shift + h)


# Update


@formula
def update(network: Network, layers: Array, hyper: Hyper, learning_rate: float, step: int) -> None:
    """One step of the optimizer, the `step`-th from 1; L2 adds to the gradient of weights alone."""
    zero = network.parameters.dtype.type(0)
    w, g, v, s = network.parameters, network.gradient, network.first, network.second
    for layer in layers:
        descend(w, g, v, s, layer.weight, layer.scale, hyper, hyper.l2, learning_rate, step)
        descend(w, g, v, s, layer.scale, layer.end, hyper, zero, learning_rate, step)


# What Python calls


@formula
def _gather(x_BD: Array, y_B: Array, x_ND: Array, y_N: Array, order_B: Array) -> None:
    """The rows of a mini-batch, and their classes."""
    for b in range(len(order_B)):
        row = order_B[b]
        y_B[b] = y_N[row]
        for d in range(0, x_ND.shape[1], LANES):
            store(load(x_ND, row, d), x_BD, b, d)


@entry
def train(
    arrays: tuple[Array, ...],
    layers: Array,
    numbers: tuple[Any, ...],
    x_ND: Array,
    y_N: Array,
    order: Array,
    batches: Array,
    bits: Array,
    learning_rate: float,
    step: int,
) -> float:
    """Some mini-batches of an epoch.

    Args:
        arrays: a `Network`, changed in place; plain tuples reach compiled code in a third of the time.
        layers: its layout.
        numbers: its `Hyper`.
        x_ND: the train split.
        y_N: its classes.
        order: the rows of the epoch in the order of visit.
        batches: int64 (mini-batches, 2): first and last + 1 place in `order`.
        bits: 16 random bits for every unit and row that dropout may take, in the order of use, and
            room for a vector behind them.
        learning_rate: of the epoch.
        step: steps taken before.

    Returns:
        The loss of all rows visited, summed.
    """
    before = flush_denormals()
    network, hyper = Network(*arrays), Hyper(*numbers)
    loss, used = 0.0, 0
    y_B = network.y
    for batch in range(len(batches)):
        start, stop = batches[batch]
        rows = stop - start
        x_BD = matrix(network.x, 0, rows, x_ND.shape[1])
        _gather(x_BD, y_B, x_ND, y_N, order[start:stop])
        z_CB = forward(network, layers, hyper, x_BD, rows, True, bits[used:])
        loss += cross_entropy(z_CB, y_B, rows, layers[-1].units)
        backward(network, layers, hyper, x_BD, z_CB, rows, bits[used:])
        update(network, layers, hyper, learning_rate, step + batch + 1)
        used += _bits_taken(layers, rows)
    restore_denormals(before)
    return loss


@entry
def evaluate(
    arrays: tuple[Array, ...],
    layers: Array,
    numbers: tuple[Any, ...],
    x_ND: Array,
    y_N: Array,
    capacity: int,
    bits: Array,
) -> tuple[float, float]:
    """Mean loss and accuracy over all rows, `capacity` at a time; bits are not used."""
    before = flush_denormals()
    network, hyper = Network(*arrays), Hyper(*numbers)
    loss, right = 0.0, 0
    classes = layers[-1].units
    for start in range(0, len(y_N), capacity):
        rows = min(capacity, len(y_N) - start)
        network.y[:rows] = y_N[start : start + rows]
        z_CB = forward(network, layers, hyper, x_ND[start:], rows, False, bits)
        right += count_right(z_CB, network.y, rows, classes)
        loss += cross_entropy(z_CB, network.y, rows, classes)
    restore_denormals(before)
    return loss / len(y_N), right / len(y_N)
