"""What all trials of a process share: each begins in the same, whatever the one before did.

Put back are what changes numbers and what breaks neighbours: the global generators, NumPy's and torch's settings, the
working directory, the environment, the standard streams, signal handlers, timers, filters of warnings, the limit of
recursion. What no process can undo for itself is not: threads that go on, memory that is kept, changed modules.
"""

import contextlib
import os
import random
import signal
import sys
import threading
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

STREAMS = ("stdin", "stdout", "stderr")
"""The names of the first file descriptors."""
CATCHABLE = [s for s in signal.Signals if s not in (signal.SIGKILL, signal.SIGSTOP)]


class ProcessState:
    """Those of this process: working directory and environment as they were when this was made, all else as it is.

    `prepare` and `put_back` belong together, around each trial and in its thread.
    """

    def __init__(self) -> None:
        self._folder = _folder()
        self._environment = dict(os.environ)
        self._numpy = np.geterr()
        self._torch: _TorchSettings | None = None
        self._files: dict[int, int | None] = {}
        self._remember()

    def prepare(self, seed: int) -> None:
        """Seed the generators that libraries draw from by default, with less than 2**32."""
        self._remember()
        self._files = {number: _copy(number) for number in range(len(STREAMS))}
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        np.seterr(**self._numpy)
        torch: Any = sys.modules.get("torch")
        if hasattr(torch, "manual_seed"):  # else it is being imported by a thread that an earlier trial left
            self._torch = self._torch or _TorchSettings.of(torch)
            self._torch.put_back(torch)
            _seed(torch, seed)

    def put_back(self) -> None:
        """Undo what a trial did."""
        if not self._has_timer:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self._folder is not None and self._folder != _folder():
            with contextlib.suppress(OSError):  # it was deleted
                os.chdir(self._folder)
        if self._environment != os.environ:
            os.environ.clear()
            os.environ.update(self._environment)
        if self._filters != warnings.filters:
            warnings.filters[:] = self._filters  # type: ignore[index]
        if self._recursion != sys.getrecursionlimit():
            sys.setrecursionlimit(self._recursion)
        self._put_back_streams()
        for number, handler in self._handlers.items():
            if signal.getsignal(number) is not handler and handler is not None:
                signal.signal(number, handler)

    def _remember(self) -> None:
        self._streams: dict[str, Any] = {name: getattr(sys, name) for name in STREAMS}
        in_main = threading.current_thread() is threading.main_thread()  # no other can set any
        self._handlers = {number: signal.getsignal(number) for number in CATCHABLE if in_main}
        self._filters = list(warnings.filters)
        self._recursion = sys.getrecursionlimit()
        self._has_timer = signal.getitimer(signal.ITIMER_REAL)[0] > 0

    def _put_back_streams(self) -> None:
        for number, copy in self._files.items():
            if copy is not None:
                if not _same_file(number, copy):
                    os.dup2(copy, number)
                os.close(copy)
        for number, name in enumerate(STREAMS):
            stream = self._streams[name]
            if getattr(stream, "closed", False) and self._files.get(number) is not None:
                stream = open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
        self._files = {}


@dataclass(frozen=True, slots=True)
class _TorchSettings:
    """What a trial may change in torch, once that has been imported."""

    threads: int
    dtype: Any
    deterministic: bool

    @classmethod
    def of(cls, torch: Any) -> "_TorchSettings":
        deterministic = torch.are_deterministic_algorithms_enabled()
        return cls(torch.get_num_threads(), torch.get_default_dtype(), deterministic)

    def put_back(self, torch: Any) -> None:
        now = self.of(torch)
        if now.threads != self.threads:
            torch.set_num_threads(self.threads)
        if now.dtype is not self.dtype:
            torch.set_default_dtype(self.dtype)
        if now.deterministic != self.deterministic:
            torch.use_deterministic_algorithms(self.deterministic)
        torch.set_grad_enabled(True)  # of this thread


def _seed(torch: Any, seed: int) -> None:
    """As `torch.manual_seed`, which would keep a record of each call for a GPU that is never used."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _copy(number: int) -> int | None:
    """A copy of a file descriptor that no trial will close by its number; None where it is closed."""
    try:
        return os.dup(number)
    except OSError:
        return None


def _same_file(one: int, other: int) -> bool:
    try:
        return os.path.samestat(os.fstat(one), os.fstat(other))
    except OSError:
        return False
