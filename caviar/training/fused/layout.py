"""Memory of one lane: all arrays of a network in training, one after the other in a flat array.

The kernels find the arrays of a layer in a table of numbers, one row a layer: its sizes, and where each of its arrays
begins. Rows of matrices are padded with zeros to a multiple of `ALIGNMENT` numbers.

Shape legend: B rows of a mini-batch, D inputs of a layer, H its outputs, C classes.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from caviar.training.recipe import Recipe

ALIGNMENT = 16
"""Numbers to whose multiple each row of a matrix is padded."""


class Field(IntEnum):
    """Columns of a lane's table of layers. All but the first three are places in the flat array."""

    INPUTS = 0  # D
    UNITS = 1  # H, or C in the output layer
    STRIDE = 2  # numbers from one row of w_DH, z_BH, a_BH or dz_BH to the next
    WEIGHT = 3  # w_DH
    SCALE = 4  # gamma_H
    SHIFT = 5  # beta_H, or the bias without batch norm
    RUNNING_MEAN = 6
    RUNNING_VAR = 7
    MEAN = 8  # of the mini-batch
    INVERSE_STD = 9  # 1 / sqrt(var + epsilon) of the mini-batch
    Z = 10  # z_BH
    A = 11  # a_BH
    DZ = 12  # gradient at z_BH, or at the logits


AVERAGES = {"sgd": (), "momentum": ("first",), "rmsprop": ("second",), "adam": ("first", "second")}
"""Running averages that each optimizer keeps, as named in `caviar.engine.Checkpoint`."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Places of a network's arrays in the flat array of its lane: the state first, then what a mini-batch needs."""

    table: npt.NDArray[np.int64]
    """One row a layer, the output layer last, with the columns of `Field`."""
    averages: dict[str, int]
    """Place of each of the optimizer's running averages, which are laid out like the parameters before them."""
    has_norm: bool
    """True if the hidden layers have batch norm."""
    state: int
    """Numbers of the state, which a checkpoint holds."""
    size: int
    """Numbers of the whole array."""

    @property
    def layers(self) -> int:
        """Number of hidden layers."""
        return len(self.table) - 1

    def state_views(self, flat: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Return views of an array laid out so, under the names in `caviar.engine.Checkpoint`."""
        views: dict[str, npt.NDArray[Any]] = {}
        for name, row, has_norm in self._named_layers():
            inputs, units, stride = row[: Field.WEIGHT]
            for prefix, start in {"": 0, **{f"{name}.": at for name, at in self.averages.items()}}.items():
                weight = flat[start + row[Field.WEIGHT] :][: inputs * stride].reshape(inputs, stride)
                views[f"{prefix}{name}.weight"] = weight[:, :units]
                if has_norm:
                    views[f"{prefix}{name}.gamma"] = flat[start + row[Field.SCALE] :][:units]
                shift = "beta" if has_norm else "bias"
                views[f"{prefix}{name}.{shift}"] = flat[start + row[Field.SHIFT] :][:units]
            if has_norm:
                views[f"{name}.mean"] = flat[row[Field.RUNNING_MEAN] :][:units]
                views[f"{name}.var"] = flat[row[Field.RUNNING_VAR] :][:units]
        return views

    def _named_layers(self) -> Iterator[tuple[str, npt.NDArray[np.int64], bool]]:
        """Yield each layer's name in `Checkpoint`, its row of the table, and whether it has batch norm."""
        for number, row in enumerate(self.table[:-1]):
            yield f"hidden.{number}", row, self.has_norm
        yield "output", self.table[-1], False


def lay_out(recipe: Recipe, sizes: Sequence[int], rows: int) -> Layout:
    """Return the layout of a network's memory.

    Args:
        recipe: recipe of the trial.
        sizes: inputs, width of each hidden layer, classes.
        rows: largest number of rows that the network takes at a time.
    """
    place = 0

    def take(count: int) -> int:
        nonlocal place
        start, place = place, place + padded(count)
        return start

    table = np.zeros((len(sizes) - 1, len(Field)), dtype=np.int64)
    for row, (inputs, units) in zip(table, itertools.pairwise(sizes), strict=True):
        row[: Field.WEIGHT] = inputs, units, padded(units)
        row[Field.WEIGHT] = take(inputs * padded(units))
        row[Field.SCALE], row[Field.SHIFT] = take(units), take(units)
    parameters = place
    averages = {name: take(parameters) for name in AVERAGES[recipe.optimizer]}
    for row in table:
        row[Field.RUNNING_MEAN], row[Field.RUNNING_VAR] = take(row[Field.UNITS]), take(row[Field.UNITS])
    state = place
    for row in table:
        row[Field.MEAN], row[Field.INVERSE_STD] = take(row[Field.UNITS]), take(row[Field.UNITS])
        for field in (Field.Z, Field.A, Field.DZ):
            row[field] = take(rows * row[Field.STRIDE])
    return Layout(table, averages, recipe.batch_norm, state, place)


def padded(count: int) -> int:
    """Return a count of numbers, rounded up to a multiple of `ALIGNMENT`."""
    return -(-count // ALIGNMENT) * ALIGNMENT
