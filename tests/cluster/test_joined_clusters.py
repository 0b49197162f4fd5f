"""Joined clusters that lose all workers, or die: the study waits, or ends with a clear error."""

import re
import time
from pathlib import Path

import pytest

from caviar.records.frames import load
from tests.cluster.joined import joined_cluster
from tests.cluster.waiting import recorded_trials, wait_until, wait_until_recorded
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, resume_inline, run_inline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
ROUNDS = (3_000, 100)
TIMEOUT_S = 100.0
"""Seconds for the driver of a dead cluster to end; it takes 15 on an idle machine."""
WAITING = re.compile(
    r"waiting for 2 workers: (no machine of the cluster has cores|the cluster's cores are in use)"
)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path, hurry = tmp_path / "bowl.py", str(tmp_path / "hurry")
    path.write_text(
        "from tests.objectives import Slow, bowl_study\n"
        f"study = bowl_study(rounds={ROUNDS}, objective=Slow(pause_s=0.1, hurry={hurry!r}))\n"
    )
    return path


def test_a_study_waits_while_there_is_no_worker(tmp_path: Path, script: Path) -> None:
    run, log = tmp_path / "runs" / "bowl", tmp_path / "driver.log"
    with joined_cluster(head_cpus=0) as cluster:
        cluster.tell("add", 2)
        driver = cluster.driver("run", script, "--runs", tmp_path / "runs", log=log)
        wait_until_recorded(10, run, driver)
        cluster.tell("remove")
        wait_until(lambda: WAITING.search(log.read_text()) is not None, driver)
        before = len(recorded_trials(run))
        cluster.tell("add", 1)
        wait_until_recorded(before + 5, run, driver)
        (tmp_path / "hurry").touch()
        assert driver.wait(timeout=300) == 0, log.read_text()
    frames = load(run)
    assert (frames.trials["outcome"] == "completed").all(), "no trial is to blame for a lost machine"
    assert_same_frames(run_inline(bowl_study(rounds=ROUNDS), tmp_path), frames)


@pytest.mark.parametrize(("victim", "name"), [("gcs_server", "head"), ("raylet", "raylet")])
def test_a_dead_joined_cluster_ends_the_driver_with_advice(
    tmp_path: Path, script: Path, victim: str, name: str
) -> None:
    run, log = tmp_path / "runs" / "bowl", tmp_path / "driver.log"
    with joined_cluster(head_cpus=1) as cluster:
        driver = cluster.driver("run", script, "--runs", tmp_path / "runs", log=log)
        wait_until_recorded(10, run, driver)
        cluster.tell("kill", victim)
        killed = time.monotonic()
        status = driver.wait(timeout=300)
        assert time.monotonic() - killed < TIMEOUT_S
    said = log.read_text()
    assert status == 1, said
    assert f"caviar: the Ray cluster died: its {name} did not answer" in said
    assert "caviar resume" in said
    assert "Traceback" not in said
    study = bowl_study(rounds=ROUNDS)
    assert_same_frames(run_inline(study, tmp_path), resume_inline(study, run))
