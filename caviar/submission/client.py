"""A cluster's dashboard, through which jobs come in: access, versions, and clear words when it cannot be.

Everything is asked over HTTP through Ray's own client. The token travels in a header that Ray sets, nowhere else.
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

from caviar.backends.ray.auth import HOW_TO_PASS_A_TOKEN, token
from caviar.backends.ray.session import environment, import_ray
from caviar.errors import ClusterError, NoAnswer
from caviar.submission.job import Job, KnownJob, known_job

DEFAULT_URL = "http://127.0.0.1:8265"
PATIENCE_S = (5.0, 30.0)
"""For a connection, and for an answer."""
TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
OVERRIDES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""What Ray's client would rather believe than the address that it is given."""


class Cluster:
    """A cluster that takes jobs. Use `reached`."""

    def __init__(self, url: str, client: Any) -> None:
        self.url, self._client = url, client

    def submit(self, job: Job, job_id: str, archive: Path, package: Path) -> None:
        """Send the archive, and the source of caviar, and start the job.

        Raises:
            ClusterError: the cluster refuses, or knows a job of this id.
        """
        with _in_words(self.url):
            self._client.submit_job(
                entrypoint=job.entrypoint,
                submission_id=job_id,
                runtime_env=job.runtime_env(archive, package),
                metadata=job.metadata,
            )

    def jobs(self) -> list[KnownJob]:
        """Caviar's jobs, the latest first."""
        with _in_words(self.url):
            found = [known_job(vars(details)) for details in self._client.list_jobs()]
        return sorted((job for job in found if job is not None), key=lambda job: -(job.started_s or 0.0))

    def job(self, job_id: str) -> KnownJob:
        """One of caviar's jobs.

        Raises:
            ClusterError: there is none of this id.
        """
        with _in_words(self.url, job_id):
            job = known_job(vars(self._client.get_job_info(job_id)))
        if job is None:
            raise ClusterError(
                f"{job_id} is no job that caviar submitted: `caviar jobs` lists those that are"
            )
        return job

    def stop(self, job_id: str) -> None:
        """Ask a job to stop, and return at once."""
        with _in_words(self.url, job_id):
            self._client.stop_job(job_id)

    def output(self, job_id: str) -> str:
        """All that a job has printed so far."""
        with _in_words(self.url, job_id):
            return str(self._client.get_job_logs(job_id))

    async def tail(self, job_id: str) -> AsyncIterator[str]:
        """What a job prints, from its beginning and until it ends."""
        with _in_words(self.url, job_id):
            async for text in self._client.tail_job_logs(job_id):
                yield text


@contextmanager
def reached(address: str | None, say: Callable[[str], object]) -> Iterator[Cluster]:
    """While inside, the dashboard at an address answers, lets us in, and has a Ray and a Python that will do.

    Args:
        address: such as http://127.0.0.1:8265; None for what RAY_API_SERVER_ADDRESS says, or this machine's.
        say: is given a warning before anything travels, where that is unsafe.

    Raises:
        ClusterError: it does not.
    """
    url = dashboard_url(address)
    with environment(url):
        import_ray()
        _require_parts()
        if unsafe := warning(url):
            say(f"warning: {unsafe}")
        with _in_words(url):
            cluster = Cluster(url, client := _client(url))
            _require_versions(url, client)
        yield cluster


def dashboard_url(address: str | None) -> str:
    """The address of a dashboard, with its scheme.

    Raises:
        ClusterError: it is another kind of address.

    Example:
        >>> dashboard_url("127.0.0.1:8265")
        'http://127.0.0.1:8265'
    """
    if address is None:
        address = next(
            (os.environ[name] for name in OVERRIDES if "://" in os.environ.get(name, "")), DEFAULT_URL
        )
    url = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(url)
        has_port = parts.port is not None
        is_one = parts.scheme in ("http", "https") and parts.hostname and (has_port or "://" in address)
    except ValueError:
        is_one = False
    if not is_one:
        raise ClusterError(
            f"--address {address}: jobs are sent to the dashboard of a cluster, such as {DEFAULT_URL}"
        )
    if parts.username or parts.password:
        raise ClusterError(f"--address: an address holds no name or password; {HOW_TO_PASS_A_TOKEN}")
    return url.rstrip("/")


def warning(url: str) -> str | None:
    """What is unsafe about asking at this address, if anything is."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    stays_here = host in ("localhost", "::1") or host.startswith("127.")
    if parts.scheme == "https" or stays_here or os.environ.get("RAY_AUTH_MODE") == "disabled" or not token():
        return None
    return (
        f"the token travels to {host} unencrypted: use https, or a tunnel such as "
        f"`ssh -L 8265:127.0.0.1:{parts.port or 80} {host}` with --address {DEFAULT_URL}"
    )


def _require_parts() -> None:
    """What Ray needs for jobs, which it does not always come with."""
    try:
        import aiohttp
        import pydantic
    except ImportError as error:
        raise ClusterError(f"Ray lacks what jobs need ({error}): `pip install 'ray[default]'`") from error
    del aiohttp, pydantic


def _client(url: str) -> Any:
    """Ray's client for exactly this address, without what it tells of its own doings."""
    from ray.job_submission import JobSubmissionClient

    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)

    class Client(JobSubmissionClient):
        """It would wait for an answer for ever."""

        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            return super()._do_request(method, endpoint, timeout=PATIENCE_S, **options)

    others = {name: os.environ.pop(name) for name in OVERRIDES if name in os.environ}
    try:
        return Client(url)
    finally:
        os.environ.update(others)


