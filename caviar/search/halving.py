"""Successive halving within a round: all train a little, the best of them longer, the best of those to the end.

The trials of a round race in cohorts, by number. When all of a cohort have come to the end of a rung, the best
share of it goes on to the next rung, and the rest has stopped. Cohorts know nothing of each other, so workers
need not wait while one is undecided; and who goes on depends on the trials' own numbers, never on who came
first (law 1), as it would with asynchronous halving (Li et al. 2020), which promotes by what has arrived so far.

A trial that ended by itself (it failed, diverged, or was recorded before an interruption) keeps the scores that it
had at the rungs on its way, and still takes its place in the ranking of these: so a resumed race decides as the first
did. One that never came to the end of a rung leaves its place there to the next.

Here are trial numbers and scores alone; the controller knows what they belong to.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from caviar.rounds import Halving
from caviar.trial import Measurement

Score = tuple[float, ...]
"""What ranks trials at the end of a rung: the smaller the better, and no two are equal."""
Scores = Sequence[Score | None]
"""A trial's score at the end of each rung; None where it never came there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a rung's end decides for the trials that wait there."""

    stopped: tuple[int, ...] = ()
    promoted: Mapping[int, int] = field(default_factory=dict)
    """Each with the epoch that it goes on to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Trials that race against each other."""

    places: tuple[int, ...]
    """How many train in each rung; the first is all."""
    racing: frozenset[int]
    """Those in this rung that have not come to its end."""
    rung: int = 0
    arrived: Mapping[int, Score] = field(default_factory=dict)
    """Those that have."""
    waiting: frozenset[int] = frozenset()
    """Those among them that could go on."""
    ended: Mapping[int, Scores] = field(default_factory=dict)
    """Those that will train no more, whatever is decided."""

    def arrive(self, number: int, scores: Scores, *, over: bool) -> "Cohort":
        """A trial has come to the end of its rung, or ended before it; then it has no score there.

        Args:
            number: the trial's; what is not racing changes nothing.
            scores: at each rung so far.
            over: it trains no more, whatever is decided.
        """
        if number not in self.racing:
            return self
        score = scores[self.rung]
        return replace(
            self,
            racing=self.racing - {number},
            arrived=self.arrived if score is None else {**self.arrived, number: score},
            waiting=self.waiting if over else self.waiting | {number},
            ended={**self.ended, number: scores} if over else self.ended,
        )

    def advance(self) -> tuple["Cohort", tuple[int, ...], tuple[int, ...]]:
        """The next rung: the best of those that have arrived go on.

        Returns:
            The cohort there, the trials that have stopped, and those that train on.
        """
        best = sorted(self.arrived, key=lambda number: self.arrived[number])[: self.places[self.rung + 1]]
        after = replace(self, rung=self.rung + 1, racing=frozenset(best), arrived={}, waiting=frozenset())
        if after.rung < len(self.places) - 1:
            for number in best:
                if number in self.ended:
                    after = after.arrive(number, self.ended[number], over=True)
        promoted = tuple(number for number in best if number in self.waiting)
        return after, tuple(sorted(self.waiting - set(best))), promoted


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """The cohorts of a round. Its size depends on the cohorts that are under way, not on how many there are."""

    rule: Halving
    epochs: int
    """How long a trial trains that goes on to the end."""
    first: int
    """The number of the round's first trial."""
    count: int
    """How many trials it has."""
    metric: str
    """What ranks."""
    maximize: bool
    """Whether more of it is better."""
    cohorts: Mapping[int, Cohort] = field(default_factory=dict)
    """Those that are under way."""

    @property
    def ends(self) -> tuple[int, ...]:
        """The epochs at whose end a trial waits for a verdict."""
        return self.rule.ends(self.epochs)

    def arrive(
        self, number: int, measurements: Sequence[Measurement], *, over: bool
    ) -> tuple["Race", Verdict]:
        """A trial has come to the end of its rung, or to its own end: what that decides.

        Args:
            number: the trial's, once for each part but the last, which nobody waits for.
            measurements: all of it so far.
            over: it trains no more, and is recorded or about to be.
        """
        place, cohort = self._cohort(number)
        scores = _scores(number, measurements, self.ends, self.metric, self.maximize)
        return self._decide(place, cohort.arrive(number, scores, over=over))

    def _decide(self, place: int, cohort: Cohort) -> tuple["Race", Verdict]:
        """As many rungs as are complete; a cohort whose last verdict is out is forgotten."""
        stopped: tuple[int, ...] = ()
        promoted: dict[int, int] = {}
        untils = (*self.ends, self.epochs)
        while not cohort.racing and cohort.rung < len(self.ends):
            cohort, losers, winners = cohort.advance()
            stopped += losers
            promoted = dict.fromkeys(winners, untils[cohort.rung])
        open_ones = {other: c for other, c in self.cohorts.items() if other != place}
        if cohort.rung < len(self.ends):
            open_ones[place] = cohort
        return replace(self, cohorts=open_ones), Verdict(stopped=stopped, promoted=promoted)

    def place(self, number: int) -> int:
        """The place of a trial's cohort among the others."""
        return (number - self.first) * self.rule.cohorts(self.count) // self.count

    def _cohort(self, number: int) -> tuple[int, Cohort]:
        """The cohort of a trial, and its place among them."""
        many, place = self.rule.cohorts(self.count), self.place(number)
        if place in self.cohorts:
            return place, self.cohorts[place]
        start, stop = (-(-self.count * p // many) for p in (place, place + 1))
        members = frozenset(range(self.first + start, self.first + stop))
        return place, Cohort(places=self.rule.places(len(members), self.epochs), racing=members)


def _scores(
    number: int, measurements: Sequence[Measurement], ends: Sequence[int], metric: str, maximize: bool
) -> Scores:
    """A trial's score at the end of each rung: at the first measurement from that epoch on, if it is finite.

    Equal values are ranked by dev loss where it is measured, then by number.
    """
    found: list[Score | None] = []
    for end in ends:
        metrics = next((m.metrics for m in measurements if m.epoch >= end), None)
        if metrics is None or not math.isfinite(metrics[metric]):
            found.append(None)
            continue
        value, tie = metrics[metric], metrics.get("dev_loss", 0.0)
        found.append((-value if maximize else value, math.inf if math.isnan(tie) else tie, float(number)))
    return found
