"""How often a trial is tried again, by what went wrong."""

from dataclasses import dataclass, fields

from caviar.errors import StudyError
from caviar.space import plain_value
from caviar.trial import Cause

MOST = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How many more tries a trial is given, for each cause by itself; then it is `failed`, and its row says why.

    Each try begins where the one before began, with the same seed, and is counted in the row's `attempt`. A worker
    may die with several trials at it: that counts for none of them, but from then on each is tried alone, and what
    happens there is its own doing. A machine that was taken away with notice (a spot instance, a node that was
    drained or ended by its scheduler) never counts.

    Args:
        errors: after an exception, or a return that is no measurement. The same seed fails in the same way again,
            unless something outside was to blame: a network, a disk, a licence.
        timeouts: after it took longer than its time limit.
        memory: after it took more memory than it was given, or most of all that its machine had.
        crashes: after its worker's process died: a segmentation fault, `os._exit`, a signal.
        nodes: after its machine was lost without notice, or had its memory taken by others; for a trial that takes
            down machine after machine must end, too.

    Raises:
        StudyError: not a whole number from 0.

    Example:
        >>> Retries(errors=2).after(Cause.ERROR)
        2
    """

    errors: int = 0
    timeouts: int = 0
    memory: int = 1
    crashes: int = 1
    nodes: int = 4

    def __post_init__(self) -> None:
        for field in fields(self):
            count = plain_value(getattr(self, field.name))
            if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST:
                raise StudyError(
                    f"Retries({field.name}={count!r}): must be a whole number from 0 to {MOST:,}"
                )
            object.__setattr__(self, field.name, count)

    def after(self, cause: Cause) -> int | None:
        """How many more tries a cause is worth; None for any number."""
        limits = {
            Cause.ERROR: self.errors,
            Cause.TIME: self.timeouts,
            Cause.MEMORY: self.memory,
            Cause.CRASH: self.crashes,
            Cause.NODE: self.nodes,
        }
        return limits.get(cause)
