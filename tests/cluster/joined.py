"""A Ray cluster in a process of its own, whose nodes come, go and are killed; for drivers that join it.

Run as a program, it obeys lines on its standard input: `add CPUS`, `remove` (the latest node; its raylet is killed, and
the workers with it), `kill gcs_server`, `kill raylet` (the head's). It answers each with a line.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class Joined:
    """The cluster, as tests see it."""

    def __init__(self, process: "subprocess.Popen[str]", open: ExitStack) -> None:
        self._process, self._open = process, open
        self.address = self._answer()

    def tell(self, *words: object) -> None:
        """Have it do something; returns when it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        self._answer()

    def driver(self, *command: str | Path, said: Path) -> "subprocess.Popen[str]":
        """A caviar that joins it, and ends with it at the latest; what it says goes to a file."""
        with said.open("w") as file:
            driver = subprocess.Popen(
                [sys.executable, "-m", "caviar", *command, "--address", self.address],
                env=ENVIRONMENT,
                stdout=subprocess.DEVNULL,
                stderr=file,
                text=True,
            )
        self._open.callback(driver.wait)
        self._open.callback(driver.kill)
        return driver

    def _answer(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("> "):
                return line.removeprefix("> ").strip()
        raise AssertionError("the cluster has ended")


@contextmanager
def joined_cluster(head_cpus: int) -> Iterator[Joined]:
    """A cluster as long as one is inside."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.joined", str(head_cpus)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        with ExitStack() as drivers:
            yield Joined(process, drivers)
    finally:
        process.communicate(timeout=300)


def recorded(run: Path) -> int:
    """How many trials a run has recorded so far."""
    from caviar.errors import CaviarError
    from caviar.records.frames import load

    try:
        return len(load(run).trials)
    except CaviarError:
        return 0


def wait_until(true: Callable[[], bool], driver: "subprocess.Popen[str]") -> None:
    """Until it has come to pass, as long as the driver lives."""
    deadline = time.monotonic() + 300
    while not true():
        assert driver.poll() is None, "the driver has ended"
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)


def main(arguments: Sequence[str]) -> None:
    """Start the cluster, and obey."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": int(arguments[0]), "include_dashboard": False}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    vital = {kind: ps[0].process.pid for kind, ps in cluster.head_node.all_processes.items()}
    nodes = []
    sys.stdout.write(f"> {cluster.address}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        match line.split():
            case ["add", cpus]:
                nodes.append(cluster.add_node(num_cpus=int(cpus)))
            case ["remove"]:
                cluster.remove_node(nodes.pop(), allow_graceful=False)
            case ["kill", kind]:
                os.kill(vital[kind], signal.SIGKILL)
        sys.stdout.write("> done\n")
        sys.stdout.flush()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
