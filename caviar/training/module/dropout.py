"""Dropout layers that draw from the trial's own stream, on every engine and device.

torch draws the masks of `nn.Dropout` from its global generator, whose numbers depend on the device and on all that
draws from it. Here the masks of an epoch come from `random_streams.DropoutStream`, in the order in which the layers are
called. Dropout inside other layers, such as attention's, and dropout by a function stay with the global generator,
which begins each epoch with a seed of its own.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from caviar.training.random_streams import DropoutStream

_PER_CHANNEL: dict[type[nn.Module], int] = {
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
        kept = x.dim() - last
        shape = (*x.shape[:kept], *(1 for _ in range(last)))
        units = x.shape[:kept].numel()
        keep = torch.from_numpy(self._stream.keep(1, units, probability)).reshape(shape).to(x.device)
        return x * keep / (1 - probability) if probability < 1 else x * 0


def key_dropout(module: nn.Module, masks: DropoutMasks) -> None:
    """Let the dropout layers of a module draw from a stream; they stay the same objects.

    Args:
        module: any module; changed in place.
        masks: the stream.
    """
    for layer in module.modules():
        if type(layer) in _PER_CHANNEL:
            layer.forward = partial(_forward, layer, masks, _PER_CHANNEL[type(layer)])


def _forward(layer: Any, masks: DropoutMasks, last: int, input: Tensor) -> Tensor:
    probability = float(layer.p)
    return masks.drop(input, probability, last) if layer.training and probability > 0 else input
