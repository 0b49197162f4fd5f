"""JSON files of a run directory, checked as they are read."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from caviar.errors import CaviarError, DamagedError, RunError
from caviar.storage.location import Location


def write_json(file: Location, content: Any) -> None:
    """Write a JSON file. Surrogates, in the paths of files whose names are not UTF-8, become escapes of JSON."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    file.write(text.encode(errors="backslashreplace"))


def read_json(file: Location, shape: Any) -> Any:
    """Read a JSON file.

    Args:
        file: the file.
        shape: what it must hold: a type, a list of one shape, or a dict of the shapes that cannot be missing.

    Raises:
        RunError: there is no such file, or it cannot be read.
        DamagedError: it is not JSON, or holds something else.
    """
    try:
        content = json.loads(file.read())
    except FileNotFoundError as error:
        raise RunError(f"{file}: there is no such file") from error
    except ValueError as error:
        raise DamagedError(f"{file} is damaged: it is not JSON ({error})") from error
    if mismatch := _mismatch(content, shape):
        raise DamagedError(f"{file} is damaged: {mismatch}")
    return content


@contextlib.contextmanager
def errors_as_damage(file: Location) -> Iterator[None]:
    """Report errors in what is made of a file's content as damage to the file.

    Raises:
        DamagedError: something went wrong inside.
    """
    try:
        yield
    except CaviarError as error:
        raise DamagedError(f"{file} is damaged: {error}") from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise DamagedError(f"{file} is damaged: {type(error).__name__}: {error}") from error


def _mismatch(content: Any, shape: Any, place: str = "") -> str | None:
    """Return in words where a JSON value does not have a shape."""
    name = place.lstrip(".") or "its content"
    if isinstance(shape, list):
        if not isinstance(content, list):
            return f"{name} is not a list"
        parts = [(entry, shape[0], f"{place}[{number}]") for number, entry in enumerate(content)]
    elif isinstance(shape, dict):
        if not isinstance(content, dict):
            return f"{name} is not an object"
        parts = [(content.get(key), inner, f"{place}.{key}") for key, inner in shape.items()]
    else:
        return None if isinstance(content, shape) else f"{name} is {content!r}"
    return next((wrong for part in parts if (wrong := _mismatch(*part))), None)
