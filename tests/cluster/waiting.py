"""Waiting for what studies in other processes have done."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from caviar.errors import CaviarError
from caviar.records.frames import load


def recorded_trials(run: Path) -> pd.DataFrame:
    """Return the trials that a run has recorded so far."""
    try:
        return load(run).trials
    except CaviarError:
        return pd.DataFrame({"node": [], "worker": [], "attempt": []})


def wait_until(
    condition: Callable[[], bool], driver: "subprocess.Popen[str] | None" = None, timeout_s: float = 300.0
) -> float:
    """Wait until a condition holds, while a driver runs, and return the seconds it took."""
    began = time.monotonic()
    while not condition():
        if driver is not None and driver.poll() is not None:
            raise AssertionError(driver.stderr.read() if driver.stderr else "the driver has ended")
        assert time.monotonic() - began < timeout_s, f"the condition does not hold after {timeout_s:g} s"
        time.sleep(0.05)
    return time.monotonic() - began


def wait_until_recorded(count: int, run: Path, driver: "subprocess.Popen[str]") -> None:
    """Wait until a run has recorded so many trials."""
    wait_until(lambda: len(recorded_trials(run)) >= count, driver)
