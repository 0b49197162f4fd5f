"""Live progress of a study: a bar in a terminal, otherwise a line from time to time."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Self, TextIO, cast

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from caviar.control_chars import replace_control_chars
from caviar.driver.loop import Watcher
from caviar.driver.messages import Chunk
from caviar.engine import Progress
from caviar.reporting.formatting import duration_text, metric_text
from caviar.rounds import Search
from caviar.search.schedule import search_steps
from caviar.search.stages import StagePlan
from caviar.study import Study
from caviar.trial import Outcome, Result, Stage, Trial

_LOG = logging.getLogger("caviar")
CONFIRMATION = "confirmation"
"""Name of the stage that all steps of the confirmation are."""
LINE_EVERY_S = 10.0
"""Seconds between lines of progress if the output is not a terminal."""
MAX_ERRORS = 5
"""Largest number of different errors that are shown."""
MAX_PARAMS_LENGTH = 300
"""Largest number of characters of a failed trial's params that are shown."""


class _LastingStream:
    """A stream without errors once its terminal is closed: the study stops in order then, and prints nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class _LogLines(logging.Handler):
    """A handler that prints caviar's warnings among the lines of progress."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(f"  {record.getMessage()}")


class Display(Watcher):
    """A watcher that shows the stage, trials done, trials a second, the best so far and the time left.

    It prints to standard error, and caviar's warnings as well while it is shown.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._log = _LogLines(self._say)
        self._console = Console(file=cast("TextIO", _LastingStream(sys.stderr)), soft_wrap=True)
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24 if self._console.width >= 100 else 8),
            TextColumn("{task.fields[status]}", markup=False, table_column=Column(overflow="fold")),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("starting workers", total=None, status="")
        self._asked = sum(r.trials for r in study.search_rounds) + study.confirmation.trials
        self._ahead = self._asked + 1  # the winner is trained once more
        self._steps = search_steps(study.rounds)
        self._best: tuple[int, float] | None = None
        self._latest: Progress | None = None
        self._errors: set[tuple[str, str]] = set()
        self._stage = ""
        self._done: Counter[str] = Counter()
        self._total = self._trained = self._workers = 0
        self._began: float | None = None
        self._printed = time.monotonic()
        self._has_warned_of_idle_workers = False

    def __enter__(self) -> Self:
        name = (self._study.name, "bold")
        self._console.print(
            Text.assemble(name, f": {self._asked:,} trials, then the winner trains once more")
        )
        self._bar.start()
        _LOG.addHandler(self._log)
        return self

    def __exit__(self, *exception: object) -> None:
        _LOG.removeHandler(self._log)
        self._bar.stop()

    def recalled(self, trials: pd.DataFrame, search_ended: bool) -> None:
        """Count the trials of a resumed run that are recorded already, and find the best of them."""
        if trials.empty:
            return
        self._ahead -= len(trials)
        if search_ended:
            searched = int((trials["stage"] == Stage.SEARCH).sum())
            self._ahead -= sum(r.trials for r in self._study.search_rounds) - searched
        self._say(f"  {len(trials):,} of them are recorded already")
        for number, stage in zip(trials["round"], trials["stage"], strict=True):
            self._done[self._name_stage(number, stage)] += 1
        ranked = trials[(trials["stage"] == Stage.SEARCH) & (trials["outcome"] == Outcome.COMPLETED)]
        for number, value in zip(ranked["trial"], ranked["value"], strict=True):
            self._compare(int(number), float(value))

    def opened(self, plan: StagePlan, done: int) -> None:
        """Say which stage begins, and where its trials come from; nothing of a stage that is recorded already.

        The steps of a search are one stage, and so are those of the confirmation.
        """
        stage = self._name_stage(plan.round, plan.stage)
        if plan.stage is Stage.SEARCH and plan.round == len(self._steps) + 2:
            self._say("training shows no noise: the other trials of the confirmation go to extra rounds")
        if stage == self._stage:
            return
        if plan.stage is Stage.CONFIRMATION:
            self._begin_confirmation()
            return
        self._stage = stage
        rule = self._steps[plan.round - 1].rule if plan.round <= len(self._steps) else None
        self._total = plan.count if rule is None else rule.trials
        if isinstance(rule, Search):
            self._say(f"{stage}: {rule.trials:,} trials, {rule.in_flight:,} of them in flight")
        elif done < plan.count:
            self._say(f"{stage}: {_trials_text(plan, self._study.objective.refit)}")
        self._update(force=False)

    def _begin_confirmation(self) -> None:
        """Say that the confirmation begins."""
        confirmation = self._study.confirmation
        self._stage, self._total = CONFIRMATION, confirmation.trials
        first, *more = confirmation.steps
        steps = f", in {len(more) + 1} steps" if more else ""
        self._say(f"{CONFIRMATION}: the best {first.contenders:,} train again with fresh seeds{steps}")
        self._update(force=False)

    def recorded(self, results: list[Result]) -> None:
        """Count finished trials, and compare them with the best so far."""
        names = [self._name_stage(result.trial.round, result.trial.stage) for result in results]
        self._done.update(names)
        self._trained += len(results)
        self._ahead -= len(results)
        if self._latest is not None and self._latest.trial in {result.trial.number for result in results}:
            self._latest = None
        for result in results:
            if result.outcome is Outcome.COMPLETED and result.trial.stage is Stage.SEARCH:
                assert result.value is not None
                self._compare(result.trial.number, result.value)
        is_over = self._done[self._stage] == self._total
        self._update(force=is_over and self._stage in names)
        if is_over and self._stage != CONFIRMATION and CONFIRMATION in names:
            self._begin_confirmation()

    def measured(self, progress: Sequence[Progress]) -> None:
        """Show the latest measurement of a long trial."""
        self._latest = progress[-1]
        self._update(force=False)

    def failed(self, trial: Trial, failure: str) -> None:
        """Show each error once, however many trials it fails, and say how to see its traceback."""
        kind = _kind_of_error(failure)
        if kind in self._errors or len(self._errors) == MAX_ERRORS:
            return
        self._errors.add(kind)
        self._say(f"  trial {trial.number} failed: {failure}")
        if len(self._errors) == 1:
            params = repr(dict(trial.params))
            given = params if len(params) <= MAX_PARAMS_LENGTH else "params"
            self._say(f"    study.try_one({given}) shows the traceback of an error in your function")
        if len(self._errors) == MAX_ERRORS:
            self._say("  further errors are in the column `failure` of the trials")

    def waited(self, running: Mapping[str, Sequence[Chunk]]) -> None:
        """Update the time left and the number of workers."""
        self._workers = len(running)
        if running and self._began is None:
            self._began = time.monotonic()
        self._warn_of_idle_workers(self._workers)
        self._update(force=False)

    def _warn_of_idle_workers(self, workers: int) -> None:
        """Say once if the study cannot feed all workers."""
        rules = self._study.search_rounds
        fed = min(rule.in_flight if isinstance(rule, Search) else rule.trials for rule in rules)
        if workers <= fed or self._has_warned_of_idle_workers:
            return
        self._has_warned_of_idle_workers = True
        if any(isinstance(rule, Search) for rule in rules):
            self._say(
                f"  at most {fed:,} trials can run at once in this study: "
                f"in_flight={workers} would feed {workers:,} workers"
            )
        else:
            self._say(
                f"  a round of {fed:,} trials cannot keep {workers:,} workers busy: "
                "use fewer rounds with more trials each"
            )

    def _name_stage(self, number: int, stage: str) -> str:
        """Return the name of a stage: all steps of a search have one name, and all of the confirmation."""
        rules = self._study.search_rounds
        if number <= len(self._steps):
            step = self._steps[number - 1]
            is_all = isinstance(step.rule, Search) and len(rules) == 1
            return "search" if is_all else f"round {step.place} of {len(rules)}"
        if stage == Stage.SEARCH:
            extra = len(self._study.confirmation.steps) - 1
            return f"extra round {number - len(self._steps) - 1} of {extra}"
        return CONFIRMATION if stage == Stage.CONFIRMATION else "final training"

    def _compare(self, trial: int, value: float) -> None:
        """Keep the better of a trial and the best so far."""
        sign = 1 if self._study.objective.maximize else -1
        if self._best is None or sign * value > sign * self._best[1]:
            self._best = trial, value

    def _say(self, line: str) -> None:
        """Print a line, above the bar if there is one; as Text, for Rich looks for markup in strings."""
        self._console.print(Text(replace_control_chars(line)))

    def _update(self, force: bool) -> None:
        """Update the bar, or print a line if it is time for one."""
        status = replace_control_chars(self._status())
        self._bar.update(
            self._task,
            description=self._stage,
            completed=self._done[self._stage],
            total=max(self._total, 1),
            status=status,
        )
        now = time.monotonic()
        if not self._console.is_terminal and (force or now - self._printed > LINE_EVERY_S):
            self._printed = now
            self._say(f"{self._stage}: {status}")

    def _status(self) -> str:
        """Return how far the stage is, how fast, the best so far and the time left."""
        metric = self._study.objective.metric
        parts = [f"{self._done[self._stage]:,}/{self._total:,} trials"]
        elapsed_s = 0.0 if self._began is None else time.monotonic() - self._began
        per_s = self._trained / elapsed_s if elapsed_s > 0 else 0.0
        if not self._workers:
            parts.append("waiting for the first worker" if self._began is None else "waiting for a worker")
        if per_s:
            parts.append(f"{per_s:,.1f} trials/s")
        if self._best is not None:
            trial, value = self._best
            parts.append(f"best {metric} {metric_text(value)} (trial {trial})")
        if self._latest is not None and metric in self._latest.measurement.metrics:
            latest = self._latest.measurement
            value_text = metric_text(latest.metrics[metric])
            parts.append(f"trial {self._latest.trial} has {metric} {value_text} after epoch {latest.epoch}")
        if per_s:
            parts.append(f"{duration_text(max(0, self._ahead) / per_s)} left")
        return ", ".join(parts)


def _kind_of_error(failure: str) -> tuple[str, str]:
    """Return what the failures of one error share, although their messages may differ: exception class and place.

    Example:
        >>> _kind_of_error("KeyError: 'x7' (train.py, line 3)")
        ('KeyError', '(train.py, line 3)')
    """
    place = failure[failure.rfind("(") :] if failure.endswith(")") else ""
    return failure.partition(":")[0], place


def _trials_text(plan: StagePlan, is_refit: bool) -> str:
    """Return a stage's trials in a few words."""
    if plan.stage is Stage.FINAL:
        return "the winner trains once more" + (", on train and dev rows together" if is_refit else "")
    elite = len(plan.region.elite) if plan.region is not None else 0
    return f"{plan.count:,} trials " + (
        f"near the best {elite:,} so far" if elite else "from the whole space"
    )
