"""What became of a worker, from what Ray says of it. Whose failure it is, `caviar.driver.retry_policy` decides.

Ray 2.60 reports                                   cause
OutOfMemoryError: its memory monitor killed it     memory, if no other worker there took more; else node:
                                                   it picks by age, and kills bystanders, too
ActorDiedError, preempted, or its node was         preempted
terminated expectedly (drained, SIGTERM)
ActorDiedError, its node has died; NodeDiedError;  node
ObjectLostError; GetTimeoutError: a message does
not come; ActorUnavailableError: what a
machine that is suddenly gone looks like, for it
is declared dead only after many seconds
anything else, mostly ActorDiedError               crash

ActorDiedError has no field for the death of a node, so its words must be read; a test with real machines holds them.
"""

import re
from typing import Any

from caviar.errors import one_line
from caviar.trial import Cause

TERMINATED = "node was terminated expectedly"
NODE_DIED = "its node has died"
MONITOR = "OOM kill reason: "
TOP_USERS = "Top 10 memory users:"
WORKER = re.compile(r"^(\d+)\t([\d.]+)\tray::", re.MULTILINE)
"""A line of the table that follows: process, GB, command."""
EXIT_CODE = "Worker exits with an exit code "


def diagnose(error: Exception, known: Any, pid: int) -> tuple[Cause, str]:
    """Why a worker was lost, and what to say of it.

    Args:
        error: what Ray raised for its chunk.
        known: Ray's exceptions.
        pid: the worker's process.
    """
    said = str(error)
    if isinstance(error, known.OutOfMemoryError):
        took_most = _greediest(said) in (None, pid)
        full = f"its machine had hardly any left ({_after(MONITOR, said)})"
        return (Cause.MEMORY, full) if took_most else (Cause.NODE, f"others took its memory: {full}")
    if getattr(error, "preempted", False) or TERMINATED in said:
        return Cause.PREEMPTED, "its machine was taken away"
    gone = known.ActorUnavailableError | known.NodeDiedError | known.ObjectLostError | known.GetTimeoutError
    if isinstance(error, gone):
        return Cause.NODE, "it can no longer be reached"
    if NODE_DIED in said:
        return Cause.NODE, "Ray declared it dead"
    if EXIT_CODE in said:
        return Cause.CRASH, f"its process ended with exit code {_after(EXIT_CODE, said).rstrip('.')}"
    if isinstance(error, known.ActorDiedError):
        return Cause.CRASH, "its process ended (segmentation fault, os._exit, or killed by the system)"
    return Cause.CRASH, summarize(error)


def summarize(error: Exception) -> str:
    """Return in one line what Ray reports: the exception that ended a task, or Ray's own."""
    return one_line(getattr(error, "cause", None) or error)


def _greediest(said: str) -> int | None:
    """The worker that took most memory on the machine, if Ray names any."""
    workers = WORKER.findall(said.partition(TOP_USERS)[2])
    return max(((float(gb), int(pid)) for pid, gb in workers), default=(0.0, None))[1]


def _after(words: str, text: str) -> str:
    """What follows the words, to the end of the line."""
    return text.partition(words)[2].partition("\n")[0].strip() or "it does not say why"
