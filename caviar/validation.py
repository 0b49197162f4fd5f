"""Checks of the values that users pass in, so that all errors about them read alike."""

import math
import sys
from collections.abc import Callable
from types import UnionType
from typing import Any

from caviar.errors import CaviarError, StudyError

MAX_NAME_CHARS = 200
"""Characters of the name of a parameter or a metric."""
MAX_TEXT_CHARS = 10_000
"""Characters of an option: each trial that takes it repeats them in its row."""


def plain_value(value: Any) -> Any:
    """Convert a NumPy scalar to the Python number that it holds; return anything else as it is.

    Example:
        >>> import numpy as np
        >>> plain_value(np.int64(3)), plain_value("adam")
        (3, 'adam')
    """
    numpy = sys.modules.get("numpy")  # while NumPy is not imported, no value can be a scalar of it
    return value.item() if numpy is not None and isinstance(value, numpy.generic) else value


def whole_number(
    name: str,
    value: Any,
    minimum: float = 0,
    maximum: float = math.inf,
    error: type[CaviarError] = StudyError,
) -> int:
    """Return a value as an int if it is a whole number within bounds.

    Args:
        name: the name of the value in the error, such as "Round: trials".
        value: a Python or NumPy integer; booleans and floats are refused.
        minimum: the smallest value allowed.
        maximum: the largest value allowed.
        error: the exception class to raise.

    Raises:
        CaviarError: the value is no whole number, or out of bounds; raised as `error`.

    Example:
        >>> whole_number("Round: trials", 2.5, minimum=1)
        Traceback (most recent call last):
        caviar.errors.StudyError: Round: trials must be a whole number of at least 1, not 2.5
    """
    value = plain_value(value)
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise error(f"{name} must be a whole number{_within(minimum, maximum)}, not {value!r}")
    return int(value)


def number(
    name: str,
    value: Any,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    error: type[CaviarError] = StudyError,
) -> float:
    """Return a value if it is a finite number within bounds.

    Args:
        name: the name of the value in the error.
        value: a Python or NumPy number; booleans are refused.
        minimum: the smallest value allowed.
        maximum: the largest value allowed.
        error: the exception class to raise.

    Raises:
        CaviarError: the value is no finite number, or out of bounds; raised as `error`.
    """
    value = plain_value(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not minimum <= value <= maximum:
        raise error(f"{name} must be a finite number{_within(minimum, maximum)}, not {value!r}")
    return int(value) if isinstance(value, int) else float(value)


def require_type(
    name: str, value: object, kind: type | UnionType, expected: str, error: type[CaviarError] = StudyError
) -> None:
    """Refuse a value that is not an instance of a class.

    Args:
        name: the name of the value in the error.
        value: any value.
        kind: the class, or a union of classes.
        expected: code or words for what is expected, such as "cv.Space(...)".
        error: the exception class to raise.

    Raises:
        CaviarError: the value has another type; raised as `error`.
    """
    if not isinstance(value, kind):
        raise error(f"{name} must be {expected}, not {value!r}")


def require_name(where: str, name: str, error: type[CaviarError] = StudyError) -> None:
    """Raise an error if a name cannot be the title of a column: empty, long, or with characters that do not print."""
    if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise error(
            f"{where}: the name {_shortened(name)} cannot be a column's: "
            f"use 1 to {MAX_NAME_CHARS} characters that can be printed"
        )


def require_text(where: str, text: str, error: type[CaviarError] = StudyError) -> None:
    """Raise an error if a text is too long for the cells of a table, or has parts that are not UTF-8."""
    if len(text) > MAX_TEXT_CHARS:
        raise error(
            f"{where}: {_shortened(text)} has {len(text):,} characters, and the most is {MAX_TEXT_CHARS:,}; "
            "use a short name for it, and look it up in the function"
        )
    if any(0xD800 <= ord(char) < 0xE000 for char in text):
        raise error(
            f"{where}: {_shortened(text)} is not UTF-8, so no table can hold it; use a number or another name for it"
        )


def check_fields(instance: object, names: str, check: Callable[..., Any], *bounds: float) -> None:
    """Check fields of a frozen dataclass in its `__post_init__`, and replace NumPy scalars in them.

    Args:
        instance: the dataclass instance.
        names: the names of the fields, separated by spaces.
        check: `whole_number` or `number`.
        bounds: the minimum and the maximum, as for `check`.
    """
    for name in names.split():
        value = check(f"{type(instance).__name__}: {name}", getattr(instance, name), *bounds)
        set_fields(instance, **{name: value})


def set_fields(instance: object, **values: object) -> None:
    """Set fields of a frozen dataclass in its `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def _shortened(text: str) -> str:
    return ascii(text if len(text) <= 60 else f"{text[:60]}...")


def _within(minimum: float, maximum: float) -> str:
    if maximum < math.inf:
        return f" between {_text(minimum)} and {_text(maximum)}"
    return f" of at least {_text(minimum)}" if minimum > -math.inf else ""


def _text(limit: float) -> str:
    """Return a limit as a user would write it, with commas between thousands.

    Example:
        >>> [_text(limit) for limit in (0.0, 1e6, 0.999999, 1e-12)]
        ['0', '1,000,000', '0.999999', '1e-12']
    """
    return f"{int(limit):,}" if float(limit).is_integer() else f"{limit}"
