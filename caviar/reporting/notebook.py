"""Progress in a notebook: one display below the cell, which is replaced as the study goes on."""

import threading
import time
from collections import deque
from typing import Any

from caviar.control_chars import replace_control_chars
from caviar.reporting.screens import Screen

UPDATE_S = 0.5
"""Shortest time between two updates of the display, in seconds."""
MAX_LINES = 30
"""Largest number of lines that the display keeps."""


class Cell(Screen):
    """The output of the cell that runs the study: a display of plain text and of HTML.

    Only the thread that made it writes to it, because the output of other threads may come up below another cell.
    """

    def __init__(self) -> None:
        self._title = ""
        self._lines: deque[str] = deque(
            maxlen=MAX_LINES
        )  # copied to be read: warnings of other threads come in
        self._stage, self._status, self._done, self._total = "starting workers", "", 0, 0
        self._result = ""
        self._thread = threading.get_ident()
        self._handle: Any = None
        self._due = 0.0

    def __exit__(self, *exception: object) -> None:
        self._update(force=True)

    def say(self, line: str, title: str = "") -> None:
        if title:
            self._title = f"{title}{line}"
        else:
            self._lines.append(line)
        self._update(force=False)

    def show(self, stage: str, done: int, total: int, status: str, force: bool) -> None:
        self._stage, self._done, self._total, self._status = stage, done, total, status
        self._update(force)

    def conclude(self, line: str) -> None:
        self._result = line
        self._update(force=True)

    def _update(self, force: bool) -> None:
        """Replace the display if it is time for it."""
        now = time.monotonic()
        if threading.get_ident() != self._thread or (now < self._due and not force):
            return
        self._due = now + UPDATE_S
        content = {"text/plain": self._text(), "text/html": self._html()}
        if self._handle is None:
            from IPython.display import display

            self._handle = display(content, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(content, raw=True)

    def _text(self) -> str:
        state = f"{self._stage}: {self._status}" if self._status else self._stage
        lines = [self._title, *list(self._lines), self._result or state]
        return "\n".join(map(replace_control_chars, lines))

    def _html(self) -> str:
        from caviar.reporting.html_forms import as_text  # it loads pandas, for which workers need not wait

        bar = f'<progress value="{self._done}" max="{max(self._total, 1)}"></progress>' if self._total else ""
        state = f"{as_text(self._stage)} {bar} {as_text(self._status)}"
        result = f"<b>{as_text(self._result)}</b>" if self._result else ""
        lines = [f"<b>{as_text(self._title)}</b>", *map(as_text, list(self._lines)), result or state]
        return f'<div style="white-space: pre-wrap">{"".join(f"<div>{line}</div>" for line in lines)}</div>'
