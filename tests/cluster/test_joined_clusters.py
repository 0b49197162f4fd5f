"""A cluster that was joined shrinks to nothing and grows again, or dies: the study waits, or ends in a sentence."""

import re
import time
from pathlib import Path

import pytest

from caviar.records.frames import load
from tests.cluster.joined import joined_cluster, recorded, wait_until
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, resume_inline, run_inline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
ROUNDS = (3_000, 100)
WITHIN_S = 100.0
"""A driver of a dead cluster ends in 15 s, on a machine that has nothing else to do."""
WAITS = re.compile(
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


def test_a_study_survives_that_there_is_no_worker_for_a_while(tmp_path: Path, script: Path) -> None:
    run, log = tmp_path / "runs" / "bowl", tmp_path / "driver.log"
    with joined_cluster(head_cpus=0) as cluster:
        cluster.tell("add", 2)
        driver = cluster.driver("run", script, "--runs", tmp_path / "runs", said=log)
        wait_until(lambda: recorded(run) >= 10, driver)
        cluster.tell("remove")
        wait_until(lambda: WAITS.search(log.read_text()) is not None, driver)
        there = recorded(run)
        cluster.tell("add", 1)
        wait_until(lambda: recorded(run) >= there + 5, driver)
        (tmp_path / "hurry").touch()
        assert driver.wait(timeout=300) == 0, log.read_text()
    frames = load(run)
    assert (frames.trials["outcome"] == "completed").all(), "a machine's end is no trial's fault"
    assert_same_frames(run_inline(bowl_study(rounds=ROUNDS), tmp_path), frames)


@pytest.mark.parametrize(("victim", "name"), [("gcs_server", "head"), ("raylet", "raylet")])
def test_a_joined_cluster_that_dies_ends_the_driver_with_the_way_to_go_on(
    tmp_path: Path, script: Path, victim: str, name: str
) -> None:
    run, log = tmp_path / "runs" / "bowl", tmp_path / "driver.log"
    with joined_cluster(head_cpus=1) as cluster:
        driver = cluster.driver("run", script, "--runs", tmp_path / "runs", said=log)
        wait_until(lambda: recorded(run) >= 10, driver)
        cluster.tell("kill", victim)
        killed = time.monotonic()
        status = driver.wait(timeout=300)
        assert time.monotonic() - killed < WITHIN_S
    said = log.read_text()
    assert status == 1, said
    assert f"caviar: the Ray cluster died: its {name} did not answer" in said
    assert "`caviar resume` the run" in said
    assert "Traceback" not in said
    study = bowl_study(rounds=ROUNDS)
    assert_same_frames(run_inline(study, tmp_path), resume_inline(study, run))
