"""Drivers with a Ray of their own, as a user starts them; and what they leave when they are killed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from caviar.errors import CaviarError
from caviar.records.frames import load

ROOT = Path(__file__).parents[2]
STUDY = (
    "from tests.objectives import Slow, bowl_study\n"
    "study = bowl_study(rounds={rounds}, objective=Slow(pause_s=0.1, hurry={hurry!r}))\n"
)


class Drivers:
    """Starts drivers, whose Ray sessions lie in a folder of their own; a context manager, with which all of them end.

    Args:
        folder: for the sessions; its path must be short, for sockets lie in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._open = folder, ExitStack()

    def __enter__(self) -> "Drivers":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def start(self, *command: str | Path) -> "subprocess.Popen[str]":
        """`caviar ...` in a process of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        driver = subprocess.Popen(
            [sys.executable, "-m", "caviar", *command],
            env={**kept, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(self._folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._open.enter_context(driver)
        self._open.callback(driver.kill)
        return driver

    def sessions(self) -> list[Path]:
        """The folders of their Ray sessions that are there."""
        return [path for path in self._folder.glob("ray/session_*") if not path.is_symlink()]


def wait_until(true: Callable[[], bool], driver: "subprocess.Popen[str]") -> None:
    """Until it has come to pass, as long as the driver lives."""
    while not true():
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.05)


def wait_until_recorded(run: Path, count: int, driver: "subprocess.Popen[str]") -> None:
    """Until a run has recorded so many trials."""
    wait_until(lambda: recorded(run) >= count, driver)


def recorded(run: Path) -> int:
    """How many trials a run has recorded."""
    try:
        return len(load(run).trials)
    except CaviarError:
        return 0


def descendants(process: int) -> dict[int, str]:
    """The processes that one has started, and those that these have, with their names."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, rest = status.read_text().split(" (", 1)
        except (OSError, ValueError):
            continue  # it has just ended
        name, _, after = rest.rpartition(") ")
        state, parent = after.split()[:2]
        if state != "Z":
            parents[int(number)], names[int(number)] = int(parent), name
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {number: names[number] for number in found - {process}}


def workers(process: int) -> list[int]:
    """Those of a driver's processes that train just now."""
    return sorted(number for number, name in descendants(process).items() if name == "ray::WorkerActor.run")


def alive(processes: dict[int, str]) -> dict[int, str]:
    """Those that are still there."""
    return {n: name for n, name in processes.items() if Path(f"/proc/{n}/exe").exists() and not _zombie(n)}


def _zombie(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True
