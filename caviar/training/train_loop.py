"""Loop over parts and epochs, shared by the engines that train one network at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from caviar.engine import Checkpoint, Part, PartDone, Progress, divergence
from caviar.errors import one_line
from caviar.training.recipe import Recipe, learning_rate_at
from caviar.trial import Measurement, Outcome


class NetworkTraining(Protocol):
    """One network in training."""

    recipe: Recipe
    epoch: int
    """Epochs trained so far."""

    def advance(self, learning_rate: float) -> float:
        """Train one epoch.

        Args:
            learning_rate: learning rate of the epoch.

        Returns:
            Mean loss of the rows in nats, each measured when its mini-batch was trained.
        """

    def score(self) -> tuple[float, float]:
        """Return mean loss in nats and accuracy on the dev split, with batch norm's running averages."""

    def save(self) -> Checkpoint:
        """Return a checkpoint from which training continues as if it had never stopped."""


def train_one_by_one(
    parts: Sequence[Part], begin: Callable[[Part], NetworkTraining]
) -> Iterator[Progress | PartDone]:
    """Train parts one after the other. An exception ends its own trial as failed, and no other.

    Args:
        parts: what to train.
        begin: returns a part's network: new, or restored from the part's checkpoint.

    Yields:
        For each part its measurements in the order of epochs, then one `PartDone`.
    """
    for part in parts:
        try:
            yield from _train(part, begin)
        except Exception as error:
            yield PartDone(trial=part.trial.number, outcome=Outcome.FAILED, failure=one_line(error))


def _train(part: Part, begin: Callable[[Part], NetworkTraining]) -> Iterator[Progress | PartDone]:
    started = time.perf_counter()
    trial, training = part.trial, begin(part)
    setup_s = time.perf_counter() - started
    failure = None
    last_epoch = trial.epochs if part.until is None else part.until
    while failure is None and training.epoch < last_epoch:
        learning_rate = learning_rate_at(training.recipe, training.epoch, trial.epochs)
        train_loss = training.advance(learning_rate)
        dev_loss, dev_accuracy = training.score()
        metrics = {
            "train_loss": train_loss,
            "dev_loss": dev_loss,
            "dev_accuracy": dev_accuracy,
            "learning_rate": learning_rate,
        }
        yield Progress(trial.number, Measurement(training.epoch, metrics))
        failure = divergence(train_loss, dev_loss)
    yield PartDone(
        trial=trial.number,
        outcome=Outcome.COMPLETED if failure is None else Outcome.DIVERGED,
        failure=failure,
        checkpoint=training.save() if part.keep_checkpoint else None,
        setup_s=setup_s,
        train_s=time.perf_counter() - started - setup_s,
    )
