"""What a worker makes of what its engine says: a row, whatever that is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from caviar.backends.worker import MAX_FAILURE_CHARS, Worker
from caviar.data.splits import Split
from caviar.driver.messages import Task
from caviar.engine import Engine, Job, Progress, State, Trained
from caviar.training.function.objective import Function
from caviar.trial import Cause, Measurement, Outcome, Result, Stage, Times, Trial
from tests.functions import noisy_bowl
from tests.objectives import Bowl
from tests.training.networks import blobs

NETWORK = {"weight": np.zeros(1)}
SPLIT = Split(x=np.zeros((1, 1), np.float32), y=np.zeros(1, np.int64))


class Scripted(Engine):
    """Says what it was given to say, and keeps what it was asked."""

    def __init__(self, *events: Progress | Trained) -> None:
        self._events = events
        self.jobs: list[Job] = []
        self.scored = 0

    @property
    def name(self) -> str:
        return "scripted"

    def train(self, jobs: Sequence[Job]) -> Iterator[Progress | Trained]:
        self.jobs += jobs
        yield from self._events

    def evaluate(self, trial: Trial, state: State, split: Split) -> Mapping[str, float]:
        self.scored += 1
        return {"accuracy": 0.5}


@dataclass(frozen=True)
class Given(Bowl):
    """An objective with an engine that is there already."""

    engine: Scripted = field(default_factory=Scripted)

    def make_engine(self, dataset: object, device: str) -> Engine:
        return self.engine


def trial(epochs: int = 2, stage: Stage = Stage.SEARCH) -> Trial:
    return Trial(number=0, round=1, params={"x": 0.1, "rate": 0.1}, epochs=epochs, seed=3, stage=stage)


def at(epoch: int, loss: float = 1.0, **more: float) -> Progress:
    return Progress(0, Measurement(epoch, {"loss": loss, **more}))


def end(outcome: Outcome = Outcome.COMPLETED, **said: Any) -> Trained:
    return Trained(trial=0, outcome=outcome, **said)


def result(*events: Progress | Trained, **task: Any) -> Result:
    """Of a trial of two epochs, whose engine says this."""
    worker = Worker("w", "here", Given(engine=Scripted(*events)), None)
    (row,) = worker.run([Task(trial=trial(), **task)])
    return row


def test_an_engine_that_gives_no_end_fails_the_trial_and_says_so() -> None:
    row = result(at(1))
    assert (row.outcome, row.cause, row.failure) == (Outcome.FAILED, Cause.ERROR, "the engine gave no end")
    assert [m.epoch for m in row.measurements] == [1]


def test_a_measurement_that_comes_again_more_complete_takes_the_place_of_the_first() -> None:
    row = result(at(1), at(2, 0.5), at(2, 0.5, speed=3.0), end())
    assert row.measurements == (at(1).measurement, at(2, 0.5, speed=3.0).measurement)
    assert row.value == 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_trial_whose_value_is_not_finite_has_diverged(value: float) -> None:
    row = result(at(1), at(2, value), end())
    assert (row.outcome, row.cause, row.value) == (Outcome.DIVERGED, None, None)
    assert row.failure == f"loss is not finite ({value:g})"


def test_a_failure_is_cut_whatever_an_engine_says() -> None:
    row = result(end(Outcome.FAILED, failure="x" * 10**6))
    assert row.failure == "x" * MAX_FAILURE_CHARS


@pytest.mark.parametrize(("spent_s", "outcome"), [(0.0, Outcome.COMPLETED), (60.0, Outcome.FAILED)])
def test_what_earlier_parts_took_counts_towards_the_time_limit(spent_s: float, outcome: Outcome) -> None:
    objective = Function(noisy_bowl, metric="loss", metrics=("loss", "draws"), time_limit_s=60.0)
    times = Times(setup_s=spent_s / 2, train_s=spent_s / 2)
    earlier = Result(trial=trial(), outcome=Outcome.STOPPED, measurements=(at(1).measurement,), times=times)
    (row,) = Worker("w", "here", objective, None).run([Task(trial=trial(), so_far=earlier)])
    assert row.outcome is outcome
    if outcome is Outcome.FAILED:
        assert (row.value, row.cause, row.failure) == (None, Cause.TIME, "took longer than 60 s")
        assert row.checkpoint is None
        assert row.measurements, "what it measured stays"


def test_a_part_that_comes_to_its_end_is_stopped_and_gives_what_the_next_begins_from() -> None:
    worker = Worker("w", "here", Bowl(), None)
    (part,) = worker.run([Task(trial=trial(epochs=4), parts=(3,))])
    assert (part.outcome, part.checkpoint["epoch"]) == (Outcome.STOPPED, 3)
    (last,) = worker.run([Task(trial=trial(epochs=4), parts=(3, 4), so_far=part)])
    assert [m.epoch for m in last.measurements] == [4]
    assert (last.outcome, last.checkpoint) == (Outcome.COMPLETED, None)


@pytest.mark.parametrize("engine", ["function", "another"])
def test_without_a_state_that_its_engine_can_use_the_parts_before_are_trained_again(engine: str) -> None:
    """Each as it was: global generators are seeded at the start of a part."""
    objective = Function(noisy_bowl, metric="loss", metrics=("loss", "draws"))
    worker, whole = Worker("w", "here", objective, None), trial(epochs=6)
    paused: list[Result] = []
    for parts in ((2,), (2, 4), (2, 4, 6)):
        so_far = paused[-1] if paused else None
        (part,) = worker.run([Task(trial=whole, parts=parts, so_far=so_far)])
        paused.append(part.after(so_far))
    is_lost = engine == "function"
    earlier = replace(paused[1], engine=engine, checkpoint=None if is_lost else paused[1].checkpoint)
    (again,) = worker.run([Task(trial=whole, parts=(2, 4, 6), so_far=earlier, is_checkpoint_lost=is_lost)])
    assert again.measurements == paused[-1].measurements
    assert [m.epoch for m in again.measurements] == [1, 2, 3, 4, 5, 6]


def test_a_part_that_fails_ends_the_replay_of_those_after_it() -> None:
    engine = Scripted(end(Outcome.FAILED, failure="no"))
    paused = Result(
        trial=trial(3), outcome=Outcome.STOPPED, measurements=(at(1).measurement, at(2).measurement)
    )
    task = Task(trial=trial(3), parts=(1, 2, 3), so_far=paused, is_checkpoint_lost=True)
    (row,) = Worker("w", "here", Given(engine=engine), None).run([task])
    assert row.failure == "no"
    assert [job.until for job in engine.jobs] == [1]


@pytest.mark.parametrize(
    ("stage", "sent", "scores"),
    [
        (Stage.FINAL, SPLIT, {"accuracy": 0.5}),
        (Stage.FINAL, None, {}),
        (Stage.CONFIRMATION, SPLIT, {}),
        (Stage.SEARCH, SPLIT, {}),
    ],
)
def test_the_test_split_scores_the_final_trial_alone(
    stage: Stage, sent: Split | None, scores: dict[str, float]
) -> None:
    """It alone gives its network back: without one there is nothing to score."""

    class Keeping(Scripted):
        def train(self, jobs: Sequence[Job]) -> Iterator[Progress | Trained]:
            yield at(2)
            yield end(state=NETWORK if jobs[0].keep else None)

    engine = Keeping()
    worker = Worker("w", "here", Given(engine=engine), blobs().without_test())
    (row,) = worker.run([Task(trial=trial(stage=stage))], sent)
    assert row.test == scores
    assert engine.scored == bool(scores)
    assert (row.checkpoint is not None) == (stage is Stage.FINAL)


def test_a_final_trial_that_failed_is_not_scored_and_hands_over_nothing() -> None:
    engine = Scripted(end(Outcome.DIVERGED, failure="loss exploded", state=NETWORK))
    worker = Worker("w", "here", Given(engine=engine), blobs().without_test())
    (row,) = worker.run([Task(trial=trial(stage=Stage.FINAL))], SPLIT)
    assert (row.test, engine.scored, row.checkpoint) == ({}, 0, None)
