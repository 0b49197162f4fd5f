"""The standing of a study: how far it is, and the best so far, for the live progress and for those who follow a run."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caviar.reporting.formatting import metric_text
from caviar.rounds import Confirmation, Round, Search, Stages
from caviar.search.schedule import extra_round_trials, search_steps
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
        stages: the stages that the study declares, with the confirmation at the end.
        maximize: True if larger values are better.

    Example:
        >>> standing = Standing([Round(60, epochs=5), Round(20, epochs=20), Confirmation(top=4)], maximize=True)
        >>> standing.name(2, Stage.SEARCH), standing.ahead
        ('round 2 of 2', 89)
    """

    def __init__(self, stages: Stages, maximize: bool) -> None:
        *search, confirmation = stages
        assert isinstance(confirmation, Confirmation)
        rounds = [this for this in search if isinstance(this, Round | Search)]
        is_whole = len(rounds) == 1 and isinstance(rounds[0], Search)
        places = range(1, len(rounds) + 1)
        self._names = ["search"] if is_whole else [f"round {place} of {len(rounds)}" for place in places]
        self._steps = search_steps(stages)
        self._search = {name: this.trials for name, this in zip(self._names, rounds, strict=True)}
        later = confirmation.steps[1:]
        longest = max(reversed(rounds), key=lambda this: this.epochs)
        self._extra = {
            f"extra round {place} of {len(later)}": extra_round_trials(longest, step)
            for place, step in enumerate(later, start=1)
        }
        self._totals = self._search | self._extra | {CONFIRMATION: confirmation.trials, FINAL: 1}
        self._sign = 1 if maximize else -1
        self._is_search_ended = False
        self.asked = sum(self._search.values()) + confirmation.trials
        """Number of trials that the study asks for, without the final one."""
        self.ahead = self.asked + 1
        """Number of trials that are not recorded."""
        self.done: Counter[str] = Counter()
        """Number of recorded trials, by stage."""
        self.best: tuple[int, float] | None = None
        """Number and value of the best search trial."""

    def recall(self, trials: "pd.DataFrame", search_ended: bool) -> None:
        """Count recorded trials, and find the best of them.

        Args:
            trials: their rows, in any order.
            search_ended: True if the user has ended the search before its last trial.
        """
        counts = trials.groupby(["round", "stage"]).size()
        for number, stage in counts.index:
            self.done[self.name(number, stage)] += int(counts[number, stage])
        self.ahead -= len(trials)
        searched = trials[trials["stage"] == Stage.SEARCH]
        if search_ended:
            self._is_search_ended = True
            self.ahead -= sum(self._search.values()) - len(searched)
        ranked = searched[searched["outcome"] == Outcome.COMPLETED]
        best = (self._sign * ranked["value"]).max()
        equals = ranked[self._sign * ranked["value"] == best]
        if not equals.empty:
            self._compare(int(equals["trial"].min()), float(self._sign * best))

    def add(self, results: Sequence[Result]) -> None:
        """Count trials that have been recorded now, and compare them with the best."""
        self.done.update(self.name(result.trial.round, result.trial.stage) for result in results)
        self.ahead -= len(results)
        for result in results:
            if result.outcome is Outcome.COMPLETED and result.trial.stage is Stage.SEARCH:
                assert result.value is not None
                self._compare(result.trial.number, result.value)

    def name(self, number: int, stage: str) -> str:
        """Return the name of a stage.

        Args:
            number: the number of the round or step.
            stage: the purpose of its trials.
        """
        if number <= len(self._steps):
            return self._names[self._steps[number - 1].place - 1]
        if stage == Stage.SEARCH:
            extra = list(self._extra)
            return extra[min(number - len(self._steps) - 2, len(extra) - 1)] if extra else CONFIRMATION
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
        names = [*([] if self._is_search_ended else self._search), *confirming]
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
