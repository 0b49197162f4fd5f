"""Following a job: each part of its output is written once, in order, wherever the connection breaks."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.errors import ClusterError, UnreachableError
from caviar.submission import log_follower
from caviar.submission.job import JobInfo
from caviar.submission.log_follower import follow_job


@pytest.fixture(autouse=True, scope="module")
def short_waits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_follower, "SILENCE_S", 0.02)
        patch.setattr(log_follower, "RETRY_S", 0.0)
        yield


class Scripted:
    """A job that prints a text, over connections that break, or fall silent, after given numbers of characters."""

    def __init__(self, text: str, breaks: list[int], silent: bool = False, message: str = "") -> None:
        self._text, self._breaks, self._silent, self._message = text, breaks, silent, message

    def get_job(self, job_id: str) -> JobInfo:
        if self._silent and self._breaks:
            raise UnreachableError("no answer")
        status = "pending" if self._breaks and self._message else "running" if self._breaks else "succeeded"
        return JobInfo(id=job_id, status=status, run="/r", script="s.py", message=self._message)

    async def tail_logs(self, job_id: str) -> AsyncIterator[str]:
        del job_id
        until = self._breaks.pop() if self._breaks else len(self._text)
        for at in range(0, min(until, len(self._text)), 3):
            yield self._text[at : min(at + 3, until)]
        if until < len(self._text):
            if self._silent:
                self._breaks.append(0)  # so that the check after the silence finds no answer
                try:
                    await asyncio.sleep(3600)
                finally:
                    self._breaks.pop()
            raise UnreachableError("the connection broke")


@given(st.text(min_size=1), st.lists(st.integers(0, 40), max_size=4))
def test_output_is_written_exactly_once(text: str, breaks: list[int]) -> None:
    written: list[str] = []
    messages: list[str] = []
    job = follow_job(Scripted(text, breaks), "a", written.append, messages.append)
    assert job.status == "succeeded"
    assert "".join(written) == text
    lost = [message for message in messages if message.startswith("lost the connection")]
    assert len(lost) == messages.count("reconnected")


def test_silent_connections_are_noticed() -> None:
    written: list[str] = []
    messages: list[str] = []
    assert follow_job(Scripted("words", [2], silent=True), "a", written.append, messages.append).has_ended
    assert "".join(written) == "words"
    assert [message.split("(")[0] for message in messages] == ["lost the connection ", "reconnected"]


def test_reason_for_waiting_is_reported_once() -> None:
    messages: list[str] = []
    follow_job(Scripted("words", [9, 9], message="pip runs"), "a", str, messages.append)
    assert messages == ["not started yet: pip runs"]


def test_long_disconnection_ends_following(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_follower, "GIVE_UP_S", 0.05)
    with pytest.raises(ClusterError, match="caviar logs -f a"):
        follow_job(Scripted("words", [0] * 10_000), "a", str, str)


def test_forgotten_job_ends_following() -> None:
    class Forgetful(Scripted):
        def get_job(self, job_id: str) -> JobInfo:
            raise ClusterError(f"no job {job_id}")

    with pytest.raises(ClusterError, match="no job a"):
        follow_job(Forgetful("words", []), "a", str, str)
