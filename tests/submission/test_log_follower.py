"""A job's words are shown once each, in order, wherever its connection breaks."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.errors import ClusterError, NoAnswer
from caviar.submission import log_follower
from caviar.submission.job import KnownJob
from caviar.submission.log_follower import follow


@pytest.fixture(autouse=True, scope="module")
def impatient() -> None:
    log_follower.QUIET_S, log_follower.RETRY_S = 0.02, 0.0


class Scripted:
    """A cluster that prints a text, and whose connection breaks after so many characters each time, or falls silent."""

    def __init__(self, text: str, breaks: list[int], silent: bool = False, message: str = "") -> None:
        self._text, self._breaks, self._silent, self._message = text, breaks, silent, message
        self.looks = 0

    def job(self, job_id: str) -> KnownJob:
        self.looks += 1
        if self._silent and self._breaks:
            raise NoAnswer("nothing heard")
        status = "pending" if self._breaks and self._message else "running" if self._breaks else "succeeded"
        return KnownJob(id=job_id, status=status, run="/r", script="s.py", message=self._message)

    async def tail(self, job_id: str) -> AsyncIterator[str]:
        del job_id
        until = self._breaks.pop() if self._breaks else len(self._text)
        for at in range(0, min(until, len(self._text)), 3):
            yield self._text[at : min(at + 3, until)]
        if until < len(self._text):
            if self._silent:
                self._breaks.append(0)  # seen by the look that follows the silence
                try:
                    await asyncio.sleep(3600)
                finally:
                    self._breaks.pop()
            raise NoAnswer("it broke")


@given(st.text(min_size=1), st.lists(st.integers(0, 40), max_size=4))
def test_each_word_is_shown_once(text: str, breaks: list[int]) -> None:
    shown: list[str] = []
    said: list[str] = []
    job = follow(Scripted(text, breaks), "a", shown.append, said.append)
    assert job.status == "succeeded"
    assert "".join(shown) == text
    lost = [sentence for sentence in said if sentence.startswith("lost the connection")]
    assert len(lost) == said.count("connected again")


def test_a_connection_that_falls_silent_is_noticed() -> None:
    shown: list[str] = []
    said: list[str] = []
    assert follow(Scripted("words", [2], silent=True), "a", shown.append, said.append).is_over
    assert "".join(shown) == "words"
    assert [sentence.split("(")[0] for sentence in said] == ["lost the connection ", "connected again"]


def test_why_a_job_waits_is_said_once() -> None:
    said: list[str] = []
    follow(Scripted("words", [9, 9], message="pip is at work"), "a", str, said.append)
    assert said == ["not started yet: pip is at work"]


def test_a_cluster_that_stays_away_is_given_up_with_the_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_follower, "GIVE_UP_S", 0.05)
    with pytest.raises(ClusterError, match="may well be at work: `caviar logs -f a` follows it again"):
        follow(Scripted("words", [0] * 10_000), "a", str, str)


def test_a_cluster_that_has_forgotten_the_job_ends_it() -> None:
    class Forgetful(Scripted):
        def job(self, job_id: str) -> KnownJob:
            raise ClusterError(f"knows no job {job_id}")

    with pytest.raises(ClusterError, match="knows no job a"):
        follow(Forgetful("words", []), "a", str, str)
