"""Predictions of the seconds that a trial takes on each engine.

They decide the size of the chunks that workers get. Only ratios between trials matter: the driver measures the speed of
each device from finished trials, and scales the predictions.
"""

import itertools
from dataclasses import dataclass

from caviar.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class CostModel:
    """Linear model of the seconds of a training.

    seconds = setup + epochs (steps (step + layers layer) + rows units unit + flops / flops_per_s)

    with all hidden units of the network. The coefficients for CPUs were fitted on one core of an AMD EPYC with AVX-512,
    with torch 2.13.
    """

    setup_s: float
    """Seconds before the first step."""
    step_s: float
    """Seconds for each mini-batch."""
    layer_s: float
    """Seconds for each mini-batch and hidden layer."""
    flops_per_s: float
    """Floating-point operations a second in matrix products."""
    unit_s: float = 0.0
    """Seconds for each row and hidden unit."""

    def seconds(self, recipe: Recipe, features: int, classes: int, rows: int, epochs: int) -> float:
        """Predict the seconds of a training.

        Args:
            recipe: the recipe of the trial.
            features: number of features of the data set.
            classes: number of classes.
            rows: rows of the train split.
            epochs: epochs to train.
        """
        sizes = [features, *recipe.hidden, classes]
        parameters = sum(a * b for a, b in itertools.pairwise(sizes))
        steps = -(-rows // recipe.batch_size)
        overhead_s = steps * (self.step_s + len(recipe.hidden) * self.layer_s)
        units_s = rows * sum(recipe.hidden) * self.unit_s
        flops = 6.0 * rows * parameters + 10.0 * steps * parameters  # three products; the optimizer's update
        return self.setup_s + epochs * (overhead_s + units_s + flops / self.flops_per_s)


REFERENCE = CostModel(setup_s=2e-3, step_s=2.5e-4, layer_s=2.5e-4, flops_per_s=4e10)
"""Reference engine on a CPU core. A step of a small network is almost all overhead of torch."""
REFERENCE_ON_GPU = CostModel(setup_s=5e-3, step_s=3e-4, layer_s=3e-4, flops_per_s=1e13)
"""Reference engine on a GPU; estimated, not fitted. A layer launches some dozens of kernels, each 4 to 10
microseconds (NVIDIA's guide to CUDA graphs), and products of large layers reach a fraction of the peak."""
FUSED_ON_GPU = CostModel(setup_s=2e-4, step_s=3e-7, layer_s=3e-7, flops_per_s=1e13)
"""Fused engine on a GPU, a trial's share of the time; estimated, not fitted."""
NATIVE = CostModel(setup_s=2.6e-4, step_s=3e-7, layer_s=8e-7, flops_per_s=1.7e11, unit_s=7e-10)
"""Native engine on a CPU core. A step of a small network is mostly passes over z and a."""

MODELS = {
    ("reference", "cpu"): REFERENCE,
    ("reference", "cuda"): REFERENCE_ON_GPU,
    ("native", "cpu"): NATIVE,
    ("native", "cuda"): NATIVE,
    ("fused", "cpu"): REFERENCE,
    ("fused", "cuda"): FUSED_ON_GPU,
}
"""Model of each engine on each device. On a CPU the fused engine is interpreted, for tests alone."""
