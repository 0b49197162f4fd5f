"""Clusters that cannot be joined: a sentence says why, and what to do."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cluster.hosts import Hosts, missing
from tests.cluster.joined import ENVIRONMENT, joined_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
SCRIPT = "from tests.objectives import bowl_study\nstudy = bowl_study()\n"
PRETEND = """
import sys
from ray._raylet import GcsClient
GcsClient(address=sys.argv[1]).internal_kv_put(b"CLUSTER_METADATA", sys.argv[2].encode(), True, b"cluster")
"""
"""Has a cluster say that it was started with other versions."""


def test_a_cluster_of_other_versions_is_refused_with_both(tmp_path: Path) -> None:
    (tmp_path / "bowl.py").write_text(SCRIPT)
    with joined_cluster(head_cpus=1) as cluster:
        theirs = json.dumps({"ray_version": "2.7.0", "python_version": "3.8.1"})
        subprocess.run([sys.executable, "-c", PRETEND, cluster.address, theirs], env=ENVIRONMENT, check=True)
        driver = cluster.driver("run", tmp_path / "bowl.py", "--runs", tmp_path / "runs")
        _, said = driver.communicate(timeout=120)
    python = ".".join(map(str, sys.version_info[:3]))
    assert driver.returncode == 1
    assert (
        f"cannot join the Ray cluster at {cluster.address}: it runs Ray 2.7.0 on Python 3.8.1, and this is"
        in said
    )
    assert f"on Python {python}: use the same versions here and there (constraints.txt" in said
    assert "Traceback" not in said


@pytest.mark.skipif(missing() is not None, reason=missing() or "")
def test_from_a_machine_that_is_no_node_of_the_cluster_it_is_said_how_to_submit() -> None:
    with tempfile.TemporaryDirectory(prefix="cv") as name, Hosts(2, Path(name)) as hosts:
        Path(name, "bowl.py").write_text(SCRIPT)
        hosts.start_ray(1, cpus=1)
        apart = ["unshare", "--pid", "--fork", "--mount-proc"]  # Ray looks for its node among the processes
        caviar = [sys.executable, "-m", "caviar", "run", "bowl.py", "--address", hosts.head]
        driver = hosts.popen(2, [*apart, *caviar], cwd=name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = driver.communicate(timeout=100)
    assert driver.returncode == 1
    assert (
        f"caviar: this machine is no node of the Ray cluster at {hosts.head}: run the command on one" in said
    )
    assert f"`caviar submit EXPERIMENT.py --address http://{hosts.address(1)}:8265`" in said
    assert "Traceback" not in said
