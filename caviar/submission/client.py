"""Client of a cluster's dashboard, through which jobs are submitted.

All requests go over HTTP through Ray's own client. Ray sends the token in a header, and caviar sends it nowhere else.
"""

import json
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from caviar.backends.ray.auth import TOKEN_HINT, read_token, token_error
from caviar.backends.ray.session import import_ray, ray_environment
from caviar.errors import ClusterError, UnreachableError
from caviar.submission.job import JobInfo, JobSpec, parse_job

DEFAULT_URL = "http://127.0.0.1:8265"
TIMEOUTS_S = (5.0, 30.0)
"""Seconds that a dashboard has to accept a connection, and to answer a request."""
NOISY_LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Environment variables that Ray's client would use instead of the address that it is given."""


class JobClient:
    """Client for the jobs of one cluster; `open_job_client` creates it."""

    def __init__(self, url: str, ray_client: Any) -> None:
        self.url, self._ray_client = url, ray_client

    def submit_job(self, spec: JobSpec, job_id: str, archive: Path, package: Path) -> None:
        """Upload the files of a job and start it.

        Args:
            spec: job to start.
            job_id: id of the new job.
            archive: zip file of the job's working directory.
            package: folder with the source of caviar.

        Raises:
            ClusterError: the cluster refuses the job, or already has a job of this id.
        """
        with _translated_errors(self.url):
            self._ray_client.submit_job(
                entrypoint=spec.entrypoint,
                submission_id=job_id,
                runtime_env=spec.runtime_env(archive, package),
                metadata=spec.metadata,
            )

    def list_jobs(self) -> list[JobInfo]:
        """Return the jobs that caviar submitted, the latest first."""
        with _translated_errors(self.url):
            found = [parse_job(vars(details)) for details in self._ray_client.list_jobs()]
        return sorted((job for job in found if job is not None), key=lambda job: -(job.started_s or 0.0))

    def get_job(self, job_id: str) -> JobInfo:
        """Return the state of a job that caviar submitted.

        Raises:
            ClusterError: the cluster has no such job, or caviar did not submit it.
        """
        with _translated_errors(self.url, job_id):
            job = parse_job(vars(self._ray_client.get_job_info(job_id)))
        if job is None:
            raise ClusterError(
                f"caviar did not submit job {job_id}; `caviar jobs` lists the jobs that it submitted"
            )
        return job

    def stop_job(self, job_id: str) -> None:
        """Ask a job to stop, and return at once."""
        with _translated_errors(self.url, job_id):
            self._ray_client.stop_job(job_id)

    def get_logs(self, job_id: str) -> str:
        """Return the output of a job so far."""
        with _translated_errors(self.url, job_id):
            return str(self._ray_client.get_job_logs(job_id))

    async def tail_logs(self, job_id: str) -> AsyncIterator[str]:
        """Yield the output of a job in pieces, from its beginning until the job ends."""
        with _translated_errors(self.url, job_id):
            async for text in self._ray_client.tail_job_logs(job_id):
                yield text


@contextmanager
def open_job_client(address: str | None, notify: Callable[[str], object]) -> Iterator[JobClient]:
    """Yield a client of the dashboard at an address, after checking access and versions.

    Args:
        address: URL such as http://127.0.0.1:8265; None for the value of RAY_API_SERVER_ADDRESS, or this machine.
        notify: receives a warning before the first request if the token would be sent unencrypted.

    Raises:
        ClusterError: no dashboard answers, it refuses access, or the cluster's Ray or Python does not fit.
    """
    url = resolve_dashboard_url(address)
    with ray_environment(url):
        import_ray()
        _require_job_packages()
        if risk := find_token_risk(url):
            notify(f"warning: {risk}")
        with _translated_errors(url):
            ray_client = _create_ray_client(url)
            _require_versions(url, ray_client)
        yield JobClient(url, ray_client)


def resolve_dashboard_url(address: str | None) -> str:
    """Return the URL of a dashboard, with its scheme.

    Args:
        address: HOST:PORT or a URL; None for the value of RAY_API_SERVER_ADDRESS, or this machine.

    Raises:
        ClusterError: the address is not that of a dashboard, or contains a password.

    Example:
        >>> resolve_dashboard_url("127.0.0.1:8265")
        'http://127.0.0.1:8265'
    """
    if address is None:
        values = (os.environ.get(name, "") for name in ADDRESS_VARIABLES)
        address = next((value for value in values if "://" in value), DEFAULT_URL)
    url = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(url)
        has_port = parts.port is not None
        is_valid = parts.scheme in ("http", "https") and parts.hostname and (has_port or "://" in address)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ClusterError(
            f"--address {address}: not the address of a dashboard; use HOST:PORT or a URL such as {DEFAULT_URL}"
        )
    if parts.username or parts.password:
        raise ClusterError(f"--address contains a user name or password: remove it, and {TOKEN_HINT}")
    return url.rstrip("/")


