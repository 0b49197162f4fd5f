"""What a function is given of its trial, so that a long one can report, stop and go on later.

The `Checkpoint` of a function in parts is {"object": what it saved, pickled, as bytes, "epoch": the last it reported}.
"""

import math
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import cloudpickle
import numpy as np

from caviar.engine import Checkpoint, Part
from caviar.trial import Measurement, Value


class TrialContext:
    """The trial that a function runs.

    A function that reports its epochs is seen while it runs, can be ended early, and can go on from what it
    saved when it is given more epochs later:

    Example:
        >>> def train(params, trial):
        ...     model = trial.restore() or build(params, trial.seed)
        ...     for epoch in trial.remaining():
        ...         model.fit_one_epoch()
        ...         trial.report(epoch, dev_loss=model.score())
        ...         trial.save(model)
    """

    def __init__(
        self, part: Part, metric: str, metrics: tuple[str, ...], emit: Callable[[Measurement], object]
    ) -> None:
        self.number: int = part.trial.number
        """Its place in the study, from 0."""
        self.params: dict[str, Value] = dict(part.trial.params)
        """Its hyperparameters: a copy of its own."""
        self.seed: int = part.trial.seed % 2**32
        """Take all randomness from this number, and the trial gives the same numbers whenever it is run.
        It is the row's `seed` modulo 2**32, which every library takes as a seed."""
        self.epochs: int = part.trial.epochs
        """How long it trains in all; learning-rate decay follows this."""
        self.until: int = part.trial.epochs if part.until is None else part.until
        """The epoch after which this part of it ends."""
        self.trained: int = int(part.checkpoint["epoch"]) if part.checkpoint else 0
        """Epochs trained before, up to the `save` that `restore` gives back."""
        self.exhausted = False
        """Whether `remaining` has given all epochs of this part."""
        self.last: Measurement | None = None
        self.refusal: str | None = None
        self._checkpoint, self._keep = part.checkpoint, part.keep_checkpoint
        self._metric, self._metrics, self._emit = metric, metrics, emit
        self._at = self.trained
        self._stop = threading.Event()

    def report(self, epoch: int, **metrics: Any) -> None:
        """Measure the trial after an epoch.

        Args:
            epoch: from 1; each later than the one before.
            **metrics: the ranking metric, and any others that the objective declares in `metrics`.

        Raises:
            ValueError: epochs that go back, or metrics that are not declared or no numbers: the trial fails.
        """
        before = self.last.epoch if self.last else self.trained
        if isinstance(epoch, bool) or not isinstance(epoch, int | np.integer) or epoch <= before:
            self._refuse(f"report({epoch!r}): epochs are whole numbers that grow, and the last was {before}")
        self.measure(int(epoch), metrics)

    def measure(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Take in the metrics of an epoch, checked."""
        if self._metric not in metrics:
            known = ", ".join(map(str, metrics)) or "nothing"
            self._refuse(f"it measured {known}, but not {self._metric}, which ranks the trials")
        self.last = Measurement(epoch, {name: self._number(name, value) for name, value in metrics.items()})
        if not math.isfinite(self.last.metrics[self._metric]) or epoch >= self.until:
            self._stop.set()
        self._emit(self.last)

    def should_stop(self) -> bool:
        """Whether to end now: this part's last epoch is reported, the metric is not finite, or a rule says so."""
        return self._stop.is_set()

    def remaining(self) -> Iterator[int]:
        """The epochs to train, from the one after the last saved, until `should_stop`.

        Where a round halves, the last of them, `until`, must be reported: it is what the part is judged by.
        """
        for epoch in range(self.trained + 1, self.until + 1):
            if self.should_stop():
                return
            self._at = epoch
            yield epoch
        self.exhausted = True

    def save(self, checkpoint: object) -> None:
        """Keep what a later part of this trial needs to go on.

        Call it after training an epoch and before heeding `should_stop`. It is pickled at once, and only where
        there may be a later part.
        """
        if self._keep:
            pickled = np.frombuffer(cloudpickle.dumps(checkpoint), np.uint8)
            reported = self.last.epoch if self.last else self.trained
            self._checkpoint = {"object": pickled, "epoch": np.array(max(self._at, reported))}

    def restore(self) -> Any:
        """What an earlier part of this trial saved; None where there is none, so begin."""
        return pickle.loads(self._checkpoint["object"].tobytes()) if self._checkpoint else None

    def stop(self) -> None:
        """Let `should_stop` say so."""
        self._stop.set()

    @property
    def saved(self) -> Checkpoint | None:
        """The state for the next part, if it is to be kept."""
        return self._checkpoint if self._keep else None

    def _number(self, name: str, value: Any) -> float:
        if name not in self._metrics:
            declared = ", ".join(repr(metric) for metric in (*self._metrics, name))
            self._refuse(f"it measured {name}, which is not declared: cv.Function(..., metrics=({declared}))")
        try:
            if isinstance(value, bool | str | bytes):
                raise TypeError
            return float(value)
        except (TypeError, ValueError, OverflowError):
            self._refuse(f"its {name} is no number but {_what(value)}")

    def _refuse(self, sentence: str) -> NoReturn:
        """Fail the trial, also where the function swallows the exception."""
        self.refusal = self.refusal or sentence
        raise ValueError(sentence)


def _what(value: object) -> str:
    """A value in a few words."""
    if value is None or isinstance(value, bool):
        return repr(value)
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
