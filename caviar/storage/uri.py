"""Locations from paths and URIs, such as `runs/digits` and `s3://bucket/runs/digits`."""

import posixpath
import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit
from urllib.request import url2pathname

from caviar.errors import RunError
from caviar.storage.local import Disk
from caviar.storage.location import Location

_COLLAPSED = re.compile(r"[a-z][a-z0-9+.-]+:/(?!/)")
_PASSWORD = re.compile(r"(?<=://)([^:/@]*):.*@")
_OPTIONS = ("endpoint", "region")


def is_uri(where: object) -> bool:
    """Return whether it is a URI, not the path of a folder."""
    return isinstance(where, str) and "://" in where


def join(runs: str, name: str) -> str:
    """Return the path or URI of a run directory in a folder of run directories.

    Example:
        >>> join("s3://bucket/runs?region=eu-west-1", "digits")
        's3://bucket/runs/digits?region=eu-west-1'
    """
    if not is_uri(runs):
        return posixpath.join(posixpath.normpath(runs), name)
    place, mark, query = runs.partition("?")
    return f"{place.rstrip('/')}/{name}{mark}{query}"


def without_password(place: str | Path | None) -> str:
    """Return the path or URL without the password that a URL may hold.

    Example:
        >>> without_password("postgresql://me:secret@host/optuna")
        'postgresql://me:***@host/optuna'
    """
    return _PASSWORD.sub(r"\1:***@", str(place))


def locate(where: str | Path | Location) -> Location:
    """Return the location of a run directory, or of the folder of run directories.

    Args:
        where: a path, or a URI: `file:///...`, `s3://BUCKET/...`, `gs://BUCKET/...`. A store's endpoint, region and
            credentials come from the environment; `?endpoint=http://HOST:PORT&region=R` after a URI goes before it.

    Raises:
        RunError: it is neither.
    """
    if isinstance(where, Location):
        return where
    if not is_uri(where):
        if _COLLAPSED.match(str(where)):
            raise RunError(f"{where}: pathlib collapsed the '//' in this URI; pass it as a string")
        return Disk(Path(where).expanduser())
    uri = parse_uri(str(where))
    if uri.scheme == "file":
        return Disk(Path(url2pathname(uri.path)))
    from caviar.storage.object_store import Store, connect

    bucket = f"{uri.scheme}://{uri.netloc}"
    try:
        client = connect(bucket, dict(parse_qsl(uri.query)))
    except Exception as error:  # those of the client libraries have no common base
        raise RunError(f"{bucket}: no client for it: {str(error).splitlines()[0]}") from error
    key = "/".join(part for part in unquote(uri.path).split("/") if part)
    query = f"?{uri.query}" if uri.query else ""
    return Store(bucket=bucket, key=key, query=query, client=client)


def parse_uri(where: str) -> SplitResult:
    """Return the parts of a URI, which need not be reached from here; no message repeats what may be a secret of it.

    Raises:
        RunError: it is not such a URI, or holds credentials.
    """
    scheme = where.partition("://")[0]
    try:
        where.encode()
        uri = urlsplit(where)
    except ValueError:  # its text may hold a secret
        raise RunError(f"{scheme}://... is not a valid URI; write it like s3://bucket/runs") from None
    if scheme == "file":
        if uri.netloc not in ("", "localhost"):
            raise RunError("file://... names another machine: write three slashes, as in file:///runs")
        return uri
    if scheme not in ("s3", "gs"):
        raise RunError(f"{scheme}://... is not supported; use a path, file://, s3:// or gs://")
    if "@" in unquote(where):
        raise RunError(
            f"{scheme}://... must not contain '@': set credentials in the environment, not in a URI"
        )
    if not uri.netloc or ":" in uri.netloc or uri.fragment:
        raise RunError(f"{scheme}://... names no bucket; write it like {scheme}://BUCKET/PREFIX")
    for name, _ in parse_qsl(uri.query, keep_blank_values=True):
        if name not in _OPTIONS:
            place = f"{scheme}://{uri.netloc}{uri.path}"
            raise RunError(f"{place}?{name}=...: the options of a URI are {' and '.join(_OPTIONS)}")
    return uri
