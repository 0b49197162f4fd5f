"""Several hosts on one machine: network namespaces with addresses and host names of their own, joined by a bridge.

A process on one host reaches the others only over the network, which can be cut. All hosts share the machine's disk,
except that each has its own folder of Ray sessions.
"""

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent
PORT = 6379


def missing() -> str | None:
    """Return why this machine cannot have hosts; None if it can."""
    if sys.platform != "linux" or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "network namespaces need iproute2 and util-linux"
    tried = subprocess.run(["unshare", "--net", "--uts", "--mount", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "this kernel forbids network namespaces"


class Hosts:
    """Hosts that exist while inside this context manager. Host number n has the address `address(n)` and the name `hn`.

    Args:
        count: number of hosts; they are numbered from 1.
        folder: folder of their Ray sessions. Its path must be short, because sockets are in it.
    """

    def __init__(self, count: int, folder: Path) -> None:
        self._tag, self._folder, self._count = secrets.token_hex(3), folder, count
        self._net = f"10.{secrets.randbelow(100) + 100}.{secrets.randbelow(250)}"
        self._stack = ExitStack()
        self.environment = {
            "PATH": f"{SCRIPTS}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
        }

    def __enter__(self) -> "Hosts":
        with ExitStack() as made:
            _ip("link", "add", self._bridge, "type", "bridge")
            made.callback(_ip, "link", "del", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for number in range(1, self._count + 1):
                space, cable = self.space(number), self._cable(number)
                _ip("netns", "add", space)
                made.callback(_ip, "netns", "del", space)
                _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
                made.callback(_ip, "link", "del", cable)
                made.callback(self.kill, number)
                _ip("link", "set", cable, "master", self._bridge, "up")
                _ip("-n", space, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
                _ip("-n", space, "link", "set", "eth0", "up")
                _ip("-n", space, "link", "set", "lo", "up")
            self._stack = made.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def address(self, number: int) -> str:
        """Return the address of a host."""
        return f"{self._net}.{number}"

    def space(self, number: int) -> str:
        """Return the network namespace of a host."""
        return f"cvh{self._tag}-{number}"

    @property
    def head(self) -> str:
        """The address of the cluster whose head is host 1."""
        return f"{self.address(1)}:{PORT}"

    def start_ray(self, number: int, cpus: int, *options: str) -> None:
        """Start Ray on a host: the head on host 1, a node of its cluster on any other."""
        role = ["--head", "--port", str(PORT)] if number == 1 else ["--address", self.head]
        if number == 1:
            role += ["--temp-dir", str(self._folder / "ray")]
        if "--include-dashboard=true" not in options and number == 1:
            role.append("--include-dashboard=false")
        started = self.popen(
            number,
            [
                "ray",
                "start",
                *role,
                "--node-ip-address",
                self.address(number),
                "--num-cpus",
                str(cpus),
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = started.communicate(timeout=300)
        assert started.returncode == 0, output

    def popen(
        self,
        number: int,
        command: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        **options: object,
    ) -> "subprocess.Popen[str]":
        """Start a command on a host, with the host's own name and Ray folder."""
        shown, own = self._folder / "ray", self._folder / f"ray{number}"
        shown.mkdir(exist_ok=True)
        own.mkdir(exist_ok=True)
        apart = f'hostname h{number} && mount --bind {own} {shown} && exec "$@"'
        named = ["unshare", "--uts", "--mount", "sh", "-c", apart, "sh"]
        process: subprocess.Popen[str] = subprocess.Popen(
            ["ip", "netns", "exec", self.space(number), *named, *map(str, command)],
            env={**self.environment, **(env or {})},
            text=True,
            **options,  # type: ignore[call-overload]
        )
        return process

    def cut(self, number: int) -> None:
        """Cut a host off from the network."""
        _ip("link", "set", self._cable(number), "down")

    def mend(self, number: int) -> None:
        """Connect a host to the network again."""
        _ip("link", "set", self._cable(number), "up")

    def kill(self, number: int) -> None:
        """Kill every process on a host at once, as a power failure does."""
        while pids := _ip("netns", "pids", self.space(number)).split():  # again: some may just be forking
            subprocess.run(["kill", "-KILL", *pids], check=False, capture_output=True)
            time.sleep(0.05)

    @property
    def _bridge(self) -> str:
        return f"cvb{self._tag}"

    def _cable(self, number: int) -> str:
        return f"cvc{self._tag}-{number}"


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
