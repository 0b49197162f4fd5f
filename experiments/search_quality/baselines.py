"""Other searches that come with caviar's own packages: random search, a grid, and Optuna's TPE and Gaussian process.

`peers` has those that need more packages.
"""

import itertools
import math
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from tables import Table

from caviar.search.sampling import distribution
from caviar.space import Choice
from caviar.trial import Value


class Evaluation(NamedTuple):
    """A training of a configuration."""

    row: int
    """Number of the configuration in the table."""
    value: float
    """Its score: the lower, the better."""
    params: Mapping[str, Value]
    """The point of the search space, which may be one of many that fall into the configuration."""
    choice: int | None = None
    """The configuration that the method itself would hand over now; by default that of the best value so far."""


def random_search(table: Table, evaluations: int, seed: int) -> Iterator[Evaluation]:
    """Evaluate configurations drawn uniformly from the table."""
    noise = np.random.default_rng(seed)
    configurations, trainings = table.scores.shape
    rows = noise.integers(configurations, size=evaluations)
    seeds = noise.integers(trainings, size=evaluations)
    for row, value in zip(rows.tolist(), table.scores[rows, seeds].tolist(), strict=True):
        yield Evaluation(row, value, {"row": row})


def tpe(table: Table, evaluations: int, seed: int) -> Iterator[Evaluation]:
    """Run Optuna's TPE sampler one trial after the other, which is the best case for it."""
    return _optuna_search(table, evaluations, seed, TPESampler(seed=seed))


def tpe_liar(table: Table, evaluations: int, seed: int) -> Iterator[Evaluation]:
    """Run TPE with a fifth of the trials in flight, which it takes for poor ones until they are told."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = TPESampler(seed=seed, constant_liar=True)
    return _optuna_search(table, evaluations, seed, sampler, in_flight=max(1, evaluations // 5))


def gaussian_process(table: Table, evaluations: int, seed: int) -> Iterator[Evaluation]:
    """Run Optuna's Gaussian process one trial after the other."""
    return _optuna_search(table, evaluations, seed, GPSampler(seed=seed))


def grid(table: Table, evaluations: int, seed: int) -> Iterator[Evaluation]:
    """Evaluate the largest full grid within the budget: all options, and equally many levels of each interval."""
    noise = np.random.default_rng(seed)
    levels = {n: len(p.domain.options) if isinstance(p.domain, Choice) else 1 for n, p in table.space.items()}
    intervals = [name for name, p in table.space.items() if not isinstance(p.domain, Choice)]
    for name in itertools.cycle(intervals):
        wider = {**levels, name: levels[name] + 1}
        if math.prod(wider.values()) > evaluations:
            break
        levels = wider
    axes = [_levels(table, name, count) for name, count in levels.items()]
    for values in itertools.product(*axes):
        yield observed(table, dict(zip(levels, values, strict=True)), noise)


def observed(table: Table, params: Mapping[str, Value], noise: np.random.Generator) -> Evaluation:
    """Return one of the trainings of a configuration at random."""
    row = table.row(params)
    return Evaluation(row, table.training(row, noise), params)


def _optuna_search(
    table: Table, evaluations: int, seed: int, sampler: BaseSampler, in_flight: int = 1
) -> Iterator[Evaluation]:
    """Ask and tell an Optuna sampler, which is told of a trial `in_flight` trials later."""
    noise = np.random.default_rng(seed)
    distributions = {name: distribution(parameter.domain) for name, parameter in table.space.items()}
    study = optuna.create_study(sampler=sampler)
    untold: deque[tuple[optuna.Trial, float]] = deque()
    for _ in range(evaluations):
        if len(untold) == in_flight:
            study.tell(*untold.popleft())
        trial = study.ask(distributions)
        evaluation = observed(table, trial.params, noise)
        untold.append((trial, evaluation.value))
        yield evaluation


def _levels(table: Table, name: str, count: int) -> list[Value]:
    domain = table.space[name].domain
    if isinstance(domain, Choice):
        return list(domain.options)
    return [(i + 0.5) / count for i in range(count)]
