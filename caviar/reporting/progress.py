"""Live progress of a study in the terminal: a bar where there is one, else a line now and then."""

import logging
import time
from collections.abc import Callable, Sequence
from types import TracebackType

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from caviar.engine import Progress
from caviar.search.stages import StagePlan
from caviar.study import Study
from caviar.trial import Outcome, Result, Stage

_LOG = logging.getLogger("caviar")
LINE_EVERY_S = 10.0
"""Where the output is no terminal."""


class Silence:
    """Shows nothing."""

    def __enter__(self) -> "Silence":
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing to put away."""

    def recalled(self, trials: pd.DataFrame) -> None:
        """See `Display`."""

    def opened(self, plan: StagePlan, done: int) -> None:
        """See `Watcher`."""

    def recorded(self, results: list[Result]) -> None:
        """See `Watcher`."""

    def measured(self, progress: Sequence[Progress]) -> None:
        """See `Watcher`."""

    def waited(self, workers: int) -> None:
        """See `Watcher`."""


class _Log(logging.Handler):
    """Says what caviar warns of, in its words alone."""

    def __init__(self, say: Callable[[Text], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(Text(f"  {record.getMessage()}"))


class Display:
    """Shows the stage, trials done, trials a second, the best so far and the time left.

    While it is shown, caviar's warnings stand among its lines.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._log = _Log(self._say)
        self._console = Console(stderr=True, soft_wrap=True)
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,}/{task.total:,}  {task.fields[status]}", markup=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("starting workers", total=1, status="")
        self._asked = sum(r.trials for r in study.search_rounds) + study.confirmation.trials
        self._ahead = self._asked + 1  # the winner once more
        self._fewest = min(r.trials for r in study.search_rounds)
        self._best: tuple[int, float] | None = None
        self._idle_said = False
        self._latest: Progress | None = None
        self._done = self._trained = 0
        self._total = 0
        self._name = ""
        self._began: float | None = None
        self._said = time.monotonic()

    def __enter__(self) -> "Display":
        name = (self._study.name, "bold")
        self._say(Text.assemble(name, f": {self._asked:,} trials to train, then the winner once more"))
        self._bar.start()
        _LOG.addHandler(self._log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _LOG.removeHandler(self._log)
        self._bar.stop()

    def recalled(self, trials: pd.DataFrame) -> None:
        """A run goes on: count what it has recorded already, and look for the best in it."""
        if trials.empty:
            return
        self._ahead -= len(trials)
        self._say(Text(f"  {len(trials):,} of them are recorded already"))
        ranked = trials[(trials["stage"] == Stage.SEARCH) & (trials["outcome"] == Outcome.COMPLETED)]
        for number, value in zip(ranked["trial"], ranked["value"], strict=True):
            self._compare(int(number), float(value))

    def opened(self, plan: StagePlan, done: int) -> None:
        """A stage begins: say where it draws from."""
        self._name = _name(self._study, plan)
        self._done, self._total = done, plan.count
        if plan.region is not None and plan.region.elite:
            places = ", ".join(f"{d.parameter} {d.after}" for d in plan.decisions)
            self._say(Text(f"  near the best {len(plan.region.elite)}: {places}"))
        self._show(force=True)

    def recorded(self, results: list[Result]) -> None:
        """Count them, and look for a new best."""
        self._done += len(results)
        self._trained += len(results)
        self._ahead -= len(results)
        if self._latest is not None and self._latest.trial in {result.trial.number for result in results}:
            self._latest = None
        for result in results:
            if result.outcome is Outcome.COMPLETED and result.trial.stage is Stage.SEARCH:
                assert result.value is not None
                self._compare(result.trial.number, result.value)
        self._show(force=self._done == self._total)

    def measured(self, progress: Sequence[Progress]) -> None:
        """Show the latest."""
        self._latest = progress[-1]
        self._show(force=False)

    def waited(self, workers: int) -> None:
        """Keep the time left true."""
        if workers and self._began is None:
            self._began = time.monotonic()
        if workers > self._fewest:
            self._say_that_workers_idle()
        self._show(force=False)

    def _say_that_workers_idle(self) -> None:
        """Once."""
        if not self._idle_said:
            self._idle_said = True
            self._say(
                Text(
                    f"  a round of {self._fewest:,} trials keeps no more than {self._fewest:,} workers busy: "
                    "fewer rounds, with more trials each, would use them all"
                )
            )

    def _compare(self, trial: int, value: float) -> None:
        """Keep the better of it and the best so far."""
        sign = 1 if self._study.objective.maximize else -1
        if self._best is None or sign * value > sign * self._best[1]:
            self._best = trial, value

    def _say(self, line: Text) -> None:
        """Print a line, above the bar where there is one. Never a string, in which Rich would look for markup."""
        self._console.print(line)

    def _show(self, force: bool) -> None:
        self._bar.update(
            self._task,
            description=self._name or "starting workers",
            completed=self._done,
            total=max(self._total, 1),
            status=self._status(),
        )
        now = time.monotonic()
        if not self._console.is_terminal and (force or now - self._said > LINE_EVERY_S):
            self._said = now
            self._say(Text(f"{self._name}  {self._done:,}/{self._total:,}  {self._status()}"))

    def _status(self) -> str:
        parts = [] if self._began is not None else ["no worker is ready yet"]
        elapsed = time.monotonic() - self._began if self._began is not None else 0.0
        if self._trained and elapsed > 0:
            parts.append(f"{self._trained / elapsed:,.1f} trials/s")
        if self._best is not None:
            trial, value = self._best
            parts.append(f"best {self._study.objective.metric} {value:.4f} (trial {trial})")
        if self._latest is not None:
            now = self._latest.measurement
            value = now.metrics[self._study.objective.metric]
            parts.append(f"trial {self._latest.trial} is at {value:.4f} after epoch {now.epoch}")
        if self._trained and elapsed > 0:
            parts.append(f"{_duration(self._ahead * elapsed / self._trained)} left")
        return "  ".join(parts)


def _name(study: Study, plan: StagePlan) -> str:
    rounds = len(study.search_rounds)
    if plan.stage is Stage.SEARCH:
        return f"round {plan.round} of {rounds}"
    if plan.stage is Stage.CONFIRMATION:
        return f"confirmation, heat {plan.round - rounds} of {len(study.confirmation.heats)}"
    return str(plan.stage)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02.0f}" if hours else f"{minutes}:{seconds:02.0f}"
