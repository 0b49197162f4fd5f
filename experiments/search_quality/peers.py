"""Other searches that need the `peers` extra: SMAC3 and ConfOpt, each as its makers set it up."""

from collections.abc import Iterator
from tempfile import TemporaryDirectory
from typing import Dict  # noqa: UP035  ConfOpt accepts no other annotation

import numpy as np
from baselines import Evaluation, observed
from tables import Table

from caviar.space import Choice


def smac(table: Table, evaluations: int, seed: int) -> Iterator[Evaluation]:
    """Run SMAC's facade for hyperparameters: random forests, and up to three trainings of what may be the best."""
    return _smac(table, evaluations, seed, repeats=True)


def smac_unrepeated(table: Table, evaluations: int, seed: int) -> Iterator[Evaluation]:
    """Run the same search without repeats, for a confirmation that takes their place."""
    return _smac(table, evaluations, seed, repeats=False)


def confopt(table: Table, evaluations: int, seed: int) -> Iterator[Evaluation]:
    """Run ConfOpt: gradient boosting of quantiles, calibrated by conformal prediction, and Thompson sampling."""
    from confopt.tuning import ConformalTuner
    from confopt.wrapping import CategoricalRange, FloatRange

    noise, evaluated = np.random.default_rng(seed), list[Evaluation]()

    def train(configuration: Dict) -> float:  # type: ignore[type-arg]  # noqa: UP006
        evaluated.append(observed(table, configuration, noise))
        return float(evaluated[-1].value)

    space = {
        name: CategoricalRange(choices=list(parameter.domain.options))
        if isinstance(parameter.domain, Choice)
        else FloatRange(min_value=0.0, max_value=1.0)
        for name, parameter in table.space.items()
    }
    tuner = ConformalTuner(train, space, minimize=True)
    tuner.tune(max_searches=evaluations, random_state=seed, verbose=False)
    yield from evaluated


def _smac(table: Table, evaluations: int, seed: int, repeats: bool) -> Iterator[Evaluation]:
    from ConfigSpace import Categorical, ConfigurationSpace, Float
    from smac import HyperparameterOptimizationFacade, Scenario
    from smac.runhistory import TrialValue

    noise, space = np.random.default_rng(seed), ConfigurationSpace(seed=seed)
    space.add(
        [
            Categorical(name, list(parameter.domain.options))
            if isinstance(parameter.domain, Choice)
            else Float(name, (0.0, 1.0))
            for name, parameter in table.space.items()
        ]
    )
    with TemporaryDirectory() as folder:
        scenario = Scenario(
            space, n_trials=evaluations, seed=seed, deterministic=not repeats, output_directory=folder
        )
        search = HyperparameterOptimizationFacade(scenario, _trained_elsewhere, logging_level=False)
        for _ in range(evaluations):
            trial = search.ask()
            evaluation = observed(table, dict(trial.config), noise)
            search.tell(trial, TrialValue(cost=evaluation.value))
            incumbents = search.intensifier.get_incumbents()
            choice = table.row(dict(incumbents[0])) if incumbents else None
            yield evaluation._replace(choice=choice)


def _trained_elsewhere(config: object, seed: int = 0) -> float:
    raise AssertionError("SMAC is asked and told: it trains nothing itself")
