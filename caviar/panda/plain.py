"""A session as plain lines: for scripts, pipes and terminals that cannot draw."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from caviar.analysis.branches import changes_text
from caviar.analysis.suggestions import suggest
from caviar.control_chars import replace_control_chars
from caviar.panda.driver import Driver
from caviar.panda.session import Place, Session
from caviar.panda.view import suggestion_curve
from caviar.reporting.formatting import metric_text


class Lines:
    """Printer of a session's events, one a line."""

    def __init__(self) -> None:
        self._before: Session | None = None
        self._suggested: tuple[Place | None, str] = None, ""

    def show(self, session: Session) -> None:
        """Print what is new: an epoch, the answer to a command, a suggestion."""
        before, self._before = self._before, session
        if session.branch is not None and (before is None or _epochs(session) > _epochs(before)):
            self._print_epoch(session, before)
        if session.answer:
            self._print(f"! {session.answer}" if session.is_refusal else f"= {session.answer}")
        self._suggest(session)

    def _print_epoch(self, session: Session, before: Session | None) -> None:
        branch, last = session.branch, session.curve()[-1]
        assert branch is not None
        if (
            before is not None
            and len(before.branches) < len(session.branches)
            and branch.start.branch is not None
        ):
            changes = changes_text(dict(session.branches[branch.start.branch].params), dict(branch.params))
            origin = f"continues branch {branch.start.branch} from epoch {branch.start.epoch}"
            self._print(f"branch {branch.number} {origin}{f': {changes}' if changes else ''}")
        metrics = "  ".join(f"{name} {metric_text(value)}" for name, value in last.metrics.items())
        self._print(f"branch {branch.number}  epoch {last.epoch}/{session.epochs}  {metrics}")

    def _suggest(self, session: Session) -> None:
        """Print a suggestion once for each branch and kind."""
        found = suggest(suggestion_curve(session))
        key = Place(session.at.branch, 0), "" if found is None else found.kind
        if found is not None and key != self._suggested:
            self._print(f"? {found.reason}; try {' or '.join(f'`{command}`' for command in found.commands)}")
        if found is not None or key[0] != self._suggested[0]:
            self._suggested = key

    def _print(self, text: str) -> None:
        sys.stdout.write("\n".join(replace_control_chars(line) for line in text.splitlines()) + "\n")
        sys.stdout.flush()


def _epochs(session: Session) -> int:
    return sum(len(branch.trained) for branch in session.branches)


def run_plainly(driver: Driver, reads: bool) -> None:
    """Run a session that prints lines.

    Args:
        driver: its driver, whose listener is `Lines.show`.
        reads: True to take commands from standard input; at its end the session trains to the last epoch and is left.

    Raises:
        CaviarError: as for `Driver.run`.
    """
    if reads:
        threading.Thread(target=_read_commands, args=(driver,), daemon=True).start()
    with signals_leave(driver):
        driver.run()


def _read_commands(driver: Driver) -> None:
    for line in sys.stdin:
        if line.strip():
            driver.post(line.strip())
    driver.post_end()


@contextmanager
def signals_leave(driver: Driver) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and a closed terminal leave the session, so that its last branch is recorded."""
    terminals = [stream for stream in range(3) if os.isatty(stream)]

    def leave(number: int, frame: Any) -> None:
        del frame
        if number == signal.SIGHUP:
            _replace_with_nothing(terminals)
        driver.post("quit")

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _replace_with_nothing(streams: Sequence[int]) -> None:
    """Let file descriptors read and write nothing.

    Their terminal is closed. To read it gives nothing at once, again and again, and to write it fails.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in streams:
        os.dup2(nothing, stream)
