"""The user's functions, and the step of a training in which one failed, noted on its exception."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from caviar.training.function.engine import describe_failure
from caviar.trial import Value


class UserCode(Protocol):
    """The user's functions and what follows from them, as a `Module` declares them."""

    @property
    def build(self) -> Callable[..., Any]: ...
    @property
    def loss(self) -> "Loss": ...
    @property
    def metrics(self) -> Mapping[str, Callable[..., Any]]: ...
    @property
    def metric(self) -> str: ...
    @property
    def optimizer(self) -> Callable[..., Any] | None: ...
    @property
    def schedule(self) -> Callable[..., Any] | None: ...
    @property
    def training_names(self) -> tuple[str, ...]: ...
    @property
    def max_loss(self) -> float: ...
    def recipe(self, params: Mapping[str, Value]) -> Mapping[str, Value]: ...


Loss = str | Callable[..., Any] | Mapping[str, Callable[..., Any]]


def takes_params(function: Callable[..., Any]) -> bool:
    """Return whether a function has a parameter named params."""
    try:
        return "params" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a built-in function may have no signature
        return False


def with_params(functions: Any, params: Mapping[str, Value]) -> Any:
    """Bind the params of a trial to functions that have a parameter of that name.

    Args:
        functions: a function, a dict of functions, or the name of a loss, which is returned as it is.
        params: all hyperparameters of the trial.
    """
    if isinstance(functions, str):
        return functions
    if isinstance(functions, Mapping):
        return {name: with_params(function, params) for name, function in functions.items()}
    return partial(functions, params=dict(params)) if takes_params(functions) else functions


@contextmanager
def during(step: str) -> Iterator[None]:
    """Note the step, such as "in build", on an exception that is raised inside, unless an inner step is noted."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if not getattr(error, "__notes__", None):
            error.add_note(step)
        raise


def describe(error: BaseException, build: Callable[..., Any]) -> str:
    """Return an exception in one line, with the step, and the place in the user's file that raised it."""
    notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]
    failure = describe_failure(error, getattr(build, "__init__", build) if isinstance(build, type) else build)
    return f"{failure}, {notes[0]}" if notes else failure
