"""Training and evaluation of a network in compiled code: forward pass, backward pass, update.

A layer is computed strip by strip of its units. A strip goes through product, batch norm, activation and dropout
while it is in the nearest cache, and the backward pass does likewise.

Shape legend: N rows of a split, B rows of a mini-batch, D inputs of a layer, H its outputs, C classes. A name such
as z_BH gives the shape without the padding around it (see `arrays`). Nothing here allocates.
"""

import math
from typing import Any

from caviar.training.native.arrays import VECTOR_SIZE, Array, view_1d, view_2d
from caviar.training.native.denormals import flush_denormals, restore_denormals
from caviar.training.native.jit import jit, jit_cached, jit_inline
from caviar.training.native.layer_ops import (
    BatchNormVectors,
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_parameter_gradients,
    bias_backward,
    bias_forward,
    dropout,
    mean_and_variance,
    sum_over_rows,
    update_running_average,
)
from caviar.training.native.layout import MOMENTUM, RMSPROP, SGD, KernelRecipe, NetworkArrays
from caviar.training.native.matmul import matmul, matmul_columns, transpose
from caviar.training.native.optimizers import (
    adam_corrections,
    adam_step,
    momentum_step,
    rmsprop_step,
    sgd_step,
)
from caviar.training.native.simd import load, store
from caviar.training.native.softmax import (
    add_bias,
    count_correct,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)

STRIP = 2 * VECTOR_SIZE
"""Units of a layer that are computed together."""


@jit
def _view_weight(flat: Array, layer: Any) -> Array:
    """Return W_DH of a layer in the parameters, or in an array that is laid out like them."""
    return view_2d(flat, layer.weight_start, layer.inputs, layer.stride)


@jit
def _view_output(flat: Array, layer: Any, rows: int) -> Array:
    """Return z_BH or a_BH of a layer."""
    return view_2d(flat, layer.output_start, rows, layer.stride)


