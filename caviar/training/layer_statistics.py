"""Statistics of the hidden layers of a network, computed from its state after an epoch: the same in every engine.

Layer l, counted from 1, computes z = x W from the activations x of the layer below (z = x W + bias without batch norm).
Its activation receives z~ = gamma (z - mean) / sqrt(var + epsilon) + beta, or z itself without batch norm. Every layer
uses the running averages mean and var, and no unit is dropped. The metrics of a layer are:

    z_mean_l, z_std_l               mean and standard deviation of z over the dev rows and the units
    z_tilde_mean_l, z_tilde_std_l   the same of z~
    batch_mean_noise_l              root mean square, over the mini-batches of one epoch and the units, of
                                    (mean of z in the mini-batch - mean of all train rows) / std of all train rows
    batch_std_noise_l               likewise of std in the mini-batch / std of all train rows - 1

In the last two std is sqrt(var + epsilon), by which batch norm divides. They take the mini-batches of the trial's first
epoch, also for a network without batch norm.

Shape legend: N rows of a split, B mini-batches, D inputs of a layer, H its units.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from caviar.data.splits import Dataset
from caviar.engine import Checkpoint
from caviar.training.random_streams import EpochOrders
from caviar.training.recipe import Recipe, batches, recipe_from
from caviar.trial import Trial, Value

Floats = npt.NDArray[np.float64]
Observe = Callable[[Trial, Checkpoint], Mapping[str, float]]
"""Returns further metrics of a trial from its state after an epoch."""

NAMES = ("z_mean", "z_std", "z_tilde_mean", "z_tilde_std", "batch_mean_noise", "batch_std_noise")
"""Statistics of a layer; the name of a metric ends with the number of the layer."""


def statistic_names(layers: int) -> tuple[str, ...]:
    """Return the names of the statistics of the first layers.

    Example:
        >>> statistic_names(2)[5:7]
        ('batch_std_noise_1', 'z_mean_2')
    """
    return tuple(f"{name}_{layer}" for layer in range(1, layers + 1) for name in NAMES)


class LayerStatistics:
    """The statistics of the first hidden layers, in float64 and on one thread (an `Observe`).

    Args:
        dataset: its dev rows and its train rows are used, and copied in float64.
        fixed: hyperparameters that all trials share.
        layers: number of layers; a network with fewer has statistics of those that it has.
    """

    def __init__(self, dataset: Dataset, fixed: Mapping[str, Value], layers: int) -> None:
        self._fixed, self._layers = fixed, layers
        self._blas = ThreadpoolController().select(user_api="blas")  # its last digits depend on its threads
        self._dev = np.asarray(dataset.dev.x, dtype=np.float64)
        self._train = np.asarray(dataset.train.x, dtype=np.float64)

    def __call__(self, trial: Trial, checkpoint: Checkpoint) -> dict[str, float]:
        """Return the metrics of a trial's network."""
        recipe = recipe_from({**self._fixed, **trial.params})
        rows = len(self._train)
        dev, train = self._dev, self._train[EpochOrders(trial.seed, rows).order(0)]
        metrics: dict[str, float] = {}
        with self._blas.limit(limits=1), np.errstate(all="ignore"):  # a diverged network is not finite
            for layer in range(1, min(self._layers, recipe.layers) + 1):
                hidden = _HiddenLayer(recipe, checkpoint, layer)
                z_dev, z_train = hidden.z(dev), hidden.z(train)
                z_tilde = hidden.z_tilde(z_dev)
                noise = batch_noise(z_train, batches(rows, recipe), recipe.batch_norm_epsilon)
                values = (z_dev.mean(), z_dev.std(), z_tilde.mean(), z_tilde.std(), *noise)
                metrics |= {f"{name}_{layer}": float(v) for name, v in zip(NAMES, values, strict=True)}
                dev, train = (hidden.activation(z) for z in (z_tilde, hidden.z_tilde(z_train)))
        return metrics


class _HiddenLayer:
    """One hidden layer of a checkpoint, in evaluation mode."""

    def __init__(self, recipe: Recipe, checkpoint: Checkpoint, layer: int) -> None:
        self._recipe = recipe
        prefix = f"hidden.{layer - 1}."
        self._arrays: dict[str, Floats] = {
            name.removeprefix(prefix): np.asarray(array, dtype=np.float64)
            for name, array in checkpoint.items()
            if name.startswith(prefix)
        }

    def z(self, x_ND: Floats) -> Floats:
        z_NH: Floats = x_ND @ self._arrays["weight"]
        return z_NH if self._recipe.batch_norm else z_NH + self._arrays["bias"]

    def z_tilde(self, z_NH: Floats) -> Floats:
        if not self._recipe.batch_norm:
            return z_NH
        mean, var, gamma, beta = (self._arrays[name] for name in ("mean", "var", "gamma", "beta"))
        return gamma * (z_NH - mean) / np.sqrt(var + self._recipe.batch_norm_epsilon) + beta

    def activation(self, z_NH: Floats) -> Floats:
        a_NH: Floats = np.maximum(z_NH, 0) if self._recipe.activation == "relu" else np.tanh(z_NH)
        return a_NH


def batch_noise(z_NH: Floats, places: Sequence[tuple[int, int]], epsilon: float) -> tuple[float, float]:
    """Return the noise of the mean and of the standard deviation of mini-batches.

    Args:
        z_NH: z of all train rows, in the order in which mini-batches take them.
        places: first place and the place after the last of each mini-batch, one after the other.
        epsilon: number added to each variance.

    Example:
        >>> batch_noise(np.array([[0.0], [2.0], [2.0], [4.0]]), [(0, 2), (2, 4)], epsilon=0.0)
        (0.707..., 0.292...)
    """
    starts = [start for start, _ in places]
    counts_B1 = np.array([[stop - start] for start, stop in places])
    d_NH = (z_NH - z_NH.mean(axis=0))[: places[-1][1]]
    mean_BH = np.add.reduceat(d_NH, starts, axis=0) / counts_B1
    var_BH = np.maximum(np.add.reduceat(d_NH**2, starts, axis=0) / counts_B1 - mean_BH**2, 0)
    std_H = np.sqrt(z_NH.var(axis=0) + epsilon)
    noises = mean_BH / std_H, np.sqrt(var_BH + epsilon) / std_H - 1
    of_mean, of_std = (float(np.sqrt((noise**2).mean())) for noise in noises)
    return of_mean, of_std
