"""Engine that calls a Python function for each trial, and records what it reports, returns or raises."""

import contextlib
import contextvars
import inspect
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from caviar.data.splits import Split
from caviar.engine import Checkpoint, Engine, Part, PartDone, Progress
from caviar.errors import StudyError, one_line
from caviar.training.function.process_state import ProcessState, child_ends
from caviar.training.function.trial_context import TrialContext
from caviar.trial import Outcome, Trial


@dataclass(frozen=True, slots=True)
class CallSignature:
    """The arguments with which a function is called."""

    has_params: bool
    """True if the hyperparameters are its first argument."""
    has_trial: bool
    """True if it has a parameter named `trial`, for a `TrialContext`."""

    @classmethod
    def of(cls, fn: Callable[..., Any]) -> "CallSignature":
        """Return the arguments that fit a function: fn(params), fn(params, trial) or fn(trial).

        Args:
            fn: any callable. A built-in function without a signature is called as fn(params).

        Raises:
            StudyError: fn is not a plain function, or none of these calls fits its parameters.

        Example:
            >>> CallSignature.of(lambda params, trial: 0.0)
            CallSignature(has_params=True, has_trial=True)
        """
        if not callable(fn):
            raise StudyError(f"Function: fn must be a function, such as def fn(params): ..., not {fn!r}")
        called = fn if inspect.isroutine(fn) else type(fn).__call__
        if inspect.iscoroutinefunction(called) or inspect.isgeneratorfunction(called):
            raise StudyError(
                f"Function: {_name(fn)} is async or a generator, and must be a plain function; to record several "
                "epochs, use def fn(params, trial) and trial.report(epoch, ...)"
            )
        try:
            signature = inspect.signature(fn)
        except (TypeError, ValueError):  # a built-in function may have none
            return cls(has_params=True, has_trial=False)
        has_trial = "trial" in signature.parameters
        for has_params in (True, False) if has_trial else (True,):
            with contextlib.suppress(TypeError):
                signature.bind(*((None,) if has_params else ()), **({"trial": None} if has_trial else {}))
                return cls(has_params, has_trial)
        raise StudyError(
            f"Function: {_name(fn)} has the parameters {signature}, and is called as fn(params), fn(params, trial) "
            "or fn(trial); give it one of these signatures, or bind other parameters with functools.partial"
        )

    def call(self, fn: Callable[..., Any], trial: TrialContext) -> Any:
        """Call the function for a trial, and return what it returns."""
        arguments = (trial.params,) if self.has_params else ()
        return fn(*arguments, trial=trial) if self.has_trial else fn(*arguments)


