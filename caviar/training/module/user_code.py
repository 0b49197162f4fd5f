"""The user's functions, and the step of a training in which one failed, noted on its exception."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from caviar.training.function.engine import describe_failure
from caviar.trial import Value


class UserCode(Protocol):
    """The user's functions and what follows from them, as a `Module` declares them."""

    @property
    def build(self) -> Callable[..., Any]: ...
    @property
    def loss(self) -> str | Callable[..., Any] | Mapping[str, Callable[..., Any]]: ...
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
    failure = describe_failure(error, build)
    return f"{failure}, {notes[0]}" if notes else failure
