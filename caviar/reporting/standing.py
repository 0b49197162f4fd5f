"""The standing of a study: how far it is, and the best so far, for the live progress and for those who follow a run.

If the study was extended, it is the standing of the last extension.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caviar.reporting.formatting import metric_text
from caviar.rounds import Search
from caviar.search.schedule import Phase, extra_round_trials
from caviar.trial import Outcome, Result, Stage

if TYPE_CHECKING:
    import pandas as pd

CONFIRMATION = "confirmation"
"""Name of the stage that all steps of the confirmation are."""
FINAL = "final training"
"""Name of the last stage."""


class Standing:
    """The trials that are done in each stage, those ahead, and the best so far.

    Stages have names: all steps of a search are one stage, and so are those of the confirmation.

    Args:
        phase: the last phase of the study.
        maximize: True if larger values are better.

    Example:
        >>> from caviar.rounds import Confirmation, Round
        >>> from caviar.search.schedule import plan_phases
        >>> (phase,) = plan_phases([(Round(60, epochs=5), Round(20, epochs=20), Confirmation(top=4))])
        >>> standing = Standing(phase, maximize=True)
        >>> standing.name(2, Stage.SEARCH), standing.ahead
        ('round 2 of 2', 89)
    """

    def __init__(self, phase: Phase, maximize: bool) -> None:
        self._phase, confirmation = phase, phase.confirmation
        self._names = _search_names(phase)
        self._places = {step.number: step.place for step in phase.steps}
        self._search = {name: this.trials for name, this in zip(self._names, phase.rules, strict=True)}
        later = confirmation.steps[1:]
        self._extra = {
            f"extra round {place} of {len(later)}": extra_round_trials(phase.longest, step)
            for place, step in enumerate(later, start=1)
        }
        self._totals = self._search | self._extra | {CONFIRMATION: confirmation.trials, FINAL: 1}
        self._sign = 1 if maximize else -1
        self.asked = phase.trials + confirmation.trials
        """Number of trials that it asks for, without the final one."""
        self.ahead = self.asked + 1
        """Number of trials that are not recorded."""
        self.done: Counter[str] = Counter()
        """Number of recorded trials, by stage."""
        self.best: tuple[int, float] | None = None
        """Number and value of the best search trial."""

    def recall(self, trials: "pd.DataFrame") -> None:
        """Count recorded trials, and find the best of them.

        Args:
            trials: their rows, in any order.
        """
        own = trials[trials["round"] >= self._phase.first_stage]
        counts = own.groupby(["round", "stage"]).size()
        for number, stage in counts.index:
            self.done[self.name(number, stage)] += int(counts[number, stage])
        self.ahead -= len(own)
        searched = trials[trials["stage"] == Stage.SEARCH]
        if self._phase.search_ended:
            self.ahead -= self._phase.trials - int((own["stage"] == Stage.SEARCH).sum())
        ranked = searched[searched["outcome"] == Outcome.COMPLETED]
        best = (self._sign * ranked["value"]).max()
        equals = ranked[self._sign * ranked["value"] == best]
        if not equals.empty:
            self._compare(int(equals["trial"].min()), float(self._sign * best))

    def add(self, results: Sequence[Result]) -> None:
        """Count trials that have been recorded now, and compare them with the best."""
        own = [result.trial for result in results if result.trial.round >= self._phase.first_stage]
        self.done.update(self.name(trial.round, trial.stage) for trial in own)
        self.ahead -= len(own)
        for result in results:
            if result.outcome is Outcome.COMPLETED and result.trial.stage is Stage.SEARCH:
                assert result.value is not None
                self._compare(result.trial.number, result.value)

    def name(self, number: int, stage: str) -> str:
        """Return the name of a stage of the phase.

        Args:
            number: the number of the round or step.
            stage: the purpose of its trials.
        """
        if number in self._places:
            return self._names[self._places[number] - 1]
        if stage == Stage.SEARCH:
            extra = list(self._extra)
            place = number - self._phase.confirming.start - 1
            return extra[min(place, len(extra) - 1)] if extra else CONFIRMATION
        return CONFIRMATION if stage == Stage.CONFIRMATION else FINAL

    def total(self, name: str) -> int:
        """Return the largest number of trials of a stage; 0 for none."""
        return self._totals.get(name, 0)

    @property
    def current(self) -> str:
        """The name of the first stage that lacks trials."""
        if self.done[FINAL]:
            return FINAL
        confirming = self._extra if any(self.done[name] for name in self._extra) else [CONFIRMATION]
        names = [*([] if self._phase.search_ended else self._search), *confirming]
        return next((name for name in names if self.done[name] < self.total(name)), FINAL)

    def done_text(self, name: str) -> str:
        """Return how many trials of a stage are recorded."""
        return f"{self.done[name]:,}/{self.total(name):,} trials"

    def best_text(self, metric: str) -> str | None:
        """Return the best so far; None if no trial of the search has completed."""
        if self.best is None:
            return None
        trial, value = self.best
        return f"best {metric} {metric_text(value)} (trial {trial})"

    def _compare(self, trial: int, value: float) -> None:
        """Keep the better of a trial and the best so far."""
        if self.best is None or self._sign * value > self._sign * self.best[1]:
            self.best = trial, value


def _search_names(phase: Phase) -> list[str]:
    """Return the names of the stages of a search."""
    extension = f"extension {phase.number}" if phase.number else ""
    if len(phase.rules) == 1 and (extension or isinstance(phase.rules[0], Search)):
        return [extension or "search"]
    names = [f"round {place} of {len(phase.rules)}" for place in range(1, len(phase.rules) + 1)]
    return [f"{extension}, {name}" if extension else name for name in names]
