"""Ledgers and results for tests."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from caviar.driver import controller
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


def assert_recorded_less_often(study: Study, runs: str | Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a study of one round where recording is slow, and assert that results gather before they are recorded."""
    append = Ledger.append
    batches: list[int] = []

    def counted_append(ledger: Ledger, results: Sequence[Result]) -> list[Result]:
        batches.append(len(results))
        return append(ledger, results)

    with monkeypatch.context() as patch:
        patch.setattr(controller, "MAX_CHUNK", 1)
        patch.setattr(Ledger, "append", counted_append)
        run = run_inline(study, runs)
    stages = run.trials["round"].nunique()
    assert stages < len(batches) < len(run.trials) / 4
    return run
