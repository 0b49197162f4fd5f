"""The networks of the experiments: trained by caviar's engine, one trial after the other, each with its checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from searches import search

import caviar as cv
from caviar.engine import Checkpoint, Part, PartDone, Progress
from caviar.training.recipe import recipe_from
from caviar.training.reference import Network, trained_network
from caviar.trial import Outcome, Trial


@dataclass(frozen=True)
class Trained:
    """A trained network."""

    trial: Trial
    curve: pd.DataFrame
    """Metrics, one row an epoch."""
    checkpoint: Checkpoint
    outcome: Outcome


class Problem:
    """A data set, and caviar's engine that trains networks on it.

    Args:
        data: what `cv.Classifier` takes.
        options: further options of `cv.Classifier`.
    """

    def __init__(self, data: Any, **options: Any) -> None:
        self.objective = cv.Classifier(data=data, **options)
        self.dataset = self.objective.load().without_test()
        self.engine = self.objective.make_engine(self.dataset, "cpu")

    def train(
        self, params: Mapping[str, Any], epochs: int, seed: int = 0, until: int | None = None
    ) -> Trained:
        """Train one network; with `until` only so many epochs of its schedule, 0 for an untrained one."""
        trial = Trial(number=0, round=1, params=params, epochs=max(epochs, 1), seed=seed)
        events = list(self.engine.train([Part(trial=trial, until=until, keep_checkpoint=True)]))
        end = events[-1]
        assert isinstance(end, PartDone)
        assert end.checkpoint is not None, end.failure
        rows = [
            {"epoch": e.measurement.epoch, **e.measurement.metrics} for e in events if isinstance(e, Progress)
        ]
        return Trained(trial, pd.DataFrame(rows), end.checkpoint, end.outcome)

    def network(self, trained: Trained) -> Network:
        """Return a trained network in torch, in evaluation mode."""
        recipe = recipe_from({**self.objective.fixed, **trained.trial.params})
        return trained_network(recipe, trained.checkpoint, self.dataset.features, len(self.dataset.classes))


def layers_of(network: Network) -> list[Any]:
    """Return the hidden layers of a network, first to last: each has `linear`, `norm` and `activation`."""
    return list(network.hidden)


def draw_and_train(
    objective: cv.Classifier, space: cv.Space, trials: int, epochs: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return trials and curves of a random search, without its confirmation."""
    run = search(objective, space, [cv.Round(trials, epochs), cv.Confirmation(1, 1)], seed=0)
    drawn = run.trials[run.trials["stage"] == "search"]
    return drawn, run.curves[run.curves["trial"].isin(drawn["trial"])]
