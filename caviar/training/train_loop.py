"""Training jobs one after the other: what the engines for one core have in common."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from caviar.engine import Job, Progress, State, Trained, divergence
from caviar.errors import one_line
from caviar.training.recipe import Recipe, learning_rate_at
from caviar.trial import Measurement, Outcome


class Training(Protocol):
    """One network in training."""

    recipe: Recipe
    epoch: int
    """Epochs trained so far."""

    def advance(self, learning_rate: float) -> float:
        """Train one epoch; returns the mean loss of its mini-batches, each row weighing the same."""

    def score(self) -> tuple[float, float]:
        """Mean loss and accuracy on the dev split, with running averages for batch norm."""

    def save(self) -> State:
        """Enough to go on as if it had never stopped."""


def train_in_turn(jobs: Sequence[Job], begin: Callable[[Job], Training]) -> Iterator[Progress | Trained]:
    """Train each job to its end; an exception ends its own job as failed and no other.

    Args:
        jobs: what to train.
        begin: builds a job's network, new or where its state left it.
    """
    for job in jobs:
        try:
            yield from _train(job, begin)
        except Exception as error:
            yield Trained(trial=job.trial.number, outcome=Outcome.FAILED, failure=one_line(error))


def _train(job: Job, begin: Callable[[Job], Training]) -> Iterator[Progress | Trained]:
    started = time.perf_counter()
    trial, training = job.trial, begin(job)
    setup_s = time.perf_counter() - started
    outcome, failure = Outcome.COMPLETED, None
    while training.epoch < (trial.epochs if job.until is None else job.until):
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
        if failure is not None:
            outcome = Outcome.DIVERGED
            break
    yield Trained(
        trial=trial.number,
        outcome=outcome,
        failure=failure,
        state=training.save() if job.keep else None,
        setup_s=setup_s,
        train_s=time.perf_counter() - started - setup_s,
    )
