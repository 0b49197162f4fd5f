"""The surfaces that live progress is shown on: a terminal or a log here, the output of a notebook's cell elsewhere."""

import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Self, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from caviar.control_chars import replace_control_chars

LINE_EVERY_S = 10.0
"""Seconds between lines of progress if the output is not a terminal."""


class Screen(ABC):
    """A surface with lines that stay, and below them the state of the moment."""

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *exception: object) -> None: ...

    @abstractmethod
    def say(self, line: str, title: str = "") -> None:
        """Show a line that stays, after a title in bold."""

    @abstractmethod
    def show(self, stage: str, done: int, total: int, status: str, force: bool) -> None:
        """Show the state of the moment.

        Args:
            stage: the name of the stage.
            done: number of its trials that are done.
            total: number of its trials.
            status: the rest, in words.
            force: show it even if the last one was shown just now.
        """

    @abstractmethod
    def conclude(self, line: str) -> None:
        """Show how the study has ended in place of its state, where nothing else does."""


class Terminal(Screen):
    """Standard error: a bar in a terminal; in a log a line from time to time, without control codes."""

    def __init__(self) -> None:
        self.console = Console(file=cast("TextIO", _LastingStream(sys.stderr)), soft_wrap=True)
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24 if self.console.width >= 100 else 8),
            TextColumn("{task.fields[status]}", markup=False, table_column=Column(overflow="fold")),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("starting workers", total=None, status="")
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def say(self, line: str, title: str = "") -> None:
        """Print a line, above the bar if there is one; as Text, for Rich looks for markup in strings."""
        self.console.print(Text.assemble((title, "bold"), replace_control_chars(line)))

    def show(self, stage: str, done: int, total: int, status: str, force: bool) -> None:
        status = replace_control_chars(status)
        self._bar.update(self._task, description=stage, completed=done, total=max(total, 1), status=status)
        now = time.monotonic()
        if not self.console.is_terminal and (force or now - self._printed > LINE_EVERY_S):
            self._printed = now
            self.say(f"{stage}: {status}")

    def conclude(self, line: str) -> None:
        """Do nothing: a summary or an error follows."""


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
