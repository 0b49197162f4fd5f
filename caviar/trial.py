"""The values that all packages share: trial, measurement, outcome, result.

They have no slots: pickle handles objects with a dict in C, and a message of results takes a third of the time.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from caviar.control_chars import replace_control_chars

MAX_FAILURE_CHARS = 1_000
"""Maximum length of a failure message in the trials table, in characters."""
Value = bool | int | float | str | None
"""Type of a hyperparameter's value."""


class Stage(StrEnum):
    """The purpose of a trial."""

    SEARCH = "search"
    """A configuration drawn from the space of its round."""
    CONFIRMATION = "confirmation"
    """One of the best configurations, trained again with a fresh seed."""
    FINAL = "final"
    """The winner, trained once more: its network is handed over and scored on the test split."""


class Outcome(StrEnum):
    """The way a trial ended."""

    COMPLETED = "completed"
    """It trained for all its epochs."""
    STOPPED = "stopped"
    """Halving ended it: its budget went to better trials."""
    DIVERGED = "diverged"
    """Its loss was not finite, or exploded."""
    FAILED = "failed"
    """An exception or a lost machine ended it; its row says which."""


class Cause(StrEnum):
    """The cause of a failed attempt at a trial."""

    ERROR = "error"
    """The trial raised an exception, or returned something that is no measurement."""
    TIME = "time"
    """The trial took longer than its time limit."""
    MEMORY = "memory"
    """Its worker was killed because it used too much memory."""
    CRASH = "crash"
    """Its worker's process died."""
    NODE = "node"
    """Its machine was lost without notice, or other processes used up the machine's memory."""
    PREEMPTED = "preempted"
    """Its machine was taken away with notice, or an earlier trial damaged its worker: it is not to blame."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of the space, trained once."""

    number: int
    """Place in the study, from 0; the same in every run of the study."""
    round: int
    """Number of its round, from 1."""
    params: Mapping[str, Value]
    """Hyperparameters in the user's units; conditional ones that do not apply are absent."""
    epochs: int
    """Number of epochs that it trains."""
    seed: int
    """Seed of all randomness in its training (0 <= seed < 2**63)."""
    stage: Stage = Stage.SEARCH
    confirms: int | None = None
    """Number of the search trial that this one trains again; None for a search trial."""
    learned_from: int = 0
    """The trials numbered below this decided about it: for a search trial, the first so many."""
    given: bool = False
    """True if the study gives its params (`try_first`)."""
    parent: int | None = None
    """Branch of a session of `caviar panda`: number of the trial that it continues; None from the first epoch."""
    parent_epoch: int | None = None
    """Epoch of that trial which it continues from."""
    origin: str = ""
    """The way in which its params came about (`starting_point.Origin`), if the study starts from another run."""


@dataclass(frozen=True)
class Measurement:
    """The metrics of one trial after one epoch."""

    epoch: int
    """Number of epochs trained so far, from 1."""
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Times:
    """The seconds of a trial, by what they were spent on.

    A worker's time is the sum of `dispatch_s`, `setup_s` and `train_s` over its trials: each second is in exactly one
    of these columns of one trial. `queue_s` and `record_s` pass while the worker does other work.
    """

    queue_s: float = 0.0
    """Seconds from being drawn to being sent to the worker that trained it. Time at a worker that died, and time
    between the parts of a trial, count too."""
    dispatch_s: float = 0.0
    """Seconds that the worker was idle and waited for this trial's message, or for its checkpoint."""
    setup_s: float = 0.0
    """Seconds for building the model and its random streams, and for packing the results."""
    train_s: float = 0.0
    """Seconds for training and evaluating."""
    record_s: float = 0.0
    """Seconds of the driver's work to record it: its share of the batch that it was written with."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished trial, or a finished part of one: all that its row and its curve contain."""

    trial: Trial
    outcome: Outcome
    value: float | None = None
    """Number that ranks it, after its last epoch; None if it diverged or failed."""
    measurements: tuple[Measurement, ...] = ()
    failure: str | None = None
    """Description in one line of why it diverged or failed, or why the winner has no test score; else None.
    Characters that no file can hold are escaped."""
    cause: Cause | None = None
    """Cause of the failure, if it failed."""
    test: Mapping[str, float] = field(default_factory=dict)
    """Metrics on the test split; only the final trial has them."""
    engine: str = ""
    """Name of the engine that trained it."""
    device: str = ""
    """Device that it was trained on: "cpu" or "cuda"."""
    worker: str = ""
    """Name of the worker."""
    node: str = ""
    """Host name of the worker's machine."""
    attempt: int = 1
    """Number of the attempt, from 1."""
    times: Times = Times()
    started: float | None = None
    """Time in seconds since 1970, UTC, at which its worker began it; None if its worker was lost."""
    ended: float | None = None
    """Time at which its worker was done with it, likewise."""
    predictions: Any = field(default=None, compare=False, repr=False)
    """Final trial of a classifier: the probability of each class for each test row, (N, C)."""
    checkpoint: Any = field(default=None, compare=False, repr=False)
    """Paused trial: what its next part continues from, or the backend's reference to it. Final trial: the trained
    network. It is never recorded."""

    def __post_init__(self) -> None:
        if self.failure is not None:
            safe = replace_control_chars(self.failure)[:MAX_FAILURE_CHARS]
            object.__setattr__(self, "failure", safe)
        for name in ("engine", "device", "worker", "node"):
            object.__setattr__(self, name, replace_control_chars(getattr(self, name)))

    def after(self, earlier: "Result | None") -> "Result":
        """Return this result with the measurements and times of the trial's earlier parts.

        If this part trained the trial from the first epoch again, its own measurements replace the earlier ones.
        """
        if earlier is None:
            return self
        first_epoch = self.measurements[0].epoch if self.measurements else math.inf
        before = tuple(m for m in earlier.measurements if m.epoch < first_epoch)
        times = Times(
            **{f.name: getattr(self.times, f.name) + getattr(earlier.times, f.name) for f in fields(Times)}
        )
        started = self.started if earlier.started is None else earlier.started
        return replace(self, measurements=(*before, *self.measurements), times=times, started=started)


def derive_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) that depends on the parts alone: the same on every machine and in every version.

    It is the first 63 bits of the SHA-256 of the parts, joined by slashes.

    Example:
        >>> derive_seed(0, "trial", 1, 7) == derive_seed(0, "trial", 1, 7)
        True
    """
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
