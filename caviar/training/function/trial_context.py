"""The argument `trial` of a function, with which it reports metrics, stops early and continues later.

A function's `Checkpoint` has these arrays:

    object        uint8: what it saved, pickled
    epoch         int: the last epoch trained
    generators    uint8: state of the global random generators, pickled
"""

import math
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from caviar.engine import Part
from caviar.errors import StudyError
from caviar.training.function.pickling import dumps
from caviar.training.function.random_generators import restore_generators, save_generators
from caviar.trial import Measurement, Stage, Trial
from caviar.validation import require_type, whole_number


class TrialContext:
    """The trial that a function runs, passed to its parameter named `trial`.

    A function that uses it can report metrics while it runs, can be stopped early, and can continue from a checkpoint
    when its trial is given more epochs (see `caviar.Halving`). Save all that the training needs to continue: a model
    and its optimizer, not the model alone, because a fresh Adam or momentum trains worse than one that continues.

    A study makes the context of each call. Make one yourself to test a function without a study.

    Args:
        params: hyperparameters of the trial.
        epochs: epochs that the trial trains in all.
        until: epoch after which this call should end; the last one by default.
        seed: seed of the trial.
        number: number of the trial in the study.
        stage: "search", "confirmation", or "final" for the winner's last training, whose model is handed over.

    Raises:
        StudyError: an argument has the wrong type or is out of bounds.

    Attributes:
        number: number of the trial in the study, from 0.
        stage: the trial's purpose: "search", "confirmation" or "final".
        params: hyperparameters of the trial; a copy that the function may change.
        seed: the trial's seed modulo 2**32, which every library accepts. Take all random numbers from it, and the
            trial can be repeated. (The column `seed` has the whole seed.)
        epochs: epochs that the trial trains in all. Learning-rate schedules should end here.
        until: epoch after which this call should end. It is less than `epochs` if the trial may be paused there.
        trained: epochs trained by earlier calls, up to the checkpoint that `restore` returns.
        reported: metrics that this call has reported, by epoch.

    Example:
        A function that minimises (x - 3)^2 by gradient descent with momentum, one step an epoch:

        >>> def descend(params, trial):
        ...     x, velocity = trial.restore() or (0.0, 0.0)
        ...     for epoch in trial.remaining():
        ...         velocity = 0.5 * velocity - params["learning_rate"] * 2 * (x - 3)
        ...         x += velocity
        ...         trial.report(epoch, loss=(x - 3) ** 2)
        ...         trial.save((x, velocity))
        >>> import caviar as cv
        >>> objective = cv.Function(descend, metric="loss")

        Tested in two parts, as a halving trains it, and in one:

        >>> first = cv.TrialContext({"learning_rate": 0.25}, epochs=4, until=2)
        >>> descend(first.params, first)
        >>> first.reported
        {1: {'loss': 2.25}, 2: {'loss': 0.0}}
        >>> second = first.continued()
        >>> descend(second.params, second)
        >>> whole = cv.TrialContext({"learning_rate": 0.25}, epochs=4)
        >>> descend(whole.params, whole)
        >>> whole.reported == {**first.reported, **second.reported}
        True
    """

    def __init__(
        self,
        params: Mapping[str, Any] | None = None,
        *,
        epochs: int = 1,
        until: int | None = None,
        seed: int = 0,
        number: int = 0,
        stage: str = Stage.SEARCH,
    ) -> None:
        where = "TrialContext"
        params = {} if params is None else params
        require_type(f"{where}: params", params, Mapping, 'a dict such as {"learning_rate": 0.1}')
        if stage not in tuple(Stage):
            raise StudyError(f"{where}: stage must be one of {', '.join(Stage)}, not {stage!r}")
        epochs = whole_number(f"{where}: epochs", epochs, 1)
        trial = Trial(
            number=whole_number(f"{where}: number", number),
            round=1,
            params=params,
            epochs=epochs,
            seed=whole_number(f"{where}: seed", seed),
            stage=Stage(stage),
        )
        until = None if until is None else whole_number(f"{where}: until", until, 1, epochs)
        self._begin(Part(trial=trial, until=until, keep_checkpoint=True))

    @classmethod
    def _of_part(
        cls, part: Part, metric: str, metrics: tuple[str, ...], emit: Callable[[Measurement], object]
    ) -> "TrialContext":
        """Return the context of a part of a study's trial, which checks metrics and passes them on."""
        context = cls.__new__(cls)
        context._begin(part, metric, metrics, emit)
        return context

    def _begin(
        self,
        part: Part,
        metric: str | None = None,
        metrics: tuple[str, ...] | None = None,
        emit: Callable[[Measurement], object] | None = None,
    ) -> None:
        self.number: int = part.trial.number
        self.stage: str = part.trial.stage
        self.params: dict[str, Any] = dict(part.trial.params)
        self.seed: int = part.trial.seed % 2**32
        self.epochs: int = part.trial.epochs
        self.until: int = part.trial.epochs if part.until is None else part.until
        self.trained: int = int(part.checkpoint["epoch"]) if part.checkpoint else 0
        self.reported: dict[int, dict[str, float]] = {}
        self._part, self._checkpoint, self._keep_checkpoint = part, part.checkpoint, part.keep_checkpoint
        self._metric, self._metrics, self._emit = metric, metrics, emit
        self._epoch = self.trained
        self._is_exhausted = False
        self._last: Measurement | None = None
        self._error: str | None = None
        self._stop = threading.Event()

    def continued(self, until: int | None = None) -> "TrialContext":
        """Return the context of the call that continues this trial from its last `save`, to test it in parts.

        Args:
            until: epoch after which that call should end; the trial's last one by default.
        """
        context = TrialContext.__new__(TrialContext)
        context._begin(replace(self._part, checkpoint=self._checkpoint, until=until))
        return context

    def report(self, epoch: int, **metrics: Any) -> None:
        """Record the metrics of an epoch.

        Args:
            epoch: the epoch, from 1; larger than the one reported before.
            **metrics: the metric that ranks trials, and any others that `caviar.Function` declares in `metrics`. A
                context that you made accepts any name.

        Raises:
            ValueError: the epoch does not increase, the ranking metric is missing, or a metric is not declared or is
                no number. The trial then fails, even if the function catches the exception.
        """
        before = self._last.epoch if self._last else self.trained
        if isinstance(epoch, bool) or not isinstance(epoch, int | np.integer) or epoch <= before:
            self._fail(
                f"report({epoch!r}): epochs must be whole numbers that increase; the last was {before}"
            )
        self._record(int(epoch), metrics)

    def should_stop(self) -> bool:
        """Return whether the function should end now.

        It should after reporting epoch `until` or a value that is not finite, and when the worker no longer needs the
        result.
        """
        return self._stop.is_set()

    def remaining(self) -> Iterator[int]:
        """Yield the epochs to train, from `trained` + 1 to `until`, and end early once `should_stop` is true.

        If rounds use halving, report epoch `until`: trials are compared at that epoch.
        """
        self._continue_generators()
        for epoch in range(self.trained + 1, self.until + 1):
            if self.should_stop():
                return
            self._epoch = epoch
            yield epoch
        self._is_exhausted = True

    def save(self, state: object) -> None:
        """Save what the function needs to continue this trial later.

        Call it after each epoch, before the next `should_stop`. The object is pickled at once, and only if the trial
        may be paused. The state of the global random generators of Python, NumPy and torch is saved with it.

        Args:
            state: any object that cloudpickle can pickle, such as `(model, optimizer)`.
        """
        if self._keep_checkpoint:
            pickled = np.frombuffer(dumps(state), np.uint8)
            reported = self._last.epoch if self._last else self.trained
            self._checkpoint = {
                "object": pickled,
                "epoch": np.array(max(self._epoch, reported)),
                "generators": save_generators(),
            }

    def restore(self) -> Any:
        """Return what an earlier call for this trial saved, or None if there is nothing to continue from.

        The global random generators continue from where they were: at once, and again when `remaining` begins, so that
        a model may be built in between.
        """
        if self._checkpoint is None:
            return None
        self._continue_generators()
        return pickle.loads(self._checkpoint["object"].tobytes())

    def _continue_generators(self) -> None:
        """Set the global random generators as the call before left them."""
        if self._part.checkpoint is not None:
            restore_generators(self._part.checkpoint["generators"])

    # For the engine

    def _record(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Check the metrics of an epoch and pass them on."""
        if self._metric is not None and self._metric not in metrics:
            names = ", ".join(map(str, metrics)) or "no metrics"
            self._fail(
                f"the metric {self._metric!r}, which ranks trials, is missing; the function gave {names}"
            )
        values = {name: self._check_metric(name, value) for name, value in metrics.items()}
        self._last = Measurement(epoch, values)
        self.reported[epoch] = dict(values)
        ranking = values.values() if self._metric is None else (values[self._metric],)
        if not all(map(math.isfinite, ranking)) or epoch >= self.until:
            self._stop.set()
        if self._emit is not None:
            self._emit(self._last)

    def _record_result(self, result: Any) -> None:
        """Record what the function returned, as metrics of its last epoch."""
        is_end_unreported = (
            self._is_exhausted
            and self.until < self.epochs
            and (self._last is None or self._last.epoch < self.until)
        )
        if result is None and is_end_unreported:
            self._fail(
                f"the function trained up to epoch {self.until} without reporting it; if rounds use halving, report "
                "epoch trial.until"
            )
        if result is None and self._last is None:
            self._fail("the function returned None; return or report a number or a dict of metrics")
        if result is None:
            return
        metrics = result if isinstance(result, Mapping) else {str(self._metric): result}
        if self._last is None:
            self._record(self.until, metrics)
        else:
            epoch = self.until if is_end_unreported else self._last.epoch
            self._record(epoch, {**self._last.metrics, **metrics})

    def _check_metric(self, name: str, value: Any) -> float:
        if self._metrics is not None and name not in self._metrics:
            declared = ", ".join(repr(metric) for metric in (*self._metrics, name))
            self._fail(
                f"the metric {name!r} is not declared; declare it: cv.Function(..., metrics=({declared}))"
            )
        try:
            if isinstance(value, bool | str | bytes):
                raise TypeError
            return float(value)
        except (TypeError, ValueError, OverflowError):
            self._fail(f"the metric {name!r} must be a number, not {_describe(value)}")

    def _fail(self, message: str) -> NoReturn:
        """Fail the trial, even if the function catches the exception."""
        self._error = self._error or message
        raise ValueError(message)


def _describe(value: object) -> str:
    """Return a short description of a value, which may be large."""
    if value is None or isinstance(value, bool):
        return repr(value)
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
