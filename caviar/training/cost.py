"""What a trial is predicted to cost on an engine, before it is trained.

Predictions size the chunks that workers get. They need not be right in seconds: the controller corrects them
by a factor that it learns from finished trials. Only the ratio between trials should hold.
"""

import itertools
from dataclasses import dataclass

from caviar.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class CostModel:
    """seconds = setup + steps * (fixed + layers * per_layer) + rows * units * per_unit + flops / rate.

    Fitted on one core (AMD EPYC with AVX-512, torch 2.13): the step of a small network is nearly all dispatch
    in torch, and nearly all passes over z and a in compiled kernels.
    """

    setup_s: float
    step_s: float
    layer_s: float
    flops_per_s: float
    unit_s: float = 0.0
    """For each row and hidden unit."""

    def seconds(self, recipe: Recipe, features: int, classes: int, rows: int, epochs: int) -> float:
        """Predicted seconds of a training on `rows` rows."""
        sizes = [features, *recipe.hidden, classes]
        parameters = sum(a * b for a, b in itertools.pairwise(sizes))
        steps = -(-rows // recipe.batch_size)
        work = steps * (self.step_s + len(recipe.hidden) * self.layer_s)
        passes = rows * sum(recipe.hidden) * self.unit_s
        flops = (
            6.0 * rows * parameters + 10.0 * steps * parameters
        )  # passes over rows; the optimizer's over weights
        return self.setup_s + epochs * (work + passes + flops / self.flops_per_s)


REFERENCE = CostModel(setup_s=2e-3, step_s=2.5e-4, layer_s=2.5e-4, flops_per_s=4e10)
REFERENCE_ON_GPU = CostModel(setup_s=5e-3, step_s=3e-4, layer_s=3e-4, flops_per_s=1e13)
"""Not fitted: a small network's step waits for the launches of its kernels, 4 to 10 us each (NVIDIA's guide to CUDA
graphs), of which torch needs some dozens a layer; a large one's products run at a fraction of the peak."""
NATIVE = CostModel(setup_s=2.6e-4, step_s=3e-7, layer_s=8e-7, flops_per_s=1.7e11, unit_s=7e-10)
