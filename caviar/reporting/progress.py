"""Live progress of a study: a bar in a terminal, one display in a notebook, otherwise a line from time to time."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from caviar.control_chars import replace_control_chars
from caviar.driver.messages import Chunk
from caviar.driver.watcher import Watcher
from caviar.engine import Progress
from caviar.notebook_kernel import is_notebook
from caviar.plurals import counted
from caviar.records.winner import Best
from caviar.reporting.errors_shown import ErrorsShown
from caviar.reporting.formatting import duration_text, metric_text, pace_text, score_text
from caviar.reporting.notebook import Cell
from caviar.reporting.screens import Screen, Terminal
from caviar.reporting.standing import CONFIRMATION, Standing
from caviar.rounds import Search
from caviar.search.schedule import Phase, plan_phases
from caviar.study import Study
from caviar.trial import Result, Stage, Trial

if TYPE_CHECKING:
    import pandas as pd

    from caviar.search.stages import StagePlan

_LOG = logging.getLogger("caviar")
MAX_PARAMS_LENGTH = 300
"""Largest number of characters of a failed trial's params that are shown."""


def announce(text: str) -> None:
    """Print a line on standard error, before there is a display."""
    sys.stderr.write(f"caviar: {replace_control_chars(text)}\n")
    sys.stderr.flush()


