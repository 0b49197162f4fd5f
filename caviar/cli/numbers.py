"""Numbers on the command line: each function is the `type` of an option, and says what the option takes."""

import math
from argparse import ArgumentTypeError

from caviar.durations import parse_duration
from caviar.errors import RunError


def positive(text: str) -> int:
    """Return a whole number from 1.

    Raises:
        ArgumentTypeError: it is none.

    Example:
        >>> positive("12")
        12
    """
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} must be a whole number from 1")
    return int(text)


def seconds(text: str) -> float:
    """Return a number of seconds, from a tenth to a day.

    Raises:
        ArgumentTypeError: it is none, or out of bounds.

    Example:
        >>> seconds("0.5")
        0.5
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.1 <= number <= 86_400:
        raise ArgumentTypeError(f"{text!r} must be a number of seconds from 0.1 to 86400")
    return number


def port(text: str) -> int:
    """Return a TCP port.

    Raises:
        ArgumentTypeError: it is none.

    Example:
        >>> port("8080")
        8080
    """
    if not text.isdecimal() or int(text) >= 2**16:
        raise ArgumentTypeError(f"{text!r} must be a TCP port from 0 to 65535; 0 takes a free one")
    return int(text)


def duration(text: str) -> float:
    """Return the seconds of a duration.

    Raises:
        ArgumentTypeError: it is none.

    Example:
        >>> duration("1h30m")
        5400.0
    """
    try:
        return parse_duration(text, "the time")
    except RunError as error:
        raise ArgumentTypeError(str(error)) from None
