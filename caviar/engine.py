"""What every engine is: trials and data in, measurements out.

An engine may train its jobs one after the other (`reference`, `native`) or all at once (`fused`), so what it
yields is marked with the trial it belongs to. Whatever the engine, a trial's numbers depend on its params,
epochs and seed alone, not on its neighbours (laws 1 and 3).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caviar.data.splits import Split
from caviar.trial import Measurement, Outcome, Trial

State = Mapping[str, npt.NDArray[np.generic]]
"""A network in training: enough to go on as if it had never stopped. The same names in every engine:

    epoch, step                       how far it is
    hidden.<l>.weight                 (D, H), l from 0; the layer computes x W
    hidden.<l>.gamma, .beta, .mean, .var    (H,), with batch norm
    hidden.<l>.bias                   (H,), without
    output.weight, output.bias        (D, C), (C,)
    first.<tensor>, second.<tensor>   the optimizer's averages of gradients and of their squares
"""

EXPLODED = 1e3
"""A mean training loss above this many nats counts as diverged (guessing costs ln classes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A trial to be trained, whole or in part."""

    trial: Trial
    until: int | None = None
    """Stop after this epoch; by default after the trial's last, which learning-rate decay follows anyway."""
    state: State | None = None
    """Where to go on from; None begins."""
    keep: bool = False
    """Give back the state at the end."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A job has trained one more epoch."""

    trial: int
    measurement: Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A job has come to its end."""

    trial: int
    outcome: Outcome
    failure: str | None = None
    state: State | None = None
    setup_s: float = 0.0
    train_s: float = 0.0


class Engine(ABC):
    """Trains jobs on one device, on one data set."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The word for it in frames."""

    @abstractmethod
    def train(self, jobs: Sequence[Job]) -> Iterator[Progress | Trained]:
        """Train jobs; for each, its measurements in order of epochs and then one `Trained`.

        An exception that a trial raises ends that trial as `failed` and no other.
        """

    @abstractmethod
    def evaluate(self, trial: Trial, state: State, split: Split) -> Mapping[str, float]:
        """Accuracy and loss of a trained network on some rows, with running averages for batch norm."""


def divergence(train_loss: float, dev_loss: float) -> str | None:
    """Why a training has diverged, or None: the one rule of all engines, applied after each epoch."""
    if not math.isfinite(train_loss) or not math.isfinite(dev_loss):
        return f"loss is not finite (train {train_loss:g}, dev {dev_loss:g})"
    if train_loss > EXPLODED:
        return f"loss exploded (train {train_loss:g})"
    return None
