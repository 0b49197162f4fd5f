"""Following a run from another terminal or machine: a live view in a terminal, otherwise a line from time to time."""

import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from caviar.control_chars import replace_control_chars
from caviar.errors import RunError
from caviar.records.frames import Run
from caviar.records.status import RunningTrial, Status
from caviar.reporting.digest import digest_run
from caviar.reporting.errors_shown import ErrorsShown
from caviar.reporting.follower import Follower, View
from caviar.reporting.formatting import duration_text, metric_text, pace_text
from caviar.storage.location import Location

SCREEN_EVERY_S, LINE_EVERY_S = 2.0, 10.0
"""Seconds between two views in a terminal, and between two lines elsewhere, unless the user says otherwise."""
READ_FACTOR = 4
"""Shortest time between two views, in units of what reading the last one took: a slow store is read less often."""
STALE_S = 30.0
"""Age of the driver's status, in seconds, from which it is shown."""
MAX_FAILURES = 3
"""Largest number of different failures in a live view."""
MAX_WRAPPED = 2
"""Largest number of lines that a long text takes in a live view."""
WIDE = 80
"""Columns of a terminal in which the workers of the running trials are named."""


def watch_run(location: Location, every_s: float | None = None) -> bool:
    """Show how a run goes until it ends, then a few rows about it.

    Args:
        location: the run directory.
        every_s: seconds between two views; by default, 2 in a terminal and 10 elsewhere.

    Returns:
        True if the run is finished; False if it is not, and no driver works on it.

    Raises:
        RunError: it is not a run directory, or cannot be read.
    """
    run, console = Run(location), Console(file=sys.stdout, highlight=False)
    is_live = console.is_terminal and not console.is_dumb_terminal
    every_s = every_s or (SCREEN_EVERY_S if is_live else LINE_EVERY_S)
    follower = Follower(run)
    view = follower.look()
    was_running = view.driver is not None
    with _LiveView(console) if is_live else _Lines(console) as shown:
        while view.driver is not None and not view.is_finished:
            shown.show(view)
            time.sleep(max(every_s, READ_FACTOR * view.took_s))
            view = _look_again(follower, shown, every_s)
    digest = digest_run(Run(location), view.driver)
    how = ""
    if was_running and not view.is_finished:  # a driver that stops in order removes its status
        how = ": its driver was stopped" if Status.read(location) is None else ": its driver died"
    console.print(_text(f"{digest.title}{how}", "bold"), soft_wrap=True)
    for label, text in digest.rows:
        console.print(_text(f"  {label:12} {text}"), soft_wrap=True)
    return view.is_finished


def _look_again(follower: Follower, shown: "_Lines | _LiveView", every_s: float) -> View:
    """Return the next view; wait for it if the disk or the store cannot be reached for a while."""
    while True:
        try:
            return follower.look()
        except RunError as error:
            shown.warn(f"{error}; trying again ...")
            time.sleep(every_s)


class _Lines:
    """A log: a line for each view, and one for each new error, without control codes."""

    def __init__(self, console: Console) -> None:
        self._console, self._errors, self._warning = console, ErrorsShown(), ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing."""

    def show(self, view: View) -> None:
        self._warning = ""
        for trial, failure in reversed(view.failures):
            if self._errors.is_new(failure):
                self._print(f"  trial {trial} failed: {failure}")
        self._print(", ".join([stage_text(view), *state_lines(view), *running_text(view)]))

    def warn(self, line: str) -> None:
        if line != self._warning:
            self._print(line)
        self._warning = line

    def _print(self, line: str) -> None:
        self._console.print(_text(line), soft_wrap=True)


class _LiveView:
    """A terminal, which shows one view after the other in the same place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._view: View | None = None

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def show(self, view: View, warning: str = "") -> None:
        self._view = view
        content = render(view, self._console.width, self._console.height, warning)
        self._live.update(content, refresh=True)

    def warn(self, line: str) -> None:
        assert self._view is not None
        self.show(self._view, line)


def stage_text(view: View) -> str:
    """Return the stage that is under way, and how far it is."""
    return f"{view.stage}: {view.standing.done_text(view.stage)}"


