"""Other searches: random search, Optuna's TPE and a grid. Each keeps the best observed value."""

import itertools
import math
from collections.abc import Iterator, Mapping

import numpy as np
import optuna
from optuna.samplers import TPESampler
from tables import Table

from caviar.search.sampling import distribution
from caviar.space import Choice
from caviar.trial import Value

Evaluation = tuple[int, float]
"""A configuration and the value of one of its trainings."""


def random_search(table: Table, evaluations: int, seed: int) -> Iterator[Evaluation]:
    """Evaluate configurations drawn uniformly from the table."""
    noise = np.random.default_rng(seed)
    configurations, trainings = table.scores.shape
    rows, seeds = (
        noise.integers(configurations, size=evaluations),
        noise.integers(trainings, size=evaluations),
    )
    yield from zip(rows.tolist(), table.scores[rows, seeds].tolist(), strict=True)


def tpe(table: Table, evaluations: int, seed: int) -> Iterator[Evaluation]:
    """Run Optuna's TPE sampler one trial after the other, which is the best case for it."""
    space, noise = table.space, np.random.default_rng(seed)
    distributions = {name: distribution(parameter.domain) for name, parameter in space.items()}
    study = optuna.create_study(sampler=TPESampler(seed=seed))
    for _ in range(evaluations):
        trial = study.ask(distributions)
        row, value = observed(table, trial.params, noise)
        study.tell(trial, value)
        yield row, value


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
    return row, float(table.scores[row, noise.integers(table.scores.shape[1])])


def _levels(table: Table, name: str, count: int) -> list[Value]:
    domain = table.space[name].domain
    if isinstance(domain, Choice):
        return list(domain.options)
    return [(i + 0.5) / count for i in range(count)]
