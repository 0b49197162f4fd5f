"""The head of a cluster with a dashboard and a token, as `ray start` creates it, and a proxy that can be cut."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TOKEN = "5afe" * 12


@dataclass(frozen=True)
class Head:
    """A running head."""

    port: int
    """Port at which machines join the cluster."""
    dashboard: int
    """Port of the dashboard."""
    folder: Path
    """Folder of Ray's files."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.dashboard}"


def environment(token: str | None = TOKEN) -> dict[str, str]:
    """Return the environment of a user who has a token, or none."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    access = {} if token is None else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    path = f"{BIN}:{kept.get('PATH', '')}"
    return {**kept, **access, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "COLUMNS": "200"}


@contextmanager
def start_head(gpus: int = 0) -> Iterator[Head]:
    """Start a head with two cores, and stop it at the end.

    Args:
        gpus: number of GPUs that it pretends to have.
    """
    # The path of a socket must be short, so that pytest's folders will not do.
    folder = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    head = Head(free_port(), free_port(), Path(folder.name))
    # The head cannot import caviar: a job must bring it along.
    without_caviar = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [BIN / "ray", "start", "--head", "--block", f"--port={head.port}", "--num-cpus=2", f"--num-gpus={gpus}",
         "--include-dashboard=true",
         f"--dashboard-port={head.dashboard}", "--dashboard-host=127.0.0.1", f"--temp-dir={head.folder}",
         f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}",
         f"--object-store-memory={100 * 2**20}"],
        cwd=head.folder,
        env={**without_caviar, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for_dashboard(head)
        yield head
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=200)
        finally:
            process.kill()
            folder.cleanup()


def _wait_for_dashboard(head: Head) -> None:
    request = urllib.request.Request(f"{head.url}/api/version", headers={"Authorization": f"Bearer {TOKEN}"})
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except (OSError, urllib.error.URLError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


class Proxy:
    """Forwards connections to a port, until it is cut."""

    def __init__(self, port: int) -> None:
        self._target, self._open = port, set[socket.socket]()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._is_cut = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        self._is_cut.set()
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Accept connections again."""
        self._is_cut.clear()

    def close(self) -> None:
        """Break all connections and close the port."""
        self.cut()
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                if self._is_cut.is_set():
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        self._open.add(source)
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)
        source.close()
