"""Which failure is whose, and what is tried again: pure rules over one assignment at a time.

cause       whose                                                      tried again
error       the trial's                                                if asked for
time        the trial's that was alone at the worker; of several,      if asked for
memory      nobody's yet: each is tried alone                          once
crash       likewise                                                   once
node        the trial's that was alone at the worker; others go alone  four times
            only if they were lost before: machines die by themselves
preempted   nobody's                                                   always
"""

from dataclasses import replace

from caviar.driver.messages import Assignment, Chunk, Lost
from caviar.retries import Retries
from caviar.trial import Cause, Outcome, Result


def after_loss(a: Assignment, chunk: Chunk, event: Lost) -> Assignment:
    """A trial that was at a lost worker, as it would be tried again.

    Args:
        a: the trial.
        chunk: that it was sent in.
        event: the loss.
    """
    there = chunk.number in event.suspects
    culprit = there and len(event.suspects) == len(chunk.assignments) == 1
    again = replace(a, attempt=a.attempt + 1)
    if event.cause is Cause.PREEMPTED or not there:
        return again
    if culprit:
        again = _blamed(again, event.cause)
    return replace(again, alone=a.alone or event.cause is not Cause.NODE or a.attempt > 1)


def after_failure(a: Assignment, cause: Cause) -> Assignment:
    """A trial that came back as failed, as it would be tried again."""
    return _blamed(replace(a, attempt=a.attempt + 1), cause)


def is_given_up(a: Assignment, cause: Cause, retries: Retries) -> bool:
    """Whether the last thing that befell a trial was once too often."""
    limit = retries.after(cause)
    return limit is not None and a.failures.get(cause, 0) > limit


def failed(a: Assignment, event: Lost) -> Result:
    """The row of a trial that is not tried again.

    Args:
        a: as it would have been tried again.
        event: how it lost its worker for the last time.
    """
    count = a.failures[event.cause]
    times = "" if count == 1 else f" {count} times"
    said = {
        Cause.TIME: event.detail,
        Cause.MEMORY: f"out of memory{times}: {event.detail}",
        Cause.CRASH: f"its worker died{times}: {event.detail}",
        Cause.NODE: f"its machine failed it{times} while it was alone at a worker: {event.detail}",
    }
    return Result(
        trial=a.trial,
        outcome=Outcome.FAILED,
        failure=said[event.cause],
        cause=event.cause,
        attempt=a.attempt - 1,
    )


def _blamed(a: Assignment, cause: Cause) -> Assignment:
    return replace(a, failures={**a.failures, cause: a.failures.get(cause, 0) + 1})
