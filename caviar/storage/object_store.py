"""A prefix in an object store (S3, Google Cloud Storage, or one with their interface), through obstore."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import GCSStore, ObjectStore, S3Store

from caviar.errors import RefusedError, RunError
from caviar.storage.lease import Lease, LeasedLocation, Version
from caviar.storage.location import Lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Store(LeasedLocation):
    """An object, or all objects whose keys begin with this key and a slash."""

    bucket: str
    """Its URI, such as `s3://bucket`."""
    key: str
    query: str = ""
    """The options of the URI, such as `?region=eu-west-1`."""
    client: ObjectStore = field(repr=False, compare=False)
    lease_s: float = field(default=60.0, repr=False, compare=False)
    """Seconds without a renewal after which the lease of a run directory expires. A request with its retries takes half
    of them at most, so that the last write of a lost holder ends before another driver starts."""

    def __str__(self) -> str:
        return f"{self.bucket}/{quote(self.key)}{self.query}"

    def __truediv__(self, name: str) -> Self:
        return replace(self, key=f"{self.key}/{name}".lstrip("/"))

    @property
    def name(self) -> str:
        return (self.key or self.bucket).rpartition("/")[2]

    def require_writable(self) -> None:
        self.folders()  # asks whether there is such a bucket, and whether it may be used

    def require_no_links(self) -> None:
        """Do nothing: a store has no links."""

    def is_file(self) -> bool:
        try:
            with self._requests("read"):
                self.client.head(self.key)
        except FileNotFoundError:
            return False
        return True

    def files(self) -> dict[str, int]:
        with self._requests("list"):
            found = self.client.list_with_delimiter(self.key)["objects"]
        return dict(sorted((entry["path"].rpartition("/")[2], entry["size"]) for entry in found))

    def folders(self) -> list[str]:
        with self._requests("list"):
            found = self.client.list_with_delimiter(self.key)["common_prefixes"]
        return sorted(prefix.rpartition("/")[2] for prefix in found)

    def read(self) -> bytes:
        return self.read_version()[0]

    def read_version(self) -> tuple[bytes, Version]:
        with self._requests("read"):
            found = self.client.get(self.key)
            return bytes(found.bytes()), _version(found.meta)

    def written_at(self) -> datetime:
        with self._requests("read"):
            return self.client.head(self.key)["last_modified"]

    def read_each(self, names: Iterable[str]) -> Iterator[bytes]:
        with ThreadPoolExecutor(16) as pool:
            yield from pool.map(lambda name: (self / name).read(), names)

    def write(self, content: bytes, durable: bool = True) -> None:
        del durable  # a store loses nothing that it has accepted
        with self._requests("write"):
            self.client.put(self.key, content)

    def write_version(self, content: bytes, before: Version | None) -> Version | None:
        mode: Any = "create" if before is None else before
        with self._requests("write"), suppress(AlreadyExistsError, PreconditionError):
            return _version(self.client.put(self.key, content, mode=mode))
        return None

    def remove(self, names: Iterable[str]) -> None:
        with self._requests("remove"):
            self.client.delete([(self / name).key for name in names])

    def remove_tree(self) -> None:
        with suppress(RunError), self._requests("remove"):
            self.client.delete([entry["path"] for page in self.client.list(self.key) for entry in page])

    def move(self, target: Self) -> None:
        with self._requests("write"):
            self.client.rename(self.key, target.key)

    def make_folder(self) -> None:
        """Do nothing: a prefix exists with its first object."""

    def lock(self, take_over: bool = True) -> Lock:
        return Lease.acquire(self, take_over)

    @contextmanager
    def _requests(self, action: str) -> Iterator[None]:
        """Raise a refusal of the store as an error of caviar, with the reason and what to do."""
        try:
            yield
        except (AlreadyExistsError, PreconditionError):
            raise
        except (BaseError, FileNotFoundError) as error:
            if isinstance(error, FileNotFoundError) and not re.search(_NO_BUCKET, str(error)):
                raise FileNotFoundError(str(self)) from error
            kind = RefusedError if action in ("write", "remove") else RunError
            raise kind(f"cannot {action} {self}: {_explain(str(error), self.bucket)}") from error


def connect(bucket: str, options: Mapping[str, str]) -> ObjectStore:
    """Return a client for a bucket, which sends no request yet.

    Args:
        bucket: its URI. Credentials, region and endpoint are those of the environment or the machine; where boto3 is
            installed, also those of AWS profiles.
        options: `endpoint` and `region`, which override those.
    """
    scheme, _, name = bucket.partition("://")
    client: Any = {"allow_http": True, "timeout": timedelta(seconds=20)}
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        client["root_certificate"] = Path(bundle).read_bytes()
    retries: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
    more: Any = {"client_options": client, "retry_config": retries, "config": options}
    if scheme == "gs":
        more["config"] = {"base_url": options["endpoint"]} if "endpoint" in options else {}
        return GCSStore(name, **more)
    if "AWS_ACCESS_KEY_ID" not in os.environ:
        with suppress(ImportError, ValueError):  # no boto3, or no credentials that it can find
            from obstore.auth.boto3 import Boto3CredentialProvider

            more["credential_provider"] = Boto3CredentialProvider()
    return S3Store(name, **more)


def _version(of: Mapping[str, Any]) -> Version:
    return {name: of[name] for name in ("e_tag", "version") if of[name] is not None}


def _explain(message: str, bucket: str) -> str:
    """Return what a client's message means, and what to do; the message may hold the URL of a request."""
    meanings = (meaning for pattern, meaning in _MEANINGS.items() if re.search(pattern, message))
    unknown = re.sub(r"https?://\S+", "...", message.splitlines()[0])
    return next(meanings, unknown).format(bucket=bucket)


_SET_KEYS: Final = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_NO_BUCKET: Final = "NoSuchBucket|bucket does not exist"
_MEANINGS: Final = {
    _NO_BUCKET: "there is no bucket {bucket}; create it, or correct its name or the endpoint",
    "/latest/api/token": f"no credentials for {{bucket}}; {_SET_KEYS}, or install boto3, which reads AWS profiles",
    "/computeMetadata/": "no credentials for {bucket}; log in with gcloud, or set GOOGLE_APPLICATION_CREDENTIALS",
    "invalid path": "it holds an object whose name cannot be a file's; remove that object",
    "incorrectly configured region|AuthorizationHeaderMalformed": "{bucket} is in another region; set AWS_REGION",
    "status code: 40[13]|ExpiredToken|InvalidToken|HEAD .* status code: 400": (
        f"no access to {{bucket}}; {_SET_KEYS} of a user who may list, read, write and delete there"
    ),
    "status code: 501|NotImplemented": "{bucket} has no conditional writes, which caviar needs; use another store",
    "status code: (5..|429)": "the store of {bucket} is overloaded or failing; try again later",
    "HTTP error": "no answer from the store of {bucket}; check the network, and AWS_ENDPOINT_URL if it is not AWS",
}
"""Meanings of clients' messages, by the first pattern that is found in one."""
