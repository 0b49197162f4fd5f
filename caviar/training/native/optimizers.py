"""One update of parameters for each optimizer, with the formulas of torch.optim.

Each function updates elements `start` to `stop` of the flat arrays: parameters w, their gradient g, the running
average m of gradients and the running average v of squared gradients. L2 regularisation adds l2 w to the gradient.
"""

import math
from typing import Any

from caviar.training.native.arrays import VECTOR_SIZE, Array
from caviar.training.native.jit import jit_inline
from caviar.training.native.layout import KernelRecipe
from caviar.training.native.simd import load, store


@jit_inline
def sgd_step(w: Array, g: Array, start: int, stop: int, rate: Any, l2: Any) -> None:
    """Take a step of gradient descent: w -= rate g.

    Args:
        w: parameters.
        g: gradient.
        start: first element, a multiple of VECTOR_SIZE.
        stop: element after the last.
        rate: learning rate in the dtype of w.
        l2: L2 coefficient in the dtype of w.
    """
    for i in range(start, stop, VECTOR_SIZE):
        weight = load(w, i)
        store(weight - rate * (load(g, i) + l2 * weight), w, i)


@jit_inline
def momentum_step(
    w: Array, g: Array, m: Array, start: int, stop: int, rate: Any, l2: Any, recipe: KernelRecipe
) -> None:
    """Take a step of gradient descent with momentum (Polyak 1964): m = momentum m + g, w -= rate m.

    Arguments as in `sgd_step`.
    """
    for i in range(start, stop, VECTOR_SIZE):
        weight = load(w, i)
        average = recipe.momentum * load(m, i) + (load(g, i) + l2 * weight)
        store(average, m, i)
        store(weight - rate * average, w, i)


@jit_inline
def rmsprop_step(
    w: Array, g: Array, v: Array, start: int, stop: int, rate: Any, l2: Any, recipe: KernelRecipe
) -> None:
    """Take a step of RMSProp (Tieleman & Hinton 2012).

    v = beta2 v + (1 - beta2) g^2, w -= rate g / (sqrt(v) + epsilon). Arguments as in `sgd_step`.
    """
    for i in range(start, stop, VECTOR_SIZE):
        weight = load(w, i)
        gradient = load(g, i) + l2 * weight
        square = recipe.beta2 * load(v, i) + recipe.one_minus_beta2 * gradient * gradient
        store(square, v, i)
        store(weight - rate * gradient / (math.sqrt(square) + recipe.epsilon), w, i)


@jit_inline
def adam_step(
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    start: int,
    stop: int,
    rate: Any,
    second_correction: Any,
    l2: Any,
    recipe: KernelRecipe,
) -> None:
    """Take a step of Adam (Kingma & Ba 2015).

    m += (1 - beta1) (g - m), v = beta2 v + (1 - beta2) g^2, w -= rate m / (sqrt(v) second_correction + epsilon).
    Arguments as in `sgd_step`, with `rate` and `second_correction` from `adam_corrections`.
    """
    for i in range(start, stop, VECTOR_SIZE):
        weight = load(w, i)
        gradient = load(g, i) + l2 * weight
        average = load(m, i)
        average += recipe.one_minus_beta1 * (gradient - average)
        square = recipe.beta2 * load(v, i) + recipe.one_minus_beta2 * gradient * gradient
        store(average, m, i)
        store(square, v, i)
        store(weight - rate * average / (math.sqrt(square) * second_correction + recipe.epsilon), w, i)


@jit_inline
def adam_corrections(learning_rate: float, step: int, recipe: KernelRecipe) -> tuple[float, float]:
    """Return Adam's learning rate and factor of sqrt(v), corrected for averages that began at zero.

    Args:
        learning_rate: learning rate of the epoch.
        step: number of the step, from 1.
        recipe: recipe with the decay rates of both averages.

    Returns:
        learning_rate / (1 - beta1^step) and 1 / sqrt(1 - beta2^step), float64.
    """
    rate = learning_rate / (1 - recipe.beta1_float64**step)
    return rate, 1 / math.sqrt(1 - recipe.beta2_float64**step)
