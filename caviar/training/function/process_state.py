"""State of the process that trials share: directory, environment, settings, limits, signals, streams.

Every trial starts from the same state, whatever the trial before it changed. What cannot be put back is noted as
`damage`, and the worker is replaced. A process cannot notice everything: threads that keep running and memory that is
kept stay.
"""

import contextlib
import decimal
import gc
import locale
import logging
import multiprocessing
import os
import random
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from caviar.errors import one_line
from caviar.training.function.torch_settings import Setting, is_imported, torch_settings

_STREAMS = ("stdin", "stdout", "stderr")
"""Names of the streams of file descriptors 0, 1 and 2."""
_getsignal: Callable[[int], Any] = vars(signal)["_signal"].getsignal
"""The function under `signal.getsignal`, which also makes an enum member: that takes ten times as long."""
_CATCHABLE = [int(s) for s in signal.Signals if s not in (signal.SIGKILL, signal.SIGSTOP)]
_LIMITS = [
    getattr(resource, f"RLIMIT_{name}")
    for name in ("AS", "CORE", "CPU", "DATA", "FSIZE", "NOFILE", "NPROC", "STACK")
]


class ProcessState:
    """State of this process to start each trial from: that of its creation.

    Attributes:
        damage: why the process may no longer train a trial as a fresh one does; None if it may.
    """

    def __init__(self) -> None:
        self.damage: str | None = None
        self._directory: str | None = None
        with contextlib.suppress(OSError):  # it was deleted
            self._directory = os.getcwd()
        self._environ, self._variables = os.environ, dict(_variables())
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._decimal = decimal.getcontext().copy()
        self._saved = [(setting, setting[1]()) for setting in _SETTINGS]
        self._saved_torch: list[tuple[Setting, Any]] = []

    @contextlib.contextmanager
    def isolated(self, seed: int) -> Iterator[None]:
        """Seed the global random generators, and undo afterwards what the trial inside changed.

        Use it in the thread that runs the trial.

        Args:
            seed: seed of the generators of Python, NumPy and, if it is imported, torch; less than 2**32.
        """
        streams = _StandardStreams()
        in_main = threading.current_thread() is threading.main_thread()  # no other thread can set handlers
        handlers = {number: _getsignal(number) for number in _CATCHABLE if in_main}
        had_timer = signal.getitimer(signal.ITIMER_REAL)[0] > 0
        filters = list(warnings.filters)
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            decimal.setcontext(self._decimal.copy())
            if is_imported():
                self._prepare_torch(seed)
            yield
        except Exception as error:
            if _is_cuda_error(error):
                self.damage = f"its GPU is in doubt after {one_line(error)}"
            raise
        finally:
            if not had_timer:
                signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in handlers.items():
                if handler is not None and _getsignal(number) is not handler:
                    signal.signal(number, handler)
            if warnings.filters != filters:
                warnings.filters[:] = filters  # type: ignore[index]
            os.environ = self._environ  # noqa: B003
            if _variables() != self._variables:
                os.environ.clear()
                os.environ.update({os.fsdecode(name): os.fsdecode(v) for name, v in self._variables.items()})
            if self._directory is not None:
                with contextlib.suppress(OSError):  # it was deleted
                    os.chdir(self._directory)
            os.umask(self._umask)
            streams.restore()
            self._restore(self._saved)
            self._restore(self._saved_torch)

    def _restore(self, saved: list[tuple[Setting, Any]]) -> None:
        for (name, read, write), value in saved:
            try:
                if read() != value:
                    write(value)
            except Exception as error:
                self.damage = f"a trial changed the {name}, which cannot be put back ({one_line(error)})"

    def _prepare_torch(self, seed: int) -> None:
        """Seed torch, and note its settings when the first trial finds it imported."""
        torch: Any = sys.modules["torch"]
        if not self._saved_torch:
            self._saved_torch = [(setting, setting[1]()) for setting in torch_settings()]
        torch.set_flush_denormal(False)
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():  # torch.manual_seed would keep a record of each call until it is
            torch.cuda.manual_seed_all(seed)


