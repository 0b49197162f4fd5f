"""The client of a dashboard: addresses, versions, tokens and errors."""

import json
import re
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from caviar.errors import ClusterError, UnreachableError
from caviar.submission import log_follower
from caviar.submission.client import (
    JobClient,
    find_token_risk,
    find_version_mismatch,
    open_job_client,
    resolve_dashboard_url,
)
from caviar.submission.log_follower import follow_job

Answers = dict[str, tuple[int, Any]]
VERSION = {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""}


class Dashboard(BaseHTTPRequestHandler):
    """Answers as Ray's dashboard does, for any version of Ray."""

    answers: Answers

    def do_GET(self) -> None:
        status, content = self.answers.get(self.path, (404, "not found"))
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Dashboard)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def versions(ray: str = "2.60.0", python: str = "3.11.7") -> Answers:
    data = {"rayVersion": ray, "pythonVersion": python}
    return {
        "/api/version": (200, {**VERSION, "ray_version": ray}),
        "/api/v0/cluster_metadata": (200, {"result": True, "data": data}),
    }


def list_jobs(url: str, answers: Answers) -> list[Any]:
    Dashboard.answers = answers
    with open_job_client(url, print) as client:
        return client.list_jobs()


def list_error(url: str, answers: Answers) -> str:
    with pytest.raises(ClusterError) as error:
        list_jobs(url, answers)
    return str(error.value)


def get_job_error(url: str, status: int, content: str) -> ClusterError:
    Dashboard.answers = {**versions(), "/api/jobs/a": (status, content)}
    with open_job_client(url, print) as client, pytest.raises(ClusterError) as error:
        client.get_job("a")
    return error.value


def test_fitting_ray_and_python_are_accepted(url: str) -> None:
    assert list_jobs(url, {**versions("2.61.0", "3.13.1"), "/api/jobs/": (200, [])}) == []


@pytest.mark.parametrize(
    ("ray", "python", "words"),
    [
        ("2.40.0", "3.11.7", r"Ray 2.40.0, but caviar .* needs Ray <3,>=2.60"),
        ("3.1.0", "3.11.7", r"Ray 3.1.0"),
        ("2.60.0", "3.10.4", r"Python 3.10.4, but caviar .* needs Python >=3.11"),
        ("1.8.0", "3.11.7", r"Ray version 1.8.0"),
    ],
)
def test_other_ray_or_python_is_refused(url: str, ray: str, python: str, words: str) -> None:
    assert re.search(words, list_error(url, versions(ray, python)))


def test_unknown_versions_are_accepted(url: str) -> None:
    assert list_jobs(url, {"/api/version": (200, VERSION), "/api/jobs/": (200, [])}) == []
    assert find_version_mismatch("", "") is None


@pytest.mark.parametrize("answer", [(404, "no such page"), (200, "<html>hello</html>"), (200, {"hello": 1})])
def test_other_web_servers_are_recognised(url: str, answer: tuple[int, Any]) -> None:
    assert "is not a Ray dashboard" in list_error(url, {"/api/version": answer})


@pytest.mark.parametrize(
    ("status", "words"), [(401, "asks for a token"), (403, "does not accept this token")]
)
def test_refused_access_explains_tokens(url: str, status: int, words: str) -> None:
    error = list_error(url, {"/api/version": (status, "Unauthorized")})
    assert words in error
    assert "RAY_AUTH_MODE=token" in error


def test_refusal_shows_the_last_line_of_the_reason(url: str) -> None:
    answers = {**versions(), "/api/jobs/": (400, "Traceback\n  deep\nValueError: no disk")}
    assert list_error(url, answers).endswith("ValueError: no disk.")


def test_unknown_job_is_reported(url: str) -> None:
    error = get_job_error(url, 404, "Job a does not exist")
    assert not isinstance(error, UnreachableError)
    assert "no job a" in str(error)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_temporary_failures_may_be_retried(url: str, status: int) -> None:
    error = get_job_error(url, status, "upstream\nno 404 here")
    assert isinstance(error, UnreachableError)
    assert str(error).endswith(f"(HTTP {status}): no 404 here.")


def test_following_survives_a_gateways_answers(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_follower, "RETRY_S", 0.0)
    job = {"type": "SUBMISSION", "submission_id": "a", "entrypoint": "x", "status": "SUCCEEDED"}
    job_answer: tuple[int, Any] = (200, {**job, "metadata": {"caviar_run": "/runs/a"}})
    answers = [(503, "upstream"), (200, "<html>please wait</html>"), (429, "slowly"), job_answer]
    messages: list[str] = []

    class WithoutLogs(JobClient):
        """Client of a job without output, whose dashboard answers differently each time."""

        async def tail_logs(self, job_id: str) -> AsyncIterator[str]:
            Dashboard.answers = {f"/api/jobs/{job_id}": answers.pop(0)}
            for text in list[str]():
                yield text

    Dashboard.answers = versions()
    with open_job_client(url, print) as client:
        without_logs = WithoutLogs(url, client._ray_client)
        assert follow_job(without_logs, "a", str, messages.append).status == "succeeded"
    assert [message.split("(")[0] for message in messages] == ["lost the connection ", "reconnected"]


def test_ray_without_job_support_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)  # Python raises ImportError for it
    with pytest.raises(ClusterError, match=r"pip install 'ray\[default\]'"):
        open_job_client("127.0.0.1:1", print).__enter__()


def test_closed_port_is_reported() -> None:
    with pytest.raises(UnreachableError, match=r"http://127.0.0.1:1 \(.*Connection refused\)"):
        open_job_client("127.0.0.1:1", print).__enter__()


@pytest.mark.parametrize(
    "address",
    ["auto", "local", "ray://head:10001", "head", "http://", "127.0.0.1:99999", "http://head:99999"],
)
def test_invalid_dashboard_addresses_are_refused(address: str) -> None:
    with pytest.raises(ClusterError, match=f"--address {re.escape(address)}: "):
        resolve_dashboard_url(address)


def test_passwords_in_addresses_are_refused_and_hidden() -> None:
    with pytest.raises(ClusterError, match="user name or password") as error:
        resolve_dashboard_url("http://me:swordfish@head:8265")
    assert "swordfish" not in str(error.value)


def test_rays_environment_variables_set_the_default_address(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_dashboard_url(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert resolve_dashboard_url(None) == "http://127.0.0.1:8265", "6379 is not the dashboard's port"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://head:8265/")
    assert resolve_dashboard_url(None) == "http://head:8265"
    assert list_jobs(url, {**versions(), "/api/jobs/": (200, [])}) == [], "--address has precedence"


def test_unencrypted_tokens_are_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "c0ffee")
    risk = find_token_risk("http://head.example.org:8265")
    assert risk is not None
    assert "unencrypted" in risk
    assert "ssh -L 8265:127.0.0.1:8265 head.example.org" in risk
    assert "c0ffee" not in risk
    for safe in ("https://head.example.org", "http://127.0.0.1:8265", "http://localhost:8265"):
        assert find_token_risk(safe) is None
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("HOME", "/nonexistent")
    assert find_token_risk("http://head.example.org:8265") is None


def test_token_warning_precedes_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    class Warned(Exception):
        """Ends the test before a request is made."""

    def notify(message: str) -> None:
        raise Warned(message)

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "c0ffee")
    with pytest.raises(Warned, match=r"^warning: .*head\.invalid unencrypted"):
        open_job_client("http://head.invalid:8265", notify).__enter__()
