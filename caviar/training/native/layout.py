"""How the native engine's networks lie in memory: flat arrays, and where each layer begins in them.

Shape legend: N rows, B rows of a mini-batch, D inputs of a layer, H its outputs, C classes.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from caviar.training import random_streams
from caviar.training.native.arrays import Array, aligned, padded, stride
from caviar.training.recipe import Recipe

SGD, MOMENTUM, RMSPROP, ADAM = range(4)
_OPTIMIZERS = {
    "sgd": SGD,
    "momentum": MOMENTUM,
    "rmsprop": RMSPROP,
    "adam": ADAM,
}
AVERAGES = {"sgd": (), "momentum": ("first",), "rmsprop": ("second",), "adam": ("first", "second")}
"""Which averages of gradients an optimizer keeps."""

LAYER = np.dtype(
    [
        ("inputs", np.int64),  # D
        ("units", np.int64),  # H; C for the output layer
        ("stride", np.int64),  # from one row of W_DH or z_BH to the next
        ("weight", np.int64),  # where W_DH begins in the parameters
        ("scale", np.int64),  # where the weights end, and gamma_H begins if there is batch norm
        ("shift", np.int64),  # where beta_H begins, or the bias of a layer without batch norm
        ("end", np.int64),  # where the layer's parameters end
        ("unit", np.int64),  # where the layer begins in arrays of one number a unit
        ("output", np.int64),  # where z_BH and a_BH begin in arrays of one number a row and unit
    ]
)
"""Where a layer lies in the flat arrays of `Network`; `layers` holds one each, the output layer last."""


class Network(NamedTuple):
    """All that training changes, and its scratch: flat arrays of one dtype, each beginning on 64 bytes."""

    parameters: Array
    gradient: Array
    """Laid out as the parameters, and so are the averages; those that the optimizer lacks are empty."""
    first: Array
    second: Array
    mean: Array
    """Running averages of batch norm, one a unit."""
    var: Array
    batch_mean: Array
    """mu of the last mini-batch, one a unit."""
    batch_scale: Array
    """1 / sqrt(var + eps) of the last mini-batch, one a unit."""
    x: Array
    """The mini-batch, x_BD."""
    y: Array
    """Its classes, y_B."""
    z: Array
    """z of every layer; of the output layer, also the gradient at it."""
    a: Array
    """Outputs of every hidden layer."""
    dz: Array
    """Gradient at z of one layer, and at the inputs of that layer."""
    da: Array
    transposed: Array
    """One layer's weights, transposed."""


class Hyper(NamedTuple):
    """The hyperparameters as kernels want them: floats in the dtype of the network."""

    tanh: bool
    """Else ReLU."""
    batch_norm: bool
    batch_norm_momentum: Any
    batch_norm_epsilon: Any
    dropout: bool
    dropout_threshold: int
    """A unit stays where its 16 bits are at least this."""
    kept: Any
    """1 - dropout"""
    optimizer: int
    """SGD, MOMENTUM, RMSPROP or ADAM."""
    momentum: Any
    beta2: Any
    one_less_beta1: Any
    one_less_beta2: Any
    beta1_exact: float
    """float64, for the powers of it."""
    beta2_exact: float
    epsilon: Any
    l2: Any


def lay_out(recipe: Recipe, sizes: Sequence[int], capacity: int) -> Array:
    """Where each layer's numbers lie: W_DH, then gamma_H and beta_H or the bias, layer after layer.

    Args:
        recipe: with or without batch norm.
        sizes: inputs, widths of the hidden layers, classes.
        capacity: rows that the network takes at a time, a whole number of vectors.
    """
    rows: list[tuple[int, ...]] = []
    weight = unit = output = 0
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        scale = weight + padded(n_in) * stride(n_out)
        shift = scale + (padded(n_out) if recipe.batch_norm and layer < len(sizes) - 2 else 0)
        end = shift + padded(n_out)
        rows.append((n_in, n_out, stride(n_out), weight, scale, shift, end, unit, output))
        weight, unit, output = end, unit + padded(n_out), output + capacity * stride(n_out)
    return np.array(rows, dtype=LAYER)


def allocate(recipe: Recipe, layers: Array, capacity: int, dtype: npt.DTypeLike) -> Network:
    """All memory that a training uses; zeros."""
    output = layers[-1]
    parameters, units, hidden = int(output["end"]), int(output["unit"]), int(output["output"])
    widest = int(layers["stride"].max())
    averages = AVERAGES[recipe.optimizer]

    def zeros(count: int) -> Array:
        return aligned(count, dtype)

    return Network(
        parameters=zeros(parameters),
        gradient=zeros(parameters),
        first=zeros(parameters if "first" in averages else 0),
        second=zeros(parameters if "second" in averages else 0),
        mean=zeros(units),
        var=zeros(units),
        batch_mean=zeros(units),
        batch_scale=zeros(units),
        x=zeros(capacity * stride(int(layers[0]["inputs"]))),
        y=zeros(capacity),
        z=zeros(hidden + capacity * int(output["stride"])),
        a=zeros(hidden),
        dz=zeros(capacity * widest),
        da=zeros(capacity * widest),
        transposed=zeros(
            max((padded(int(n)) * stride(int(m)) for n, m in layers[["units", "inputs"]][1:]), default=0)
        ),
    )


def hyper_from(recipe: Recipe, dtype: npt.DTypeLike) -> Hyper:
    """The recipe's numbers in the dtype of the network."""
    real: Any = np.dtype(dtype).type
    return Hyper(
        tanh=recipe.activation == "tanh",
        batch_norm=recipe.batch_norm,
        batch_norm_momentum=recipe.batch_norm_momentum,
        batch_norm_epsilon=real(recipe.batch_norm_epsilon),
        dropout=recipe.dropout > 0,
        dropout_threshold=random_streams.dropout_threshold(recipe.dropout),
        kept=real(1 - recipe.dropout),
        optimizer=_OPTIMIZERS[recipe.optimizer],
        momentum=real(recipe.momentum),
        beta2=real(recipe.beta2),
        one_less_beta1=real(1 - recipe.beta1),
        one_less_beta2=real(1 - recipe.beta2),
        beta1_exact=recipe.beta1,
        beta2_exact=recipe.beta2,
        epsilon=real(recipe.epsilon),
        l2=real(recipe.l2),
    )
