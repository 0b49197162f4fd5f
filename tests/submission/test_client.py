"""What answers at an address is told from a dashboard that will do, in one clear sentence."""

import json
import re
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from caviar.errors import ClusterError, NoAnswer
from caviar.submission import log_follower
from caviar.submission.client import Cluster, dashboard_url, reached, unsuitable, warning
from caviar.submission.log_follower import follow

VERSION = {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""}


class Dashboard(BaseHTTPRequestHandler):
    """Answers as Ray's does, for a Ray of any version."""

    answers: dict[str, tuple[int, Any]]

    def do_GET(self) -> None:
        status, content = self.answers.get(self.path, (404, "not found"))
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *about: object) -> None:
        """Nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Dashboard)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def versions(ray: str, python: str) -> dict[str, tuple[int, Any]]:
    data = {"rayVersion": ray, "pythonVersion": python}
    return {
        "/api/version": (200, {**VERSION, "ray_version": ray}),
        "/api/v0/cluster_metadata": (200, {"result": True, "data": data}),
    }


def refusal(url: str, answers: dict[str, tuple[int, Any]]) -> str:
    Dashboard.answers = answers
    with pytest.raises(ClusterError) as refused, reached(url, print) as cluster:
        cluster.jobs()
    return str(refused.value)


def test_a_cluster_of_a_suitable_ray_and_python_is_reached(url: str) -> None:
    Dashboard.answers = {**versions("2.61.0", "3.13.1"), "/api/jobs/": (200, [])}
    with reached(url, print) as cluster:
        assert cluster.jobs() == []


@pytest.mark.parametrize(
    ("ray", "python", "words"),
    [
        ("2.40.0", "3.11.7", r"runs Ray 2.40.0, and caviar .* needs Ray <3,>=2.60"),
        ("3.1.0", "3.11.7", r"runs Ray 3.1.0"),
        ("2.60.0", "3.10.4", r"runs Python 3.10.4, and caviar .* needs Python >=3.11"),
        ("1.8.0", "3.11.7", r"Ray version 1.8.0 is running on the cluster"),
    ],
)
def test_a_cluster_of_another_ray_or_python_is_refused(url: str, ray: str, python: str, words: str) -> None:
    assert re.search(words, refusal(url, versions(ray, python)))


def test_a_cluster_that_hides_its_versions_is_tried(url: str) -> None:
    Dashboard.answers = {"/api/version": (200, VERSION), "/api/jobs/": (200, [])}
    with reached(url, print) as cluster:
        assert cluster.jobs() == []
    assert unsuitable("", "") is None


@pytest.mark.parametrize("answer", [(404, "no such page"), (200, "<html>hello</html>"), (200, {"hello": 1})])
def test_another_web_server_is_told_from_a_dashboard(url: str, answer: tuple[int, Any]) -> None:
    assert "is no Ray dashboard: give the address" in refusal(url, {"/api/version": answer})


@pytest.mark.parametrize(("status", "words"), [(401, "asks for a token"), (403, "does not accept our token")])
def test_access_that_is_refused_is_told_with_the_way_to_it(url: str, status: int, words: str) -> None:
    assert f"{words}: set RAY_AUTH_MODE=token" in refusal(url, {"/api/version": (status, "Unauthorized")})


def test_what_the_cluster_refuses_is_told_in_its_last_line(url: str) -> None:
    answers = {**versions("2.60.0", "3.11.7"), "/api/jobs/": (400, "Traceback\n  deep\nValueError: no disk")}
    assert refusal(url, answers) == f"the cluster at {url} refuses: ValueError: no disk."


def test_a_job_that_the_cluster_has_forgotten_is_not_looked_for(url: str) -> None:
    Dashboard.answers = {**versions("2.60.0", "3.11.7"), "/api/jobs/a": (404, "Job a does not exist")}
    with (
        reached(url, print) as cluster,
        pytest.raises(ClusterError, match="knows no job a: `caviar jobs` lists"),
    ):
        cluster.job("a")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_fails_for_now_may_be_asked_again_whatever_it_says(url: str, status: int) -> None:
    Dashboard.answers = {**versions("2.60.0", "3.11.7"), "/api/jobs/a": (status, "upstream\nno 404 here")}
    with reached(url, print) as cluster, pytest.raises(NoAnswer) as failure:
        cluster.job("a")
    assert str(failure.value) == f"the cluster at {url} fails for now (HTTP {status}): no 404 here."


def test_a_job_that_is_followed_outlives_a_gateway_that_speaks_for_its_cluster(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_follower, "RETRY_S", 0.0)
    job: dict[str, Any] = {
        "type": "SUBMISSION",
        "submission_id": "a",
        "entrypoint": "x",
        "status": "SUCCEEDED",
    }
    job["metadata"] = {"caviar_run": "/runs/a"}
    Dashboard.answers = versions("2.60.0", "3.11.7")
    answers = [(503, "upstream"), (200, "<html>please wait</html>"), (429, "slowly"), (200, job)]
    said: list[str] = []

    class Tailless(Cluster):
        """Its job has printed all it will, and what it then says of the job changes each time."""

        async def tail(self, job_id: str) -> AsyncIterator[str]:
            Dashboard.answers = {f"/api/jobs/{job_id}": answers.pop(0)}
            for text in list[str]():
                yield text

    with reached(url, print) as cluster:
        tailless = Tailless(url, cluster._client)
        assert follow(tailless, "a", str, said.append).status == "succeeded"
    assert [sentence.split("(")[0] for sentence in said] == ["lost the connection ", "connected again"]


def test_a_ray_without_what_jobs_need_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)  # what Python does for a module that cannot be imported
    with pytest.raises(ClusterError, match=r"pip install 'ray\[default\]'"):
        reached("127.0.0.1:1", print).__enter__()


def test_where_nothing_answers_it_is_said() -> None:
    with pytest.raises(
        NoAnswer, match=r"no Ray dashboard answers at http://127.0.0.1:1 \(.*Connection refused\)"
    ):
        reached("127.0.0.1:1", print).__enter__()


@pytest.mark.parametrize(
    "address",
    ["auto", "local", "ray://head:10001", "head", "http://", "127.0.0.1:99999", "http://head:99999"],
)
def test_what_is_no_address_of_a_dashboard_is_refused(address: str) -> None:
    with pytest.raises(ClusterError, match="jobs are sent to the dashboard of a cluster"):
        dashboard_url(address)


def test_an_address_holds_no_password_and_shows_none() -> None:
    with pytest.raises(ClusterError, match="holds no name or password") as refused:
        dashboard_url("http://me:swordfish@head:8265")
    assert "swordfish" not in str(refused.value)


def test_where_no_address_is_given_rays_own_setting_holds(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dashboard_url(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert dashboard_url(None) == "http://127.0.0.1:8265", "that is where machines join"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://head:8265/")
    assert dashboard_url(None) == "http://head:8265"
    Dashboard.answers = {**versions("2.60.0", "3.11.7"), "/api/jobs/": (200, [])}
    with reached(url, print) as cluster:
        assert cluster.jobs() == [], "an address that is given is the one that is asked"


def test_a_token_that_would_travel_openly_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "c0ffee")
    said = warning("http://head.example.org:8265")
    assert said is not None
    assert "unencrypted" in said
    assert "ssh -L 8265:127.0.0.1:8265 head.example.org" in said
    assert "c0ffee" not in said
    for safe in ("https://head.example.org", "http://127.0.0.1:8265", "http://localhost:8265"):
        assert warning(safe) is None
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("HOME", "/nonexistent")
    assert warning("http://head.example.org:8265") is None


def test_that_warning_comes_before_anything_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    class Warned(Exception):
        """Nothing after it is done."""

    def leave(sentence: str) -> None:
        raise Warned(sentence)

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "c0ffee")
    with pytest.raises(Warned, match=r"^warning: the token travels to head\.invalid unencrypted"):
        reached("http://head.invalid:8265", leave).__enter__()
