"""A Ray cluster in a process of its own, whose nodes join, leave and are killed, for drivers that join it.

As a program, this file reads commands from its standard input: `add CPUS`, `remove` (kill the raylet of the latest
node, and its workers with it), `kill gcs_server` and `kill raylet` (those of the head). It answers each with a line.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
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
    """A cluster in another process.

    Args:
        process: the process, which prints the cluster's address first.
        stack: where drivers are registered, to be killed before the cluster ends.
    """

    def __init__(self, process: "subprocess.Popen[str]", stack: ExitStack) -> None:
        self._process, self._stack = process, stack
        self.address = self._answer()

    def tell(self, *words: object) -> None:
        """Send a command and wait until it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        self._answer()

    def driver(self, *command: str | Path, log: Path) -> "subprocess.Popen[str]":
        """Start `caviar ...` on the cluster, with its messages in a file."""
        with log.open("w") as file:
            driver = subprocess.Popen(
                [sys.executable, "-m", "caviar", *command, "--address", self.address],
                env=ENVIRONMENT,
                stdout=subprocess.DEVNULL,
                stderr=file,
                text=True,
            )
        self._stack.callback(driver.wait)
        self._stack.callback(driver.kill)
        return driver

    def _answer(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("> "):
                return line.removeprefix("> ").strip()
        raise AssertionError("the cluster has ended")


@contextmanager
def joined_cluster(head_cpus: int) -> Iterator[Joined]:
    """Run a cluster while inside."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.joined", str(head_cpus)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        with ExitStack() as stack:
            yield Joined(process, stack)
    finally:
        process.communicate(timeout=300)


def main(arguments: Sequence[str]) -> None:
    """Start the cluster and carry out commands."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": int(arguments[0]), "include_dashboard": False}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    head_pids = {kind: ps[0].process.pid for kind, ps in cluster.head_node.all_processes.items()}
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
                os.kill(head_pids[kind], signal.SIGKILL)
        sys.stdout.write("> done\n")
        sys.stdout.flush()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
