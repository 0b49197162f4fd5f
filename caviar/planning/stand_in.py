"""An objective that stands in for a study's own in a simulation: it costs nothing to train.

Its values come from a model of the values that were measured, so that the simulated search narrows to where the real
one will, as far as the measured trials show. A trial's curve is flat: only its rank counts.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from random import Random
from statistics import NormalDist
from typing import Any

import numpy as np

from caviar.data.splits import Dataset, Split
from caviar.engine import Checkpoint, Engine, Part, PartDone, Progress
from caviar.objective import Objective
from caviar.planning.measuring import TimedPart
from caviar.search.candidate_ranking import CandidateRanking
from caviar.space import Space
from caviar.trial import Measurement, Outcome, Trial, Value, derive_seed

MIN_MODELED = 8
"""Smallest number of measured values from which a model is made; with fewer, values are drawn at random."""
BEST_SHARE = 0.25
"""Share of the trials, those of the best expected scores, whose noise is learned apart: many are about as good."""


class ValueModel:
    """A model of the values that trials will have, as scores of which smaller ones are better.

    A trial that was measured has its own value, as in the study itself.

    Args:
        parts: timed parts; those that ended by themselves count.
        space: the space of the study.
        maximize: True if larger values are better.
        replication: number of the simulation, which has noise of its own.
        is_sampled: True to make the model from a random part of the values, a bootstrap sample without its copies.
    """

    def __init__(
        self,
        parts: Sequence[TimedPart],
        space: Space,
        maximize: bool,
        replication: int = 0,
        is_sampled: bool = False,
    ) -> None:
        whole = [part for part in parts if part.is_whole]
        valued = [(part.value, part.trial) for part in whole if part.value is not None]
        ranked = [trial for _, trial in sorted(valued, key=itemgetter(0), reverse=maximize)]
        ranked += [part.trial for part in whole if part.outcome is Outcome.DIVERGED]
        self._replication, self._ranking = replication, None
        self._measured = {
            trial.seed: (trial.params, NormalDist().inv_cdf((rank + 0.5) / len(ranked)))
            for rank, trial in enumerate(ranked)
        }
        held_out = ranked
        if is_sampled and ranked:
            chosen = set(Random(replication).choices(range(len(ranked)), k=len(ranked)))
            held_out = [trial for rank, trial in enumerate(ranked) if rank not in chosen]
            ranked = [ranked[rank] for rank in sorted(chosen)]
        if len(ranked) >= MIN_MODELED:
            self._ranking = CandidateRanking(space, [trial.params for trial in ranked])
            self._best_until, self._noises = self._learn_noises(self._ranking, held_out)

    def _learn_noises(
        self, ranking: CandidateRanking, held_out: Sequence[Trial]
    ) -> tuple[float, tuple[float, float]]:
        """Return the largest expected score of the best trials, and the noise of theirs and of the others."""
        count = round(BEST_SHARE * len(held_out))
        if count < MIN_MODELED:
            return math.inf, (ranking.noise, ranking.noise)
        expected = ranking.expected_scores([trial.params for trial in held_out])
        misses = np.array([self._measured[trial.seed][1] for trial in held_out]) - expected
        order = np.argsort(expected)
        best, others = (float(np.sqrt(np.mean(misses[part] ** 2))) for part in (order[:count], order[count:]))
        return float(expected[order[count]]), (best, others)

    def score(self, trial: Trial) -> float:
        """Return the score of a trial, with the noise of its seed."""
        params, score = self._measured.get(trial.seed, (None, 0.0))
        if params == trial.params:
            return score
        noise = Random(derive_seed(trial.seed, self._replication)).gauss(0.0, 1.0)
        if self._ranking is None:
            return noise
        expected = float(self._ranking.expected_scores([trial.params])[0])
        return expected + self._noises[expected >= self._best_until] * noise


@dataclass(frozen=True, eq=False)
class StandIn(Objective):
    """An objective with the costs of another one and modeled values."""

    real: Objective
    dataset: Dataset | None
    """The dataset of the real one, for the costs that it predicts."""
    values: ValueModel
    reports_all: bool
    """True if a trial reports after each epoch, False if it reports at its end."""

    @property
    def metric(self) -> str:
        return self.real.metric

    @property
    def maximize(self) -> bool:
        return self.real.maximize

    @property
    def metric_names(self) -> tuple[str, ...]:
        return self.real.metric_names

    @property
    def has_checkpoints(self) -> bool:
        return self.real.has_checkpoints

    def adapt(self, space: Space) -> Space:
        return space

    def load(self) -> None:
        return None

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        del dataset, device
        return _StandInEngine(self)

    def costs(self, params: Mapping[str, Value], epochs: int, dataset: Dataset | None) -> Mapping[str, float]:
        del dataset
        return self.real.costs(params, epochs, self.dataset)

    def describe(self) -> dict[str, Any]:
        return {"kind": "stand-in"}


class _StandInEngine(Engine):
    """The engine of a stand-in."""

    def __init__(self, objective: StandIn) -> None:
        self._objective = objective

    @property
    def name(self) -> str:
        return "stand-in"

    def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        objective = self._objective
        for part in parts:
            until = part.trial.epochs if part.until is None else part.until
            begun = 0 if part.checkpoint is None else int(part.checkpoint["epoch"])
            score = objective.values.score(part.trial)
            metrics = dict.fromkeys(objective.metric_names, score)
            metrics[objective.metric] = -score if objective.maximize else score
            for epoch in range(begun + 1 if objective.reports_all else until, until + 1):
                yield Progress(part.trial.number, Measurement(epoch, metrics))
            yield PartDone(
                trial=part.trial.number,
                outcome=Outcome.COMPLETED,
                checkpoint={"epoch": np.array(until)} if part.keep_checkpoint else None,
            )

    def evaluate(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> Mapping[str, float]:
        raise NotImplementedError("a stand-in trains no network")
