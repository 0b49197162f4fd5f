"""The engine of functions: calls one for each trial, and makes measurements and an outcome of what it does."""

import contextlib
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
from caviar.training.function.process_state import ProcessState
from caviar.training.function.trial_context import TrialContext
from caviar.trial import Measurement, Outcome, Trial


@dataclass(frozen=True, slots=True)
class CallSignature:
    """How a function wants to be called."""

    params: bool
    """With params as its first argument."""
    trial: bool
    """With a context as the argument named `trial`."""

    @classmethod
    def of(cls, fn: Callable[..., Any]) -> "CallSignature":
        """Read it off the function's signature; without one it is `fn(params)`.

        Raises:
            StudyError: it cannot be called in any of the ways that there are.
        """
        if not callable(fn):
            raise StudyError(f"Function({fn!r}): give a function, such as def fn(params): ...")
        called = fn if inspect.isroutine(fn) else type(fn).__call__
        if inspect.iscoroutinefunction(called) or inspect.isgeneratorfunction(called):
            raise StudyError(
                f"Function({_name(fn)}): it must be a plain function, neither async nor a generator; "
                "report several measurements with trial.report(epoch, ...)"
            )
        try:
            signature = inspect.signature(fn)
        except (TypeError, ValueError):  # built in, and says nothing of itself
            return cls(params=True, trial=False)
        trial = "trial" in signature.parameters
        for params in (True, False) if trial else (True,):
            with contextlib.suppress(TypeError):
                signature.bind(*((None,) if params else ()), **({"trial": None} if trial else {}))
                return cls(params=params, trial=trial)
        raise StudyError(
            f"Function({_name(fn)}): it is called as fn(params), fn(params, trial) or fn(trial), which does not "
            f"fit its parameters {signature}"
        )

    def call(self, fn: Callable[..., Any], context: TrialContext) -> Any:
        """Call it."""
        arguments = (context.params,) if self.params else ()
        return fn(*arguments, trial=context) if self.trial else fn(*arguments)


class FunctionEngine(Engine):
    """Calls the function: here, or in a thread where it may report, so that its reports can be seen at once.

    Args:
        fn: the function.
        metric: what ranks.
        metrics: what it may measure.
    """

    def __init__(self, fn: Callable[..., Any], metric: str, metrics: tuple[str, ...]) -> None:
        self._fn, self._metric, self._metrics = fn, metric, metrics
        self._call_signature = CallSignature.of(fn)
        self._process_state = ProcessState()

    @property
    def name(self) -> str:
        return "function"

    def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        for part in parts:
            yield from self._live(part) if self._call_signature.trial else self._whole(part)

    def evaluate(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> Mapping[str, float]:
        raise NotImplementedError("a function has no test split")

    def _whole(self, part: Part) -> list[Progress | PartDone]:
        """The call of a function that reports nothing."""
        events: list[Progress | PartDone] = []
        context = self._context(part, lambda m: events.append(Progress(part.trial.number, m)))
        events.append(self._called(context))
        return events

    def _live(self, part: Part) -> Iterator[Progress | PartDone]:
        """What a function does, as it does it."""
        events: SimpleQueue[Progress | PartDone] = SimpleQueue()
        context = self._context(part, lambda m: events.put(Progress(part.trial.number, m)))
        thread = threading.Thread(target=lambda: events.put(self._called(context)), daemon=True)
        thread.start()
        try:
            while True:
                event = events.get()
                yield event
                if isinstance(event, PartDone):
                    thread.join()
                    return
        finally:
            context.stop()  # nobody listens any more

    def _context(self, part: Part, emit: Callable[[Measurement], object]) -> TrialContext:
        return TrialContext(part, self._metric, self._metrics, emit)

    def _called(self, context: TrialContext) -> PartDone:
        started = time.perf_counter()
        failure = None
        try:
            with self._process_state.isolated(context.seed):
                self._take(context, self._call_signature.call(self._fn, context))
        except BaseException as error:  # SystemExit too
            if isinstance(error, KeyboardInterrupt) and self._may_be_the_users():
                raise
            failure = cause(error, self._fn)
        return PartDone(
            trial=context.number,
            outcome=Outcome.COMPLETED if (failure or context.refusal) is None else Outcome.FAILED,
            failure=context.refusal or failure,
            checkpoint=context.saved,
            train_s=time.perf_counter() - started,
        )

    def _may_be_the_users(self) -> bool:
        """Whether Ctrl-C can reach the function: only in a main thread, and no worker of Ray listens to it."""
        return not self._call_signature.trial and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN

    def _take(self, context: TrialContext, returned: Any) -> None:
        """Make a measurement of what was returned."""
        reached = context.last is not None and context.last.epoch >= context.until
        if returned is None and context.until < context.epochs and context.exhausted and not reached:
            raise _WrongReturn(
                f"it trained up to epoch {context.until} and did not report it: where a round halves, report the last "
                "epoch of each part, which is trial.until"
            )
        if returned is None and context.last is not None:
            return
        if returned is None:
            raise _WrongReturn(
                "it returned None: return a number or a dict of metrics"
                + (", or report with trial.report(epoch, ...)" if self._call_signature.trial else "")
            )
        metrics = returned if isinstance(returned, Mapping) else {self._metric: returned}
        if context.last is None:
            context.measure(context.until, metrics)
        elif context.until < context.epochs and context.exhausted and not reached:
            context.measure(context.until, {**context.last.metrics, **metrics})
        else:
            context.measure(context.last.epoch, {**context.last.metrics, **metrics})


class _WrongReturn(Exception):
    """What a function returned makes no measurement."""


def cause(error: BaseException, fn: Callable[..., Any]) -> str:
    """An exception in a line, with the place in the user's file where it came out."""
    if isinstance(error, _WrongReturn):
        return str(error)
    own = getattr(getattr(inspect.unwrap(fn), "__code__", None), "co_filename", None)
    frames = [f for f in traceback.extract_tb(error.__traceback__, limit=-20) if f.filename == own]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return one_line(error) + place


def _name(fn: object) -> str:
    return str(getattr(fn, "__qualname__", fn))
