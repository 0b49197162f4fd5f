"""Following the output of a job while it runs, across broken connections."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol

from caviar.errors import ClusterError, UnreachableError
from caviar.submission.job import JobInfo

SILENCE_S = 10.0
"""Seconds without output after which the follower checks that job and connection are still there."""
RETRY_S = 2.0
"""Seconds between attempts to reconnect."""
GIVE_UP_S = 900.0
"""Seconds without any answer after which the follower gives up."""


class LogSource(Protocol):
    """Access to a job's state and output; `JobClient` is one."""

    def get_job(self, job_id: str) -> JobInfo:
        """Return the state of a job."""

    def tail_logs(self, job_id: str) -> AsyncIterator[str]:
        """Yield the output of a job in pieces, from its beginning until the job ends."""


def follow_job(
    source: LogSource, job_id: str, write: Callable[[str], object], notify: Callable[[str], object]
) -> JobInfo:
    """Pass on the output of a job until the job ends.

    Args:
        source: client of the cluster that runs the job.
        job_id: id of the job.
        write: receives the job's output, each part once.
        notify: receives messages about the connection, and why a job has not started.

    Returns:
        The state of the ended job.

    Raises:
        ClusterError: the cluster no longer knows the job, refuses access, or has not answered for `GIVE_UP_S`.
    """
    return asyncio.run(_Follower(source, job_id, write, notify).run())


class _Follower:
    def __init__(
        self, source: LogSource, job_id: str, write: Callable[[str], object], notify: Callable[[str], object]
    ) -> None:
        self._source, self._id, self._write, self._notify = source, job_id, write, notify
        self._written = 0
        """Characters of output that were passed on."""
        self._reason = ""
        """Latest reason for waiting that was passed on."""
        self._disconnected_at: float | None = None

    async def run(self) -> JobInfo:
        while True:
            try:
                await self._tail()
                job = await self._check_job()
            except UnreachableError as error:
                self._on_disconnected(error)
            else:
                if job.has_ended:
                    return job
            await asyncio.sleep(RETRY_S)

    async def _tail(self) -> None:
        """Write new output until the job ends or the cluster closes the stream."""
        received = 0  # a new stream begins with the job's first character
        async with aclosing(self._source.tail_logs(self._id)) as pieces:  # type: ignore[type-var]
            while (text := await self._next(pieces)) is not None:
                self._on_connected()
                new = text[max(0, self._written - received) :]
                received += len(text)
                if new:
                    self._write(new)
                    self._written += len(new)

    async def _next(self, pieces: AsyncIterator[str]) -> str | None:
        """Return the next piece of output; None at the end, or if the job ended and the stream stays silent."""
        waiting = asyncio.ensure_future(anext(pieces, None))
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=SILENCE_S)
                if done:
                    return waiting.result()
                job = await self._check_job()
                if job.has_ended:  # the last output may still be on its way
                    await asyncio.wait({waiting}, timeout=SILENCE_S)
                    return waiting.result() if waiting.done() else None
        finally:
            if not waiting.done():
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)

    async def _check_job(self) -> JobInfo:
        job = await asyncio.to_thread(self._source.get_job, self._id)
        self._on_connected()
        if job.status == "pending" and job.message and job.message != self._reason:
            self._reason = job.message
            self._notify(f"not started yet: {job.message}")
        return job

    def _on_disconnected(self, error: UnreachableError) -> None:
        now = time.monotonic()
        if self._disconnected_at is None:
            self._disconnected_at = now
            self._notify(f"lost the connection ({error}); the job keeps running; reconnecting ...")
        if now - self._disconnected_at > GIVE_UP_S:
            raise ClusterError(
                f"the cluster has not answered for {GIVE_UP_S / 60:.0f} minutes, but the job may still be running: "
                f"follow it again with `caviar logs -f {self._id}`"
            ) from error

    def _on_connected(self) -> None:
        if self._disconnected_at is not None:
            self._disconnected_at = None
            self._notify("reconnected")
