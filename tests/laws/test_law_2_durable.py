"""Law 2: nothing acknowledged is lost, nothing is counted twice: kill -9 of the driver anywhere, then resume."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from caviar.data.splits import Dataset
from caviar.driver import controller, loop
from caviar.driver.backend import Backend
from caviar.errors import ClusterError
from caviar.records.frames import load
from caviar.rounds import Halving
from caviar.runner import resume_study, run_study
from caviar.storage import local
from tests.objectives import bowl_study
from tests.runs import Failing, assert_same_frames, resume_inline, run_inline


class Killed(BaseException):
    """The driver's process ends here: nothing of it runs any more."""


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """End the driver at the n-th touch of the disk: before a file is complete, or before or after its rename.

    Returns:
        How often the disk was touched.
    """
    touched = 0

    def touch() -> None:
        nonlocal touched
        touched += 1
        if touched == step:
            raise Killed

    sync, rename, remove = local._sync, os.replace, Path.unlink

    def killable_sync(path: Path) -> None:
        touch()
        sync(path)

    def killable_rename(source: Path, target: Path) -> None:
        touch()
        rename(source, target)

    def killable_remove(path: Path, missing_ok: bool = False) -> None:
        touch()
        remove(path, missing_ok)

    monkeypatch.setattr(local, "_sync", killable_sync)
    monkeypatch.setattr(os, "replace", killable_rename)
    monkeypatch.setattr(Path, "unlink", killable_remove)
    return lambda: touched


@pytest.mark.parametrize("halving", [None, Halving(cohort=3)])
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])
def test_a_driver_killed_at_any_touch_of_the_disk_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, halving: Halving | None
) -> None:
    study = bowl_study(rounds=(6, 4), epochs=9, halving=halving)
    monkeypatch.setattr(
        controller, "CHUNK_S", 1e9
    )  # so that the clock does not decide how often it is touched
    monkeypatch.setattr(controller, "PREFETCH_S", 1e9)
    monkeypatch.setattr(loop, "RECORD_S", 0.0)
    monkeypatch.setattr(loop, "RECORD_FACTOR", 0)
    with monkeypatch.context() as patch:
        touched = kill_at(-1, patch)
        whole = run_inline(study, tmp_path / "whole")
        steps = touched()
    assert steps > 50
    killed = 0
    for step in range(1, steps + 1, every):
        runs = tmp_path / f"killed-{step}"
        with monkeypatch.context() as patch:
            kill_at(step, patch)
            try:
                run_inline(study, runs)
            except Killed:
                killed += 1
        path = runs / "bowl"
        if not (path / "study.json").exists():
            continue  # killed before the study was written down: its name is free
        recorded = load(path).trials
        resumed = resume_inline(study, path)
        kept = resumed.trials[resumed.trials["trial"].isin(recorded["trial"])]
        assert kept["train_s"].tolist() == recorded["train_s"].tolist(), "a recorded trial was trained again"
        assert_same_frames(whole, resumed)
        assert not [f for f in path.rglob("*") if f.name.endswith(".tmp")], "temporary files are left"
    assert (
        killed * every > steps / 2
    )  # not all: how many touches a run takes depends on its chunks, so on the clock


def test_resuming_a_finished_run_trains_nothing(tmp_path: Path) -> None:
    study = bowl_study(rounds=(6, 4))
    run = run_inline(study, tmp_path)
    before = run.trials

    def no_workers(dataset: Dataset | None) -> Backend:
        raise AssertionError("nothing is left to be trained")

    assert before.equals(resume_study(study, run.path, backend=no_workers).trials)


def test_what_has_come_back_is_recorded_when_the_cluster_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "RECORD_S", 1e9)
    study = bowl_study(rounds=(30, 20))
    with pytest.raises(ClusterError):
        run_study(study, runs=tmp_path, progress=False, backend=lambda data: Failing(study.objective, None))
    assert len(load(tmp_path / "bowl").trials) > 0
    assert_same_frames(run_inline(study, tmp_path), resume_inline(study, tmp_path / "bowl"))
