"""Functions on workers: each trial calls a fresh copy, so that no trial sees what another one changed.

What was pickled by value, such as the variables of a script, is unpickled again for each trial. Three things are shared
by the trials of a worker: arrays, which are read-only, the results of functions under `functools.cache`, and the
modules of installed packages. A copy takes some 12 microseconds for a small function, 70 with a class of the script,
and for large variables about as long as reading them once.
"""

import functools
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from caviar.training.function.own_modules import OwnModules

SLOW_S = 0.1
"""Seconds that a copy may take without a warning."""
LARGE_BYTES = 2**20
"""Size of a copy, in bytes, from which on it is freed at once: functions and their variables refer to each other."""


class FreshCopies:
    """Copies of what the user wrote, one for each trial.

    Args:
        load: returns a copy.
        size: size of a copy in bytes.
        folders: folders of the user's own modules.

    Attributes:
        warnings: sentences about what is copied slowly or cannot be kept from later trials.
    """

    def __init__(self, load: Callable[[], Any], size: int, folders: tuple[str, ...]) -> None:
        self._load, self._size = load, size
        took_s = self._load_s()
        if took_s > SLOW_S:  # the first copy also imports modules, and the machine may be busy
            took_s = min(self._load_s() for _ in range(2))
        self._modules = OwnModules(folders)
        self.warnings = list(self._modules.warnings)
        if took_s > SLOW_S:
            self.warnings.append(
                f"each trial gets a copy of the variables that its function uses ({size / 2**20:,.1f} MiB), which "
                f"takes {took_s:.1f} s: make them in a function under functools.cache, or as NumPy arrays"
            )

    def _load_s(self) -> float:
        """Return the seconds that a copy takes."""
        started = time.perf_counter()
        self._load()
        return time.perf_counter() - started

    @property
    def damage(self) -> str | None:
        """Reason why the worker should be replaced: a trial changed what cannot be put back; None if there is none."""
        return self._modules.damage

    @contextmanager
    def copy(self) -> Iterator[Any]:
        """Return a copy for a trial, and undo afterwards what the trial changed in the user's modules."""
        try:
            yield self._load()
        finally:
            self._modules.restore()
            if self._size > LARGE_BYTES:
                gc.collect()


class FreshFunction(FreshCopies):
    """A function that is copied for each call."""

    def __init__(self, load: Callable[[], Callable[..., Any]], size: int, folders: tuple[str, ...]) -> None:
        functools.update_wrapper(self, load())
        super().__init__(load, size, folders)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        with self.copy() as function:
            return function(*arguments, **named)
