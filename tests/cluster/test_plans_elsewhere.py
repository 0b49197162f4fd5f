"""Plans for a cluster that runs already: it is looked at, and trials are measured on this machine."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.submission.heads import ROOT, Head, environment, start_head

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]

STUDIES = ROOT / "experiments" / "plan" / "studies.py"


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with start_head(gpus=3) as head:
        yield head


def plan(*words: str, head: Head, **more: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "caviar", "plan", str(STUDIES), "--study", *words]
    env = {**environment(), **more, "RAY_ADDRESS": f"127.0.0.1:{head.port}"}  # `auto` may find other clusters
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(("address", "gpus"), [("HOST:PORT", 3), ("auto", 2)])
def test_the_cpu_workers_of_a_cluster_are_counted(head: Head, address: str, gpus: int) -> None:
    where = f"127.0.0.1:{head.port}" if address == "HOST:PORT" else address
    done = plan("tiny", "--address", where, "--gpus", str(gpus), "--json", head=head)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["workers"] == {"cpu": 2, "cuda": gpus}
    assert found["machines"][0]["GPU"] == 3
    assert 1 < found["duration_s"] < 60
    assert any(f"{gpus} GPU workers not counted" in note for note in found["notes"]), found["notes"]
    assert any("measured on this machine" in note for note in found["notes"])


def test_gpus_of_this_machine_are_named(head: Head) -> None:
    done = plan("tiny", "--json", head=head, RAY_OVERRIDE_RESOURCES='{"GPU": 1}')
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["workers"]["cuda"] == 1
    assert any("1 GPU worker not counted" in note for note in found["notes"]), found["notes"]


def test_gpu_workers_alone_are_refused_at_once(head: Head) -> None:
    done = plan("tiny", "--address", f"127.0.0.1:{head.port}", "--workers", "0", head=head)
    assert done.returncode == 1, done.stdout
    assert "3 GPU workers" in done.stderr
    assert "--workers" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cluster_that_does_not_answer_is_named(head: Head, tmp_path: Path) -> None:
    done = plan("tiny", "--address", "127.0.0.1:1", head=head)
    assert (done.returncode, "127.0.0.1:1" in done.stderr) == (1, True), done.stderr
