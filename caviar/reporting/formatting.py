"""Numbers as the summary and the live progress print them."""

import math

UNFOLDED_WIDTH = 10_000
"""Columns of tables whose output is not a terminal: nothing is folded, so that paths and params stay whole."""


def metric_text(value: float) -> str:
    """Return a metric's value with the digits that matter: never fewer than four.

    Example:
        >>> [metric_text(value) for value in (0.98333, 0.00003, 1234.5678, 0.999973)]
        ['0.9833', '3.000e-05', '1,234.6', '0.999973']
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = math.floor(math.log10(abs(value)))
    if not -4 < exponent < 9:
        return f"{value:.3e}"
    decimals = max(0, (3 if exponent < 0 else 4) - exponent)
    if 0.999 < value < 1:  # of an accuracy near 1, the distance to 1 matters
        decimals = min(1 - math.floor(math.log10(1 - value)), 9)
    return f"{value:,.{decimals}f}"


def duration_text(seconds: float) -> str:
    """Return seconds as minutes and seconds, with hours where there are any.

    Example:
        >>> [duration_text(seconds) for seconds in (12.4, 3_725)]
        ['0:12', '1:02:05']
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def age_text(seconds: float) -> str:
    """Return how long ago something was, in its largest unit.

    Example:
        >>> [age_text(seconds) for seconds in (12, 3_725, 200_000)]
        ['12 s', '1 h', '2 d']
    """
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
