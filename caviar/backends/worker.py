"""The trainer inside a worker process: one engine, which trains chunks of trials.

It does not import Ray. `caviar.backends.inline` calls it in the driver's process, `caviar.backends.ray` makes it an
actor.
"""

import math
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from caviar.backends.shared_training import SharedTraining
from caviar.data.splits import Dataset, Split
from caviar.driver.messages import Task
from caviar.engine import Engine, Part, PartDone, Progress
from caviar.errors import StudyError
from caviar.objective import Objective
from caviar.trial import Cause, Measurement, Outcome, Result, Stage, Times


def overtime(limit_s: float) -> str:
    """Return the failure message of a trial that took too long."""
    return f"took longer than {limit_s:g} s"


@dataclass(frozen=True, slots=True)
class _Training:
    """The parts of a task, trained."""

    end: PartDone
    """End of the last part."""
    measurements: tuple[Measurement, ...]
    train_s: float
    """Seconds of training in all parts."""


@dataclass(frozen=True, slots=True)
class _Ending:
    """The end of a task, as its result states it."""

    outcome: Outcome
    value: float | None = None
    failure: str | None = None
    cause: Cause | None = None


class Worker:
    """One CPU core or GPU that trains chunks of trials.

    Args:
        name: the worker's name in frames.
        node: the machine's name in frames.
        objective: what a trial trains and measures.
        dataset: train and dev split; None if the objective brings its own data.
        device: "cpu" or "cuda".
    """

    def __init__(
        self, name: str, node: str, objective: Objective, dataset: Dataset | None, device: str = "cpu"
    ) -> None:
        self._name, self._node, self._device, self._objective = name, node, device, objective
        self._dataset = dataset
        self._engine = objective.make_engine(dataset, device)
        self._shared = SharedTraining(self._engine.begin_side_by_side) if self._engine.lanes > 1 else None
        self._turn = threading.Lock()
        self._free_since = time.perf_counter()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the user about this worker."""
        return self._objective.warnings + self._engine.warnings

    @property
    def lanes(self) -> int:
        """Largest number of trials that it trains at the same time."""
        return self._engine.lanes

    @property
    def damage(self) -> str | None:
        """Reason why this worker should be replaced before it trains another trial."""
        return self._engine.damage

    def run(self, tasks: Sequence[Task], test: Split | None = None) -> list[Result]:
        """Train a chunk.

        Args:
            tasks: what to train; their checkpoints are plain ones.
            test: the test split, sent with the final trial only.

        Returns:
            One result for each task, in the same order.
        """
        results = {e.trial.number: e for e in self.stream(tasks, test) if isinstance(e, Result)}
        return [results[task.trial.number] for task in tasks]

    def stream(self, tasks: Sequence[Task], test: Split | None = None) -> Iterator[Progress | Result]:
        """Train a chunk as `run` does, and yield each measurement as it is made.

        Once a task has damaged this process, the others are left to another worker. An engine with several lanes trains
        the tasks at the same time, beside those of other threads that call this method.
        """
        if self._shared is not None and not any(self._is_refit(task) for task in tasks):
            yield from self._train_together(tasks, test, self._shared)
            return
        with self._turn:  # of several threads
            for task in tasks:
                if self.damage is None:
                    yield from self._run(task, test)
                else:
                    yield _left(task, self.damage)

    def _run(self, task: Task, test: Split | None) -> Iterator[Progress | Result]:
        """Train one task; yield its measurements and its result."""
        began, started = time.time(), time.perf_counter()
        dispatch_s = started - self._free_since
        engine = self._make_refit_engine() if self._is_refit(task) else self._engine
        training = yield from self._train(task, engine)
        result = self._result(task, training, test, engine, began, started)
        self._free_since = time.perf_counter()
        setup_s = self._free_since - started - training.train_s
        times = Times(queue_s=task.queue_s, dispatch_s=dispatch_s, setup_s=setup_s, train_s=training.train_s)
        yield replace(result, times=times)

    def _train_together(
        self, tasks: Sequence[Task], test: Split | None, shared: SharedTraining
    ) -> Iterator[Progress | Result]:
        """Train tasks at the same time; yield their measurements and results as they come."""
        if self.damage is not None:
            yield from (_left(task, self.damage) for task in tasks)
            return
        began, started = time.time(), time.perf_counter()
        by_number = {task.trial.number: task for task in tasks}
        measurements: dict[int, list[Measurement]] = {number: [] for number in by_number}
        for event in shared.train([self._whole_part(task) for task in tasks]):
            task, so_far = by_number[event.trial], measurements[event.trial]
            if isinstance(event, Progress):
                _append(so_far, event.measurement)
                yield event
                continue
            ended = time.perf_counter()
            training = _Training(event, tuple(so_far), event.train_s)
            result = self._result(task, training, test, self._engine, began, started)
            times = Times(
                queue_s=task.queue_s,
                dispatch_s=shared.idle_s_before(event.trial),
                setup_s=event.setup_s + time.perf_counter() - ended,
                train_s=event.train_s,
            )
            yield replace(result, times=times)

    def _whole_part(self, task: Task) -> Part:
        """Return a task as one part, which begins at the first epoch if its checkpoint was lost."""
        checkpoint, ends = self._start(task)
        keep = self._keeps_checkpoint(task, ends[-1])
        return Part(trial=task.trial, until=ends[-1], checkpoint=checkpoint, keep_checkpoint=keep)

    def _result(
        self,
        task: Task,
        training: _Training,
        test: Split | None,
        engine: Engine,
        began: float,
        started: float,
    ) -> Result:
        """Return the result of a trained task, without its times; the final trial is scored and predicts.

        Args:
            task: the task.
            training: its training.
            test: the test split, with the final trial only.
            engine: the engine that trained it.
            began: time of its start, in seconds since 1970.
            started: the same in seconds of `time.perf_counter`.
        """
        scores, unscored = _score(task, training.end, test, engine)
        predictions = None
        if scores and test is not None and training.end.checkpoint is not None:
            predictions = engine.predict(task.trial, training.end.checkpoint, test)
        ending = self._ending(task, training, time.perf_counter() - started)
        has_network = ending.outcome in (Outcome.COMPLETED, Outcome.STOPPED)
        return Result(
            trial=task.trial,
            outcome=ending.outcome,
            value=ending.value,
            measurements=training.measurements,
            failure=ending.failure or unscored,
            cause=ending.cause,
            test=scores,
            engine=engine.name,
            device=self._device,
            worker=self._name,
            node=self._node,
            attempt=task.attempt,
            started=began,
            ended=time.time(),
            predictions=predictions,
            checkpoint=training.end.checkpoint if has_network else None,
        )

    def _is_refit(self, task: Task) -> bool:
        """Return True for the final trial if it learns from the dev split, too."""
        return task.trial.stage is Stage.FINAL and self._objective.refit

    def _make_refit_engine(self) -> Engine:
        assert self._dataset is not None, "an objective without data has no dev split"
        return self._objective.make_engine(self._dataset.with_dev_in_train(), self._device)

    def _train(self, task: Task, engine: Engine) -> Generator[Progress, None, _Training]:
        """Train a task from its checkpoint; from the first epoch on if there is none that fits."""
        trial = task.trial
        checkpoint, ends = self._start(task)
        measurements: list[Measurement] = []
        train_s = 0.0
        for until in ends:
            keep = self._keeps_checkpoint(task, until)
            end = PartDone(trial=trial.number, outcome=Outcome.FAILED, failure="the engine gave no end")
            part = Part(trial=trial, until=until, checkpoint=checkpoint, keep_checkpoint=keep)
            for event in engine.train([part]):
                match event:
                    case Progress(number, measurement):
                        kept = _without_dev(measurement) if self._is_refit(task) else measurement
                        _append(measurements, kept)
                        yield Progress(number, kept)
                    case PartDone():
                        end = event
            checkpoint, train_s = end.checkpoint, train_s + end.train_s
            if end.outcome is not Outcome.COMPLETED:
                break
        return _Training(end, tuple(measurements), train_s)

    def _keeps_checkpoint(self, task: Task, until: int) -> bool:
        """Return whether a part that ends after some epoch returns a checkpoint."""
        trial = task.trial
        return until < trial.epochs or (trial.stage is Stage.FINAL and self._objective.has_checkpoints)

    def _start(self, task: Task) -> tuple[Any, tuple[int, ...]]:
        """Return the checkpoint to continue from, and the epochs at which the parts to train end.

        If the checkpoint was lost or belongs to another engine, the earlier parts are trained again, each as it was: a
        function that draws from a global generator, seeded at the start of a part, then gives the same numbers.
        """
        earlier = task.so_far
        if earlier is None or (earlier.checkpoint is None and not task.is_checkpoint_lost):
            return None, (task.until,)
        if task.is_checkpoint_lost or earlier.engine != self._engine.name:
            return None, (*task.parts[:-1], task.until)
        return earlier.checkpoint, (task.until,)

    def _ending(self, task: Task, training: _Training, elapsed_s: float) -> _Ending:
        """Return outcome and value of a task; a value that is not finite is a divergence."""
        end = training.end
        if end.outcome is Outcome.FAILED:
            return _Ending(end.outcome, failure=end.failure, cause=Cause.ERROR)
        if end.outcome is not Outcome.COMPLETED:
            return _Ending(end.outcome, failure=end.failure)
        metric, last, limit_s = (
            self._objective.metric,
            training.measurements[-1],
            self._objective.time_limit_s,
        )
        if self._is_refit(task):
            return _Ending(Outcome.COMPLETED)
        value = float(last.metrics[metric])
        if not math.isfinite(value):
            return _Ending(Outcome.DIVERGED, failure=f"{metric} is not finite ({value:g})")
        if limit_s is not None and task.spent_s + elapsed_s > limit_s:
            return _Ending(Outcome.FAILED, failure=overtime(limit_s), cause=Cause.TIME)
        is_paused = task.until <= last.epoch < task.trial.epochs
        return _Ending(Outcome.STOPPED if is_paused else Outcome.COMPLETED, value)


def _left(task: Task, damage: str) -> Result:
    """Return the result of a task that is left to another worker."""
    return Result(
        trial=task.trial,
        outcome=Outcome.FAILED,
        failure=damage,
        cause=Cause.PREEMPTED,
        attempt=task.attempt,
    )


def _score(
    task: Task, end: PartDone, test: Split | None, engine: Engine
) -> tuple[dict[str, float], str | None]:
    """Return the test scores of the final trial, and why a test function of the user's gave none."""
    if task.trial.stage is not Stage.FINAL or end.outcome is not Outcome.COMPLETED:
        return {}, None
    try:
        return dict(engine.score_winner(task.trial, end.checkpoint, test)), None
    except StudyError as error:
        return {}, str(error)


def _without_dev(measurement: Measurement) -> Measurement:
    """Return a measurement without the metrics of the dev split, which are no scores if it was trained on."""
    kept = {name: value for name, value in measurement.metrics.items() if not name.startswith("dev_")}
    return Measurement(measurement.epoch, kept)


def _append(measurements: list[Measurement], measurement: Measurement) -> None:
    """Append a measurement. It replaces one of the same epoch, which a function's return value completes."""
    while measurements and measurements[-1].epoch >= measurement.epoch:
        measurements.pop()
    measurements.append(measurement)
