"""A worker turns whatever its engine yields into one result a task."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from caviar.backends.worker import Worker
from caviar.data.splits import Split
from caviar.driver.messages import Task
from caviar.engine import Checkpoint, Engine, Part, PartDone, Progress
from caviar.training.function.objective import Function
from caviar.trial import MAX_FAILURE_CHARS, Cause, Measurement, Outcome, Result, Stage, Times, Trial
from tests.functions import noisy_bowl
from tests.objectives import Bowl
from tests.training.networks import blobs

NETWORK = {"weight": np.zeros(1)}
SPLIT = Split(x=np.zeros((1, 1), np.float32), y=np.zeros(1, np.int64))


class Scripted(Engine):
    """An engine that yields given events, and keeps the parts that it was asked to train."""

    def __init__(self, *events: Progress | PartDone) -> None:
        self._events = events
        self.parts: list[Part] = []
        self.scored = 0

    @property
    def name(self) -> str:
        return "scripted"

    def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        self.parts += parts
        yield from self._events

    def evaluate(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> Mapping[str, float]:
        self.scored += 1
        return {"accuracy": 0.5}


@dataclass(frozen=True)
class Given(Bowl):
    """An objective with a given engine."""

    engine: Scripted = field(default_factory=Scripted)

    def make_engine(self, dataset: object, device: str) -> Engine:
        return self.engine


def make_trial(epochs: int = 2, stage: Stage = Stage.SEARCH) -> Trial:
    return Trial(number=0, round=1, params={"x": 0.1, "rate": 0.1}, epochs=epochs, seed=3, stage=stage)


def make_progress(epoch: int, loss: float = 1.0, **more: float) -> Progress:
    return Progress(0, Measurement(epoch, {"loss": loss, **more}))


def make_end(outcome: Outcome = Outcome.COMPLETED, **said: Any) -> PartDone:
    return PartDone(trial=0, outcome=outcome, **said)


def train_scripted(*events: Progress | PartDone, **task: Any) -> Result:
    """Return the result of a trial of two epochs whose engine yields these events."""
    worker = Worker("w", "here", Given(engine=Scripted(*events)), None)
    (found,) = worker.run([Task(trial=make_trial(), **task)])
    return found


def test_an_engine_without_an_end_fails_the_trial() -> None:
    found = train_scripted(make_progress(1))
    assert (found.outcome, found.cause, found.failure) == (
        Outcome.FAILED,
        Cause.ERROR,
        "the engine gave no end",
    )
    assert [m.epoch for m in found.measurements] == [1]


def test_a_repeated_measurement_replaces_the_first() -> None:
    found = train_scripted(
        make_progress(1), make_progress(2, 0.5), make_progress(2, 0.5, speed=3.0), make_end()
    )
    assert found.measurements == (make_progress(1).measurement, make_progress(2, 0.5, speed=3.0).measurement)
    assert found.value == 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_a_divergence(value: float) -> None:
    found = train_scripted(make_progress(1), make_progress(2, value), make_end())
    assert (found.outcome, found.cause, found.value) == (Outcome.DIVERGED, None, None)
    assert found.failure == f"loss is not finite ({value:g})"


def test_long_failure_messages_are_cut() -> None:
    found = train_scripted(make_end(Outcome.FAILED, failure="x" * 10**6))
    assert found.failure == "x" * MAX_FAILURE_CHARS


@pytest.mark.parametrize(("spent_s", "outcome"), [(0.0, Outcome.COMPLETED), (60.0, Outcome.FAILED)])
def test_earlier_parts_count_towards_the_time_limit(spent_s: float, outcome: Outcome) -> None:
    objective = Function(noisy_bowl, metric="loss", metrics=("loss", "draws"), time_limit_s=60.0)
    times = Times(setup_s=spent_s / 2, train_s=spent_s / 2)
    earlier = Result(
        trial=make_trial(), outcome=Outcome.STOPPED, measurements=(make_progress(1).measurement,), times=times
    )
    (found,) = Worker("w", "here", objective, None).run([Task(trial=make_trial(), so_far=earlier)])
    assert found.outcome is outcome
    if outcome is Outcome.FAILED:
        assert (found.value, found.cause, found.failure) == (None, Cause.TIME, "took longer than 60 s")
        assert found.checkpoint is None
        assert found.measurements, "its measurements stay"


def test_a_part_ends_with_a_checkpoint_for_the_next() -> None:
    worker = Worker("w", "here", Bowl(), None)
    (part,) = worker.run([Task(trial=make_trial(epochs=4), parts=(3,))])
    assert (part.outcome, part.checkpoint["epoch"]) == (Outcome.STOPPED, 3)
    (last,) = worker.run([Task(trial=make_trial(epochs=4), parts=(3, 4), so_far=part)])
    assert [m.epoch for m in last.measurements] == [4]
    assert (last.outcome, last.checkpoint) == (Outcome.COMPLETED, None)


def test_parts_of_a_trial_share_its_start_and_end() -> None:
    worker = Worker("w", "here", Bowl(), None)
    before = time.time()
    (first,) = worker.run([Task(trial=make_trial(epochs=4), parts=(3,))])
    (last,) = worker.run([Task(trial=make_trial(epochs=4), parts=(3, 4), so_far=first)])
    whole = last.after(first)
    assert (whole.started, whole.ended) == (first.started, last.ended)
    assert before <= first.started <= first.ended <= last.started <= last.ended <= time.time()  # type: ignore[operator]


@pytest.mark.parametrize("engine", ["function", "another"])
def test_without_a_usable_checkpoint_earlier_parts_are_repeated(engine: str) -> None:
    """Each part is repeated as it was, because global generators are seeded at its start."""
    objective = Function(noisy_bowl, metric="loss", metrics=("loss", "draws"))
    worker, whole = Worker("w", "here", objective, None), make_trial(epochs=6)
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


def test_a_failing_part_ends_the_repetition() -> None:
    engine = Scripted(make_end(Outcome.FAILED, failure="no"))
    paused = Result(
        trial=make_trial(3),
        outcome=Outcome.STOPPED,
        measurements=(make_progress(1).measurement, make_progress(2).measurement),
    )
    task = Task(trial=make_trial(3), parts=(1, 2, 3), so_far=paused, is_checkpoint_lost=True)
    (found,) = Worker("w", "here", Given(engine=engine), None).run([task])
    assert found.failure == "no"
    assert [part.until for part in engine.parts] == [1]


@pytest.mark.parametrize(
    ("stage", "sent", "scores"),
    [
        (Stage.FINAL, SPLIT, {"accuracy": 0.5}),
        (Stage.FINAL, None, {}),
        (Stage.CONFIRMATION, SPLIT, {}),
        (Stage.SEARCH, SPLIT, {}),
    ],
)
def test_only_the_final_trial_is_scored(stage: Stage, sent: Split | None, scores: dict[str, float]) -> None:
    """Only the final trial returns its network; without one there is nothing to score."""

    class Keeping(Scripted):
        def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
            yield make_progress(2)
            yield make_end(checkpoint=NETWORK if parts[0].keep_checkpoint else None)

    engine = Keeping()
    worker = Worker("w", "here", Given(engine=engine), blobs().without_test())
    (found,) = worker.run([Task(trial=make_trial(stage=stage))], sent)
    assert found.test == scores
    assert engine.scored == bool(scores)
    assert (found.checkpoint is not None) == (stage is Stage.FINAL)


def test_a_failed_final_trial_is_not_scored() -> None:
    engine = Scripted(make_end(Outcome.DIVERGED, failure="loss exploded", checkpoint=NETWORK))
    worker = Worker("w", "here", Given(engine=engine), blobs().without_test())
    (found,) = worker.run([Task(trial=make_trial(stage=Stage.FINAL))], SPLIT)
    assert (found.test, engine.scored, found.checkpoint) == ({}, 0, None)
