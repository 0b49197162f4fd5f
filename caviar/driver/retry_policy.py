"""Rules for failures: which trial caused one, and what is tried again. Pure functions of one task at a time.

cause       attributed to                                              tried again
error       the trial                                                  if asked for
time        the trial that was alone on the worker; of several, none   if asked for
memory      none at first: each is tried alone                         once
crash       likewise                                                   once
node        the trial that was alone on the worker; trials lost twice  four times
            are tried alone, because machines also fail by themselves
preempted   none                                                       always
"""

from dataclasses import replace

from caviar.driver.messages import Chunk, Task, WorkerLost
from caviar.retries import Retries
from caviar.trial import Cause, Outcome, Result, Times


def after_loss(task: Task, chunk: Chunk, event: WorkerLost) -> Task:
    """Return the task for another attempt, after its worker was lost.

    Args:
        task: as it was sent.
        chunk: the chunk that it was sent in.
        event: the loss.
    """
    is_suspect = chunk.number in event.suspects
    is_culprit = is_suspect and len(event.suspects) == len(chunk.tasks) == 1
    again = replace(task, attempt=task.attempt + 1)
    if event.cause is Cause.PREEMPTED or not is_suspect:
        return again
    if is_culprit:
        again = _blame(again, event.cause)
    return replace(again, alone=task.alone or event.cause is not Cause.NODE or task.attempt > 1)


def after_failure(task: Task, cause: Cause) -> Task:
    """Return the task for another attempt, after it came back as failed."""
    return _blame(replace(task, attempt=task.attempt + 1), cause)


def is_exhausted(task: Task, cause: Cause, retries: Retries) -> bool:
    """Return True if a task has failed of a cause more often than it may be retried.

    Args:
        task: as it would be tried again.
        cause: the cause of its last failure.
        retries: the limits of the study.
    """
    limit = retries.limit(cause)
    return limit is not None and task.failures.get(cause, 0) > limit


def failed(task: Task, event: WorkerLost, now: float) -> Result:
    """Return the result of a trial that is not tried again after its worker was lost.

    Args:
        task: as it would have been tried again.
        event: the last loss.
        now: the driver's clock in seconds.
    """
    count = task.failures[event.cause]
    times = "" if count == 1 else f" {count} times"
    messages = {
        Cause.TIME: event.detail,
        Cause.MEMORY: f"out of memory{times}: {event.detail}",
        Cause.CRASH: f"its worker died{times}: {event.detail}",
        Cause.NODE: f"its machine failed{times} while it was alone on a worker: {event.detail}",
    }
    return Result(
        trial=task.trial,
        outcome=Outcome.FAILED,
        failure=messages[event.cause],
        cause=event.cause,
        attempt=task.attempt - 1,
        times=Times(queue_s=now - task.waiting_since),
    )


def _blame(task: Task, cause: Cause) -> Task:
    return replace(task, failures={**task.failures, cause: task.failures.get(cause, 0) + 1})
