"""The schedule of a search: which trials are drawn together, and which trials they learn from.

A search is a sequence of trials, divided into steps. The trials of a step are drawn from what all trials before a
certain number showed, whatever else has been trained by then. So the draws depend on the declaration alone, not on
workers or on the order in which results arrive.

A declared round is one step, which learns from all trials before it. A declared search without rounds has a step for
about every eighth of the trials that may be in flight.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from caviar.rounds import MAX_SHARES, Confirmation, ConfirmationStep, Round, Search, Stages

STEPS_IN_FLIGHT = 8
"""Number of steps into which the trials in flight are divided, so that the knowledge of a draw is nearly the latest."""
INITIAL_SHARE = 0.3
"""Share of a search's trials that come from the whole space at first."""
SHRINKAGES = 7.0
"""Number of times that the windows of narrowing shrink in a search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Consecutive trials of a search that learn from the same trials."""

    number: int
    """Its number in the study, from 1."""
    first: int
    """Number of its first trial."""
    count: int
    """Number of its trials."""
    known: int
    """Number of trials that they learn from: those numbered below it."""
    shrinkages: float
    """Number of times that the windows of narrowing have shrunk."""
    rule: Round | Search
    """The declared stage that it belongs to."""
    place: int
    """Number of that stage among the declared ones, from 1."""


def search_steps(stages: Stages) -> tuple[Step, ...]:
    """Return the steps of the rounds and searches that a study declares.

    Example:
        >>> [(step.first, step.count, step.known) for step in search_steps([Search(8, 1, in_flight=3)])]
        [(0, 3, 0), (3, 1, 1), (4, 1, 2), (5, 1, 3), (6, 1, 4), (7, 1, 5)]
        >>> [(step.first, step.count, step.known) for step in search_steps([Round(6, 1), Round(2, 1)])]
        [(0, 6, 0), (6, 2, 6)]
    """
    steps: list[Step] = []
    first = 0
    searching = [stage for stage in stages if not isinstance(stage, Confirmation)]
    for place, rule in enumerate(searching, start=1):
        for start, count, known in _parts(rule):
            shrunk = SHRINKAGES * known / rule.trials - 1 if isinstance(rule, Search) else len(steps) - 1
            steps.append(
                Step(
                    number=len(steps) + 1,
                    first=first + start,
                    count=count,
                    known=first + known,
                    shrinkages=max(0.0, shrunk),
                    rule=rule,
                    place=place,
                )
            )
        first += rule.trials
    return tuple(steps)


def first_learner(steps: Sequence[Step], number: int) -> int:
    """Return the number of the first trial that learns from a trial of the search.

    Args:
        steps: the steps of the search.
        number: the trial's number.

    Returns:
        The number; for trials that only the confirmation learns from, the number of its first trial.
    """
    later = bisect_right(steps, number, key=attrgetter("known"))
    return steps[later].first if later < len(steps) else steps[-1].first + steps[-1].count


def extra_round_trials(rule: Round | Search, replaced: ConfirmationStep) -> int:
    """Return the number of search trials that cost as much as a step of the confirmation, which trains to the end.

    Args:
        rule: the stage that declares how the search trials train.
        replaced: the step in whose place they are.
    """
    cost = 1.0 if rule.halving is None else rule.halving.cost(rule.epochs)
    return int(replaced.contenders * replaced.seeds / cost)


def _parts(rule: Round | Search) -> Iterator[tuple[int, int, int]]:
    """Yield each step's first trial, number of trials and known trials, counted from the start of its stage."""
    if isinstance(rule, Round):
        yield 0, rule.trials, 0
        return
    start = max(rule.in_flight, math.ceil(INITIAL_SHARE * rule.trials))
    yield 0, start, 0
    left = rule.trials - start
    steps = math.ceil(left / _step_size(rule))
    for step in range(steps):
        end = rule.trials - left * (steps - 1 - step) // steps
        yield start, end - start, end - rule.in_flight
        start = end


def _step_size(rule: Search) -> int:
    """Return the number of trials in a step; one cohort, or several, if the trials are halved."""
    wanted = max(math.ceil(rule.trials / MAX_SHARES), rule.in_flight // STEPS_IN_FLIGHT)
    if rule.halving is None:
        return max(1, min(wanted, rule.in_flight))
    return max(1, min(max(wanted, rule.halving.cohort), rule.in_flight // 2))
