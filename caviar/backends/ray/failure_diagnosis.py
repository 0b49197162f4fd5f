"""Diagnosis of a lost worker from Ray's exception. `caviar.driver.retry_policy` decides which trial to blame.

Exception of Ray 2.60                                     cause
OutOfMemoryError: Ray's memory monitor killed the worker  memory, if it used the most memory of the workers there,
                                                          else node: the monitor chooses by age and kills bystanders
ActorDiedError, preempted, or its node was terminated     preempted
expectedly (drained, SIGTERM)
ActorDiedError, its node has died; NodeDiedError;         node
ObjectLostError; GetTimeoutError: a message does not
arrive; ActorUnavailableError: a machine that vanished
but is declared dead only after many seconds
any other, mostly ActorDiedError                          crash

ActorDiedError has no field for the death of a node, so its message is parsed; tests on real clusters hold the words.
"""

import re
from typing import Any

from caviar.errors import one_line
from caviar.trial import Cause

TERMINATED = "node was terminated expectedly"
NODE_DIED = "its node has died"
OOM_REASON = "OOM kill reason: "
TOP_USERS = "Top 10 memory users:"
TOP_USER = re.compile(r"^(\d+)\t([\d.]+)\tray::", re.MULTILINE)
"""Line of the table after `TOP_USERS`: process ID, GB, command."""
EXIT_CODE = "Worker exits with an exit code "


def diagnose(error: Exception, exceptions: Any, pid: int) -> tuple[Cause, str]:
    """Return why a worker was lost: the cause, and the details for the trial's row.

    Args:
        error: the exception that Ray raised for the worker's chunk.
        exceptions: the module `ray.exceptions`.
        pid: ID of the worker's process.
    """
    message = str(error)
    if isinstance(error, exceptions.OutOfMemoryError):
        reason = f"Ray's memory monitor killed it ({_text_after(OOM_REASON, message)})"
        if _largest_user(message) in (None, pid):
            return Cause.MEMORY, reason
        return Cause.NODE, f"others used more memory, but {reason}"
    if getattr(error, "preempted", False) or TERMINATED in message:
        return Cause.PREEMPTED, "its machine was preempted"
    unreachable = exceptions.ActorUnavailableError | exceptions.NodeDiedError
    unreachable |= exceptions.ObjectLostError | exceptions.GetTimeoutError
    if isinstance(error, unreachable):
        return Cause.NODE, "it cannot be reached"
    if NODE_DIED in message:
        return Cause.NODE, "Ray declared it dead"
    if EXIT_CODE in message:
        return Cause.CRASH, f"its process ended with exit code {_text_after(EXIT_CODE, message).rstrip('.')}"
    if isinstance(error, exceptions.ActorDiedError):
        return Cause.CRASH, "its process ended (segmentation fault, os._exit, or killed by the system)"
    return Cause.CRASH, summarize(error)


def summarize(error: Exception) -> str:
    """Return Ray's exception, or the exception of the task that caused it, in one line."""
    return one_line(getattr(error, "cause", None) or error)


def _largest_user(message: str) -> int | None:
    """Return the process ID of the worker that used the most memory on its machine; None if Ray lists no worker."""
    workers = TOP_USER.findall(message.partition(TOP_USERS)[2])
    return max(((float(gb), int(pid)) for pid, gb in workers), default=(0.0, None))[1]


def _text_after(words: str, text: str) -> str:
    """Return the rest of the line after the words."""
    return text.partition(words)[2].partition("\n")[0].strip() or "reason unknown"
