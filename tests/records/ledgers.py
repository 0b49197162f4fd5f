"""Ledgers and results for tests."""

import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest

from caviar.driver import controller, loop
from caviar.records.frames import Run
from caviar.records.ledger import Ledger
from caviar.records.run_files import StudyFile
from caviar.storage.location import Location
from caviar.storage.uri import locate
from caviar.study import Study
from caviar.trial import Measurement, Outcome, Result, Times, Trial
from tests.objectives import bowl_study
from tests.runs import run_inline

STUDY = bowl_study(rounds=(12, 8))


def new_ledger(runs: str | Path | Location, name: str = "bowl", numbered: bool = False) -> Ledger:
    """Create a run directory."""
    return Ledger.create(locate(runs), name, StudyFile.describe(STUDY, None, None), numbered)


def reopen(run: Location) -> Ledger:
    """Open a run directory to resume its run."""
    return Ledger.reopen(run, StudyFile.read(run))


def result(number: int) -> Result:
    """Return the result of a trial of two epochs."""
    return Result(
        trial=Trial(number=number, round=1, params={"rate": 0.5, "method": None}, epochs=2, seed=7),
        outcome=Outcome.COMPLETED,
        value=0.25,
        measurements=(
            Measurement(1, {"loss": 0.5, "speed": 0.0}),
            Measurement(2, {"loss": 0.25, "speed": 1.0}),
        ),
        times=Times(queue_s=1.0, train_s=2.0),
    )


def record(ledger: Ledger, numbers: Iterable[int]) -> None:
    """Record results of trials."""
    ledger.add([result(number) for number in numbers])
    ledger.write()


def assert_recorded_less_often(study: Study, runs: str | Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a study where recording is slow, and assert that the driver pauses after each write for longer than it took.

    Only the last results of a stage are written without a pause, because the next stage follows from them.
    """
    write = Ledger.write
    written: list[tuple[float, float]] = []

    def timed_write(ledger: Ledger) -> list[Result]:
        began = time.monotonic()
        results = write(ledger)
        if results:
            written.append((began, time.monotonic()))
        return results

    with monkeypatch.context() as patch:
        patch.setattr(controller, "MAX_CHUNK", 1)
        patch.setattr(Ledger, "write", timed_write)
        run = run_inline(study, runs)
    pauses = [(end - began, later - end) for (began, end), (later, _) in pairwise(written)]
    short = [
        took_s for took_s, pause_s in pauses if pause_s < min(loop.RECORD_FACTOR * took_s, loop.MAX_RECORD_S)
    ]
    assert len(short) <= run.trials["round"].nunique() < len(written)
    return run
