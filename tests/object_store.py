"""A real S3-compatible store on the loopback interface, which can be slow, and can go away and come back.

It runs in a process of its own, `python -m tests.object_store`, and does what lines on its input say.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pyarrow as pa
from obstore.store import MemoryStore
from pyarrow import fs

from caviar.storage.object_store import Store
from caviar.storage.uri import locate

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "whom-the-store-knows",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def in_memory(lease_s: float = 60.0) -> Store:
    """Return a location in a store that exists in memory only."""
    return Store(bucket="memory://bucket", key="run", client=MemoryStore(), lease_s=lease_s)


class ObjectStore:
    """The process of the store, seen from a test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.object_store"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.endpoint = f"http://127.0.0.1:{self._answer()}"
        self.files = fs.S3FileSystem(
            access_key="somebody",
            secret_key="whom-the-store-knows",
            region="us-east-1",
            endpoint_override=self.endpoint,
            allow_bucket_creation=True,
        )
        self._buckets = 0

    @property
    def environment(self) -> dict[str, str]:
        """What a process finds the store by."""
        return {**ENVIRONMENT, "AWS_ENDPOINT_URL": self.endpoint}

    def new_bucket(self) -> str:
        """The name of an empty bucket."""
        self._buckets += 1
        name = f"bucket-{self._buckets}"
        self.files.create_dir(name)
        return name

    def location(self) -> Store:
        """Return the location of an empty bucket."""
        location = locate(f"s3://{self.new_bucket()}")
        assert isinstance(location, Store)
        return location

    def listed(self, folder: str) -> list[str]:
        """All objects of a bucket or folder in it."""
        found = self.files.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
        return sorted(entry.path for entry in found if entry.is_file)

    def get(self, path: str) -> bytes:
        """An object."""
        with self.files.open_input_stream(path) as stream:
            return bytes(stream.read())

    def put(self, path: str, content: bytes) -> None:
        """An object, replaced."""
        with self.files.open_output_stream(path) as stream:
            stream.write(pa.py_buffer(content))

    def put_as_named(self, path: str, content: bytes) -> None:
        """An object whose name has parts such as `..`, which pyarrow's client would resolve."""
        connection = HTTPConnection(self.endpoint.removeprefix("http://"))
        who = "AWS4-HMAC-SHA256 Credential=somebody/20261101/us-east-1/s3/aws4_request"
        connection.request("PUT", f"/{path}", content, {"Authorization": who})
        assert connection.getresponse().status == 200
        connection.close()

    def tell(self, command: str) -> None:
        """`stop`, `start`, `delay SECONDS` before each answer, `refuse STATUS CODE` to all that is asked, `accept`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        assert self._answer() == command

    @contextmanager
    def told(self, command: str, afterwards: str) -> Iterator[None]:
        """While inside, it does what it was told."""
        self.tell(command)
        try:
            yield
        finally:
            self.tell(afterwards)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Server:
    """What runs in that process."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._store: Callable[..., Iterable[bytes]] = DomainDispatcherApplication(create_backend_app)
        self._delay_s, self.port, self._refusal = 0.0, 0, ""
        self._server = self._start()

    def obey(self, command: str) -> None:
        """Do what a line says."""
        match command.split():
            case ["stop"]:
                self._server.shutdown()
                self._server.server_close()
            case ["start"]:
                self._server = self._start()
            case ["delay", seconds]:
                self._delay_s = float(seconds)
            case ["refuse", status, code]:
                self._refusal = f"{status} {code}"
            case ["accept"]:
                self._refusal = ""

    def _start(self) -> Any:
        from werkzeug.serving import make_server

        server = make_server("127.0.0.1", self.port, self._respond, threaded=True)
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    def _respond(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        time.sleep(self._delay_s)
        if self._refusal:
            start_response(self._refusal, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{self._refusal.split()[1]}</Code></Error>".encode()]
        return self._store(environ, start_response)


def main() -> None:
    server = Server()
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        server.obey(line.strip())
        sys.stdout.write(line)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
