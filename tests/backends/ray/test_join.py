"""Joining a cluster: clear errors, and a head that may be away for a while."""

import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from caviar.backends.ray.session import ANSWER_TIMEOUT_S
from caviar.records.frames import load
from tests.cluster.hosts import Hosts, missing
from tests.cluster.joined import ENVIRONMENT, Joined, joined_cluster
from tests.cluster.waiting import wait_until_recorded
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, run_inline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_500)]
SCRIPT = "from tests.objectives import bowl_study\nstudy = bowl_study()\n"
PRETEND = """
import sys
from ray._raylet import GcsClient
GcsClient(address=sys.argv[1]).internal_kv_put(b"CLUSTER_METADATA", sys.argv[2].encode(), True, b"cluster")
"""
"""Lets a cluster report other versions."""
FAULT_TOLERANT = """
import sys
import time
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
print(">", cluster.address, flush=True)
for line in sys.stdin:
    cluster.head_node.kill_gcs_server()
    time.sleep(float(line))
    cluster.head_node.start_gcs_server()
    print("> done", flush=True)
cluster.shutdown()
"""
"""A cluster whose head is away for the number of seconds read from standard input."""


def test_a_fault_tolerant_head_may_return(tmp_path: Path) -> None:
    rounds, hurry = (200, 50), tmp_path / "hurry"
    (tmp_path / "bowl.py").write_text(
        "from tests.objectives import Slow, bowl_study\n"
        f"study = bowl_study(rounds={rounds}, objective=Slow(pause_s=0.1, hurry={str(hurry)!r}))\n"
    )
    run, log = tmp_path / "runs" / "bowl", tmp_path / "driver.log"
    process = subprocess.Popen(
        [sys.executable, "-c", FAULT_TOLERANT],
        env={**ENVIRONMENT, "RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(tmp_path / "memory")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        with ExitStack() as drivers:
            cluster = Joined(process, drivers)
            driver = cluster.driver("run", tmp_path / "bowl.py", "--runs", tmp_path / "runs", log=log)
            wait_until_recorded(5, run, driver)
            cluster.tell(2 * ANSWER_TIMEOUT_S)
            hurry.touch()
            assert driver.wait(timeout=300) == 0, log.read_text()
    finally:
        process.communicate(timeout=300)
    assert_same_frames(run_inline(bowl_study(rounds=rounds), tmp_path), load(run))


def test_a_cluster_with_other_versions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bowl.py").write_text(SCRIPT)
    with joined_cluster(head_cpus=1) as cluster:
        theirs = json.dumps({"ray_version": "2.7.0", "python_version": "3.8.1"})
        subprocess.run([sys.executable, "-c", PRETEND, cluster.address, theirs], env=ENVIRONMENT, check=True)
        log = tmp_path / "driver.log"
        driver = cluster.driver("run", tmp_path / "bowl.py", "--runs", tmp_path / "runs", log=log)
        driver.wait(timeout=300)
    said = log.read_text()
    python = ".".join(map(str, sys.version_info[:3]))
    assert driver.returncode == 1
    assert (
        f"cannot join the Ray cluster at {cluster.address}: it runs Ray 2.7.0 on Python 3.8.1, and this is"
        in said
    )
    assert f"on Python {python}: use the same versions here and there (constraints.txt" in said
    assert "Traceback" not in said


@pytest.mark.skipif(missing() is not None, reason=missing() or "")
def test_a_machine_outside_the_cluster_is_told_to_submit() -> None:
    with tempfile.TemporaryDirectory(prefix="cv") as name, Hosts(2, Path(name)) as hosts:
        Path(name, "bowl.py").write_text(SCRIPT)
        hosts.start_ray(1, cpus=1)
        apart = ["unshare", "--pid", "--fork", "--mount-proc"]  # Ray searches all processes for its node
        caviar = [sys.executable, "-m", "caviar", "run", "bowl.py", "--address", hosts.head]
        driver = hosts.popen(2, [*apart, *caviar], cwd=name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 1
    assert (
        f"caviar: this machine is no node of the Ray cluster at {hosts.head}: run the command on one" in said
    )
    assert f"`caviar submit EXPERIMENT.py --address http://{hosts.address(1)}:8265`" in said
    assert "Traceback" not in said
