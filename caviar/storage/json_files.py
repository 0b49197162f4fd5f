"""JSON files of a run directory."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from caviar.errors import CaviarError, DamagedError, RunError
from caviar.storage.location import Location


def write_json(file: Location, content: Any) -> None:
    """Write a JSON file whole."""
    file.write((json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(file: Location, shape: Any) -> Any:
    """Read a JSON file.

    Args:
        file: where it is.
        shape: what it must hold: a type, a list of one shape, or a dict of those that cannot be missing.

    Raises:
        RunError: there is none, or it cannot be read.
        DamagedError: it is not JSON, or holds something else.
    """
    content = _parsed(file)
    if wrong := _misfit(content, shape):
        raise DamagedError(f"{file} is damaged: {wrong}")
    return content


@contextlib.contextmanager
def understood(file: Location) -> Iterator[None]:
    """While inside, what is made of a file's content is made, or the file is said to be damaged.

    Raises:
        DamagedError: it cannot be made.
    """
    try:
        yield
    except CaviarError as error:
        raise DamagedError(f"{file} is damaged: {error}") from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise DamagedError(f"{file} is damaged: {type(error).__name__}: {error}") from error


def _parsed(file: Location) -> Any:
    try:
        content, before = file.read(), None
        while content != before:  # a store's client cuts off what grows while it reads it: then once more
            try:
                return json.loads(content)
            except ValueError as error:
                damage, before, content = error, content, file.read()
    except FileNotFoundError as error:
        raise RunError(f"{file}: there is no such file") from error
    raise DamagedError(f"{file} is damaged: it is not JSON ({damage})") from damage


def _misfit(content: Any, shape: Any, place: str = "") -> str | None:
    """Where a JSON value is not of a shape, in words."""
    name = place.lstrip(".") or "its content"
    if isinstance(shape, list):
        if not isinstance(content, list):
            return f"{name} is no list"
        parts = [(entry, shape[0], f"{place}[{number}]") for number, entry in enumerate(content)]
    elif isinstance(shape, dict):
        if not isinstance(content, dict):
            return f"{name} is no object"
        parts = [(content.get(key), inner, f"{place}.{key}") for key, inner in shape.items()]
    else:
        return None if isinstance(content, shape) else f"{name} is {content!r}"
    return next((wrong for part in parts if (wrong := _misfit(*part))), None)
