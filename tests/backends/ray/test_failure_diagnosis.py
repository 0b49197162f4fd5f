"""Diagnosis of lost workers from Ray's own exceptions."""

from typing import Any

import pytest
import ray.exceptions

from caviar.backends.ray.failure_diagnosis import diagnose
from caviar.trial import Cause

exceptions: Any = ray.exceptions  # partly untyped
DIED = "The actor died unexpectedly before finishing this task.\n\tclass_name: WorkerActor\n\tpid: 12085\n"
PROCESS = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
NODE = "The actor died because its node has died. Node Id: 976d62\n"
OOM = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node was 2.95GB used\n"
    "OOM kill reason: Memory usage 3172040704B exceeded threshold of 3139341568B\nObject store memory usage: ["
)
TABLE = (
    "Top 10 memory users: PID\tMEM(GB)\tCOMMAND\n7\t9.00\tfirefox\n"
    "{}\t1.63\tray::WorkerActor.run\n8\t0.4\tray::WorkerActor.run\nRefer to the documentation"
)


def died(words: str, preempted: bool = False) -> Exception:
    error = ray.exceptions.ActorDiedError()
    error.error_msg, error._preempted = DIED + words, preempted
    return error


@pytest.mark.parametrize(
    ("error", "cause", "phrase"),
    [
        (
            exceptions.OutOfMemoryError(OOM),
            Cause.MEMORY,
            "memory monitor killed it (Memory usage 3172040704B exceeded",
        ),
        (exceptions.OutOfMemoryError(OOM + TABLE.format(12085)), Cause.MEMORY, "memory monitor killed it"),
        (exceptions.OutOfMemoryError(OOM + TABLE.format(9)), Cause.NODE, "others used more memory"),
        (died(NODE, preempted=True), Cause.PREEMPTED, "preempted"),
        (
            died(NODE + "\tthe actor's node was terminated expectedly: received SIGTERM"),
            Cause.PREEMPTED,
            "preempted",
        ),
        (died(NODE + "\tthe actor's node was terminated unexpectedly: health check"), Cause.NODE, "dead"),
        (exceptions.NodeDiedError("it is gone"), Cause.NODE, "cannot be reached"),
        (exceptions.ActorUnavailableError("Socket closed", None), Cause.NODE, "cannot be reached"),
        (exceptions.ObjectLostError("ab", None, ""), Cause.NODE, "cannot be reached"),
        (died(PROCESS + "Worker exits with an exit code 2."), Cause.CRASH, "ended with exit code 2"),
        (
            died(PROCESS + "Worker unexpectedly exits with a connection error code 2."),
            Cause.CRASH,
            "os._exit",
        ),
        (died("The actor is dead because it was killed by `ray.kill`."), Cause.CRASH, "its process ended"),
        (
            exceptions.RaySystemError("no such thing"),
            Cause.CRASH,
            "RaySystemError: System error: no such thing",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_exception_of_ray_has_one_cause(error: Exception, cause: Cause, phrase: str) -> None:
    found, detail = diagnose(error, exceptions, pid=12085)
    assert found is cause
    assert phrase in detail
    assert "\n" not in detail
