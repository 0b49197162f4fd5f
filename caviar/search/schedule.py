"""The schedule of a study: its phases, which trials are drawn together, and which trials they learn from.

A study has one phase, and one more for each extension (`caviar extend`). A phase is a search, its confirmation and the
final trial. Its stages follow those of the phase before in one numbering, and so do its trials.

A search is a sequence of trials, divided into steps. The trials of a step are drawn from what all trials before a
certain number showed, whatever else has been trained by then. So the draws depend on the declaration alone, not on
workers or on the order in which results arrive.

A declared round is one step, which learns from all trials before it. A declared search without rounds has a step for
about every eighth of the trials that may be in flight. The first trials of an extension learn from the whole study
before it, and none come from the whole space alone.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A search, its confirmation and the final trial: what a study declares, or an extension of it."""

    number: int
    """0 for what the study declares, then the number of the extension."""
    rules: tuple[Round | Search, ...]
    """The declared stages of its search."""
    steps: tuple[Step, ...]
    """The steps of its search."""
    confirmation: Confirmation
    first_trial: int
    """Number of its first trial; no trial of a later phase has a smaller one."""
    searched: int
    """Largest number of search trials in the phases before."""
    search_ended: bool = False
    """True if the user has ended its search, so that its steps are empty, or lack trials."""

    @property
    def first_stage(self) -> int:
        """Number of its first stage."""
        return self.steps[0].number

    @property
    def confirming(self) -> range:
        """Numbers of the stages of its confirmation."""
        first = self.steps[-1].number + 1
        return range(first, first + len(self.confirmation.steps))

    @property
    def final(self) -> int:
        """Number of its last stage, which trains the winner."""
        return self.confirming.stop

    @property
    def trials(self) -> int:
        """Number of its search trials."""
        return sum(rule.trials for rule in self.rules)

    @property
    def longest(self) -> Round | Search:
        """The last of the stages of its search that train longest."""
        return max(reversed(self.rules), key=attrgetter("epochs"))

    def first_training(self, index: int) -> int:
        """Return the smallest number of a training in a step of the confirmation, given by its index.

        Each search trial so far has numbers of its own, because it may start before the other contenders are known.
        """
        seeds = sum(step.seeds for step in self.confirmation.steps[:index])
        return self.first_trial + self.trials + (self.searched + self.trials) * seeds

    @property
    def extra_trials(self) -> int:
        """Largest number of search trials in place of steps of the confirmation."""
        return sum(extra_round_trials(self.longest, step) for step in self.confirmation.steps[1:])


def plan_phases(declared: Sequence[Stages], search_ended: Sequence[bool] = ()) -> tuple[Phase, ...]:
    """Return the phases of a study.

    Args:
        declared: the stages that the study declares, then those of each extension; each ends with a confirmation.
        search_ended: for each of them, True if the user has ended its search; by default none.

    Example:
        >>> study = (Round(6, 1), Confirmation(top=2))
        >>> [(p.first_stage, p.final, p.first_trial) for p in plan_phases([study, (Round(4, 1), Confirmation(top=2))])]
        [(1, 3, 0), (4, 6, 19)]
    """
    phases: list[Phase] = []
    ended = search_ended or [False] * len(declared)
    stage, trial, searched, shrinkages = 1, 0, 0, None
    for number, (stages, is_ended) in enumerate(zip(declared, ended, strict=True)):
        *rules, confirmation = stages
        assert isinstance(confirmation, Confirmation)
        phase = Phase(
            number=number,
            rules=tuple(rule for rule in rules if isinstance(rule, Round | Search)),
            steps=_steps(stages, stage, trial, shrinkages),
            confirmation=confirmation,
            first_trial=trial,
            searched=searched,
            search_ended=is_ended,
        )
        phases.append(phase)
        stage, shrinkages = phase.final + 1, phase.steps[-1].shrinkages
        trial = phase.first_training(len(confirmation.steps)) + phase.extra_trials + 1
        searched += phase.trials + phase.extra_trials
    return tuple(phases)


def phase_of(phases: Sequence[Phase], stage: int) -> Phase:
    """Return the phase that a stage belongs to, given by its number."""
    return next(phase for phase in phases if stage <= phase.final)


def search_steps(stages: Stages) -> tuple[Step, ...]:
    """Return the steps of the rounds and searches that a study declares.

    Example:
        >>> [(step.first, step.count, step.known) for step in search_steps([Search(8, 1, in_flight=3)])]
        [(0, 3, 0), (3, 1, 1), (4, 1, 2), (5, 1, 3), (6, 1, 4), (7, 1, 5)]
        >>> [(step.first, step.count, step.known) for step in search_steps([Round(6, 1), Round(2, 1)])]
        [(0, 6, 0), (6, 2, 6)]
    """
    return _steps(stages)


def _steps(
    stages: Stages, number: int = 1, first: int = 0, shrinkages: float | None = None
) -> tuple[Step, ...]:
    """Return the steps of the rounds and searches of a phase.

    Args:
        stages: its stages.
        number: number of its first step.
        first: number of its first trial.
        shrinkages: for an extension, the number of times that the windows had shrunk before it.
    """
    steps: list[Step] = []
    searching = [stage for stage in stages if not isinstance(stage, Confirmation)]
    for place, rule in enumerate(searching, start=1):
        for start, count, known in _parts(rule, INITIAL_SHARE if shrinkages is None else 0.0):
            shrunk = SHRINKAGES * known / rule.trials - 1 if isinstance(rule, Search) else len(steps) - 1
            steps.append(
                Step(
                    number=number + len(steps),
                    first=first + start,
                    count=count,
                    known=first + known,
                    shrinkages=max(0.0, shrunk) if shrinkages is None else shrinkages,
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


def _parts(rule: Round | Search, initial_share: float) -> Iterator[tuple[int, int, int]]:
    """Yield each step's first trial, number of trials and known trials, counted from the start of its stage.

    Args:
        rule: the stage.
        initial_share: share of a search's trials that learn from none of it.
    """
    if isinstance(rule, Round):
        yield 0, rule.trials, 0
        return
    start = max(rule.in_flight, math.ceil(initial_share * rule.trials))
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
