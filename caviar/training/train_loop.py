"""Loop over parts and epochs, shared by the engines that train one network at a time."""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from caviar.engine import EXPLODED_LOSS, Checkpoint, Part, PartDone, Progress, divergence
from caviar.errors import one_line
from caviar.training.layer_statistics import Observe
from caviar.training.recipe import Recipe, learning_rate_at
from caviar.trial import Measurement, Outcome


class Training(Protocol):
    """One network in training, of any kind."""

    epoch: int
    """Epochs trained so far."""

    @abstractmethod
    def train_epoch(self, epochs: int) -> Mapping[str, float]:
        """Train one epoch and return its metrics, train_loss and dev_loss among them.

        Args:
            epochs: epochs that the trial trains in all, for the schedule of the learning rate.
        """

    @abstractmethod
    def save(self) -> Checkpoint:
        """Return a checkpoint from which training continues as if it had never stopped."""


class NetworkTraining(Training, Protocol):
    """One batch-norm/softmax network in training."""

    recipe: Recipe

    def train_epoch(self, epochs: int) -> Mapping[str, float]:
        """Train one epoch with the learning rate of the recipe's schedule, and return its metrics."""
        learning_rate = learning_rate_at(self.recipe, self.epoch, epochs)
        train_loss = self.advance(learning_rate)
        dev_loss, dev_accuracy = self.score()
        return {
            "train_loss": train_loss,
            "dev_loss": dev_loss,
            "dev_accuracy": dev_accuracy,
            "learning_rate": learning_rate,
        }

    @abstractmethod
    def advance(self, learning_rate: float) -> float:
        """Train one epoch.

        Args:
            learning_rate: learning rate of the epoch.

        Returns:
            Mean loss of the rows in nats, each measured when its mini-batch was trained.
        """

    @abstractmethod
    def score(self) -> tuple[float, float]:
        """Return mean loss in nats and accuracy on the dev split, with batch norm's running averages."""


def train_one_by_one(
    parts: Sequence[Part],
    begin: Callable[[Part], Training],
    max_loss: float = EXPLODED_LOSS,
    describe: Callable[[BaseException], str] = one_line,
    observe: Observe | None = None,
) -> Iterator[Progress | PartDone]:
    """Train parts one after the other. An exception ends its own trial as failed, and no other.

    Args:
        parts: what to train.
        begin: returns a part's network: new, or restored from the part's checkpoint.
        max_loss: mean training loss above which a training has diverged.
        describe: returns an exception in one line.
        observe: returns further metrics after each epoch; None for none.

    Yields:
        For each part its measurements in the order of epochs, then one `PartDone`.
    """
    for part in parts:
        try:
            yield from train_part(part, begin, max_loss, observe)
        except (Exception, SystemExit) as error:
            yield PartDone(trial=part.trial.number, outcome=Outcome.FAILED, failure=describe(error))


def train_part(
    part: Part,
    begin: Callable[[Part], Training],
    max_loss: float = EXPLODED_LOSS,
    observe: Observe | None = None,
) -> Iterator[Progress | PartDone]:
    """Train one part; yield its measurements and its end, and let exceptions pass. See `train_one_by_one`."""
    started = time.perf_counter()
    trial, training = part.trial, begin(part)
    setup_s = time.perf_counter() - started
    failure = None
    last_epoch = trial.epochs if part.until is None else part.until
    while failure is None and training.epoch < last_epoch:
        metrics = training.train_epoch(trial.epochs)
        if observe is not None:
            metrics = {**metrics, **observe(trial, training.save())}
        yield Progress(trial.number, Measurement(training.epoch, metrics))
        failure = divergence(metrics["train_loss"], metrics["dev_loss"], max_loss)
    yield PartDone(
        trial=trial.number,
        outcome=Outcome.COMPLETED if failure is None else Outcome.DIVERGED,
        failure=failure,
        checkpoint=training.save() if part.keep_checkpoint else None,
        setup_s=setup_s,
        train_s=time.perf_counter() - started - setup_s,
    )