def state_lines(view: View) -> list[str]:
    """Return the pace, the time left, the best so far, and what the workers do."""
    lines = []
    if view.per_s:
        lines.append(f"{pace_text(view.per_s)}, {duration_text(view.left_s)} left")
    if best := view.standing.best_text(view.metric):
        lines.append(best)
    if view.status is None:
        lines.append("no status of the workers yet")
    else:
        counts = f"{view.status.running:,} of {view.status.workers:,} workers busy"
        lines.append(f"{counts}, {view.training:.0%} training" if view.outcomes else counts)
        if view.status_age_s > STALE_S:
            lines.append(f"no news from the driver for {duration_text(view.status_age_s)}")
    return lines


def running_text(view: View) -> list[str]:
    """Return which trial has been running longest; nothing if none is known to run."""
    if view.status is None or not view.status.trials:
        return []
    trial, since, epoch, value = running_cells(view.status.trials[0], view)
    text = f"trial {trial} runs for {since}"
    if epoch:
        text += f", {view.metric} {value} after epoch {epoch}" if value else f", epoch {epoch}"
    return [text]


def running_cells(trial: RunningTrial, view: View) -> tuple[str, str, str, str]:
    """Return a running trial's number, its time, its epoch and the value of its metric."""
    others = f" (+{trial.others})" if trial.others else ""
    epoch = "" if trial.epoch is None else f"{trial.epoch}/{trial.epochs}"
    value = "" if trial.value is None else metric_text(trial.value)
    return f"{trial.trial}{others}", duration_text(trial.since_s + view.status_age_s), epoch, value


def render(view: View, width: int, height: int, warning: str = "") -> RenderableType:
    """Return a view for a terminal of this size; what does not fit is left out."""
    done, total = view.standing.done[view.stage], view.standing.total(view.stage)
    driver = f"  {view.driver}" if view.driver else ""
    shown = ErrorsShown()
    failures = [failure for failure in view.failures if shown.is_new(failure[1])][:MAX_FAILURES]
    above: list[RenderableType] = [
        Text.assemble(_text(view.name, "bold"), _text(driver, "dim"), no_wrap=True, overflow="ellipsis"),
        _line(stage_text(view)),
        Padding(ProgressBar(max(total, 1), done, width=min(width, 60)), 0),
        *(part for line in state_lines(view) for part in _wrapped(line, width)),
        *_wrapped(", ".join(f"{count:,} {outcome}" for outcome, count in view.outcomes.items()), width),
    ]
    below: list[RenderableType] = []
    if failures:
        below = [Text(), _line("failed last", "dim")]
        for number, failure in failures:
            below += _wrapped(f"trial {number}: {failure}", width)
    if warning:
        below += _wrapped(warning, width)
    return Group(*above, *_running_table(view, width, height - len(above) - len(below) - 1), *below)


def _running_table(view: View, width: int, height: int) -> Iterator[RenderableType]:
    """Yield the trials that have been running longest, in a table of so many lines."""
    if view.status is None or not view.status.trials or height < 3:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("running", no_wrap=True)
    for title in ("time", "epoch", view.metric):
        table.add_column(_line(title), justify="right", no_wrap=True, overflow="ellipsis", max_width=12)
    if width >= WIDE:
        table.add_column("worker", no_wrap=True, overflow="ellipsis")
    trials = view.status.trials
    shown = trials[: height - 2 if view.status.running > height - 2 else height - 1]
    for trial in shown:
        number, *cells = running_cells(trial, view)
        worker = [trial.worker] if width >= WIDE else []
        table.add_row(_text(f"trial {number}"), *map(_text, (*cells, *worker)))
    yield Text()
    yield table
    if more := view.status.running - len(shown):
        yield _line(f"and {more:,} more", "dim")


def _text(text: str, style: str = "") -> Text:
    """Return text of unknown origin as it is: Rich looks for markup in strings."""
    return Text(replace_control_chars(text).replace("\n", "\\n"), style)


def _wrapped(text: str, width: int) -> list[Text]:
    """Return a text in as many lines as it takes, MAX_WRAPPED at most."""
    return [_line(part) for part in textwrap.wrap(text, width, max_lines=MAX_WRAPPED, placeholder=" ...")]


def _line(text: str, style: str = "") -> Text:
    line = _text(text, style)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line
