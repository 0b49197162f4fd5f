"""A cluster's head with its dashboard and a token, as `ray start` makes it; and a wire to it that can be cut."""

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
    """Of the cluster."""
    dashboard: int
    """The port of its dashboard."""
    folder: Path
    """Where it keeps its files."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.dashboard}"


def environment(token: str | None = TOKEN) -> dict[str, str]:
    """Of a user who has this token, or none."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    access = {} if token is None else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    path = f"{BIN}:{kept.get('PATH', '')}"
    return {**kept, **access, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "COLUMNS": "200"}


@contextmanager
def started() -> Iterator[Head]:
    """A head of two cores."""
    short = tempfile.TemporaryDirectory(
        prefix="ray-", ignore_cleanup_errors=True
    )  # a socket's path must be short
    head = Head(free_port(), free_port(), Path(short.name))
    # Caviar is not on the head's path: a job brings its own.
    surroundings = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [BIN / "ray", "start", "--head", "--block", f"--port={head.port}", "--num-cpus=2", "--include-dashboard=true",
         f"--dashboard-port={head.dashboard}", "--dashboard-host=127.0.0.1", f"--temp-dir={head.folder}",
         f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}",
         f"--object-store-memory={100 * 2**20}"],
        cwd=head.folder,
        env={**surroundings, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for_answer(head)
        yield head
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=200)
        finally:
            process.kill()
            short.cleanup()


def _wait_for_answer(head: Head) -> None:
    question = urllib.request.Request(f"{head.url}/api/version", headers={"Authorization": f"Bearer {TOKEN}"})
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(question, timeout=5).close()
        except (OSError, urllib.error.URLError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


class Wire:
    """A TCP connection to a port, by way of another port, until it is cut."""

    def __init__(self, port: int) -> None:
        self._target, self._open = port, set[socket.socket]()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.is_cut = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break what is connected, and refuse what comes."""
        self.is_cut.set()
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let through again what comes."""
        self.is_cut.clear()

    def close(self) -> None:
        """For good."""
        self.cut()
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                if self.is_cut.is_set():
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        self._open.add(source)
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)
        source.close()
