"""The interface of engines: an engine trains parts of trials and yields their measurements.

An engine may train parts one after the other (`reference`, `native`) or all at once, so each event names its trial.
Whatever the engine, a trial's metrics depend on its params, epochs and seed alone, not on the trials trained beside it
(laws 1 and 3).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from caviar.data.splits import Split
from caviar.errors import StudyError
from caviar.trial import Measurement, Outcome, Trial

Checkpoint = Mapping[str, npt.NDArray[np.generic]]
"""The state of a network in training, from which training continues as if it had never stopped.

The names are the same in every engine of networks; D features or units of the layer below, H units, C classes:

    epoch, step                             epochs and optimizer steps so far
    hidden.<l>.weight                       (D, H), l from 0; the layer computes x W
    hidden.<l>.gamma, .beta, .mean, .var    (H,), with batch norm
    hidden.<l>.bias                         (H,), without batch norm
    output.weight, output.bias              (D, C), (C,)
    first.<tensor>, second.<tensor>         the optimizer's averages of gradients and of their squares
"""

EXPLODED_LOSS = 1e3
"""Mean training loss, in nats, above which a training counts as diverged. (A uniform guess costs ln C.)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A trial to train, from a checkpoint or from the first epoch, to its last epoch or to an earlier one."""

    trial: Trial
    until: int | None = None
    """Epoch to stop after; None for the trial's last. Learning-rate decay follows the trial's last epoch anyway."""
    checkpoint: Checkpoint | None = None
    """Checkpoint to continue from; None starts at the first epoch."""
    keep_checkpoint: bool = False
    """True to return a checkpoint at the end."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A measurement of a trial in training."""

    trial: int
    """Number of the trial."""
    measurement: Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDone:
    """The end of a part."""

    trial: int
    """Number of the trial."""
    outcome: Outcome
    failure: str | None = None
    """Description in one line of why it diverged or failed; else None."""
    checkpoint: Checkpoint | None = None
    """State at the end, if it was asked for."""
    setup_s: float = 0.0
    """Seconds for building the network and its random streams."""
    train_s: float = 0.0
    """Seconds for training and evaluating."""


class SideBySide(Protocol):
    """A training of many trials at once, which takes more at any time."""

    @property
    def is_idle(self) -> bool:
        """True if it has nothing to train."""

    def add(self, part: Part) -> None:
        """Add a part of a trial of which no other part is in training."""

    def advance(self) -> list[Progress | PartDone]:
        """Train for a while and return what happened, as `Engine.train` yields it. It must not be idle."""


class Engine(ABC):
    """A trainer on one device, for one data set or function."""

    warnings: tuple[str, ...] = ()
    """Sentences for the user about this engine, such as why it is not the one for the device."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the engine in frames."""

    @property
    def damage(self) -> str | None:
        """Reason why this process may not train the next trial as a fresh process does; None if it may."""
        return None

    @property
    def lanes(self) -> int:
        """Largest number of trials that it trains at the same time."""
        return 1

    def begin_side_by_side(self) -> SideBySide:
        """Return a training of up to `lanes` trials at once; only for an engine with several lanes."""
        raise NotImplementedError(f"the {self.name} engine trains one trial after the other")

    @abstractmethod
    def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        """Train parts of trials.

        Args:
            parts: what to train; each belongs to another trial.

        Yields:
            For each part its measurements in the order of epochs, then one `PartDone`. An exception that a trial raises
            ends that trial as `failed`, and no other.
        """

    def train_openly(self, part: Part) -> list[Progress | PartDone]:
        """Train one part in the calling thread, for a debugger, and let an exception of the user's code pass.

        Raises:
            StudyError: the trial failed.
        """
        *progress, end = self.train([part])
        assert isinstance(end, PartDone)
        if end.outcome is Outcome.FAILED:
            raise StudyError(f"the trial failed: {end.failure}")
        return [*progress, end]

    def score_winner(
        self, trial: Trial, checkpoint: Checkpoint | None, test: Split | None
    ) -> Mapping[str, float]:
        """Return the winner's scores on data that nothing else has used; nothing if there are none.

        Args:
            trial: the final trial.
            checkpoint: its trained network, or what it saved; None if it saved nothing.
            test: the test split; None for an objective without data of its own.

        Raises:
            StudyError: a test function of the user's failed.
        """
        return {} if test is None or checkpoint is None else self.evaluate(trial, checkpoint, test)

    @abstractmethod
    def evaluate(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> Mapping[str, float]:
        """Return accuracy and mean loss of a trained network on the rows of a split.

        Batch norm uses its running averages, so that a row's prediction does not depend on the other rows.

        Args:
            trial: the trial that trained the network.
            checkpoint: the trained network.
            split: rows and their classes.
        """

    def predict(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> npt.NDArray[np.floating] | None:
        """Return the probability of each class for each row of a split, (N, C); None if there are no classes.

        Args:
            trial: the trial that trained the network.
            checkpoint: the trained network.
            split: rows and their classes.
        """
        del trial, checkpoint, split
        return None


def divergence(train_loss: float, dev_loss: float, max_loss: float = EXPLODED_LOSS) -> str | None:
    """Return the reason why a training has diverged, or None. All engines apply this rule after each epoch.

    Args:
        train_loss: mean loss of the epoch's mini-batches, in nats.
        dev_loss: mean loss on the dev split, in nats.
        max_loss: training loss above which it has exploded.
    """
    if not math.isfinite(train_loss) or not math.isfinite(dev_loss):
        return f"loss is not finite (train {train_loss:g}, dev {dev_loss:g})"
    if train_loss > max_loss:
        return f"loss exploded (train {train_loss:g})"
    return None
