"""A cluster that starts machines itself provides what a study requests, and removes it afterwards.

Ray's own autoscaler runs; its fake provider starts machines as processes on this machine. As in the files for
clouds, there are several types of machines, of which the first has no capacity.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from caviar.errors import CaviarError
from caviar.records.frames import load
from tests.deployment.files import ROOT
from tests.deployment.scarce_provider import SCARCE
from tests.objectives import bowl_study
from tests.ports import free_port
from tests.runs import assert_same_frames, run_inline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
BIN = Path(sys.executable).parent
HEAD = "f" * 51 + "0" * 5
"""Id of the head for the provider."""
BOWL = """
from tests.objectives import Slow, bowl_study
study = bowl_study(objective=Slow(pause_s=0.1, crew={crew!r}, hurry={hurry!r}))
"""
GPU = """
import caviar as cv

def train(params):
    return params["x"] ** 2

study = cv.Study(
    name="bowl", objective=cv.Function(train, resources=cv.Resources({resources})),
    space=cv.Space(x=cv.linear(-1, 1)), rounds=[cv.Round(6, 1), cv.Confirmation(1, 1)],
)
"""


def configuration(port: int) -> dict[str, Any]:
    """Return a cluster with a head without cores, and types of machines that are started on demand."""

    def kind(most: int, **resources: int) -> dict[str, Any]:
        return {"resources": resources, "node_config": {}, "max_workers": most}

    provider = {
        "type": "external",
        "module": "tests.deployment.scarce_provider.ScarceProvider",
        "gcs_address": f"127.0.0.1:{port}",
        "head_node_id": HEAD,
        "launch_multiple": True,
    }
    store = 80 * 2**20
    commands = ("setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        **{f"{name}_commands": [] for name in (*commands, "initialization")},
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        "file_mounts_sync_continuously": False,
        "upscaling_speed": 1.0,
        "cluster_name": "fake",
        "provider": provider,
        "max_workers": 4,
        "idle_timeout_minutes": 0.05,
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": kind(0, CPU=0),
            SCARCE: kind(1, CPU=2, object_store_memory=store),
            "cpu": kind(2, CPU=2, object_store_memory=store),
            "gpu": kind(1, CPU=1, GPU=1, object_store_memory=store),
        },
    }


def accept_ctrl_c() -> None:
    """Restore the reaction to SIGINT, which processes of a shell in the background ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Scaling:
    """A running head, and a folder for experiments."""

    folder: Path
    port: int = field(default_factory=free_port)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return {
            **kept,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "disabled",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def start(self) -> "subprocess.Popen[bytes]":
        config = self.folder / "fake.json"
        config.write_text(json.dumps(configuration(self.port)))
        own = {
            "RAY_enable_autoscaler_v2": "1",  # as `ray up` and KubeRay have it
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_NODE_TYPE_NAME": "ray.head.default",
            "RAY_CLOUD_INSTANCE_ID": HEAD,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
        }
        return subprocess.Popen(
            [BIN / "ray", "start", "--head", "--block", f"--port={self.port}", "--num-cpus=0", "--num-gpus=0",
             "--include-dashboard=false", "--node-ip-address=127.0.0.1", f"--temp-dir={self.folder / 'ray'}",
             f"--object-store-memory={80 * 2**20}", f"--autoscaling-config={config}",
             f"--ray-client-server-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}"],
            env={**self.environment, **own},
            stdout=(self.folder / "head.log").open("wb"),
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    def nodes(self) -> int:
        """Return the number of live nodes with the head; 0 until the head answers."""
        code = (
            "import sys; from ray._raylet import GcsClient; "
            "nodes = GcsClient(address=sys.argv[1]).get_all_node_info(timeout=5).values(); "
            "print(sum(node.state == 0 for node in nodes))"
        )
        asked = [sys.executable, "-c", code, f"127.0.0.1:{self.port}"]
        said = subprocess.run(asked, env=self.environment, capture_output=True, text=True, check=False)
        return int(said.stdout or 0)

    def await_nodes(self, count: int) -> None:
        deadline = time.monotonic() + 120
        while (nodes := self.nodes()) != count:
            assert time.monotonic() < deadline, f"{nodes} nodes instead of {count}"
            time.sleep(0.5)

    def run(self, script: str, *words: str) -> "subprocess.Popen[str]":
        (self.folder / "bowl.py").write_text(script)
        command = [sys.executable, "-m", "caviar", "run", "bowl.py", "--address", f"127.0.0.1:{self.port}"]
        return subprocess.Popen(
            [*command, *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=accept_ctrl_c,
        )


def recorded(folder: Path) -> int:
    try:
        return len(load(folder / "runs" / "bowl").trials)
    except CaviarError:
        return 0


@pytest.fixture(scope="module")
def head() -> Iterator[Scaling]:
    with tempfile.TemporaryDirectory(prefix="cv", ignore_cleanup_errors=True) as name:
        cluster = Scaling(Path(name))
        process = cluster.start()
        try:
            cluster.await_nodes(1)
            yield cluster
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@pytest.fixture
def cluster(head: Scaling, tmp_path: Path) -> Scaling:
    """Return the cluster with no machine but the head, and a folder of its own."""
    head.await_nodes(1)
    return Scaling(tmp_path, head.port)


def slow_script(folder: Path) -> str:
    """Return a script that is slow until the file `hurry` exists, and starts when two workers are ready."""
    return BOWL.format(crew=str(folder / "crew"), hurry=str(folder / "hurry"))


def test_requested_machines_start_and_are_removed(cluster: Scaling, tmp_path: Path) -> None:
    study = cluster.run(slow_script(tmp_path), "--workers", "6")  # two of them on a machine that never starts
    cluster.await_nodes(3)
    (tmp_path / "hurry").touch()
    output, _ = study.communicate(timeout=200)
    assert study.returncode == 0, output
    assert "autoscaler for room for 6 more workers" in output
    run = load(tmp_path / "runs" / "bowl")
    assert run.trials["worker"].nunique() > 1
    assert_same_frames(run, run_inline(bowl_study(), tmp_path / "here"))
    cluster.await_nodes(1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ended_studies_leave_no_requests(cluster: Scaling, tmp_path: Path, number: signal.Signals) -> None:
    study = cluster.run(slow_script(tmp_path), "--workers", "100")  # more than there can ever be
    cluster.await_nodes(3)
    while recorded(tmp_path) == 0:
        assert study.poll() is None, study.communicate()
        time.sleep(0.2)
    study.send_signal(number)
    study.communicate(timeout=100)
    assert study.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    cluster.await_nodes(1)


def test_gpu_studies_start_without_gpus(cluster: Scaling, tmp_path: Path) -> None:
    study = cluster.run(GPU.format(resources="gpus=1"))
    output, _ = study.communicate(timeout=200)
    assert study.returncode == 0, output
    assert "autoscaler for room for 1 more worker;" in output
    assert set(load(tmp_path / "runs" / "bowl").trials["worker"]) == {"gpu-0"}


def test_impossible_requests_are_refused(cluster: Scaling, tmp_path: Path) -> None:
    study = cluster.run(GPU.format(resources="gpus=2"))
    output, _ = study.communicate(timeout=200)
    assert study.returncode == 1, output
    assert "its autoscaler may not start one that has" in output
    assert recorded(tmp_path) == 0
