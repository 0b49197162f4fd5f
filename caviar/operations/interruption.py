"""Interruption of a study by a signal, and the end of its script."""

import os
import signal
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from caviar.errors import InterruptedStudy
from caviar.notebook_kernel import is_notebook


class Interruption:
    """A handler of Ctrl-C, SIGTERM and SIGHUP (a closed terminal), which stop the study.

    The first signal lets the running trials finish, and a second one stops at once; so does the first one while the
    workers start. Python ignores the exception in a callback of its own, such as those after a fork: then the study
    stops as soon as its workers have started.
    """

    def __init__(self) -> None:
        self.requested = False
        self._trials_run = self._ignored = False
        self._before: dict[int, Any] = {}
        self._report_unraisable = sys.unraisablehook

    def __enter__(self) -> Self:
        self._before = self._listen()
        sys.unraisablehook = self._report_others
        return self

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._report_unraisable
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def await_trials(self) -> None:
        """Let the first signal from now on wait for running trials."""
        self._trials_run = True
        self._listen()  # again, because starting Ray may replace signal handlers

    def ignore(self) -> None:
        """Ignore further signals: the study is closing."""
        self._ignored = True

    def _listen(self) -> dict[int, Any]:
        """Install the handler; return the handlers that it replaces."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` sets it
            numbers.append(signal.SIGHUP)
        return {number: signal.signal(number, self._handle) for number in numbers}

    def _report_others(self, ignored: Any) -> None:
        """Report an exception that Python ignores, except for the one of `_handle`."""
        if ignored.exc_type is not KeyboardInterrupt:
            self._report_unraisable(ignored)

    def _handle(self, number: int, frame: object) -> None:
        del number, frame
        if self._ignored or (self.requested and not self._trials_run):
            return  # what was started is being removed
        if self.requested or not self._trials_run:
            self.requested = True
            raise KeyboardInterrupt
        self.requested = True
        if is_notebook():  # its display says so
            return
        with suppress(OSError):  # the terminal is closed
            # `os.write` is safe in a handler. A progress bar of two lines overwrites the empty line at the end.
            os.write(2, b"\nstopping when the running trials are done (Ctrl-C again: at once) ...\n\n")


def end_script_quietly() -> None:
    """Let a script that does not catch `InterruptedStudy` end with a message and exit code 130, as `caviar run` does.

    Other errors keep their traceback, which names the line of the script. Interactive prompts and notebooks continue
    after the exception, so they are left alone.
    """
    if not hasattr(sys.modules["__main__"], "__file__") or sys.flags.interactive:
        return
    show_other = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, InterruptedStudy):
            show_other(kind, error, trace)
            return
        with suppress(OSError):  # the terminal is closed
            sys.stderr.write(f"caviar: {error}\n")
        sys.exit(130)

    sys.excepthook = show
