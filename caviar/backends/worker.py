"""What runs inside a worker: an engine that stays, and chunks of trials that come and go.

It knows no Ray: `inline` calls it in this process, `ray_backend` makes it an actor.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from caviar.data.splits import Dataset, Split
from caviar.engine import Job, Progress, Trained
from caviar.objective import Objective
from caviar.trial import Cause, Measurement, Outcome, Result, Stage, Times, Trial

MOST_LETTERS = 1_000
"""Of a failure in a row, whatever an engine says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a worker is to do: a trial, or a part of one."""

    trial: Trial
    attempt: int = 1
    until: int | None = None
    """The epoch to end after; None for the trial's last."""
    state: Any = None
    """What the part before gave as its `Finished.state`; None begins."""
    engine: str = ""
    """Which made that state: no other can go on from it."""
    replay: tuple[int, ...] = ()
    """Where earlier parts ended. Should the state be lost, they are trained again, each as it was: a function that
    draws from a global generator, seeded at the start of a part, then gives the same numbers again."""
    spent_s: float = 0.0
    """Seconds that its earlier parts took, which count towards a time limit."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a worker gives back for a task."""

    result: Result
    """Of a part that came to its end: `stopped`, as it stands unless the trial goes on."""
    state: Any = None
    """Of the final trial the trained network; of a part what the next begins from: a state, or the backend's
    word for where it is."""


def overtime(limit_s: float) -> str:
    """Why a trial failed that took too long."""
    return f"took longer than {limit_s:g} s"


class Worker:
    """One CPU core or GPU that trains chunks of trials.

    Args:
        name: its name in frames.
        node: the machine's.
        objective: what a trial trains and measures.
        dataset: train and dev split; None where the objective brings its own data.
        device: "cpu" or "cuda".
    """

    def __init__(
        self, name: str, node: str, objective: Objective, dataset: Dataset | None, device: str = "cpu"
    ) -> None:
        self._name, self._node, self._device, self._objective = name, node, device, objective
        self._hands_over = dataset is not None
        self._engine = objective.make_engine(dataset, device)
        self._free_since = time.perf_counter()

    def run(self, tasks: Sequence[Task], test: Split | None = None) -> list[Finished]:
        """Train a chunk.

        Args:
            tasks: what to train; their states are plain ones.
            test: the test split, sent with the final trial only.

        Returns:
            One for each task, in the order given.
        """
        return [event for event in self.stream(tasks, test) if isinstance(event, Finished)]

    def stream(self, tasks: Sequence[Task], test: Split | None = None) -> Iterator[Progress | Finished]:
        """Train a chunk, as `run` does, and show each measurement as it is made."""
        for task in tasks:
            started = time.perf_counter()
            dispatch_s = started - self._free_since
            yield from self._train(task, dispatch_s, started, test)

    def _train(
        self, task: Task, dispatch_s: float, started: float, test: Split | None
    ) -> Iterator[Progress | Finished]:
        trial, until = task.trial, task.trial.epochs if task.until is None else task.until
        measurements: list[Measurement] = []
        state, train_s = task.state if task.engine == self._engine.name else None, 0.0
        for part_end in (until,) if state is not None else (*task.replay, until):
            keep = part_end < trial.epochs or (trial.stage is Stage.FINAL and self._hands_over)
            end = Trained(trial=trial.number, outcome=Outcome.FAILED, failure="the engine gave no end")
            for event in self._engine.train([Job(trial=trial, until=part_end, state=state, keep=keep)]):
                match event:
                    case Progress(_, measurement):
                        while measurements and measurements[-1].epoch >= measurement.epoch:
                            measurements.pop()  # completed by what the function returned
                        measurements.append(measurement)
                        yield event
                    case Trained():
                        end = event
            state, train_s = end.state, train_s + end.train_s
            if end.outcome is not Outcome.COMPLETED:
                break
        scores = {}
        if end.outcome is Outcome.COMPLETED and end.state is not None and test is not None:
            scores = dict(self._engine.evaluate(trial, end.state, test))
        outcome, value, failure = self._value(end, measurements)
        cause = Cause.ERROR if outcome is Outcome.FAILED else None
        limit_s, elapsed_s = self._objective.time_limit_s, time.perf_counter() - started
        if limit_s is not None and task.spent_s + elapsed_s > limit_s and outcome is Outcome.COMPLETED:
            outcome, value, failure = Outcome.FAILED, None, overtime(limit_s)
            cause = Cause.TIME
        if outcome is Outcome.COMPLETED and until <= measurements[-1].epoch < trial.epochs:
            outcome = Outcome.STOPPED  # unless it goes on
        result = Result(
            trial=trial,
            outcome=outcome,
            value=value,
            measurements=tuple(measurements),
            failure=None if failure is None else failure[:MOST_LETTERS],
            cause=cause,
            test=scores,
            engine=self._engine.name,
            device=self._device,
            worker=self._name,
            node=self._node,
            attempt=task.attempt,
            times=Times(dispatch_s=dispatch_s, setup_s=elapsed_s - train_s, train_s=train_s),
        )
        self._free_since = time.perf_counter()
        yield Finished(result, end.state if outcome in (Outcome.COMPLETED, Outcome.STOPPED) else None)

    def _value(
        self, end: Trained, measurements: list[Measurement]
    ) -> tuple[Outcome, float | None, str | None]:
        """The value of a completed trial; one without a finite value has diverged."""
        if end.outcome is not Outcome.COMPLETED:
            return end.outcome, None, end.failure
        value = measurements[-1].metrics[self._objective.metric]
        if not math.isfinite(value):
            return Outcome.DIVERGED, None, f"{self._objective.metric} is not finite ({value:g})"
        return Outcome.COMPLETED, float(value), None
