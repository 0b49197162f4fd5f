"""Numbers as the summary and the live progress print them."""

import math
from collections.abc import Mapping

from caviar.records.winner import Best
from caviar.trial import Value

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


def score_text(value: float, interval: tuple[float, float] | None, is_share: bool = False) -> str:
    """Return a value with its confidence interval, which lies between 0 and 1 for a share.

    Example:
        >>> score_text(0.98, (0.955, 1.002), is_share=True)
        '0.9800, 95% interval 0.9550 .. 1.0000'
        >>> score_text(0.1, (-0.2, 0.4), is_share=True)
        '0.1000, 95% interval 0 .. 0.4000'
    """
    if interval is None:
        return metric_text(value)
    return f"{metric_text(value)}, {interval_text(interval, is_share)}"


def interval_text(interval: tuple[float, float], is_share: bool = False) -> str:
    """Return a confidence interval, which lies between 0 and 1 for a share."""
    low, high = (min(max(end, 0.0), 1.0) for end in interval) if is_share else interval
    return f"95% interval {metric_text(low)} .. {metric_text(high)}"


def params_text(params: Mapping[str, Value]) -> str:
    r"""Return the names and values of params, in a few words on one line.

    Example:
        >>> params_text({"learning_rate": 0.012345678, "method": "adam", "prompt": "one\ntwo"})
        'learning_rate=0.0123457, method=adam, prompt=one\\ntwo'
    """
    text = ", ".join(f"{n}={f'{v:.6g}' if isinstance(v, float) else v}" for n, v in params.items())
    return text.replace("\n", "\\n")


def duration_text(seconds: float) -> str:
    """Return seconds as minutes and seconds, with hours where there are any.

    Example:
        >>> [duration_text(seconds) for seconds in (12.4, 3_725)]
        ['0:12', '1:02:05']
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def pace_text(per_s: float) -> str:
    """Return a number of trials a second, or in a longer time if they are few.

    Example:
        >>> [pace_text(per_s) for per_s in (1_234.5, 0.25, 0.002)]
        ['1,234.5 trials/s', '15.0 trials/min', '7.2 trials/h']
    """
    for unit, length in (("s", 1), ("min", 60)):
        if per_s * length >= 1:
            return f"{per_s * length:,.1f} trials/{unit}"
    return f"{per_s * 3_600:.1f} trials/h"


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


def test_origin(metric: str, best: Best) -> str:
    """Return in words where the winner's test value comes from, and how often such a score was taken.

    Args:
        metric: the metric that ranks trials.
        best: the winner.
    """
    if best.test_rows is None:
        times = "once" if best.test_uses < 2 else f"{best.test_uses} times, for as many winners"
        return f"by the study's test function, called {times}"
    return f"{metric.removeprefix('dev_')} {test_rows_text(best)}"


def test_rows_text(best: Best) -> str:
    """Return in words which rows a winner was scored on."""
    if best.test_uses < 2:
        return f"on {best.test_rows:,} rows that nothing else used"
    return f"on {best.test_rows:,} rows; used {best.test_uses} times, for {best.test_uses} winners in turn"
