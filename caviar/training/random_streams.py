"""Random streams of a training, determined by seed, purpose and epoch alone.

All engines draw their random numbers here. The same trial therefore starts from the same weights, visits the rows in
the same order and drops the same units, on any worker and in any order of trials.

The generator is Philox 4x64 (Salmon et al. 2011), which turns a key and a counter into random bits. The key is (seed,
purpose), and the epoch is the highest word of the counter, so that streams cannot overlap within 2**192 draws.

Shape legend: N rows of the train split, B rows of a mini-batch, D inputs of a layer, H its outputs.
"""

import itertools
import math
from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Purpose(IntEnum):
    """Use of a stream. Results depend on the numbers, so they must never change."""

    WEIGHTS = 1
    ORDER = 2
    DROPOUT = 3
    GENERATORS = 4


def philox(seed: int, purpose: Purpose, epoch: int = 0) -> np.random.Philox:
    """Return the bit generator of one stream, at its start.

    Args:
        seed: seed of the trial, below 2**64.
        purpose: use of the stream.
        epoch: the epoch, from 0.
    """
    key = np.array([seed, purpose], dtype=np.uint64)
    counter = np.array([0, 0, 0, epoch], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter)


def generator_seed(seed: int, epoch: int) -> int:
    """Return the seed below 2**32 with which the global random generators begin an epoch of a user's network.

    Example:
        >>> generator_seed(seed=7, epoch=0) == generator_seed(seed=7, epoch=1)
        False
    """
    return int(philox(seed, Purpose.GENERATORS, epoch).random_raw()) % 2**32


def initial_weights(seed: int, sizes: list[int], activation: str) -> list[npt.NDArray[np.float32]]:
    """Return the weights before training, drawn from a normal distribution with mean 0.

    The variance is 2 / D before ReLU (He et al. 2015), and 1 / D before tanh and softmax (LeCun et al. 1998; Glorot &
    Bengio 2010 average D with H).

    Args:
        seed: seed of the trial.
        sizes: inputs, units of each hidden layer, classes.
        activation: activation of the hidden layers, "relu" or "tanh".

    Returns:
        W_DH of each layer, float32, the softmax layer last.
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
        seed: seed of the trial.
        rows: rows of the train split, N.

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
    """Random bits that decide which units are dropped in one epoch (Srivastava et al. 2014).

    Each row and unit takes 16 bits, mini-batch by mini-batch and layer by layer. A layer of a mini-batch takes
    ceil(B H / 4) whole 64-bit words, so that an engine may draw several of them at once.

    Args:
        seed: seed of the trial.
        epoch: the epoch, from 0.
    """

    def __init__(self, seed: int, epoch: int) -> None:
        self._stream = philox(seed, Purpose.DROPOUT, epoch)

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """Return the next 64-bit words of the stream, (count,) uint64, lowest bits first."""
        return np.asarray(self._stream.random_raw(count), dtype="<u8")

    def keep(self, rows: int, units: int, dropout: float) -> npt.NDArray[np.bool_]:
        """Return the next mask.

        Args:
            rows: rows of the mini-batch, B.
            units: units of the layer, H.
            dropout: probability with which a unit is dropped, rounded to a multiple of 2**-16.

        Returns:
            keep_BH, bool: False for a dropped unit.
        """
        count = rows * units
        numbers = self.words(-(-count // 4)).view("<u2")[:count]
        return np.asarray(numbers >= dropout_threshold(dropout)).reshape(rows, units)


def dropout_threshold(dropout: float) -> int:
    """Return the smallest 16-bit number with which a unit is kept."""
    return round(dropout * 65536)
