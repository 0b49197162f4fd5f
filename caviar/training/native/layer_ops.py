"""Forward and backward formulas of a hidden layer: batch norm, activation, dropout.

Each function takes VECTOR_SIZE units of the layer, from unit h on, and goes through the rows of the mini-batch.
A vector holds one number for each unit and stays in registers meanwhile. Results go into arrays that exist
already.

With batch norm (Ioffe & Szegedy 2015) a layer computes, over the mini-batch,

    z_norm = (z - mean) / sqrt(var + epsilon),   y = gamma z_norm + beta,   a = activation(y)

and without, y = z + bias.

Shape legend: B rows of a mini-batch, H units of a layer. A name such as z_BH gives the shape without the
padding around it (see `arrays`).
"""

from typing import Any, NamedTuple

from caviar.training.native.arrays import Array
from caviar.training.native.jit import jit_inline
from caviar.training.native.layout import KernelRecipe
from caviar.training.native.simd import exp_nonpositive, load, load_converted, store, where, zero_vector


class BatchNormVectors(NamedTuple):
    """Batch norm of VECTOR_SIZE units, in registers: y = (z - mean) slope + beta."""

    mean: Any
    inverse_std: Any
    """1 / sqrt(var + epsilon)"""
    slope: Any
    """gamma * inverse_std"""
    beta: Any


# Forward


@jit_inline
def mean_and_variance(z_BH: Array, h: int, rows: int) -> Any:
    """Return mean = sum z / B and var = sum (z - mean)^2 / B, as vectors."""
    share = z_BH.dtype.type(1.0 / rows)
    total, squares = zero_vector(z_BH), zero_vector(z_BH)
    for b in range(rows):
        total += load(z_BH, b, h)
    mean = total * share
    for b in range(rows):
        centred = load(z_BH, b, h) - mean
        squares += centred * centred
    return mean, squares * share


@jit_inline
def update_running_average(average_H: Array, h: int, newest: Any, momentum: float, correction: float) -> None:
    """Set average = (1 - momentum) average + momentum correction newest.

    Args:
        average_H: running averages, one a unit.
        h: first unit.
        newest: vector of the mini-batch's statistic.
        momentum: weight of the mini-batch.
        correction: factor of the statistic, such as B / (B - 1) for an unbiased variance.
    """
    new = average_H.dtype.type(momentum * correction)
    old = average_H.dtype.type(1.0 - momentum)
    store(old * load(average_H, h) + new * newest, average_H, h)


@jit_inline
def activate(y: Any, is_tanh: bool) -> Any:
    """Return tanh(y) or max(y, 0) of a vector; NaN stays NaN."""
    if is_tanh:
        e = exp_nonpositive(-2 * abs(y))
        t = (1 - e) / (1 + e)
        return where(y < 0, 0 - t, t)
    return where(y < 0, 0, y)


@jit_inline
def batch_norm_forward(
    a_BH: Array, z_BH: Array, h: int, rows: int, norm: BatchNormVectors, is_tanh: bool
) -> None:
    """Set a = activation((z - mean) slope + beta)."""
    for b in range(rows):
        y = (load(z_BH, b, h) - norm.mean) * norm.slope + norm.beta
        store(activate(y, is_tanh), a_BH, b, h)


@jit_inline
def bias_forward(a_BH: Array, z_BH: Array, h: int, rows: int, bias: Any, is_tanh: bool) -> None:
    """Set a = activation(z + bias), for a layer without batch norm."""
    for b in range(rows):
        store(activate(load(z_BH, b, h) + bias, is_tanh), a_BH, b, h)