def _require_versions(url: str, client: Any) -> None:
    """Refuse what the job could not run with; the versions of other packages are looked at there."""
    answer = client._do_request("GET", "/api/v0/cluster_metadata")
    if answer.status_code != 200:
        return  # the job's own start tells
    found = answer.json()["data"]
    wrong = unsuitable(str(found.get("rayVersion", "")), str(found.get("pythonVersion", "")))
    if wrong:
        raise ClusterError(f"the cluster at {url} runs {wrong}")


def unsuitable(ray: str, python: str) -> str | None:
    """What of a cluster's versions will not do, and what will; None if they do."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    own = metadata.version("caviar")
    wanted = [r for r in map(Requirement, metadata.requires("caviar") or ()) if r.name == "ray"]
    pythons = SpecifierSet(metadata.metadata("caviar")["Requires-Python"] or "")
    for name, version, specifier in (("Ray", ray, wanted[0].specifier), ("Python", python, pythons)):
        if version and not specifier.contains(version, prereleases=True):
            return f"{name} {version}, and caviar {own} needs {name} {specifier}: start it with such a one"
    return None


@contextmanager
def _in_words(url: str, job_id: str | None = None) -> Iterator[None]:
    """What goes wrong between us and the dashboard, as one sentence."""
    import aiohttp
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise _refused(url, "failed" in str(error).splitlines()[0]) from None
    except aiohttp.WSServerHandshakeError as error:
        if error.status in (401, 403):
            raise _refused(url, error.status == 403) from None
        if error.status == 404:
            raise _unknown(url, job_id) from None
        raise NoAnswer(f"{url} does not tell what the job prints (HTTP {error.status})") from error
    except (json.JSONDecodeError, requests.exceptions.JSONDecodeError, KeyError) as error:
        raise _no_dashboard(url) from error
    except (requests.ConnectionError, requests.Timeout, OSError, aiohttp.ClientError) as error:
        raise _no_answer(url, error) from error
    except RuntimeError as error:
        raise _failed(url, job_id, str(error)) from error


def _refused(url: str, wrong: bool) -> ClusterError:
    what = "does not accept our token" if wrong else "asks for a token"
    return ClusterError(f"the cluster at {url} {what}: {HOW_TO_PASS_A_TOKEN}")


def _unknown(url: str, job_id: str | None) -> ClusterError:
    return ClusterError(
        f"the cluster at {url} knows no job {job_id}: `caviar jobs` lists those that it knows; "
        "it forgets them when its head starts again"
    )


def _no_dashboard(url: str) -> NoAnswer:
    """Where a dashboard has answered before, a gateway speaks for it while it is away."""
    return NoAnswer(
        f"what answers at {url} is no Ray dashboard: give the address that `ray start --head` printed as the "
        "dashboard's, usually port 8265 (6379 is where machines join a cluster, 10001 Ray Client)"
    )


def _no_answer(url: str, error: Exception) -> ClusterError:
    """Nothing there, or something that speaks another language."""
    from requests import ConnectTimeout
    from urllib3.exceptions import MaxRetryError, ProtocolError

    chain = [error, error.__context__]
    causes = [cause.args[0] for cause in chain if isinstance(cause, Exception) and cause.args]
    if any(isinstance(cause, ProtocolError) for cause in causes):
        return _no_dashboard(url)
    reasons = [str(cause.reason) for cause in causes if isinstance(cause, MaxRetryError)]
    why = reasons[0].rpartition(": ")[2] if reasons else str(error) or type(error).__name__
    if isinstance(error.__context__, ConnectTimeout):
        why = "no answer"
    return NoAnswer(
        f"no Ray dashboard answers at {url} ({why}): check --address, and that the head was started with its "
        "dashboard and can be reached from here; in a cloud, by a tunnel such as `ray dashboard cluster.yaml`"
    )


def _failed(url: str, job_id: str | None, said: str) -> ClusterError:
    """What else the dashboard says."""
    if said.startswith("Version check returned 404"):
        return _no_dashboard(url)
    found = re.match(r"Request failed with status code (\d+)", said)
    status = int(found[1]) if found else None
    if job_id is not None and status == 404:
        return _unknown(url, job_id)
    if "closed unexpectedly" in said or "WebSocket error" in said:
        return NoAnswer(f"the connection to {url} broke")
    reason = said.strip().splitlines()[-1] if said.strip() else "no reason given"
    if status is not None and (status == 429 or status >= 500):
        return NoAnswer(f"the cluster at {url} fails for now (HTTP {status}): {reason}")
    return ClusterError(f"the cluster at {url} refuses: {reason}")
