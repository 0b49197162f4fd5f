"""Drivers with a local Ray cluster, as users start them, and the processes of their clusters."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
STUDY = (
    "from tests.objectives import Slow, bowl_study\n"
    "study = bowl_study(rounds={rounds}, objective=Slow(pause_s=0.1, hurry={hurry!r}))\n"
)


class Drivers:
    """Starts drivers whose Ray sessions are in one folder; a context manager that kills them on exit.

    Args:
        folder: folder of the sessions. Its path must be short, because sockets are in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack = folder, ExitStack()

    def __enter__(self) -> "Drivers":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, *command: str | Path) -> "subprocess.Popen[str]":
        """Start `caviar ...` in a process of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        driver = subprocess.Popen(
            [sys.executable, "-m", "caviar", *command],
            env={**kept, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(self._folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stack.enter_context(driver)
        self._stack.callback(driver.kill)
        return driver

    def sessions(self) -> list[Path]:
        """Return the session folders that exist."""
        return [path for path in self._folder.glob("ray/session_*") if not path.is_symlink()]


def descendants(pid: int) -> list[psutil.Process]:
    """Return the processes that a process has started, directly or indirectly."""
    return list(psutil.Process(pid).children(recursive=True))


def training_workers(pid: int) -> list[int]:
    """Return the process IDs of a driver's workers that are training."""
    found = []
    for process in descendants(pid):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if process.name() == "ray::WorkerActor.run":
                found.append(process.pid)
    return sorted(found)


def still_running(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that have not ended."""
    running = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
    return running
