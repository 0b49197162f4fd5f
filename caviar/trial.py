"""The frozen nouns that every room of caviar speaks: trial, measurement, outcome, result."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

Value = bool | int | float | str | None
"""What a hyperparameter may be."""


class Stage(StrEnum):
    """What a trial is for."""

    SEARCH = "search"
    """Drawn from the space of its round."""
    CONFIRMATION = "confirmation"
    """One of the best again, with a fresh seed."""
    FINAL = "final"
    """The winner: the network that is handed over, scored on the test split."""


class Outcome(StrEnum):
    """How a trial ended."""

    COMPLETED = "completed"
    """Trained for all its epochs."""
    STOPPED = "stopped"
    """Ended by a rule: its budget went to better trials."""
    DIVERGED = "diverged"
    """Its loss was not finite, or exploded."""
    FAILED = "failed"
    """An exception or a lost machine; the row says which."""


class Cause(StrEnum):
    """What ended an attempt at a trial before its time."""

    ERROR = "error"
    """The trial's own exception, or a return that is no measurement."""
    TIME = "time"
    """It took longer than its limit."""
    MEMORY = "memory"
    """Its worker was stopped for want of memory."""
    CRASH = "crash"
    """Its worker's process died."""
    NODE = "node"
    """Its machine was lost without notice, or others took the machine's memory."""
    PREEMPTED = "preempted"
    """Its machine was taken away with notice: no trial is to blame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One point of the space, trained once."""

    number: int
    """Its place in the study, from 0: the same in every run of the study."""
    round: int
    """The round that it belongs to, from 1."""
    params: Mapping[str, Value]
    """Its hyperparameters in the user's units; those that do not apply are absent."""
    epochs: int
    """How long it trains."""
    seed: int
    """All randomness of its training follows from this number (0 <= seed < 2**63)."""
    stage: Stage = Stage.SEARCH
    confirms: int | None = None
    """The number of the search trial that this one trains again."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The metrics of one trial after one epoch."""

    epoch: int
    """Epochs trained so far, from 1."""
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Where the seconds of a trial went.

    The worker's own time is `dispatch + setup + train`: one second of it is in exactly one column of
    one trial. `queue` and `record` pass while the worker does other work.
    """

    queue_s: float = 0.0
    """From being drawn to being sent to the worker that trained it; time at a worker that died, and what a trial
    in parts waits between them, is in it."""
    dispatch_s: float = 0.0
    """The worker stood idle, waiting for this trial's message, or for the state that it goes on from."""
    setup_s: float = 0.0
    """Building the model and its random streams, packing the results."""
    train_s: float = 0.0
    """Training and evaluating."""
    record_s: float = 0.0
    """The driver's work to record it, up to its commit: its share of the batch it was written with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished trial: everything that its row and its curve say."""

    trial: Trial
    outcome: Outcome
    value: float | None = None
    """The one number that ranks it, after its last epoch; None where it diverged or failed."""
    measurements: tuple[Measurement, ...] = ()
    failure: str | None = None
    """What happened in one line, where it diverged or failed."""
    cause: Cause | None = None
    """What kind of thing that was, where it failed."""
    test: Mapping[str, float] = field(default_factory=dict)
    """Metrics on the test split: only the final trial has them."""
    engine: str = ""
    device: str = ""
    """"cpu" or "cuda"."""
    worker: str = ""
    node: str = ""
    attempt: int = 1
    times: Times = Times()
    checkpoint: Any = field(default=None, compare=False, repr=False)
    """Paused trial: what its next part continues from, or the backend's reference to it. Final trial: the trained
    network. It is never recorded."""

    def after(self, earlier: "Result | None") -> "Result":
        """This, with what an earlier part of the same trial measured and took.

        Where this part trained its trial from the beginning, its own measurements hold: they are the same.
        """
        if earlier is None:
            return self
        begins = self.measurements[0].epoch if self.measurements else math.inf
        before = tuple(m for m in earlier.measurements if m.epoch < begins)
        times = Times(
            **{f.name: getattr(self.times, f.name) + getattr(earlier.times, f.name) for f in fields(Times)}
        )
        return replace(self, measurements=(*before, *self.measurements), times=times)


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2**63) that depends on its parts alone, the same on every machine and version.

    Example:
        >>> derive_seed(0, "trial", 1, 7) == derive_seed(0, "trial", 1, 7)
        True
    """
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
