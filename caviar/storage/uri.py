"""From what a user writes, `runs/digits` or `s3://bucket/runs/digits`, to a location."""

import os
import posixpath
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit
from urllib.request import url2pathname

from caviar.errors import RunError
from caviar.storage.local import Disk
from caviar.storage.location import Location

if TYPE_CHECKING:
    from pyarrow import fs

PATIENCE_S: Final = 15
"""How long Google's client tries a request again that fails; S3's tries three times."""
_BENT = re.compile(r"[a-z][a-z0-9+.-]+:/(?!/)")


def is_uri(where: str | Path) -> bool:
    """Whether it is the URI of a place, not the path of a folder."""
    return isinstance(where, str) and "://" in where


def within(runs: str, name: str) -> str:
    """The run directory of that name in a folder of run directories, as a user would write it.

    Example:
        >>> within("s3://bucket/runs?region=eu-west-1", "digits")
        's3://bucket/runs/digits?region=eu-west-1'
    """
    if not is_uri(runs):
        return posixpath.join(posixpath.normpath(runs), name)
    place, mark, query = runs.partition("?")
    return f"{place.rstrip('/')}/{name}{mark}{query}"


def locate(where: str | Path) -> Location:
    """Where a run directory, or the folder of run directories, is.

    Args:
        where: a path, or `file:///...`, `s3://BUCKET/...`, `gs://BUCKET/...`. The endpoint and the credentials of a
            store are those of its environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...), or stand in the URI as
            pyarrow has them: `s3://KEY:SECRET@BUCKET/...?region=R&endpoint_override=HOST:PORT&scheme=http`.

    Raises:
        RunError: it is neither.
    """
    if not isinstance(where, str) or "://" not in where:
        if _BENT.match(str(where)):
            raise RunError(f"{where}: pathlib has bent this URI: give it as text, such as 's3://bucket/runs'")
        return Disk(Path(where))
    uri = checked_uri(where)
    return Disk(Path(url2pathname(uri.path))) if uri.scheme == "file" else _in_store(uri)


def checked_uri(where: str) -> SplitResult:
    """The parts of the URI of a place for runs, which need not be reached from here.

    No part of the URI that may be a secret is ever repeated.

    Raises:
        RunError: it is none, or holds credentials after its question mark.
    """
    try:
        uri = urlsplit(where)
    except ValueError:  # whose text may hold what comes before the bucket
        raise RunError(
            f"{where.partition('://')[0]}://... is no URI; it must be as s3://bucket/runs"
        ) from None
    if uri.scheme == "file":
        if uri.netloc not in ("", "localhost"):
            raise RunError("file://... names another machine: write three slashes, as in file:///runs")
    elif uri.scheme in _FILESYSTEMS:
        _require_bucket(uri)
    else:
        raise RunError(f"{uri.scheme}://... is no place for runs; use a path, file://, s3:// or gs://")
    return uri


def _require_bucket(uri: SplitResult) -> None:
    name = _bucket(uri)
    if not name or ":" in name or uri.fragment or "@" in uri.path:
        raise RunError(
            f"{uri.scheme}://... names no bucket: it must be {uri.scheme}://BUCKET/PREFIX. If it holds a secret key, "
            "write %2F for each / in it, or better: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    where = f"{uri.scheme}://{name}{uri.path}"
    options = _options(uri)
    unknown = sorted(options.keys() - {"region", "scheme", "endpoint_override"})
    if unknown or "@" in unquote(uri.query):
        raise RunError(
            f"{where}?{unknown[0] if unknown else 'endpoint_override'}=...: after the question mark of a URI there can "
            "be region, scheme and endpoint_override; credentials stand in the environment"
        )
    if options.get("scheme", "https") not in ("http", "https"):
        raise RunError(f"{where}?scheme=...: must be http or https")


def _in_store(uri: SplitResult) -> Location:
    from caviar.storage.object_store import Bucket, Store

    name = _bucket(uri)
    try:
        filesystem = _FILESYSTEMS[uri.scheme](uri, name, _options(uri))
    except (OSError, ValueError) as error:  # pyarrow's errors are among them
        raise RunError(f"{uri.scheme}://{name}{uri.path}: {str(error).splitlines()[0]}") from None
    query = f"?{uri.query}" if uri.query else ""
    scheme = "gs" if uri.scheme == "gcs" else uri.scheme
    bucket = Bucket(scheme=scheme, name=name, query=query, filesystem=filesystem)
    return Store(bucket, "/".join(part for part in unquote(uri.path).split("/") if part))


def _bucket(uri: SplitResult) -> str:
    return uri.netloc.rpartition("@")[2]


def _options(uri: SplitResult) -> dict[str, str]:
    return dict(parse_qsl(uri.query, keep_blank_values=True))


def _s3(uri: SplitResult, bucket: str, options: dict[str, str]) -> "fs.FileSystem":
    from pyarrow import fs

    endpoint = options.get("endpoint_override") or os.environ.get(
        "AWS_ENDPOINT_URL_S3", os.environ.get("AWS_ENDPOINT_URL")
    )
    region = options.get("region") or os.environ.get("AWS_REGION", os.environ.get("AWS_DEFAULT_REGION"))
    if not region and not endpoint:
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        access_key=unquote(uri.username) if uri.username else None,
        secret_key=unquote(uri.password) if uri.password else None,
        region=region or None,
        scheme=options.get("scheme", "https"),
        endpoint_override=endpoint or None,
        tls_ca_file_path=os.environ.get("AWS_CA_BUNDLE"),
        allow_delayed_open=True,  # a small object is one request
        connect_timeout=5,
        request_timeout=10,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=3),
    )


def _gcs(uri: SplitResult, bucket: str, options: dict[str, str]) -> "fs.FileSystem":
    del bucket
    from pyarrow import fs

    return fs.GcsFileSystem(
        anonymous=uri.username == "anonymous",
        scheme=options.get("scheme", "https"),
        endpoint_override=options.get("endpoint_override"),
        retry_time_limit=timedelta(seconds=PATIENCE_S),
    )


_FILESYSTEMS: Final[dict[str, Callable[[SplitResult, str, dict[str, str]], Any]]] = {
    "s3": _s3,
    "gs": _gcs,
    "gcs": _gcs,
}
