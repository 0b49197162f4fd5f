"""A cluster that was joined shrinks to nothing and grows again, or dies: the study waits, or ends in a sentence."""

import re
import time
from pathlib import Path

import pytest

from caviar.records.frames import load
from tests.cluster.joined import joined_cluster, wait_until_recorded
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, resume_inline, run_inline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
ROUNDS = (300, 100)
WITHIN_S = 40.0
"""A driver of a dead cluster ends in 15 s, on a machine that has nothing else to do."""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path, hurry = tmp_path / "bowl.py", str(tmp_path / "hurry")
    path.write_text(
        "from tests.objectives import Slow, bowl_study\n"
        f"study = bowl_study(rounds={ROUNDS}, objective=Slow(pause_s=0.1, hurry={hurry!r}))\n"
    )
    return path


def test_a_study_survives_that_there_is_no_worker_for_a_while(tmp_path: Path, script: Path) -> None:
    run = tmp_path / "runs" / "bowl"
    with joined_cluster(head_cpus=0) as cluster:
        cluster.tell("add", 2)
        driver = cluster.driver("run", script, "--runs", tmp_path / "runs")
        wait_until_recorded(run, 10, driver)
        cluster.tell("remove")
        time.sleep(12)  # longer than it has patience
        there = len(load(run).trials)
        cluster.tell("add", 1)
        wait_until_recorded(run, there + 5, driver)
        (tmp_path / "hurry").touch()
        _, said = driver.communicate(timeout=150)
    assert driver.returncode == 0, said
    assert re.search(
        r"waiting for 2 workers: (no machine of the cluster has cores|the cluster's cores are in use)", said
    ), said
    frames = load(run)
    assert (frames.trials["outcome"] == "completed").all(), "a machine's end is no trial's fault"
    assert_same_frames(run_inline(bowl_study(rounds=ROUNDS), tmp_path), frames)


@pytest.mark.parametrize(("victim", "name"), [("gcs_server", "head"), ("raylet", "raylet")])
def test_a_joined_cluster_that_dies_ends_the_driver_with_the_way_to_go_on(
    tmp_path: Path, script: Path, victim: str, name: str
) -> None:
    run = tmp_path / "runs" / "bowl"
    with joined_cluster(head_cpus=1) as cluster:
        driver = cluster.driver("run", script, "--runs", tmp_path / "runs")
        wait_until_recorded(run, 10, driver)
        cluster.tell("kill", victim)
        killed = time.monotonic()
        _, said = driver.communicate(timeout=120)
        assert time.monotonic() - killed < WITHIN_S
    assert driver.returncode == 1
    assert f"caviar: the Ray cluster died: its {name} did not answer" in said
    assert "`caviar resume` the run" in said
    assert "Traceback" not in said
    study = bowl_study(rounds=ROUNDS)
    assert_same_frames(run_inline(study, tmp_path), resume_inline(study, run))
