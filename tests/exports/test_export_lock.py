"""Exports to one place at the same moment add each trial once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from caviar.exports.export_lock import export_lock
from caviar.exports.optuna_study import OptunaExport
from caviar.records.frames import Run


def test_two_exports_at_once_add_each_trial_once(run: Run, tmp_path: Path) -> None:
    journal, together = tmp_path / "optuna.journal", Barrier(2)

    def export(_: int) -> int:
        opened = OptunaExport(run, journal)
        together.wait()
        return opened.update(run)

    with ThreadPoolExecutor(2) as pool:
        added = sorted(pool.map(export, range(2)))
    count = int((run.trials["stage"] == "search").sum())
    assert added == [0, count]
    assert len(run.to_optuna(journal).trials) == count


def test_a_user_without_a_state_folder_exports_without_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    with export_lock("a"), export_lock("a"):
        pass