class _LogLines(logging.Handler):
    """A handler that prints caviar's warnings among the lines of progress."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(f"  {record.getMessage()}")


class Display(Watcher):
    """A watcher that shows the stage, trials done, their rate, the best so far and the time left.

    It prints to standard error or to the output of a notebook's cell, and caviar's warnings as well while it is shown.

    Args:
        study: the study.
        phases: its phases, of which the last one runs; by default what it declares.
    """

    def __init__(self, study: Study, phases: Sequence[Phase] = ()) -> None:
        self._study = study
        self._phase = phases[-1] if phases else plan_phases([study.rounds])[0]
        self._screen: Screen = Cell() if is_notebook() else Terminal()
        self._log = _LogLines(self._screen.say)
        self._open = ExitStack()
        self._rules = {step.number: step.rule for step in self._phase.steps}
        self._standing = Standing(self._phase, study.objective.maximize)
        self._latest: Progress | None = None
        self._errors = ErrorsShown()
        self._stage = ""
        self._trained = self._workers = 0
        self._began: float | None = None
        self._is_stopping = self._has_warned_of_idle_workers = False

    def __enter__(self) -> Self:
        asked = f": {self._standing.asked:,} trials, then the winner trains once more"
        if self._phase.number:
            asked = (
                f", extension {self._phase.number}: {counted(self._phase.trials, 'search trial')} and at most "
                f"{self._phase.confirmation.trials:,} for the confirmation; a new winner trains once more"
            )
        self._screen.say(asked, title=self._study.name)
        if self._study.space.constraints:
            self._screen.say(
                f"  the constraints refuse {self._study.refused:.0%} of the draws from the whole space"
            )
        self._open.enter_context(self._screen)
        self._open.callback(_LOG.removeHandler, self._log)
        _LOG.addHandler(self._log)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._is_stopping or any(exception):
            far = (
                f": {self._stage}, {self._standing.done_text(self._stage)}"
                if self._stage
                else " at the start"
            )
            self._screen.conclude(f"stopped{far}")
        self._open.close()

    def recalled(self, trials: "pd.DataFrame") -> None:
        """Count the trials of a resumed run that are recorded already, and find the best of them."""
        self._standing.recall(trials)
        if recorded := int((trials["round"] >= self._phase.first_stage).sum()):
            self._screen.say(f"  {recorded:,} of them are recorded already")

    def opened(self, plan: "StagePlan", done: int) -> None:
        """Say which stage begins, and where its trials come from; nothing of a stage that is recorded already.

        The steps of a search are one stage, and so are those of the confirmation.
        """
        if plan.round < self._phase.first_stage:
            return
        stage = self._standing.name(plan.round, plan.stage)
        if plan.stage is Stage.SEARCH and plan.round == self._phase.confirming.start + 1:
            self._screen.say(
                "training shows no noise: the other trials of the confirmation go to extra rounds"
            )
        if stage == self._stage:
            return
        if plan.stage is Stage.CONFIRMATION:
            self._begin_confirmation()
            return
        self._stage = stage
        rule = self._rules.get(plan.round)
        if isinstance(rule, Search):
            self._screen.say(
                f"{stage}: {counted(rule.trials, 'trial')}, {rule.in_flight:,} of them in flight"
            )
        elif done < plan.count:
            self._screen.say(f"{stage}: {_trials_text(plan, self._study)}")
        self._update(force=False)

    def _begin_confirmation(self) -> None:
        """Say that the confirmation begins."""
        self._stage = CONFIRMATION
        first, *more = self._phase.confirmation.steps
        steps = f", in {len(more) + 1} steps" if more else ""
        best = "best trial trains" if first.contenders == 1 else f"best {first.contenders:,} train"
        self._screen.say(f"{CONFIRMATION}: the {best} again with fresh seeds{steps}")
        self._update(force=False)

    def recorded(self, results: list[Result]) -> None:
        """Count finished trials, and compare them with the best so far."""
        self._standing.add(results)
        own = [result.trial for result in results if result.trial.round >= self._phase.first_stage]
        names = {self._standing.name(trial.round, trial.stage) for trial in own}
        self._trained += len(results)
        if self._latest is not None and self._latest.trial in {result.trial.number for result in results}:
            self._latest = None
        is_over = self._standing.done[self._stage] == self._standing.total(self._stage)
        self._update(force=is_over and self._stage in names)
        if is_over and self._stage != CONFIRMATION and CONFIRMATION in names:
            self._begin_confirmation()

    def measured(self, progress: Sequence[Progress]) -> None:
        """Show the latest measurement of a long trial."""
        self._latest = progress[-1]
        self._update(force=False)

    def failed(self, trial: Trial, failure: str) -> None:
        """Show each error once, however many trials it fails, and say how to see its traceback."""
        if not self._errors.is_new(failure):
            return
        self._screen.say(f"  trial {trial.number} failed: {failure}")
        if self._errors.count == 1:
            params = repr(dict(trial.params))
            given = params if len(params) <= MAX_PARAMS_LENGTH else "params"
            self._screen.say(f"    study.try_one({given}) shows the traceback of an error in your function")
        if self._errors.is_full:
            self._screen.say("  further errors are in the column `failure` of the trials")

    def waited(self, running: Mapping[str, Sequence[Chunk]]) -> None:
        """Update the time left and the number of workers."""
        self._workers = len(running)
        if running and self._began is None:
            self._began = time.monotonic()
        self._warn_of_idle_workers(self._workers)
        self._update(force=False)

    def stopping(self) -> None:
        """Show that the running trials are finished first."""
        self._is_stopping = True
        self._update(force=False)

    def handed_over(self, best: Best) -> None:
        """Show the winner where no summary follows."""
        share = self._study.objective.metric.endswith("accuracy")
        elapsed_s = 0.0 if self._began is None else time.monotonic() - self._began
        line = f"finished in {duration_text(elapsed_s)}. The winner is trial {best.trial}: "
        line += f"{self._study.objective.metric} {score_text(best.value, best.interval, share)}"
        if best.test_accuracy is not None:
            line += f", test accuracy {score_text(best.test_accuracy, best.test_interval)}"
            line += f" (use {best.test_uses} of the test split)" if best.test_uses > 1 else ""
        self._screen.conclude(line)

    def _warn_of_idle_workers(self, workers: int) -> None:
        """Say once if the study cannot feed all workers."""
        rules = self._phase.rules
        fed = min(rule.in_flight if isinstance(rule, Search) else rule.trials for rule in rules)
        if workers <= fed or self._has_warned_of_idle_workers:
            return
        self._has_warned_of_idle_workers = True
        if any(isinstance(rule, Search) for rule in rules):
            self._screen.say(
                f"  at most {fed:,} trials can run at once in this study: "
                f"in_flight={workers} would feed {workers:,} workers"
            )
        else:
            self._screen.say(
                f"  a round of {fed:,} trials cannot keep {workers:,} workers busy: "
                "use fewer rounds with more trials each"
            )

    def _update(self, force: bool) -> None:
        """Show the state of the moment."""
        done, total = self._standing.done[self._stage], self._standing.total(self._stage)
        self._screen.show(self._stage, done, total, self._status(), force)

    def _status(self) -> str:
        """Return how far the stage is, how fast, the best so far and the time left."""
        metric = self._study.objective.metric
        parts = [self._standing.done_text(self._stage)]
        elapsed_s = 0.0 if self._began is None else time.monotonic() - self._began
        per_s = self._trained / elapsed_s if elapsed_s > 0 else 0.0
        if self._is_stopping:
            parts.append("stopping when the running trials are done")
        elif not self._workers:
            parts.append("waiting for the first worker" if self._began is None else "waiting for a worker")
        if per_s:
            parts.append(pace_text(per_s))
        if best := self._standing.best_text(metric):
            parts.append(best)
        if self._latest is not None and metric in self._latest.measurement.metrics:
            latest = self._latest.measurement
            value_text = metric_text(latest.metrics[metric])
            parts.append(f"trial {self._latest.trial} has {metric} {value_text} after epoch {latest.epoch}")
        if per_s:
            parts.append(f"{duration_text(max(0, self._standing.ahead) / per_s)} left")
        return ", ".join(parts)


def _trials_text(plan: "StagePlan", study: Study) -> str:
    """Return a stage's trials in a few words."""
    if plan.stage is Stage.FINAL:
        is_refit = study.objective.refit
        return "the winner trains once more" + (", on train and dev rows together" if is_refit else "")
    if study.sampler == "grid":
        return f"{plan.count:,} trials on a grid"
    elite = len(plan.region.elite) if plan.region is not None else 0
    where = f"near the best {elite:,} so far" if elite > 1 else "near the best one so far"
    return f"{counted(plan.count, 'trial')} {where if elite else 'from the whole space'}"
