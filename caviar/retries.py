"""Limits for trying a failed trial again, by the cause of the failure."""

from dataclasses import dataclass

from caviar.trial import Cause
from caviar.validation import check_fields, whole_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """Further attempts that a trial gets, counted for each cause by itself. After the last one it is `failed`.

    An attempt starts where the one before it started, with the same seed. Its number is in the row's `attempt`.

    A worker may die while it has several trials. Then none of them is charged with the failure, but each is tried
    alone from then on: a second death identifies the culprit. A machine that is taken away with notice (a spot
    instance, a drained node, the end of a scheduler's allocation) never counts.

    Args:
        errors: attempts after an exception, or after a return value that is not a measurement. The same seed fails
            in the same way again, unless the cause is outside the trial: a network, a disk, a license.
        timeouts: attempts after a trial exceeded its time limit.
        memory: attempts after a trial exceeded its memory limit, or used most of its machine's memory.
        crashes: attempts after the worker's process died: a segmentation fault, `os._exit`, a signal.
        nodes: attempts after a machine was lost without notice, or lost its memory to other programs. The limit ends
            a trial that takes down one machine after another.

    Raises:
        StudyError: a number of attempts is not a whole number between 0 and 1,000.

    Example:
        >>> Retries(errors=2).limit(Cause.ERROR)
        2
    """

    errors: int = 0
    timeouts: int = 0
    memory: int = 1
    crashes: int = 1
    nodes: int = 4

    def __post_init__(self) -> None:
        check_fields(self, "errors timeouts memory crashes nodes", whole_number, 0, 1_000)

    def limit(self, cause: Cause) -> int | None:
        """Return how many further attempts a cause allows; None for any number."""
        limits = {
            Cause.ERROR: self.errors,
            Cause.TIME: self.timeouts,
            Cause.MEMORY: self.memory,
            Cause.CRASH: self.crashes,
            Cause.NODE: self.nodes,
        }
        return limits.get(cause)
