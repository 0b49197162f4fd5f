"""Successive halving within a round: which trials stop early and which continue.

The algorithm is that of Jamieson & Talwalkar 2016 ("Non-stochastic best arm identification and hyperparameter
optimization"), run for several groups of trials at once.

The trials of a round are divided by number into cohorts. When all trials of a cohort have reached a rung, the best
share continues to the next rung and the others stop. Cohorts are independent, so workers do not wait while one of them
is undecided. Promotion depends only on the scores in the cohort, never on the order in which they arrive (law 1).
Asynchronous halving (Li et al. 2020, "A system for massively parallel hyperparameter tuning") promotes by what has
arrived so far, which is faster but not reproducible.

A trial may end before its next rung: it failed, diverged, or was recorded before an interruption. It keeps the scores
of the rungs that it reached and is still ranked there, so a resumed study decides as the first run did. At the rungs
that it did not reach, the next best trial takes its place.

This module handles trial numbers and scores only; the controller handles the trials.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from caviar.rounds import Halving
from caviar.trial import Measurement

Score = tuple[float, ...]
"""The key that ranks a trial at a rung. Smaller is better, and no two trials have the same key."""
Scores = Sequence[Score | None]
"""The score of a trial at each rung; None where it did not reach the rung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The paused trials that stop, and those that continue."""

    stopped: tuple[int, ...] = ()
    promoted: Mapping[int, int] = field(default_factory=dict)
    """For each trial that continues, the epoch that it trains up to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Trials that compete with one another, and what is known of them at the current rung."""

    rung_sizes: tuple[int, ...]
    """Number of trials that train up to each rung, and then to the end; the first is the size of the cohort."""
    training: frozenset[int]
    """Trials that have not reached the rung yet."""
    rung: int = 0
    """Index of the current rung, from 0."""
    scores: Mapping[int, Score] = field(default_factory=dict)
    """Scores of the trials that have reached the rung."""
    paused: frozenset[int] = frozenset()
    """Trials at the rung that can continue."""
    ended: Mapping[int, Scores] = field(default_factory=dict)
    """Scores of the trials that cannot continue, at all rungs."""

    def report(self, number: int, scores: Scores, *, ended: bool) -> "Cohort":
        """Return the cohort after a trial has reached the rung, or has ended before it.

        Args:
            number: the trial's number. A trial that is not training changes nothing.
            scores: its score at each rung.
            ended: True if the trial cannot continue.
        """
        if number not in self.training:
            return self
        score = scores[self.rung]
        return replace(
            self,
            training=self.training - {number},
            scores=self.scores if score is None else {**self.scores, number: score},
            paused=self.paused if ended else self.paused | {number},
            ended={**self.ended, number: scores} if ended else self.ended,
        )

    def promote(self) -> tuple["Cohort", tuple[int, ...], tuple[int, ...]]:
        """Move the best trials to the next rung, once none is training.

        Returns:
            The cohort at the next rung, the paused trials that stop, and those that continue.
        """
        best = sorted(self.scores, key=lambda number: self.scores[number])[: self.rung_sizes[self.rung + 1]]
        after = replace(self, rung=self.rung + 1, training=frozenset(best), scores={}, paused=frozenset())
        if after.rung < len(self.rung_sizes) - 1:
            for number in best:
                if number in self.ended:
                    after = after.report(number, self.ended[number], ended=True)
        promoted = tuple(number for number in best if number in self.paused)
        return after, tuple(sorted(self.paused - set(best))), promoted


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """The halving of one round. It only holds the cohorts that are undecided, so its size stays small."""

    rule: Halving
    epochs: int
    """Epochs of a trial that trains to the end."""
    first: int
    """Number of the round's first trial."""
    count: int
    """Number of trials in the round."""
    metric: str
    """Name of the metric that ranks trials."""
    maximize: bool
    """True if larger values of it are better."""
    cohorts: Mapping[int, Cohort] = field(default_factory=dict)
    """The cohorts that have started and are undecided, by index."""
    decided: int = 0
    """Number of cohorts that are decided."""

    @property
    def rung_epochs(self) -> tuple[int, ...]:
        """The epochs after which trials pause and are compared."""
        return self.rule.rung_epochs(self.epochs)

    def report(
        self, number: int, measurements: Sequence[Measurement], *, ended: bool
    ) -> tuple["Race", Verdict]:
        """Take in that a trial has reached its rung or has ended, and decide what can be decided.

        Args:
            number: the trial's number.
            measurements: all its measurements so far.
            ended: True if the trial cannot continue; then it is recorded, or about to be.

        Returns:
            The race after that, and the trials that stop or continue now.
        """
        index = self.cohort_index(number)
        scores = _scores(number, measurements, self.rung_epochs, self.metric, self.maximize)
        return self._decide(index, self._cohort(index).report(number, scores, ended=ended))

    @property
    def is_decided(self) -> bool:
        """True if all cohorts are decided."""
        return self.decided == self.rule.cohort_count(self.count)

    def cohort_index(self, number: int) -> int:
        """Return the index of a trial's cohort, from 0."""
        return (number - self.first) * self.rule.cohort_count(self.count) // self.count

    def cohort_numbers(self, index: int) -> range:
        """Return the numbers of a cohort's trials."""
        cohorts = self.rule.cohort_count(self.count)
        start, stop = (self.first - (-self.count * i // cohorts) for i in (index, index + 1))
        return range(start, stop)

    def _cohort(self, index: int) -> Cohort:
        """Return a cohort; one that has not started has all its trials in training."""
        if index in self.cohorts:
            return self.cohorts[index]
        numbers = self.cohort_numbers(index)
        return Cohort(rung_sizes=self.rule.rung_sizes(len(numbers), self.epochs), training=frozenset(numbers))

    def _decide(self, index: int, cohort: Cohort) -> tuple["Race", Verdict]:
        """Promote for each rung that is complete; forget the cohort after its last rung."""
        stopped: tuple[int, ...] = ()
        promoted: dict[int, int] = {}
        train_until = (*self.rung_epochs, self.epochs)
        while not cohort.training and cohort.rung < len(self.rung_epochs):
            cohort, losers, winners = cohort.promote()
            stopped += losers
            promoted = dict.fromkeys(winners, train_until[cohort.rung])
        undecided = {other: c for other, c in self.cohorts.items() if other != index}
        if is_open := cohort.rung < len(self.rung_epochs):
            undecided[index] = cohort
        race = replace(self, cohorts=undecided, decided=self.decided + (not is_open))
        return race, Verdict(stopped=stopped, promoted=promoted)


def _scores(
    number: int, measurements: Sequence[Measurement], rungs: Sequence[int], metric: str, maximize: bool
) -> Scores:
    """Return a trial's score at each rung, from its first measurement at that epoch or later.

    A rung without a finite value has no score. Ties go to the smaller dev loss if measured, then to the earlier trial.
    """
    found: list[Score | None] = []
    for epoch in rungs:
        metrics = next((m.metrics for m in measurements if m.epoch >= epoch), None)
        if metrics is None or not math.isfinite(metrics[metric]):
            found.append(None)
            continue
        value, tie = metrics[metric], metrics.get("dev_loss", 0.0)
        found.append((-value if maximize else value, math.inf if math.isnan(tie) else tie, float(number)))
    return found