@jit_inline
def dropout(a_BH: Array, bits: Array, h: int, rows: int, units: int, recipe: KernelRecipe) -> None:
    """Set a to 0 where a unit is dropped, and to a / (1 - dropout) elsewhere (Srivastava et al. 2014).

    The gradient passes back through dropout in the same way, so the backward pass calls this with da.

    Args:
        a_BH: outputs of the layer, or the gradient at them.
        bits: uint16 (B * H,), one number for each row and unit of the layer; a unit is kept where it is at least
            the threshold.
        h: first unit.
        rows: B.
        units: H.
        recipe: threshold, and the probability with which a unit is kept.
    """
    scale = 1 / recipe.keep_probability
    for b in range(rows):
        is_dropped = load_converted(a_BH, bits, b * units + h) < recipe.dropout_threshold
        store(where(is_dropped, 0, load(a_BH, b, h) * scale), a_BH, b, h)


# Backward


@jit_inline
def activation_backward(da_BH: Array, a_BH: Array, b: int, h: int, y: Any, recipe: KernelRecipe) -> Any:
    """Return dy = da activation'(y): da (1 - tanh^2 y), or da where ReLU passed y on and 0 elsewhere.

    After dropout, a of a kept unit is tanh(y) / (1 - dropout), and da of a dropped unit is 0 already.
    """
    da = load(da_BH, b, h)
    if recipe.is_tanh:
        t = load(a_BH, b, h) * recipe.keep_probability
        return da * (1 - t * t)
    return where(y <= 0, 0, da)  # the caller computes y again, which is faster than to load a


@jit_inline
def sum_over_rows(dz_BH: Array, h: int, rows: int) -> Any:
    """Return the gradient of a bias, db = sum dz over the rows, as a vector."""
    db = zero_vector(dz_BH)
    for b in range(rows):
        db += load(dz_BH, b, h)
    return db


@jit_inline
def bias_backward(
    da_BH: Array, a_BH: Array, z_BH: Array, h: int, rows: int, bias: Any, recipe: KernelRecipe
) -> Any:
    """Set da to dz, for a layer without batch norm, and return db = sum dz as a vector."""
    db = zero_vector(da_BH)
    for b in range(rows):
        dz = activation_backward(da_BH, a_BH, b, h, load(z_BH, b, h) + bias, recipe)
        store(dz, da_BH, b, h)
        db += dz
    return db


@jit_inline
def batch_norm_parameter_gradients(
    da_BH: Array, a_BH: Array, z_BH: Array, h: int, rows: int, norm: BatchNormVectors, recipe: KernelRecipe
) -> Any:
    """Return dgamma = sum dy z_norm and dbeta = sum dy as vectors; dy is the gradient at y."""
    dgamma, dbeta = zero_vector(da_BH), zero_vector(da_BH)
    for b in range(rows):
        centred = load(z_BH, b, h) - norm.mean
        dy = activation_backward(da_BH, a_BH, b, h, centred * norm.slope + norm.beta, recipe)
        dgamma += dy * centred
        dbeta += dy
    return dgamma * norm.inverse_std, dbeta


@jit_inline
def batch_norm_backward(
    da_BH: Array,
    a_BH: Array,
    z_BH: Array,
    h: int,
    rows: int,
    norm: BatchNormVectors,
    dgamma: Any,
    dbeta: Any,
    recipe: KernelRecipe,
) -> None:
    """Set da to dz = gamma / sqrt(var + epsilon) (dy - dbeta / B - z_norm dgamma / B) (Ioffe & Szegedy 2015).

    Args:
        da_BH: gradient at the layer's outputs; on return, at z.
        a_BH: outputs of the layer.
        z_BH: products x W of the layer.
        h: first unit.
        rows: B.
        norm: batch norm of these units.
        dgamma: vector from `batch_norm_parameter_gradients`.
        dbeta: vector from `batch_norm_parameter_gradients`.
        recipe: activation, and the probability with which dropout keeps a unit.
    """
    share = da_BH.dtype.type(1.0 / rows)
    shift, tilt = dbeta * share, norm.inverse_std * dgamma * share
    for b in range(rows):
        centred = load(z_BH, b, h) - norm.mean
        dy = activation_backward(da_BH, a_BH, b, h, centred * norm.slope + norm.beta, recipe)
        store(norm.slope * (dy - shift - centred * tilt), da_BH, b, h)
