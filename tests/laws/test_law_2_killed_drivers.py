"""Law 2: drivers killed with SIGKILL at random moments, thirty of them; then resumed, by another process."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from caviar.records.frames import load
from tests.killed_drivers import study
from tests.runs import assert_same_frames, resume_inline, run_inline

ROOT = Path(__file__).parents[2]


def victims(runs: Path, where: str, *moments: int) -> list[int]:
    """Studies that are killed at these moments; how many calls those took that were not."""
    command = [sys.executable, "-m", "tests.killed_drivers", str(runs), where, *map(str, moments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return [int(calls) for calls in ended.stdout.split()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the victims")
@pytest.mark.parametrize("where", ["writing", pytest.param("anywhere", marks=pytest.mark.slow)])
def test_a_driver_killed_at_any_moment_loses_and_repeats_nothing(tmp_path: Path, where: str) -> None:
    whole = run_inline(study(), tmp_path / "whole")
    (calls,) = victims(tmp_path / "counted", where, 0)
    moments = sorted(random.Random(where).sample(range(1, calls), 15))
    survivors = victims(tmp_path / "killed", where, *moments)
    assert len(survivors) <= 1, "how many calls a run takes hardly differs"
    begun = 0
    for moment in moments:
        runs = tmp_path / "killed" / str(moment)
        path = runs / "bowl"
        if not (path / "study.json").exists():  # killed before the study was written down: its name is free
            run_inline(study(), runs)
        else:
            recorded = load(path).trials
            begun += 0 < len(recorded) < len(whole.trials)
            resumed = resume_inline(study(), path).trials
            kept = resumed[resumed["trial"].isin(recorded["trial"])]
            assert kept["train_s"].tolist() == recorded["train_s"].tolist(), "recorded, but trained again"
        assert load(path).trials["trial"].tolist() == whole.trials["trial"].tolist()
        assert_same_frames(whole, load(path))
        assert [entry.name for entry in runs.iterdir()] == ["bowl"], "something is left beside the run"
        assert not list(path.rglob("*.tmp")), "temporary files are left in the run"
    assert begun >= 5, "few were killed in the midst of their work"


def test_a_folder_without_a_study_that_a_killed_driver_left_is_used(tmp_path: Path) -> None:
    victims(tmp_path, "writing", *range(20, 300, 10))  # some of them before `study.json` is written
    left = [path for path in tmp_path.glob("*/bowl") if not (path / "study.json").exists()]
    assert {".lock"} in [set(os.listdir(path)) for path in left]
    for path in left:
        run_inline(study(), path.parent)
        assert [entry.name for entry in path.parent.iterdir()] == ["bowl"]
        assert load(path).finished