def find_token_risk(url: str) -> str | None:
    """Return a warning if the token would be sent unencrypted over a network, else None."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_local = host in ("localhost", "::1") or host.startswith("127.")
    if (
        parts.scheme == "https"
        or is_local
        or os.environ.get("RAY_AUTH_MODE") == "disabled"
        or not read_token()
    ):
        return None
    return (
        f"the token is sent to {host} unencrypted: use https, or open a tunnel with "
        f"`ssh -L 8265:127.0.0.1:{parts.port or 80} {host}` and use --address {DEFAULT_URL}"
    )


def find_version_mismatch(ray: str, python: str) -> str | None:
    """Return which version of a cluster does not fit and which would; None if both fit or are unknown ("")."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    own = metadata.version("caviar")
    needed = map(Requirement, metadata.requires("caviar") or ())
    ray_requirement = next(r for r in needed if r.name == "ray" and r.marker is None)  # not that of an extra
    pythons = SpecifierSet(metadata.metadata("caviar")["Requires-Python"] or "")
    for name, version, specifier in (("Ray", ray, ray_requirement.specifier), ("Python", python, pythons)):
        if version and not specifier.contains(version, prereleases=True):
            return (
                f"{name} {version}, but caviar {own} needs {name} {specifier}: start it with such a version"
            )
    return None


def _require_job_packages() -> None:
    """Check for the packages that Ray needs for jobs; a plain installation of Ray has none of them."""
    try:
        import aiohttp
        import pydantic
    except ImportError as error:
        raise ClusterError(
            f"Ray jobs need a package that is not installed ({error}): run `pip install 'ray[default]'`"
        ) from error
    del aiohttp, pydantic


def _create_ray_client(url: str) -> Any:
    """Return Ray's client for exactly this URL, without Ray's log messages."""
    from ray.job_submission import JobSubmissionClient

    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)

    class Client(JobSubmissionClient):
        """Ray's client with timeouts; without them it waits forever."""

        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            return super()._do_request(method, endpoint, timeout=TIMEOUTS_S, **options)

    hidden = {name: os.environ.pop(name) for name in ADDRESS_VARIABLES if name in os.environ}
    try:
        return Client(url)
    finally:
        os.environ.update(hidden)


def _require_versions(url: str, ray_client: Any) -> None:
    """Refuse a cluster whose Ray or Python does not fit. The job itself checks the other packages."""
    answer = ray_client._do_request("GET", "/api/v0/cluster_metadata")
    if answer.status_code != 200:
        return  # the job will report a mismatch when it starts
    found = answer.json()["data"]
    mismatch = find_version_mismatch(str(found.get("rayVersion", "")), str(found.get("pythonVersion", "")))
    if mismatch:
        raise ClusterError(f"the cluster at {url} runs {mismatch}")


@contextmanager
def _translated_errors(url: str, job_id: str | None = None) -> Iterator[None]:
    """Raise the errors of Ray's client as errors of caviar, each with one clear message."""
    import aiohttp
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise token_error(url, has_token="failed" in str(error).splitlines()[0]) from None
    except aiohttp.WSServerHandshakeError as error:
        if error.status in (401, 403):
            raise token_error(url, has_token=error.status == 403) from None
        if error.status == 404:
            raise _unknown_job_error(url, job_id) from None
        raise UnreachableError(
            f"{url} does not stream the output of the job (HTTP {error.status})"
        ) from error
    except (json.JSONDecodeError, requests.exceptions.JSONDecodeError, KeyError) as error:
        raise _not_a_dashboard_error(url) from error
    except (requests.ConnectionError, requests.Timeout, OSError, aiohttp.ClientError) as error:
        raise _connection_error(url, error) from error
    except RuntimeError as error:
        raise _request_error(url, job_id, str(error)) from error


def _unknown_job_error(url: str, job_id: str | None) -> ClusterError:
    return ClusterError(
        f"the cluster at {url} has no job {job_id}: `caviar jobs` lists its jobs; "
        "a head that is restarted forgets earlier ones"
    )


def _not_a_dashboard_error(url: str) -> UnreachableError:
    """Return the error for a server that is not a dashboard.

    It is an `UnreachableError` because a gateway may answer while the dashboard behind it is away.
    """
    return UnreachableError(
        f"the server at {url} is not a Ray dashboard: use the dashboard's address that `ray start --head` prints, "
        "usually port 8265 (6379 is for machines that join the cluster, 10001 for Ray Client)"
    )


def _connection_error(url: str, error: Exception) -> UnreachableError:
    from requests import ConnectTimeout
    from urllib3.exceptions import MaxRetryError, ProtocolError

    chain = [error, error.__context__]
    causes = [cause.args[0] for cause in chain if isinstance(cause, Exception) and cause.args]
    if any(isinstance(cause, ProtocolError) for cause in causes):
        return _not_a_dashboard_error(url)
    reasons = [str(cause.reason) for cause in causes if isinstance(cause, MaxRetryError)]
    reason = (
        reasons[0].rpartition(": ")[2].rpartition("] ")[2] if reasons else str(error) or type(error).__name__
    )
    if isinstance(error.__context__, ConnectTimeout):
        reason = "timeout"
    return UnreachableError(
        f"no Ray dashboard answers at {url} ({reason}): check --address, and that the head runs with its dashboard; "
        "if the head is in a cloud, open a tunnel first, such as `ray dashboard cluster.yaml`"
    )


def _request_error(url: str, job_id: str | None, message: str) -> ClusterError:
    if message.startswith("Version check returned 404"):
        return _not_a_dashboard_error(url)
    found = re.match(r"Request failed with status code (\d+)", message)
    status = int(found[1]) if found else None
    if job_id is not None and status == 404:
        return _unknown_job_error(url, job_id)
    if "closed unexpectedly" in message or "WebSocket error" in message:
        return UnreachableError(f"the connection to {url} broke")
    reason = message.strip().splitlines()[-1] if message.strip() else "no reason given"
    if status is not None and (status == 429 or status >= 500):
        return UnreachableError(f"the cluster at {url} is not available now (HTTP {status}): {reason}")
    return ClusterError(f"the cluster at {url} refused the request: {reason}")