@contextlib.contextmanager
def child_ends() -> Iterator[None]:
    """End a process that the function forked and that returned from it, before it trains more trials unseen."""
    process, status = os.getpid(), 1
    try:
        yield
        status = 0
    except SystemExit as leaves:
        status = leaves.code if isinstance(leaves.code, int) else int(leaves.code is not None)
        raise
    finally:
        if os.getpid() != process:
            os._exit(status)


def _variables() -> dict[Any, Any]:
    """Return the dict under `os.environ`, which decodes each variable that is compared: that takes 60 times as long.

    A module of the user's may have put a plain dict in its place.
    """
    environ: Any = os.environ
    return getattr(environ, "_data", environ)  # type: ignore[no-any-return]


def _is_cuda_error(error: BaseException) -> bool:
    """Return whether an exception is of a kind after which every call of the process to its GPU may fail."""
    return type(error).__name__ == "AcceleratorError" or "CUDA error" in one_line(error)


def _limits() -> list[tuple[int, int]]:
    return [resource.getrlimit(limit) for limit in _LIMITS]


def _set_limits(values: list[tuple[int, int]]) -> None:
    for limit, value in zip(_LIMITS, values, strict=True):
        if resource.getrlimit(limit) != value:
            resource.setrlimit(limit, value)


def _set_import_path(folders: list[str]) -> None:
    sys.path[:] = folders


def _root_logger() -> tuple[int, int, list[logging.Handler]]:
    return logging.root.manager.disable, logging.root.level, list(logging.root.handlers)


def _set_root_logger(value: tuple[int, int, list[logging.Handler]]) -> None:
    disabled, level, logging.root.handlers[:] = value
    logging.disable(disabled)
    logging.root.setLevel(level)


def _set_garbage_collection(value: tuple[bool, tuple[int, int, int]]) -> None:
    (gc.enable if value[0] else gc.disable)()
    gc.set_threshold(*value[1])


_SETTINGS: list[Setting] = [
    ("resource limits", _limits, _set_limits),
    (
        "signal mask",
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        lambda mask: signal.pthread_sigmask(signal.SIG_SETMASK, mask),
    ),
    ("import path", lambda: list(sys.path), _set_import_path),
    ("root logger", _root_logger, _set_root_logger),
    (
        "locale",
        lambda: locale.setlocale(locale.LC_ALL),
        lambda name: locale.setlocale(locale.LC_ALL, name),
    ),
    ("time zone", lambda: (time.tzname, time.timezone, time.altzone), lambda zone: time.tzset()),
    ("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    (
        "garbage collection",
        lambda: (gc.isenabled(), gc.get_threshold()),
        _set_garbage_collection,
    ),
    (
        "start method of processes",
        lambda: multiprocessing.get_start_method(allow_none=True),
        lambda method: multiprocessing.set_start_method(method, force=True),
    ),
]
"""Settings of Python and the system that a trial may change."""


class _StandardStreams:
    """Python's standard streams, and copies of their file descriptors."""

    def __init__(self) -> None:
        self._streams: list[Any] = [getattr(sys, name) for name in _STREAMS]
        self._copies: dict[int, int] = {}
        for number in range(len(_STREAMS)):
            with contextlib.suppress(OSError):  # it is closed
                self._copies[number] = os.dup(number)

    def restore(self) -> None:
        """Restore streams and file descriptors that were closed or replaced."""
        for number, (name, stream) in enumerate(zip(_STREAMS, self._streams, strict=True)):
            if number in self._copies:
                os.dup2(self._copies[number], number)
                os.close(self._copies[number])
                if getattr(stream, "closed", False):
                    mode = "r" if number == 0 else "w"
                    stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
