"""Axes of figures: of values, and of time."""

from typing import Any

import numpy as np

from caviar.analysis.parameter_axis import ParameterAxis
from caviar.analysis.value_scale import ValueScale
from caviar.reporting.plots.text import label
from caviar.space import Interval

_EDGE = 0.03
"""Share of an axis beyond the edge at which poor values are drawn, so that their symbols are whole."""


def value_axis(scale: ValueScale) -> dict[str, Any]:
    """Return the settings of the axis on which values are drawn."""
    ends = np.log10([scale.low, scale.high]) if scale.is_log else np.array([scale.low, scale.high])
    margin = _EDGE * (ends[1] - ends[0]) * np.array([-scale.maximize, not scale.maximize])
    return {
        "title": {"text": label(scale.name)},
        "type": "log" if scale.is_log else "linear",
        "range": (ends + margin).tolist(),
        "tickformat": value_format(scale),
        "exponentformat": "power",
        **({"dtick": "D2"} if scale.is_log and ends[1] - ends[0] > 1 else {}),
    }


def value_format(scale: ValueScale) -> str:
    """Return the format of a value in d3's notation: a percentage for errors and accuracies.

    Example:
        >>> value_format(ValueScale.of_values("loss", [1.0408231, 1.0408252], maximize=False))
        '.9~g'
    """
    is_share = scale.is_error or scale.name.endswith("accuracy")
    return ".3~%" if is_share else f".{_digits(scale)}~g"


def _digits(scale: ValueScale) -> int:
    """Return the significant digits that tell values of a scale apart: more where they differ little."""
    largest = max(abs(scale.low), abs(scale.high))
    return int(np.clip(np.ceil(np.log10(largest / (scale.high - scale.low))) + 3, 4, 12))


def value_text(scale: ValueScale, shown: float) -> str:
    """Return a number of the value axis as text."""
    if "%" in value_format(scale):
        return f"{100 * shown:.3g}%"
    return f"{shown:.{_digits(scale)}g}"


def value_ticks(scale: ValueScale, most: int = 6) -> list[tuple[float, str]]:
    """Return positions and texts of ticks of the value axis, for figures that cannot place ticks themselves."""
    domain = Interval(scale.low, scale.high, "log" if scale.is_log else "linear")
    return [(place, value_text(scale, domain.value(place))) for place, _ in ParameterAxis(domain).ticks(most)]


def time_unit(seconds: float) -> tuple[str, float]:
    """Return the unit in which a time is shown, and its length in seconds.

    Example:
        >>> time_unit(7_000)
        ('minutes', 60.0)
    """
    for name, length in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return name, length
    return "seconds", 1.0


def duration(seconds: float) -> str:
    """Return seconds as text in their unit.

    Example:
        >>> duration(7_000)
        '117 minutes'
    """
    unit, length = time_unit(seconds)
    return f"{seconds / length:.3g} {unit}"
