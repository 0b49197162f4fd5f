"""A search as a sequence of trainings, and what it would hand over at each moment on simulated workers."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import confirmed
import numpy as np
import numpy.typing as npt
from baselines import Evaluation
from tables import Table

import caviar as cv


class Training(NamedTuple):
    """One training in a sequence."""

    row: int
    """Number of the configuration in the table."""
    value: float
    """Its score: the lower, the better."""
    needs: int = 0
    """Number of leading trainings that must end before it can start."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All trainings of a search and its confirmation, in the order in which they start."""

    trainings: Sequence[Training]
    searching: int
    """Number of leading trainings that search; the others confirm."""
    leaders: Sequence[tuple[int, int]] = ()
    """The configuration that leads once so many leading trainings have ended, after each step of confirmation."""


def searched_only(searched: Sequence[Evaluation]) -> Plan:
    """Return the plan of a search without confirmation, whose trainings wait for no others."""
    return Plan([Training(row, value) for row, value, *_ in searched], len(searched))


def then_confirmed(
    table: Table, searched: Sequence[Evaluation], confirmation: cv.Confirmation, seed: int
) -> Plan:
    """Return the plan of a search, then of caviar's confirmation, each of whose steps waits for all before it."""
    trainings, leaders = list(searched_only(searched).trainings), list[tuple[int, int]]()
    for again, leader in confirmed.confirmation_steps(table, searched, confirmation, seed):
        trainings += [Training(row, value, needs=len(trainings)) for row, value, *_ in again]
        leaders.append((len(trainings), leader))
    return Plan(trainings, len(searched), leaders)


class Workers:
    """Simulated workers, which take trainings first come, first served."""

    def __init__(self, count: int) -> None:
        self._free_at = [0.0] * count

    @property
    def next_free_at(self) -> float:
        """The moment at which the next of them is free."""
        return self._free_at[0]

    def train(self, seconds: float, not_before: float = 0.0) -> float:
        """Start a training on the next free worker, and return the moment at which it ends."""
        end = max(self._free_at[0], not_before) + seconds
        heapq.heapreplace(self._free_at, end)
        return end


@dataclass(frozen=True, slots=True)
class HandOvers:
    """The configurations that a search would hand over, one after the other."""

    moments: Sequence[float]
    """Seconds from which on, in order."""
    rows: Sequence[int]
    end: float
    """Seconds until everything has ended."""


def hand_overs(plan: Plan, workers: int, seconds: npt.NDArray[np.float64]) -> HandOvers:
    """Return what a plan would hand over at each moment.

    While it searches, that is the configuration of the best value so far; afterwards, the leader of the last step of
    confirmation that has ended.

    Args:
        plan: the trainings.
        workers: number of workers.
        seconds: how long each configuration of the table trains.
    """
    pool, ends, all_ended = Workers(workers), list[float](), [0.0]
    for training in plan.trainings:
        ends.append(pool.train(seconds[training.row], not_before=all_ended[training.needs]))
        all_ended.append(max(all_ended[-1], ends[-1]))
    confirmed_at = all_ended[plan.leaders[0][0]] if plan.leaders else math.inf
    handed, best = list[tuple[float, int]](), math.inf
    for end, training in sorted(zip(ends[: plan.searching], plan.trainings, strict=False)):
        if training.value < best and end < confirmed_at:
            best = training.value
            handed.append((end, training.row))
    handed += [(all_ended[count], row) for count, row in plan.leaders]
    return HandOvers([end for end, _ in handed], [row for _, row in handed], all_ended[-1])
