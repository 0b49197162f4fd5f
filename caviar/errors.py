"""The exceptions that caviar raises.

    CaviarError               base class; the message says what is wrong, where, and what to do
    ├── SpaceError            invalid scale, condition or search space
    ├── StudyError            invalid study, round, recipe or script
    ├── DataError             data that cannot be found, read or split
    ├── RunError              run directory that cannot be used as asked
    │   ├── InUseError        run directory that another process has locked
    │   ├── DamagedError      recorded file that cannot be read back
    │   └── RefusedError      disk or object store that refuses to write
    ├── ClusterError          no Ray, no such cluster, too few resources, or no access
    │   └── UnreachableError  dashboard of a cluster that does not answer; it may answer later
    ├── SubmissionError       job that cannot be sent to a cluster as asked
    ├── MissingPackageError   package that is not installed, of an extra such as caviar[report]
    └── InterruptedStudy      study stopped by the user or a signal; it can be resumed

A trial that fails raises none of these: its row has an `Outcome` and the cause.
"""

MAX_MESSAGE_LENGTH = 300
"""Characters of an exception's message that `one_line` keeps."""


class CaviarError(Exception):
    """Base class of all exceptions that caviar raises."""


class SpaceError(CaviarError):
    """Invalid scale, condition or search space."""


class StudyError(CaviarError):
    """Invalid study, round, recipe or script."""


class DataError(CaviarError):
    """Data that cannot be found, read or split."""


class RunError(CaviarError):
    """Run directory that cannot be used as asked."""


class InUseError(RunError):
    """Run directory that another process has locked."""


class DamagedError(RunError):
    """Recorded file that cannot be read back."""


class RefusedError(RunError):
    """Disk or object store that refuses to write."""


class ClusterError(CaviarError):
    """No Ray, no such cluster, too few resources, or no access."""


class UnreachableError(ClusterError):
    """Dashboard of a cluster that does not answer; it may answer later."""


class SubmissionError(CaviarError):
    """Job that cannot be sent to a cluster as asked."""


class MissingPackageError(CaviarError):
    """Package that is not installed, because it belongs to an extra such as `caviar[report]`."""


class InterruptedStudy(CaviarError):
    """Study stopped by the user or a signal before its end. What it recorded is safe, and it can be resumed."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: the message, for the user knows where the study was stopped."""
        return [f"{type(self).__name__}: {self}"]


def one_line(error: BaseException) -> str:
    r"""Return an exception's class and the first line of its message, cut at `MAX_MESSAGE_LENGTH`.

    Example:
        >>> one_line(ValueError("no rows\nin the file"))
        'ValueError: no rows'
    """
    name = type(error).__name__[:MAX_MESSAGE_LENGTH]
    try:
        message = str(error)[: 2 * MAX_MESSAGE_LENGTH].strip()
    except Exception:  # a user's exception may fail to convert itself
        return f"{name}: (its message cannot be shown)"
    line = (message.splitlines() or [""])[0][:MAX_MESSAGE_LENGTH]
    return f"{name}: {line}" if line else name
