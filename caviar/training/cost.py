"""Predicted seconds of a trial on an engine.

Predictions size the chunks that workers get. Only their ratios between trials matter: the controller corrects the
seconds by the pace of finished trials.
"""

import itertools
from dataclasses import dataclass

from caviar.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class CostModel:
    """Coefficients of a linear model of the seconds of a training.

    seconds = setup + epochs * (steps * (step + layers * layer) + rows * units * unit + flops / flops_per_s)

    Fitted on one core (AMD EPYC with AVX-512, torch 2.13). A step of a small network is nearly all dispatch in torch,
    and nearly all passes over z and a in compiled kernels.
    """

    setup_s: float
    """Seconds for building the network."""
    step_s: float
    """Seconds of each step."""
    layer_s: float
    """Seconds of each hidden layer in a step."""
    flops_per_s: float
    """Floating-point operations per second."""
    unit_s: float = 0.0
    """Seconds of each row and hidden unit in an epoch."""

    def seconds(self, recipe: Recipe, features: int, classes: int, rows: int, epochs: int) -> float:
        """Return the predicted seconds of a training on `rows` rows."""
        sizes = [features, *recipe.hidden, classes]
        parameters = sum(a * b for a, b in itertools.pairwise(sizes))
        steps = -(-rows // recipe.batch_size)
        work = steps * (self.step_s + len(recipe.hidden) * self.layer_s)
        passes = rows * sum(recipe.hidden) * self.unit_s
        # the first term is for the passes over rows, the second for the optimizer's over weights
        flops = 6.0 * rows * parameters + 10.0 * steps * parameters
        return self.setup_s + epochs * (work + passes + flops / self.flops_per_s)


REFERENCE = CostModel(setup_s=2e-3, step_s=2.5e-4, layer_s=2.5e-4, flops_per_s=4e10)
REFERENCE_ON_GPU = CostModel(setup_s=5e-3, step_s=3e-4, layer_s=3e-4, flops_per_s=1e13)
"""An estimate, not fitted: a step of a small network waits for kernel launches of 4 to 10 us each (NVIDIA's guide to
CUDA graphs), of which torch needs some dozens a layer; the products of a large network run at a fraction of the
peak."""
NATIVE = CostModel(setup_s=2.6e-4, step_s=3e-7, layer_s=8e-7, flops_per_s=1.7e11, unit_s=7e-10)
