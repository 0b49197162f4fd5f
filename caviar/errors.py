"""Every exception that caviar raises on purpose.

    CaviarError            one clear sentence: what was wrong, where, what to do
    ├── SpaceError         a scale, a condition or a search space that cannot be
    ├── StudyError         a study, a round, a recipe or a script that cannot run
    ├── DataError          data that cannot be found, read or split
    ├── RunError           a run directory that cannot be used as asked
    │   ├── DamagedError   a recorded segment that cannot be read back
    │   └── RefusedError   the disk or the store does not let us write
    ├── ClusterError       no Ray, no such cluster, no such resources, no access
    │   └── UnreachableError  the dashboard of a cluster does not answer; a later attempt may succeed
    ├── SubmissionError    a job that cannot be sent to a cluster as asked
    └── InterruptedStudy   stopped by the user or a signal; it can be resumed

A trial that goes wrong raises nothing: it ends with an `Outcome` and a cause in its row.
"""

MAX_MESSAGE_LENGTH = 300
"""Characters of an exception's message that `one_line` keeps."""


class CaviarError(Exception):
    """Base of all; catch it to catch whatever caviar refuses."""


class SpaceError(CaviarError):
    """A scale, a condition or a search space that cannot be."""


class StudyError(CaviarError):
    """A study, a round, a recipe or a script that cannot run."""


class DataError(CaviarError):
    """Data that cannot be found, read or split."""


class RunError(CaviarError):
    """A run directory that cannot be used as asked."""


class DamagedError(RunError):
    """A recorded segment that cannot be read back."""


class RefusedError(RunError):
    """The disk or the store does not let us write."""


class ClusterError(CaviarError):
    """No Ray, no such cluster, no such resources, no access."""


class UnreachableError(ClusterError):
    """The dashboard of a cluster does not answer; a later attempt may succeed."""


class SubmissionError(CaviarError):
    """A job that cannot be sent to a cluster as asked."""


class InterruptedStudy(CaviarError):
    """The study was stopped before its end; what it recorded is safe."""


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
