"""Dropout layers that draw from the trial's own stream, on every engine and device.

torch draws the masks of `nn.Dropout` from its global generator, whose numbers depend on the device and on all that
draws from it. Here the masks of an epoch come from `random_streams.DropoutStream`, in the order in which the layers are
called. Dropout inside other layers, such as attention's, and dropout by a function stay with the global generator,
which begins each epoch with a seed of its own.
"""

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from caviar.training.random_streams import DropoutStream

DROPPED_TOGETHER: dict[type[nn.Module], int] = {
    nn.Dropout: 0,
    nn.Dropout1d: 1,
    nn.Dropout2d: 2,
    nn.Dropout3d: 3,
}
"""Number of last dimensions that are dropped together, by class."""


class DropoutMasks:
    """The stream that all dropout layers of a network share.

    Args:
        seed: seed of the trial.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Begin the masks of an epoch, counted from 0."""
        self._stream = DropoutStream(self._seed, epoch)

    def drop(self, x: Tensor, probability: float, last: int) -> Tensor:
        """Return x with units set to zero at random, and the others scaled up.

        Args:
            x: activations of any shape.
            probability: probability with which a unit is dropped.
            last: number of last dimensions that are dropped together.
        """
        if probability >= 1:
            return x * 0
        keep, share = self.draw(tuple(x.shape), probability, last)
        return x * torch.from_numpy(keep).to(x.device) / share

    def draw(
        self, shape: tuple[int, ...], probability: float, last: int
    ) -> tuple[npt.NDArray[np.bool_], float]:
        """Return the next mask, and the share of units that it keeps on average.

        Args:
            shape: shape of the activations.
            probability: probability with which a unit is dropped, at least 0 and less than 1.
            last: number of last dimensions that are dropped together.

        Returns:
            The mask, of a shape that fits the activations, and 1 - probability.
        """
        kept = len(shape) - last
        units = math.prod(shape[:kept])
        keep = self._stream.keep(1, units, probability) if probability > 0 else np.ones(units, dtype=bool)
        return keep.reshape(*shape[:kept], *(1 for _ in range(last))), 1 - probability


def key_dropout(module: nn.Module, masks: DropoutMasks) -> None:
    """Let the dropout layers of a module draw from a stream; they stay the same objects.

    Args:
        module: any module; changed in place.
        masks: the stream.
    """
    for layer in module.modules():
        if type(layer) in DROPPED_TOGETHER:
            layer.forward = partial(_forward, layer, masks, DROPPED_TOGETHER[type(layer)])


def _forward(layer: Any, masks: DropoutMasks, last: int, input: Tensor) -> Tensor:
    probability = float(layer.p)
    return masks.drop(input, probability, last) if layer.training and probability > 0 else input
