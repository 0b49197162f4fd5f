"""Every exception that caviar raises on purpose.

    CaviarError            one clear sentence: what was wrong, where, what to do
    ├── SpaceError         a scale, a condition or a search space that cannot be
    ├── StudyError         a study, a round, a recipe or a script that cannot run
    ├── DataError          data that cannot be found, read or split
    ├── RunError           a run directory that cannot be used as asked
    │   ├── DamagedError   a recorded segment that cannot be read back
    │   └── RefusedError   the disk or the store does not let us write
    ├── ClusterError       no Ray, no such cluster, no such resources, no access
    │   └── NoAnswer       the cluster's dashboard does not answer (any more); later it may
    ├── SubmissionError    a job that cannot be sent to a cluster as asked
    └── InterruptedStudy   stopped by the user or a signal; it can be resumed

A trial that goes wrong raises nothing: it ends with an `Outcome` and a cause in its row.
"""


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


class NoAnswer(ClusterError):
    """The cluster's dashboard does not answer, or no longer; asking again later may help."""


class SubmissionError(CaviarError):
    """A job that cannot be sent to a cluster as asked."""


class InterruptedStudy(CaviarError):
    """The study was stopped before its end; what it recorded is safe."""