@jit
def _view_logits_by_class(network: NetworkArrays, output: Any, rows: int) -> Array:
    """Return z_CB of the output layer, which is valid until the backward pass reaches the layer below."""
    return view_2d(network.da, 0, output.units, -(-rows // VECTOR_SIZE) * VECTOR_SIZE)


@jit
def _dropout_numbers(rows: int, units: int) -> int:
    """Return the 16-bit numbers that a layer's mask takes: whole 64-bit words, as in `DropoutStream`."""
    return -(-rows * units // 4) * 4


@jit
def _network_dropout_numbers(layers: Array, rows: int) -> int:
    """Return the 16-bit numbers that the masks of a mini-batch take."""
    total = 0
    for layer in layers[:-1]:
        total += _dropout_numbers(rows, layer.units)
    return total


# Forward


@jit
def forward(
    network: NetworkArrays,
    layers: Array,
    recipe: KernelRecipe,
    x_BD: Array,
    rows: int,
    is_training: bool,
    bits: Array,
) -> Array:
    """Return the logits z_CB, transposed; leave z and a of the hidden layers for the backward pass.

    Args:
        network: memory of the network. In training, batch norm's running averages are updated.
        layers: place of each layer.
        recipe: recipe of the network.
        x_BD: rows.
        rows: B.
        is_training: True to use the mini-batch's statistics and dropout, False to use running averages and no
            dropout.
        bits: uint16 random numbers for dropout, layer by layer; unused without it.
    """
    a_BD, used = x_BD, 0
    for layer in layers[:-1]:
        units = layer.units
        z_BH, a_BH = _view_output(network.z, layer, rows), _view_output(network.a, layer, rows)
        w_DH = _view_weight(network.parameters, layer)
        for start in range(0, units, STRIP):
            stop = min(start + STRIP, units)
            matmul_columns(z_BH, a_BD, w_DH, rows, start, stop, layer.inputs)
            for h in range(start, stop, VECTOR_SIZE):
                if recipe.batch_norm:
                    _set_batch_norm_statistics(network, layer, recipe, z_BH, h, rows, is_training)
                    norm = _load_batch_norm(network, layer, h)
                    batch_norm_forward(a_BH, z_BH, h, rows, norm, recipe.is_tanh)
                else:
                    bias = load(network.parameters, layer.shift_start + h)
                    bias_forward(a_BH, z_BH, h, rows, bias, recipe.is_tanh)
                if is_training and recipe.has_dropout:
                    dropout(a_BH, bits[used:], h, rows, units, recipe)
        used += _dropout_numbers(rows, units)
        a_BD = a_BH
    output = layers[-1]
    z_BC, z_CB = _view_output(network.z, output, rows), _view_logits_by_class(network, output, rows)
    matmul(z_BC, a_BD, _view_weight(network.parameters, output), rows, output.units, output.inputs)
    transpose(z_CB, z_BC, rows, output.units)
    add_bias(z_CB, view_1d(network.parameters, output.shift_start, output.units), rows, output.units)
    return z_CB


@jit_inline
def _set_batch_norm_statistics(
    network: NetworkArrays,
    layer: Any,
    recipe: KernelRecipe,
    z_BH: Array,
    h: int,
    rows: int,
    is_training: bool,
) -> None:
    """Set the mean and 1 / sqrt(var + epsilon) that batch norm uses for VECTOR_SIZE units."""
    unit = layer.unit_start + h
    if is_training:
        mean, var = mean_and_variance(z_BH, h, rows)
        momentum = recipe.batch_norm_momentum
        update_running_average(network.running_mean, unit, mean, momentum, 1.0)
        update_running_average(network.running_var, unit, var, momentum, rows / (rows - 1))
    else:
        mean, var = load(network.running_mean, unit), load(network.running_var, unit)
    store(mean, network.batch_mean, unit)
    store(1 / math.sqrt(var + recipe.batch_norm_epsilon), network.batch_inverse_std, unit)


@jit_inline
def _load_batch_norm(network: NetworkArrays, layer: Any, h: int) -> BatchNormVectors:
    """Return batch norm of VECTOR_SIZE units, with the statistics set last."""
    unit = layer.unit_start + h
    mean, inverse_std = load(network.batch_mean, unit), load(network.batch_inverse_std, unit)
    gamma = load(network.parameters, layer.scale_start + h)
    beta = load(network.parameters, layer.shift_start + h)
    return BatchNormVectors(mean, inverse_std, gamma * inverse_std, beta)


# Backward


@jit_inline
def backward(
    network: NetworkArrays,
    layers: Array,
    recipe: KernelRecipe,
    x_BD: Array,
    p_CB: Array,
    rows: int,
    bits: Array,
) -> None:
    """Compute the gradient of the mean loss for every parameter.

    Args:
        network: memory of the network, after `forward` in training.
        layers: place of each layer.
        recipe: recipe of the network.
        x_BD: rows that `forward` was given.
        p_CB: probabilities that `softmax_cross_entropy` made of the logits.
        rows: B.
        bits: random numbers that `forward` was given.
    """
    output = layers[-1]
    dz_BH = _view_output(network.z, output, rows)
    softmax_cross_entropy_backward(p_CB, network.y, rows, output.units)
    transpose(dz_BH, p_CB, output.units, rows)
    for c in range(0, output.units, VECTOR_SIZE):
        store(sum_over_rows(dz_BH, c, rows), network.gradient, output.shift_start + c)
    bits_start = _network_dropout_numbers(layers, rows)
    for number in range(len(layers) - 1, 0, -1):
        layer, below = layers[number], layers[number - 1]
        inputs, units = layer.inputs, layer.units
        a_BD = _view_output(network.a, below, rows)
        matmul(_view_weight(network.gradient, layer), a_BD.T, dz_BH, inputs, units, rows)
        w_HD = view_2d(network.transposed_weight, 0, units, below.stride)
        transpose(w_HD, _view_weight(network.parameters, layer), inputs, units)
        da_BD = view_2d(network.da if number % 2 else network.dz, 0, rows, below.stride)
        bits_start -= _dropout_numbers(rows, inputs)
        for start in range(0, inputs, STRIP):
            stop = min(start + STRIP, inputs)
            matmul_columns(da_BD, dz_BH, w_HD, rows, start, stop, units)
            for d in range(start, stop, VECTOR_SIZE):
                if recipe.has_dropout:
                    dropout(da_BD, bits[bits_start:], d, rows, inputs, recipe)
                _hidden_layer_backward(network, below, recipe, da_BD, a_BD, d, rows)
        dz_BH = da_BD
    first = layers[0]
    matmul(_view_weight(network.gradient, first), x_BD.T, dz_BH, first.inputs, first.units, rows)


@jit_inline
def _hidden_layer_backward(
    network: NetworkArrays, layer: Any, recipe: KernelRecipe, da_BH: Array, a_BH: Array, h: int, rows: int
) -> None:
    """Set da to dz for VECTOR_SIZE units, and store the gradients of gamma and beta, or of the bias."""
    z_BH = _view_output(network.z, layer, rows)
    if recipe.batch_norm:
        norm = _load_batch_norm(network, layer, h)
        dgamma, dbeta = batch_norm_parameter_gradients(da_BH, a_BH, z_BH, h, rows, norm, recipe)
        batch_norm_backward(da_BH, a_BH, z_BH, h, rows, norm, dgamma, dbeta, recipe)
        store(dgamma, network.gradient, layer.scale_start + h)
        store(dbeta, network.gradient, layer.shift_start + h)
    else:
        bias = load(network.parameters, layer.shift_start + h)
        db = bias_backward(da_BH, a_BH, z_BH, h, rows, bias, recipe)
        store(db, network.gradient, layer.shift_start + h)


# Update


@jit_inline
def update_parameters(
    network: NetworkArrays, layers: Array, recipe: KernelRecipe, learning_rate: float, step: int
) -> None:
    """Take one step of the optimizer. L2 regularisation applies to weights, not to biases, gamma and beta.

    Args:
        network: memory of the network, after `backward`.
        layers: place of each layer.
        recipe: recipe of the network.
        learning_rate: learning rate of the epoch.
        step: number of the step, from 1.
    """
    w, g, m, v = network.parameters, network.gradient, network.first, network.second
    real = w.dtype.type
    rate, l2, no_l2 = real(learning_rate), recipe.l2, real(0)
    if recipe.optimizer == SGD:
        for layer in layers:
            sgd_step(w, g, layer.weight_start, layer.scale_start, rate, l2)
            sgd_step(w, g, layer.scale_start, layer.end, rate, no_l2)
    elif recipe.optimizer == MOMENTUM:
        for layer in layers:
            momentum_step(w, g, m, layer.weight_start, layer.scale_start, rate, l2, recipe)
            momentum_step(w, g, m, layer.scale_start, layer.end, rate, no_l2, recipe)
    elif recipe.optimizer == RMSPROP:
        for layer in layers:
            rmsprop_step(w, g, v, layer.weight_start, layer.scale_start, rate, l2, recipe)
            rmsprop_step(w, g, v, layer.scale_start, layer.end, rate, no_l2, recipe)
    else:
        corrected_rate, correction = adam_corrections(learning_rate, step, recipe)
        rate, factor = real(corrected_rate), real(correction)
        for layer in layers:
            adam_step(w, g, m, v, layer.weight_start, layer.scale_start, rate, factor, l2, recipe)
            adam_step(w, g, m, v, layer.scale_start, layer.end, rate, factor, no_l2, recipe)


# Entry points, which Python calls


@jit_inline
def _gather_rows(x_BD: Array, y_B: Array, x_ND: Array, y_N: Array, order_B: Array) -> None:
    """Copy the rows of a mini-batch and their classes."""
    for b in range(len(order_B)):
        row = order_B[b]
        y_B[b] = y_N[row]
        for d in range(0, x_ND.shape[1], VECTOR_SIZE):
            store(load(x_ND, row, d), x_BD, b, d)


@jit_cached
def train_batches(
    arrays: tuple[Array, ...],
    layers: Array,
    settings: tuple[Any, ...],
    x_ND: Array,
    y_N: Array,
    order: Array,
    batches: Array,
    bits: Array,
    learning_rate: float,
    step: int,
) -> float:
    """Train on some mini-batches of an epoch.

    Args:
        arrays: a `NetworkArrays` as a plain tuple, which reaches compiled code in a third of the time; changed in
            place.
        layers: place of each layer, dtype `layout.LAYER`.
        settings: a `KernelRecipe` as a plain tuple.
        x_ND: rows of the train split, padded, in the dtype of the network.
        y_N: classes of the train split, int64.
        order: rows in the order of the epoch, int64 (N,).
        batches: first place in `order` of each mini-batch, and the place after its last: int64 (mini-batches, 2).
        bits: uint16 random numbers for dropout in the order of use, followed by room for a vector.
        learning_rate: learning rate of the epoch.
        step: steps taken before.

    Returns:
        Sum of the losses of the rows, in nats.
    """
    before = flush_denormals()
    network, recipe = NetworkArrays(*arrays), KernelRecipe(*settings)
    loss, used = 0.0, 0
    y_B = network.y
    for batch in range(len(batches)):
        start, stop = batches[batch]
        rows = stop - start
        x_BD = view_2d(network.x, 0, rows, x_ND.shape[1])
        _gather_rows(x_BD, y_B, x_ND, y_N, order[start:stop])
        z_CB = forward(network, layers, recipe, x_BD, rows, True, bits[used:])
        loss += softmax_cross_entropy(z_CB, y_B, rows, layers[-1].units)
        backward(network, layers, recipe, x_BD, z_CB, rows, bits[used:])
        update_parameters(network, layers, recipe, learning_rate, step + batch + 1)
        used += _network_dropout_numbers(layers, rows)
    restore_denormals(before)
    return loss


@jit_cached
def evaluate(
    arrays: tuple[Array, ...],
    layers: Array,
    settings: tuple[Any, ...],
    x_ND: Array,
    y_N: Array,
    capacity: int,
    bits: Array,
) -> tuple[float, float]:
    """Return the mean loss in nats and the accuracy on a split.

    Args:
        arrays: a `NetworkArrays` as a plain tuple; its scratch is changed.
        layers: place of each layer, dtype `layout.LAYER`.
        settings: a `KernelRecipe` as a plain tuple.
        x_ND: rows of the split, padded, in the dtype of the network.
        y_N: classes of the split, int64.
        capacity: rows to evaluate at a time.
        bits: an empty uint16 array; evaluation uses no dropout.
    """
    before = flush_denormals()
    network, recipe = NetworkArrays(*arrays), KernelRecipe(*settings)
    loss, correct = 0.0, 0
    classes = layers[-1].units
    for start in range(0, len(y_N), capacity):
        rows = min(capacity, len(y_N) - start)
        network.y[:rows] = y_N[start : start + rows]
        z_CB = forward(network, layers, recipe, x_ND[start:], rows, False, bits)
        correct += count_correct(z_CB, network.y, rows, classes)
        loss += softmax_cross_entropy(z_CB, network.y, rows, classes)
    restore_denormals(before)
    return loss / len(y_N), correct / len(y_N)
