"""Following a job: what it prints, as it prints it, however often the connection breaks."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol

from caviar.errors import ClusterError, NoAnswer
from caviar.submission.job import KnownJob

QUIET_S = 10.0
"""After so long without a word, whether job and connection are still there is looked at."""
RETRY_S = 2.0
GIVE_UP_S = 900.0
"""After so long without an answer."""

Show = Callable[[str], object]


class Source(Protocol):
    """Where a job is looked at; `Cluster` is one."""

    def job(self, job_id: str) -> KnownJob:
        """How it is."""

    def tail(self, job_id: str) -> AsyncIterator[str]:
        """What it prints, from its beginning and until it ends."""


def follow(cluster: Source, job_id: str, show: Show, say: Show) -> KnownJob:
    """Show what a job prints until it is over.

    Args:
        cluster: that runs it.
        job_id: of it.
        show: is given the job's own words, each once.
        say: is given a sentence where there is more to tell.

    Returns:
        The job, over.

    Raises:
        ClusterError: the cluster has forgotten the job, lets us in no more, or has not answered for long.
    """
    return asyncio.run(_Follower(cluster, job_id, show, say).run())


class _Follower:
    """What has been shown, and what has been said."""

    def __init__(self, cluster: Source, job_id: str, show: Show, say: Show) -> None:
        self._cluster, self._id, self._show, self._say = cluster, job_id, show, say
        self._shown = 0
        """Characters."""
        self._said = ""
        self._lost_since: float | None = None

    async def run(self) -> KnownJob:
        while True:
            try:
                await self._tail()
                job = await self._look()
            except NoAnswer as error:
                self._lost(error)
            else:
                if job.is_over:
                    return job
            await asyncio.sleep(RETRY_S)

    async def _tail(self) -> None:
        """Show what is new, until the job ends or the cluster stops telling."""
        seen = 0
        async with aclosing(self._cluster.tail(self._id)) as texts:  # type: ignore[type-var]
            while (text := await self._next(texts)) is not None:
                self._found()
                new = text[max(0, self._shown - seen) :]
                seen += len(text)
                if new:
                    self._show(new)
                    self._shown += len(new)

    async def _next(self, texts: AsyncIterator[str]) -> str | None:
        """The next piece; None at the end, also where nobody says that it is one."""
        following = asyncio.ensure_future(anext(texts, None))
        try:
            while True:
                done, _ = await asyncio.wait({following}, timeout=QUIET_S)
                if done:
                    return following.result()
                job = await self._look()
                if job.is_over:  # its last words may be on their way
                    await asyncio.wait({following}, timeout=QUIET_S)
                    return following.result() if following.done() else None
        finally:
            if not following.done():
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def _look(self) -> KnownJob:
        job = await asyncio.to_thread(self._cluster.job, self._id)
        self._found()
        if job.status == "pending" and job.message and job.message != self._said:
            self._said = job.message
            self._say(f"not started yet: {job.message}")
        return job

    def _lost(self, error: NoAnswer) -> None:
        now = time.monotonic()
        if self._lost_since is None:
            self._lost_since = now
            self._say(f"lost the connection ({error}); the job goes on, and so do I as soon as I can ...")
        if now - self._lost_since > GIVE_UP_S:
            raise ClusterError(
                f"no answer for {GIVE_UP_S / 60:.0f} minutes; the job may well be at work: "
                f"`caviar logs -f {self._id}` follows it again"
            ) from error

    def _found(self) -> None:
        if self._lost_since is not None:
            self._lost_since = None
            self._say("connected again")


def write(text: str) -> None:
    """Show a job's words as they come."""
    sys.stdout.write(text)
    sys.stdout.flush()
