"""All random numbers of a training, keyed by (seed, purpose, epoch).

All engines draw from here. A trial starts from the same weights, sees the rows in the same order and drops the same
units on any worker and beside any other trials.

The generator is Philox (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011). The key
is (seed, purpose), and the epoch is the counter's highest word, so streams do not overlap within 2**192 draws.

Shape legend: N rows, B rows of a mini-batch, D inputs of a layer, H its outputs.
"""

import itertools
import math
from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Purpose(IntEnum):
    """The purpose of random numbers. The values are part of every result, so they must not change."""

    WEIGHTS = 1
    ORDER = 2
    DROPOUT = 3


def philox(seed: int, purpose: Purpose, epoch: int = 0) -> np.random.Philox:
    """Return the bit stream of one purpose in one epoch."""
    key = np.array([seed, purpose], dtype=np.uint64)
    counter = np.array([0, 0, 0, epoch], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter)


def initial_weights(seed: int, sizes: list[int], activation: str) -> list[npt.NDArray[np.float32]]:
    """Return the weights before training: normal, with mean 0 and variance 2/D before ReLU, else 1/D.

    The variance follows He et al. 2015 for ReLU, and Glorot & Bengio 2010, simplified to the inputs alone, for tanh and
    softmax.

    Args:
        seed: seed of the trial.
        sizes: number of inputs, widths of the hidden layers, number of classes.
        activation: activation of the hidden layers.

    Returns:
        W_DH (D, H), float32, of each layer; the last layer is the one before the softmax.
    """
    rng = np.random.Generator(philox(seed, Purpose.WEIGHTS))
    weights = []
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        gain = 2.0 if activation == "relu" and layer < len(sizes) - 2 else 1.0
        w_DH = rng.standard_normal((n_in, n_out), dtype=np.float32)
        w_DH *= np.float32(math.sqrt(gain / n_in))
        weights.append(w_DH)
    return weights


class EpochOrders:
    """Orders in which a training visits its rows, one permutation an epoch.

    One generator serves all epochs: setting it to the start of an epoch's stream takes a tenth of the time of
    creating another.

    Args:
        seed: Seed of the trial.
        rows: Rows N of the train split.

    Example:
        >>> EpochOrders(seed=7, rows=10).order(epoch=3).tolist()
        [0, 2, 7, 1, 6, 3, 4, 9, 5, 8]
    """

    def __init__(self, seed: int, rows: int) -> None:
        self._rows = rows
        self._stream = philox(seed, Purpose.ORDER)
        self._start = self._stream.state
        self._generator = np.random.Generator(self._stream)

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the rows in the order in which an epoch, counted from 0, visits them: (N,) int64."""
        self._start["state"]["counter"][-1] = epoch
        self._stream.state = self._start
        return self._generator.permutation(self._rows)


class DropoutStream:
    """The dropout masks of one epoch: 16 random bits a unit, mini-batch by mini-batch, layer by layer.

    Each layer of a mini-batch takes whole 64-bit words, ceil(B H / 4) of them, so an engine can draw them one at a time
    or many at once.

    Args:
        seed: seed of the trial.
        epoch: epoch, counted from 0.
    """

    def __init__(self, seed: int, epoch: int) -> None:
        self._bits = philox(seed, Purpose.DROPOUT, epoch)

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """Return the next 64-bit words of the stream."""
        return np.asarray(self._bits.random_raw(count), dtype="<u8")

    def keep(self, rows: int, units: int, dropout: float) -> npt.NDArray[np.bool_]:
        """Return the next mask keep_BH (B, H), False with probability `dropout` (to the nearest 2**-16)."""
        count = rows * units
        halves = self.words(-(-count // 4)).view("<u2")[:count]
        return np.asarray(halves >= dropout_threshold(dropout)).reshape(rows, units)


def dropout_threshold(dropout: float) -> int:
    """Return the smallest number, of 16 random bits, at which a unit is kept."""
    return round(dropout * 65536)
