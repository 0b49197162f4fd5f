"""Exports that are brought up to date again and again, while the study runs."""

import time
from collections.abc import Iterator
from typing import Protocol

from caviar.records.frames import Run


class Export(Protocol):
    """A copy of a run in the format of another tool."""

    place: str
    """Path or URL of the copy, without secrets."""

    def update(self, run: Run) -> int:
        """Bring the copy up to date, and return the number of trials that were written."""


def follow(run: Run, export: Export, every_s: float | None) -> Iterator[int]:
    """Update an export until the run is finished, and yield how many trials were written each time.

    Args:
        run: the run, finished or not; it may also continue later.
        export: the copy.
        every_s: seconds between updates; None updates it once.
    """
    while True:
        yield export.update(run)
        if run.finished or every_s is None:
            return
        time.sleep(every_s)
        run = Run(run.location)
