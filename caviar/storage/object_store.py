"""A prefix in an object store (S3, Google Cloud Storage, and what speaks as they do), through pyarrow.

An object is put whole, and it is durable once the store has acknowledged it; nothing is ever renamed. A run
directory is begun by whoever gets hold of its lease, and its `study.json` is written next.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import quote

from pyarrow import fs

from caviar.errors import RefusedError, RunError
from caviar.storage.lease import NAME as LOCK
from caviar.storage.lease import Lease
from caviar.storage.location import Fill, Location, Lock, Say, names_to_try, way_on

AT_ONCE: Final = 16
"""Requests under way at a time, where there are many objects: most of a request is waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket, and the way to it."""

    scheme: str
    """`s3` or `gs`."""
    name: str
    query: str
    """The rest of the URI, such as `?endpoint_override=127.0.0.1:9000`; without credentials."""
    filesystem: fs.FileSystem = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.name}"


@dataclass(frozen=True, slots=True)
class Store(Location):
    """An object, or all objects whose keys begin with this one and a slash."""

    bucket: Bucket
    key: str

    def __str__(self) -> str:
        return f"{self.bucket}/{quote(self.key)}{self.bucket.query}"

    def __truediv__(self, name: str) -> Self:
        return type(self)(self.bucket, f"{self.key}/{name}".lstrip("/"))

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2] or self.bucket.name

    @property
    def parent(self) -> Self:
        return type(self)(self.bucket, self.key.rpartition("/")[0])

    def require_reachable(self) -> None:
        with self._asking("use"):
            if self._files.get_file_info(self.bucket.name).type == fs.FileType.NotFound:
                raise OSError(_NO_BUCKET[0])

    def exists(self) -> bool:
        return self.is_file() or bool(self._list(recursive=True))

    def is_file(self) -> bool:
        with self._asking("read"):
            return bool(self._files.get_file_info(self._path).type == fs.FileType.File)

    def files(self) -> list[str]:
        return sorted(entry.base_name for entry in self._list() if entry.type == fs.FileType.File)

    def folders(self) -> list[str]:
        # From the keys in them: Google's client does not list those that are not objects, too.
        inside = (entry.path.removeprefix(f"{self._path}/") for entry in self._list(recursive=True))
        return sorted({path.partition("/")[0] for path in inside if "/" in path})

    def read(self) -> bytes:
        with self._asking("read"), self._files.open_input_stream(self._path) as stream:
            return bytes(stream.read())

    def size(self) -> int:
        with self._asking("read"):
            return int(self._files.get_file_info(self._path).size or 0)

    def read_each(self, names: Iterable[str]) -> Iterator[bytes]:
        return _at_once(lambda name: (self / name).read(), names)

    def write(self, content: bytes) -> None:
        with self._asking("write"), self._files.open_output_stream(self._path) as stream:
            stream.write(content)

    def remove(self, names: Iterable[str]) -> None:
        for _ in _at_once(lambda name: (self / name)._remove(), names):
            pass

    def move(self, target: Self) -> None:
        target.write(self.read())
        self._remove()

    def make_folder(self) -> None:
        """A prefix is there with its first object."""

    def tidy(self) -> None:
        """What was not written whole is not there."""

    def create(self, name: str, numbered: bool, fill: Fill) -> tuple[Self, Lock]:
        for candidate in names_to_try(name, numbered):
            place = self / candidate
            lease = None if place.exists() else Lease.of_new(place)
            if lease is None:
                continue
            try:
                if place.files() == [LOCK]:
                    fill(place)
                    return place, lease
            except BaseException:
                lease.release()
                raise
            lease.release()
        raise RunError(f"{place} exists already: {way_on(place)}")

    def lock(self, say: Say) -> Lock:
        return Lease.of_known(self, say)

    @property
    def _files(self) -> fs.FileSystem:
        return self.bucket.filesystem

    @property
    def _path(self) -> str:
        return f"{self.bucket.name}/{self.key}".rstrip("/")

    def _list(self, recursive: bool = False) -> list[fs.FileInfo]:
        selector = fs.FileSelector(self._path, allow_not_found=True, recursive=recursive)
        with self._asking("list"):
            found: list[fs.FileInfo] = self._files.get_file_info(selector)
            return found

    def _remove(self) -> None:
        try:
            with self._asking("remove"):
                self._files.delete_file(self._path)
        except FileNotFoundError:
            pass

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """While inside, a refusal of the store is a sentence."""
        try:
            yield
        except OSError as error:
            gone = isinstance(error, FileNotFoundError) or any(sign in str(error) for sign in _GONE)
            if gone and what in ("read", "remove"):
                raise FileNotFoundError(str(self)) from error
            kind = RefusedError if what in ("write", "remove") else RunError
            raise kind(f"cannot {what} {self}: {_sentence(str(error), self.bucket)}") from error


def _at_once(work: Callable[[str], Any], names: Iterable[str]) -> Iterator[Any]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(work, names)


def _sentence(message: str, bucket: Bucket) -> str:
    """What a store's message means, and what to do; the message itself is for those who wrote the store's client."""
    for signs, meaning in _MEANINGS.items():
        if any(sign in message for sign in signs):
            return meaning.format(bucket=bucket)
    return message.splitlines()[0].partition(" (Request ID")[0]


_GONE = ("NO_SUCH_KEY", "RESOURCE_NOT_FOUND")
"""Of an object that went between being looked for and being read."""
_NO_BUCKET = ("NO_SUCH_BUCKET", "NoSuchBucket", "NOT_FOUND", "bucket does not exist")
_NO_CREDENTIALS = ("OAuth2 access token",)
_NO_ACCESS = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "INVALID_SIGNATURE",
    "INVALID_CLIENT_TOKEN_ID",
    "UNRECOGNIZED_CLIENT",
    "MISSING_AUTHENTICATION_TOKEN",
    "EXPIRED_TOKEN",
    "ExpiredToken",
    "InvalidToken",
    "REQUEST_EXPIRED",
    "REQUEST_TIME_TOO_SKEWED",
    "HTTP status 401",
    "HTTP status 403",
    "HTTP status 400) during Head",  # an expired token: such an answer has no body to say so
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
)
_NO_ANSWER = ("NETWORK_CONNECTION", "CURL error", "REQUEST_TIMEOUT", "UNAVAILABLE", "DEADLINE_EXCEEDED")
_BUSY = ("SLOW_DOWN", "THROTTLING", "INTERNAL_FAILURE", "HTTP status 5", "RESOURCE_EXHAUSTED")
_MEANINGS: Final = {
    _NO_BUCKET: "there is no bucket {bucket}; make it, or correct its name or the endpoint",
    _NO_CREDENTIALS: "there are no credentials for {bucket}; log in, or name a key in GOOGLE_APPLICATION_CREDENTIALS",
    _NO_ACCESS: (
        "no access to {bucket}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what your store wants, of somebody "
        "who may list, read, write and delete there"
    ),
    _NO_ANSWER: "no answer from the store of {bucket}; see to the network, and to AWS_ENDPOINT_URL where it is not AWS",
    _BUSY: "the store of {bucket} is overloaded or out of order; try again later",
}
"""By what a store's message holds, in this order; of pyarrow's S3 and Google Cloud Storage."""
