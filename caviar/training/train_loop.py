"""Loop over jobs and epochs, shared by the engines that train one network at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from caviar.engine import Job, Progress, State, Trained, divergence
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
            learning_rate: Learning rate of the epoch.

        Returns:
            Mean loss of the rows in nats, each measured when its mini-batch was trained.
        """

    def score(self) -> tuple[float, float]:
        """Return mean loss in nats and accuracy on the dev split, with batch norm's running averages."""

    def save(self) -> State:
        """Return a state from which training continues as if it had never stopped."""


def train_one_by_one(
    jobs: Sequence[Job], begin: Callable[[Job], NetworkTraining]
) -> Iterator[Progress | Trained]:
    """Train jobs one after the other. An exception ends its own job as failed and no other.

    Args:
        jobs: Jobs to train.
        begin: Function that returns a job's network: new, or restored from the job's state.

    Yields:
        For each job its measurements in the order of epochs, then one `Trained`.
    """
    for job in jobs:
        try:
            yield from _train(job, begin)
        except Exception as error:
            yield Trained(trial=job.trial.number, outcome=Outcome.FAILED, failure=one_line(error))


def _train(job: Job, begin: Callable[[Job], NetworkTraining]) -> Iterator[Progress | Trained]:
    started = time.perf_counter()
    trial, training = job.trial, begin(job)
    setup_s = time.perf_counter() - started
    failure = None
    last_epoch = trial.epochs if job.until is None else job.until
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
    yield Trained(
        trial=trial.number,
        outcome=Outcome.COMPLETED if failure is None else Outcome.DIVERGED,
        failure=failure,
        state=training.save() if job.keep else None,
        setup_s=setup_s,
        train_s=time.perf_counter() - started - setup_s,
    )
