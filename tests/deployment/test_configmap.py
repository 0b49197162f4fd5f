"""A script in a ConfigMap may import modules beside it, although each machine has the files in another folder.

Kubernetes mounts a ConfigMap as links to a folder whose name differs from machine to machine. The two hosts here do not
see each other's files.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from caviar.records.frames import load
from tests.cluster.hosts import Hosts, missing
from tests.deployment.files import CLUSTER, ROOT, documents

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]
HEAD, WORKER = 1, 2
FILES = {
    "neighbour.py": 'def train(params):\n    return params["x"] ** 2\n',
    "script.py": """
import caviar as cv
from neighbour import train

study = cv.Study(
    name="study", objective=cv.Function(train), space=cv.Space(x=cv.linear(-1, 1)),
    rounds=[cv.Round(4, 1), cv.Confirmation(1, 1)],
)
""",
}
MOUNTED = 'mount --bind "$0" "$1" && shift && exec "$@"'


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for sockets, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="cv") as name:
        yield Path(name)


def mount_config_map(folder: Path, host: int) -> Path:
    """Return a folder with the files as Kubernetes mounts them."""
    mounted = folder / f"config{host}"
    version = mounted / f"..version{host}"
    version.mkdir(parents=True)
    (mounted / "..data").symlink_to(version.name)
    for name, text in FILES.items():
        (version / name).write_text(text)
        (mounted / name).symlink_to(f"..data/{name}")
    return mounted


def test_workers_find_modules_beside_the_script(folder: Path) -> None:
    experiment = folder / "experiment"
    experiment.mkdir()
    (job,) = documents(CLUSTER / "rayjob.yaml")
    entrypoint = job["spec"]["entrypoint"].replace("SCRIPT", "script.py").replace("STUDY", "study")
    entrypoint = entrypoint.replace("PYTHONPATH=/experiment", f"PYTHONPATH={experiment}:{ROOT}")
    entrypoint = entrypoint.replace("/experiment/script.py", f"{experiment}/script.py")
    entrypoint = entrypoint.replace("/runs", f"{folder}/runs")

    with Hosts(2, folder) as hosts:

        def run(host: int, command: str) -> None:
            mounted: list[str | Path] = ["sh", "-c", MOUNTED, folder / f"config{host}", experiment]
            process = hosts.popen(
                host,
                [*mounted, *command.split()],
                env={"RAY_ADDRESS": hosts.head if "caviar" in command else ""},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            output, _ = process.communicate(timeout=200)
            assert process.returncode == 0, output

        for host in (HEAD, WORKER):
            mount_config_map(folder, host)
        ray = "--node-ip-address {} --num-cpus {}"
        run(HEAD, f"ray start --head --include-dashboard=false {ray.format(hosts.address(HEAD), 0)}")
        run(WORKER, f"ray start --address {hosts.head} {ray.format(hosts.address(WORKER), 1)}")
        run(HEAD, entrypoint)
    run_ = load(folder / "runs" / "study")
    assert set(run_.trials["node"]) == {f"h{WORKER}"}
    assert set(run_.trials["outcome"]) == {"completed"}
