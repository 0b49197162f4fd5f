"""Law 2: durable.

Nothing acknowledged is lost and nothing is counted twice: `kill -9` of the driver, a worker or a node at any moment,
then `caviar resume`. (Killed workers and nodes: tests/cluster; here the driver.)
"""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from caviar.data.splits import Dataset
from caviar.driver import controller, loop
from caviar.driver.backend import Backend
from caviar.operations.resume import resume_study
from caviar.records.frames import Run, load
from caviar.rounds import Confirmation, Halving, Round
from caviar.storage import local
from caviar.study import Study
from tests import killed_drivers
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, resume_inline, run_inline, run_until_failure

ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """The end of the driver's process: no code of it runs any more."""


def kill_at(touch: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """End the driver when it touches the disk for the n-th time: before a sync, a rename or a removal.

    Returns:
        A function that returns how often the disk was touched.
    """
    touches = 0
    sync, rename, remove = local._sync, os.replace, Path.unlink

    def count() -> None:
        nonlocal touches
        touches += 1
        if touches == touch:
            raise Killed

    def killable_sync(path: Path) -> None:
        count()
        sync(path)

    def killable_rename(source: Path, target: Path) -> None:
        count()
        rename(source, target)

    def killable_remove(path: Path, missing_ok: bool = False) -> None:
        count()
        remove(path, missing_ok)

    monkeypatch.setattr(local, "_sync", killable_sync)
    monkeypatch.setattr(os, "replace", killable_rename)
    monkeypatch.setattr(Path, "unlink", killable_remove)
    return lambda: touches


def run_killed_drivers(runs: Path, where: str, fractions: Iterable[float]) -> list[Path]:
    """Run a study for each fraction of its function calls, after which its driver is killed; return their runs."""
    command = [sys.executable, "-m", "tests.killed_drivers", str(runs), where, *map(str, fractions)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    return sorted(runs.glob("*/bowl"))


def resume_and_compare(study: Study, path: Path, whole: Run) -> int:
    """Resume a run whose driver was killed; return the number of trials that it had recorded."""
    recorded = load(path).trials
    resumed = resume_inline(study, path)
    kept = resumed.trials[resumed.trials["trial"].isin(recorded["trial"])]
    assert kept["train_s"].tolist() == recorded["train_s"].tolist(), "a recorded trial was trained again"
    assert_same_frames(whole, resumed)
    assert not list(path.rglob("*.tmp")), "temporary files are left in the run"
    return len(recorded)


@pytest.mark.parametrize("every", [11, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])
def test_a_driver_killed_at_any_write_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    study = bowl_study(rounds=(6, Round(4, 9, Halving(cohort=3))), confirmation=Confirmation(2, 1))
    for module, constants in (
        (controller, {"CHUNK_S": 1e9, "PREFETCH_S": 1e9}),  # so that chunks do not depend on the clock
        (loop, {"RECORD_S": 0.0, "RECORD_FACTOR": 0}),
    ):
        for name, value in constants.items():
            monkeypatch.setattr(module, name, value)
    with monkeypatch.context() as patch:
        touches = kill_at(-1, patch)
        whole = run_inline(study, tmp_path / "whole")
        total = touches()
    assert total > 50
    killed = 0
    for touch in range(1, total + 1, every):
        runs = tmp_path / f"killed-{touch}"
        with monkeypatch.context() as patch:
            kill_at(touch, patch)
            try:
                run_inline(study, runs)
            except Killed:
                killed += 1
        if (runs / "bowl" / "study.json").exists():  # else the study was not written down: the name is free
            resume_and_compare(study, runs / "bowl", whole)
    assert killed * every > total / 2  # not all: the number of writes depends a little on the clock


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("where", "count"), [("writing", 4), ("behind", 4), pytest.param("anywhere", 15, marks=pytest.mark.slow)]
)
def test_a_driver_killed_at_any_call_loses_nothing(tmp_path: Path, where: str, count: int) -> None:
    study = killed_drivers.make_study()
    whole = run_inline(study, tmp_path / "whole")
    chance = random.Random(where)
    in_the_middle = 0
    for path in run_killed_drivers(tmp_path / "killed", where, [chance.random() for _ in range(count)]):
        if (path / "study.json").exists():
            recorded = resume_and_compare(study, path, whole)
            in_the_middle += 0 < recorded < len(whole.trials)
        else:  # the study was not written down, so the name is free
            assert_same_frames(whole, run_inline(study, path.parent))
        assert list(path.parent.iterdir()) == [path], "something is left beside the run"
    assert in_the_middle >= count // 3, "few drivers were killed in the middle of a run"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.slow
def test_a_driver_killed_in_an_extension_loses_nothing(tmp_path: Path) -> None:
    study = killed_drivers.make_study()
    finished = run_inline(study, tmp_path / "finished")
    whole = killed_drivers.extend(run_inline(study, tmp_path / "whole"))
    in_the_middle = 0
    for path in run_killed_drivers(tmp_path / "killed", "extending", [n / 25 for n in range(1, 25)]):
        killed = load(path)
        assert killed.best is not None, "the winner before the extension is lost"
        killed.best.require_files()
        kept = killed.trials[killed.trials["trial"].isin(finished.trials["trial"])]
        assert len(kept) == len(finished.trials)
        if killed.study_file.extensions:
            recorded = resume_and_compare(study, path, whole)
            in_the_middle += len(kept) < recorded < len(whole.trials)
        else:
            assert_same_frames(whole, killed_drivers.extend(killed))
    assert in_the_middle >= 3, "few drivers were killed in the middle of an extension"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_directory_without_a_study_is_used(tmp_path: Path) -> None:
    early = [number / 1_000 for number in range(1, 17, 2)]  # some of them before `study.json` is written
    left = [
        path for path in run_killed_drivers(tmp_path, "writing", early) if not (path / "study.json").exists()
    ]
    contents = {frozenset(os.listdir(path)): path for path in left}
    assert frozenset([".lock"]) in contents
    for path in contents.values():
        run = run_inline(killed_drivers.make_study(), path.parent)
        assert (run.path, run.finished) == (path, True)


def test_resuming_a_finished_run_trains_nothing(tmp_path: Path) -> None:
    study = bowl_study(rounds=(6, 4))
    run = run_inline(study, tmp_path)
    before = run.trials

    def make_no_workers(dataset: Dataset | None) -> Backend:
        raise AssertionError("nothing is left to train")

    assert before.equals(resume_study(study, run.path, progress=False, backend=make_no_workers).trials)


def test_results_are_recorded_when_the_cluster_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "RECORD_S", 1e9)
    study = bowl_study(rounds=(30, 20))
    assert len(run_until_failure(study, tmp_path).trials) > 0
    assert_same_frames(run_inline(study, tmp_path), resume_inline(study, tmp_path / "bowl"))
