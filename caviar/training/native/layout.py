"""Memory of one network in training: flat arrays, and where each layer begins in them.

Shape legend: N rows, B rows of a mini-batch, D inputs of a layer, H its outputs, C classes.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from caviar.training import random_streams
from caviar.training.native.arrays import Array, aligned_zeros, padded_size, row_stride
from caviar.training.recipe import OPTIMIZERS, Recipe

SGD, MOMENTUM, RMSPROP, ADAM = range(4)
"""Numbers of the optimizers, in the order of `recipe.OPTIMIZERS`."""
AVERAGES = {"sgd": (), "momentum": ("first",), "rmsprop": ("second",), "adam": ("first", "second")}
"""Running averages that each optimizer keeps, as named in `NetworkArrays` and in `caviar.engine.Checkpoint`."""

LAYER = np.dtype(
    [
        ("inputs", np.int64),  # D
        ("units", np.int64),  # H, or C in the output layer
        ("stride", np.int64),  # elements from one row of W_DH or z_BH to the next
        ("weight_start", np.int64),  # first element of W_DH in the parameters
        ("scale_start", np.int64),  # end of the weights, and start of gamma_H if there is batch norm
        ("shift_start", np.int64),  # first element of beta_H, or of the bias without batch norm
        ("end", np.int64),  # end of the layer's parameters
        ("unit_start", np.int64),  # first element in arrays of one number a unit
        ("output_start", np.int64),  # first element in arrays of one number a row and unit
    ]
)
"""Place of a layer in the flat arrays of `NetworkArrays`. An array of them describes a network, output layer last."""


class NetworkArrays(NamedTuple):
    """All memory of a network in training: flat arrays of one dtype, each beginning on a cache line."""

    parameters: Array
    gradient: Array
    """Gradient of the mean loss, laid out like the parameters."""
    first: Array
    """Running average of gradients, laid out like the parameters; empty if the optimizer keeps none."""
    second: Array
    """Running average of squared gradients, likewise."""
    running_mean: Array
    """Running average of batch norm's mean, one number a unit."""
    running_var: Array
    """Running average of batch norm's variance, one number a unit."""
    batch_mean: Array
    """Mean of z that batch norm used last, one number a unit."""
    batch_inverse_std: Array
    """1 / sqrt(var + epsilon) that batch norm used last, one number a unit."""
    x: Array
    """Rows of the mini-batch, x_BD."""
    y: Array
    """Classes of the mini-batch, y_B."""
    z: Array
    """z_BH of every layer. In the backward pass the output layer's part holds its gradient."""
    a: Array
    """a_BH of every hidden layer, after activation and dropout."""
    dz: Array
    """Gradient at z of one layer. `dz` and `da` take turns from layer to layer."""
    da: Array
    """Gradient at the inputs of that layer. Between the passes it holds z_CB of the output layer."""
    transposed_weight: Array
    """W_HD of one layer."""


class KernelRecipe(NamedTuple):
    """A recipe as kernels use it. Numbers of type Any have the dtype of the network."""

    is_tanh: bool
    """Activation is tanh; else ReLU."""
    batch_norm: bool
    batch_norm_momentum: float
    batch_norm_epsilon: Any
    has_dropout: bool
    dropout_threshold: int
    """Lowest 16-bit number with which a unit is kept."""
    keep_probability: Any
    """1 - dropout"""
    optimizer: int
    """SGD, MOMENTUM, RMSPROP or ADAM."""
    momentum: Any
    beta2: Any
    one_minus_beta1: Any
    one_minus_beta2: Any
    beta1_float64: float
    """beta1 for its powers, which float32 would round too much."""
    beta2_float64: float
    epsilon: Any
    l2: Any


def kernel_recipe_from(recipe: Recipe, dtype: npt.DTypeLike) -> KernelRecipe:
    """Return a recipe as kernels use it.

    Args:
        recipe: recipe of the trial.
        dtype: dtype of the network, float32 or float64.
    """
    real: Any = np.dtype(dtype).type
    return KernelRecipe(
        is_tanh=recipe.activation == "tanh",
        batch_norm=recipe.batch_norm,
        batch_norm_momentum=recipe.batch_norm_momentum,
        batch_norm_epsilon=real(recipe.batch_norm_epsilon),
        has_dropout=recipe.dropout > 0,
        dropout_threshold=random_streams.dropout_threshold(recipe.dropout),
        keep_probability=real(1 - recipe.dropout),
        optimizer=OPTIMIZERS.index(recipe.optimizer),
        momentum=real(recipe.momentum),
        beta2=real(recipe.beta2),
        one_minus_beta1=real(1 - recipe.beta1),
        one_minus_beta2=real(1 - recipe.beta2),
        beta1_float64=recipe.beta1,
        beta2_float64=recipe.beta2,
        epsilon=real(recipe.epsilon),
        l2=real(recipe.l2),
    )


def lay_out_layers(recipe: Recipe, sizes: Sequence[int], capacity: int) -> Array:
    """Return the place of each layer: W_DH, then gamma_H and beta_H or the bias, layer after layer.

    Args:
        recipe: recipe of the trial.
        sizes: inputs, width of each hidden layer, classes.
        capacity: rows that the network takes at a time, a multiple of VECTOR_SIZE.

    Returns:
        Records of dtype LAYER, one for each layer, the output layer last.
    """
    layers: list[tuple[int, ...]] = []
    weight = unit = output = 0
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        scale = weight + padded_size(n_in) * row_stride(n_out)
        shift = scale + (padded_size(n_out) if recipe.batch_norm and layer < len(sizes) - 2 else 0)
        end = shift + padded_size(n_out)
        layers.append((n_in, n_out, row_stride(n_out), weight, scale, shift, end, unit, output))
        weight, unit, output = end, unit + padded_size(n_out), output + capacity * row_stride(n_out)
    return np.array(layers, dtype=LAYER)


def allocate_network(recipe: Recipe, layers: Array, capacity: int, dtype: npt.DTypeLike) -> NetworkArrays:
    """Return all memory of a network, filled with zeros.

    Args:
        recipe: recipe of the trial.
        layers: place of each layer, from `lay_out_layers`.
        capacity: rows that the network takes at a time, a multiple of VECTOR_SIZE.
        dtype: dtype of all arrays, float32 or float64.
    """
    output = layers[-1]
    parameters, units, hidden = int(output["end"]), int(output["unit_start"]), int(output["output_start"])
    widest = int(layers["stride"].max())
    weights = [padded_size(int(n)) * row_stride(int(m)) for n, m in layers[["units", "inputs"]][1:]]
    averages = AVERAGES[recipe.optimizer]

    def zeros(count: int) -> Array:
        return aligned_zeros(count, dtype)

    return NetworkArrays(
        parameters=zeros(parameters),
        gradient=zeros(parameters),
        first=zeros(parameters if "first" in averages else 0),
        second=zeros(parameters if "second" in averages else 0),
        running_mean=zeros(units),
        running_var=zeros(units),
        batch_mean=zeros(units),
        batch_inverse_std=zeros(units),
        x=zeros(capacity * row_stride(int(layers[0]["inputs"]))),
        y=zeros(capacity),
        z=zeros(hidden + capacity * int(output["stride"])),
        a=zeros(hidden),
        dz=zeros(capacity * widest),
        da=zeros(capacity * widest),
        transposed_weight=zeros(max(weights, default=0)),
    )
