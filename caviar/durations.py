"""Durations as people write them: 90s, 10m, 1h30m, 2d."""

import math
import re

from caviar.errors import CaviarError, RunError

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
"""Seconds of each unit, the longest first."""
_PARTS = re.compile("".join(rf"(?:(\d+(?:\.\d+)?) *{unit} *)?" for unit in ("d", "h", "m(?:in)?", "s")))

_STEPS = (
    (60, "min", 1, "s", 3_570),
    (3_600, "h", 60, "min", 171_000),
    (86_400, "d", 3_600, "h", math.inf),
)
"""Units with their names, the smaller ones beside them, and the seconds from which the next unit is used."""


def parse_duration(given: str | float, what: str = "time", error: type[CaviarError] = RunError) -> float:
    """Return the seconds of a duration.

    Args:
        given: a text such as "10m" or "1h30m", or a number of seconds.
        what: name of the duration, for the message.
        error: class of the error.

    Raises:
        CaviarError: it is no duration, or not above zero.

    Example:
        >>> [parse_duration(text) for text in ("90s", "10m", "1h30m", "1.5 h", "2d")]
        [90.0, 600.0, 5400.0, 5400.0, 172800.0]
    """
    seconds = math.nan
    if isinstance(given, str):
        found = _PARTS.fullmatch(given.strip().lower())
        if found and any(found.groups()):
            amounts = zip(found.groups(), UNITS.values(), strict=True)
            seconds = sum(float(amount) * unit for amount, unit in amounts if amount)
    elif isinstance(given, int | float) and not isinstance(given, bool):
        seconds = float(given)
    if not 0 < seconds < math.inf:
        raise error(f"{what} {given!r}: must be a duration above zero, such as 90s, 10m, 1h30m or 2d")
    return seconds


def duration_words(seconds: float) -> str:
    """Return a duration in words, with two digits or two units.

    Example:
        >>> [duration_words(s) for s in (0.0042, 0.21, 12.4, 75, 5_400, 200_000, 8_640_000)]
        ['4.2 ms', '0.21 s', '12 s', '1 min 15 s', '1 h 30 min', '2 d 8 h', '100 d']
    """
    if seconds < 0.0995:
        return f"{1_000 * seconds:.2g} ms"
    if seconds < 59.5:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    unit, name, smaller, smaller_name, _ = next(step for step in _STEPS if seconds < step[-1])
    if seconds >= 10 * unit:
        return f"{seconds / unit:,.0f} {name}"
    whole, rest = divmod(round(seconds / smaller), unit // smaller)
    return f"{whole} {name} {rest} {smaller_name}" if rest else f"{whole} {name}"
