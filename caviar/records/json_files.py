"""JSON files of a run directory, checked as they are read."""

import contextlib
import hashlib
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from caviar.errors import CaviarError, DamagedError, RunError
from caviar.storage.location import Location

_BLANK = b'"checksum": ""'
"""Checksum of a file before it is known."""
_INDENT = "  "


def write_json(file: Location, content: Any, durable: bool = True) -> None:
    """Write a JSON file; see `Location.write`."""
    file.write(_encode(content), durable)


def read_json(file: Location, shape: Any) -> Any:
    """Read a JSON file.

    Args:
        file: the file.
        shape: what it must hold: a type, a list of one shape, or a dict of the shapes that cannot be missing.

    Raises:
        RunError: there is no such file, or it cannot be read.
        DamagedError: it is not JSON, or holds something else.
    """
    return _decode(file, _read(file), shape)


def write_checked(file: Location, content: Mapping[str, Any]) -> None:
    """Write a JSON file with a checksum in it: that of the file with an empty checksum."""
    _write_with_checksum(file, _encode({**content, "checksum": ""}))


class ListFile:
    """A JSON file like those of `write_checked`, which holds one list that only grows.

    Each entry is encoded once, however often the file is written.
    """

    def __init__(self, file: Location, name: str) -> None:
        """Take the file, and the name of the list in it."""
        self._file, self._name = file, name
        self._encoded: list[str] = []

    def write(self, entries: Sequence[Any]) -> None:
        """Write the file with all entries; the first ones are those of the last call."""
        for entry in entries[len(self._encoded) :]:
            self._encoded.append(textwrap.indent(_text(entry), _INDENT * 2))
        encoded = ",\n".join(self._encoded)
        text = f'{{\n{_INDENT}"{self._name}": [\n{encoded}\n{_INDENT}],\n{_INDENT}"checksum": ""\n}}\n'
        _write_with_checksum(self._file, _to_bytes(text))


def _write_with_checksum(file: Location, blank: bytes) -> None:
    before, _, after = blank.rpartition(_BLANK)
    file.write(before + f'"checksum": "{checksum(blank)}"'.encode() + after)


def read_checked(file: Location, shape: Mapping[str, Any]) -> Any:
    """Read a JSON file that `write_checked` has written; see `read_json`.

    Raises:
        RunError: there is no such file, or it cannot be read.
        DamagedError: it is not as it was written.
    """
    written = _read(file)
    content = _decode(file, written, {**shape, "checksum": str})
    digest = content.pop("checksum")
    if checksum(written.replace(f'"checksum": "{digest}"'.encode(), _BLANK)) != digest:
        raise DamagedError(f"{file} is damaged: its content does not match its checksum")
    return content


def checksum(content: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()[:16]


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


def _encode(content: Any) -> bytes:
    return _to_bytes(_text(content) + "\n")


def _text(content: Any) -> str:
    return json.dumps(content, indent=len(_INDENT), ensure_ascii=False, allow_nan=False)


def _to_bytes(text: str) -> bytes:
    """Encode text. Surrogates, in the paths of files whose names are not UTF-8, become escapes of JSON."""
    return text.encode(errors="backslashreplace")


def _read(file: Location) -> bytes:
    try:
        return file.read()
    except FileNotFoundError as error:
        raise RunError(f"{file}: there is no such file") from error


def _decode(file: Location, content: bytes, shape: Any) -> Any:
    try:
        decoded = json.loads(content)
    except ValueError as error:
        raise DamagedError(f"{file} is damaged: it is not JSON ({error})") from error
    if mismatch := _mismatch(decoded, shape):
        raise DamagedError(f"{file} is damaged: {mismatch}")
    return decoded


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