class FunctionEngine(Engine):
    """An engine that calls a function for each trial.

    A function that takes the trial runs in a thread of its own, so that its reports are yielded while it runs. Any
    other function runs in the calling thread.

    Args:
        fn: the function.
        metric: the metric that ranks trials.
        metrics: all metrics that the function may report or return.
        test: a function that scores the winner, called as the function is; None for no test score.

    Raises:
        StudyError: the function's parameters do not fit (see `CallSignature`).
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        metric: str,
        metrics: tuple[str, ...],
        test: Callable[..., Any] | None = None,
    ) -> None:
        self._fn, self._metric, self._metrics, self._test = fn, metric, metrics, test
        self._signature = CallSignature.of(fn)
        self._process_state = ProcessState()

    @property
    def name(self) -> str:
        return "function"

    def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        for part in parts:
            yield from self._train_in_thread(part) if self._signature.has_trial else self._train_here(part)

    def train_openly(self, part: Part) -> list[Progress | PartDone]:
        events: list[Progress | PartDone] = []
        started = time.perf_counter()
        context = self._context(part, events.append)
        self._run(context)
        if context._error is not None:  # the function caught it
            raise StudyError(f"Function: {_name(self._fn)}: {context._error}")
        return [*events, self._end(context, None, started)]

    @property
    def damage(self) -> str | None:
        return self._process_state.damage or getattr(self._fn, "damage", None)

    def score_winner(
        self, trial: Trial, checkpoint: Checkpoint | None, test: Split | None
    ) -> Mapping[str, float]:
        """Call the test function with what the final trial saved, and return its score as "value"."""
        del test
        if self._test is None:
            return {}
        part = Part(trial=trial, checkpoint=checkpoint)
        context = TrialContext._of_part(part, "test score", ("test score",), lambda measurement: None)
        try:
            with self._process_state.isolated(context.seed), child_ends():
                score = CallSignature.of(self._test).call(self._test, context)
            return {"value": context._check_metric("test score", score)}
        except BaseException as error:  # also SystemExit
            if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                raise
            raise StudyError(f"the test function failed: {describe_failure(error, self._test)}") from error

    def evaluate(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> Mapping[str, float]:
        raise NotImplementedError("a function has no test split")

    def _train_here(self, part: Part) -> list[Progress | PartDone]:
        events: list[Progress | PartDone] = []
        events.append(self._call(self._context(part, events.append)))
        return events

    def _train_in_thread(self, part: Part) -> Iterator[Progress | PartDone]:
        events: SimpleQueue[Progress | PartDone | BaseException] = SimpleQueue()
        context = self._context(part, events.put)

        def call() -> None:
            try:
                events.put(self._call(context))
            except BaseException as error:  # of the engine itself: the calling thread waits for an end
                events.put(error)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        try:
            while isinstance(event := events.get(), Progress):
                yield event
            thread.join()
            if isinstance(event, BaseException):
                raise event
            yield event
        finally:
            context._stop.set()  # the caller may have stopped listening

    def _context(self, part: Part, emit: Callable[[Progress], object]) -> TrialContext:
        number = part.trial.number
        return TrialContext._of_part(part, self._metric, self._metrics, lambda m: emit(Progress(number, m)))

    def _call(self, context: TrialContext) -> PartDone:
        started = time.perf_counter()
        failure = None
        try:
            self._run(context)
        except BaseException as error:  # also SystemExit
            if isinstance(error, KeyboardInterrupt) and self._is_user_interrupt():
                raise
            failure = describe_failure(error, self._fn, context._error)
        return self._end(context, failure or context._error, started)

    def _run(self, context: TrialContext) -> None:
        """Call the function and record what it returns; let its exceptions pass."""
        with self._process_state.isolated(context.seed), child_ends():
            # In a copy, context variables such as NumPy's error settings do not reach the next trial.
            result = contextvars.copy_context().run(self._signature.call, self._fn, context)
            context._record_result(result)

    def _end(self, context: TrialContext, failure: str | None, started: float) -> PartDone:
        return PartDone(
            trial=context.number,
            outcome=Outcome.COMPLETED if failure is None else Outcome.FAILED,
            failure=failure,
            checkpoint=context._checkpoint if context._keep_checkpoint else None,
            train_s=time.perf_counter() - started,
        )

    def _is_user_interrupt(self) -> bool:
        """Return whether Ctrl-C may have raised a KeyboardInterrupt; else the function raised it.

        Ctrl-C reaches only the main thread, and workers on Ray ignore it.
        """
        return not self._signature.has_trial and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def describe_failure(error: BaseException, fn: Callable[..., Any], message: str | None = None) -> str:
    """Return an exception in one line, with the place in the function's file that raised it.

    Args:
        error: the exception that the function raised.
        fn: the function.
        message: the text instead of the exception's own.
    """
    file = None
    with contextlib.suppress(ValueError):  # a function that wraps itself
        file = getattr(getattr(inspect.unwrap(fn), "__code__", None), "co_filename", None)
    frames = [f for f in traceback.extract_tb(error.__traceback__, limit=-20) if f.filename == file]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return (message or one_line(error)) + place


def _name(fn: object) -> str:
    return str(getattr(fn, "__qualname__", fn))
