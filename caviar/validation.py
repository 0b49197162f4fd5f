"""Checks of the values that users pass in, so that all errors about them read alike."""

import math
import sys
from collections.abc import Callable
from types import UnionType
from typing import Any

from caviar.errors import CaviarError, StudyError


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
    return value


def number(
    name: str,
    value: Any,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    error: type[CaviarError] = StudyError,
) -> float:
    """Return a value if it is a finite number within bounds; see `whole_number`."""
    value = plain_value(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not minimum <= value <= maximum:
        raise error(f"{name} must be a finite number{_within(minimum, maximum)}, not {value!r}")
    return value  # type: ignore[no-any-return]


def require_type(
    name: str, value: object, kind: type | UnionType, expected: str, error: type[CaviarError] = StudyError
) -> None:
    """Raise an error that names the `expected` code if a value is not an instance of a class."""
    if not isinstance(value, kind):
        raise error(f"{name} must be {expected}, not {value!r}")


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


def _within(minimum: float, maximum: float) -> str:
    if maximum < math.inf:
        return f" between {minimum:,} and {maximum:,}"
    return f" of at least {minimum:,}" if minimum > -math.inf else ""
