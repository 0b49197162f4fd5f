"""State of the process that trials share: random seeds, directory, environment, settings, signals, streams.

Every trial starts from the same state, whatever the trial before it changed. A process cannot undo all: threads
that keep running, memory that is kept and modules that were changed stay.
"""

import contextlib
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

_STREAMS = ("stdin", "stdout", "stderr")
"""Names of the streams of file descriptors 0, 1 and 2."""
_CATCHABLE = [s for s in signal.Signals if s not in (signal.SIGKILL, signal.SIGSTOP)]


class ProcessState:
    """State of this process to start each trial from, with the directory and environment of its creation."""

    def __init__(self) -> None:
        self._directory: str | None = None
        with contextlib.suppress(OSError):  # it was deleted
            self._directory = os.getcwd()
        self._environment = dict(os.environ)
        self._numpy_errors = np.geterr()
        self._torch_settings: tuple[int, Any, bool] | None = None

    @contextlib.contextmanager
    def isolated(self, seed: int) -> Iterator[None]:
        """Seed the global random generators, and undo afterwards what the trial inside changed.

        Use it in the thread that runs the trial.

        Args:
            seed: seed of the generators of Python, NumPy and, if it is imported, torch; less than 2**32.
        """
        streams = _StandardStreams()
        in_main = threading.current_thread() is threading.main_thread()  # no other thread can set handlers
        handlers = {number: signal.getsignal(number) for number in _CATCHABLE if in_main}
        had_timer = signal.getitimer(signal.ITIMER_REAL)[0] > 0
        filters = list(warnings.filters)
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            np.seterr(**self._numpy_errors)
            torch: Any = sys.modules.get("torch")
            # Without it, a thread that an earlier trial left is still importing torch
            if hasattr(torch, "manual_seed"):
                self._prepare_torch(torch, seed)
            yield
        finally:
            if not had_timer:
                signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in handlers.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)
            if warnings.filters != filters:
                warnings.filters[:] = filters  # type: ignore[index]
            if self._environment != os.environ:
                os.environ.clear()
                os.environ.update(self._environment)
            if self._directory is not None:
                with contextlib.suppress(OSError):  # it was deleted
                    os.chdir(self._directory)
            streams.restore()

    def _prepare_torch(self, torch: Any, seed: int) -> None:
        """Restore torch's settings as they were when the first trial found it imported, and seed it."""
        is_deterministic = torch.are_deterministic_algorithms_enabled()
        if self._torch_settings is None:
            self._torch_settings = torch.get_num_threads(), torch.get_default_dtype(), is_deterministic
        threads, dtype, deterministic = self._torch_settings
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        if is_deterministic != deterministic:
            torch.use_deterministic_algorithms(deterministic)
        torch.set_grad_enabled(True)
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():  # torch.manual_seed would keep a record of each call until it is
            torch.cuda.manual_seed_all(seed)


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
