"""Learning curves as characters: dots of Braille in colour, or one symbol a curve where there is no colour."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.text import Text

from caviar.reporting.formatting import metric_text

Points = Sequence[tuple[int, float]]
STYLES = ("cyan", "bold yellow", "magenta", "green")
"""Styles of the curves, in their order."""
SYMBOLS = (".", "o", "x", "+")
"""Symbols of the curves without colours."""
MIN_WIDTH, MIN_HEIGHT = 24, 6
"""Fewest columns and lines in which curves are drawn."""
_LABEL = 9
"""Columns of the axis's labels."""
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a Braille character, by line and column of its dots (Unicode 15, block U+2800)."""
_LOG_FACTOR = 8.0
"""Ratio of the largest and the smallest value from which the axis is logarithmic."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The range of values that is drawn."""

    low: float
    high: float
    is_log: bool

    @classmethod
    def of(cls, values: Sequence[float]) -> "Axis":
        """Return the axis for some values, logarithmic if they differ much.

        Example:
            >>> Axis.of([0.01, 2.0]).is_log, Axis.of([0.9, 0.95])
            (True, Axis(low=0.9, high=0.95, is_log=False))
        """
        low, high = min(values), max(values)
        if low == high:
            margin = abs(low) / 10 or 1.0
            return cls(low - margin, high + margin, is_log=False)
        return cls(low, high, is_log=low > 0 and high / low >= _LOG_FACTOR)

    def share(self, value: float) -> float:
        """Return the height of a value: 0 at the bottom, 1 at the top."""
        if self.is_log:
            low, high = math.log(self.low), math.log(self.high)
            return (math.log(value) - low) / (high - low)
        return (value - self.low) / (self.high - self.low)

    @property
    def middle(self) -> float:
        """The value half way up."""
        if self.is_log:
            return math.sqrt(self.low) * math.sqrt(self.high)
        return (self.low + self.high) / 2


def draw(
    series: Sequence[tuple[str, Points]],
    width: int,
    height: int,
    *,
    colored: bool = True,
    last_epoch: int = 1,
    marks: Sequence[int] = (),
) -> Text:
    """Return a figure of curves over epochs.

    Args:
        series: name and points of each curve; later ones lie on top.
        width: columns of the figure.
        height: its lines.
        colored: draw in Braille and colours; else in symbols.
        last_epoch: epoch at the right end, at least.
        marks: epochs that are marked by a dotted line.
    """
    points = [point for _, curve in series for point in curve]
    if not points:
        return Text("no epoch is trained yet")
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        return Text("the terminal is too small for curves")
    axis, right = Axis.of([value for _, value in points]), max(last_epoch, 2, *(epoch for epoch, _ in points))
    canvas = _Canvas(width - _LABEL - 1, height - 3, right, axis, colored)
    for epoch in marks:
        canvas.mark(epoch)
    for place, (_, curve) in enumerate(series):
        canvas.add(place, curve)
    figure = _legend(series, width, colored)
    labels = {0: axis.high, canvas.height // 2: axis.middle, canvas.height - 1: axis.low}
    for number, line in enumerate(canvas.lines()):
        label = metric_text(labels[number]) if number in labels else ""
        figure.append(f"\n{label[:_LABEL]:>{_LABEL}}│", "dim" if colored else "")
        figure.append_text(line)
    ends = f"epoch 1{', log scale' * axis.is_log}".ljust(canvas.width - len(str(right))) + str(right)
    figure.append(f"\n{'':{_LABEL}}└{'─' * canvas.width}\n{'':{_LABEL + 1}}{ends}", "dim" if colored else "")
    return figure


def _legend(series: Sequence[tuple[str, Points]], width: int, colored: bool) -> Text:
    """Return the names of the curves with their last values, or without where these do not fit."""
    for with_values in (True, False):
        legend = Text()
        for place, (name, curve) in enumerate(series):
            value = f" {metric_text(curve[-1][1])}" if curve and with_values else ""
            symbol = "━━" if colored else SYMBOLS[place % len(SYMBOLS)]
            style = STYLES[place % len(STYLES)] if colored else ""
            legend.append(f"{'  ' if place else ''}{symbol} {name}{value}", style)
        if len(legend) <= width:
            break
    return legend


class _Canvas:
    """A grid of characters, of which each has 2 x 4 dots in Braille.

    Args:
        width: columns of characters.
        height: lines of characters.
        right: epoch at the right end.
        axis: the axis of values.
        colored: draw in Braille.
    """

    def __init__(self, width: int, height: int, right: int, axis: Axis, colored: bool) -> None:
        self.width, self.height = width, height
        self._right, self._axis, self._colored = right, axis, colored
        self._x_dots, self._y_dots = (2 * width, 4 * height) if colored else (width, height)
        self._bits = [[0] * width for _ in range(height)]
        self._owner: list[list[int | None]] = [[None] * width for _ in range(height)]
        self._marked: set[int] = set()

    def mark(self, epoch: int) -> None:
        """Mark an epoch by a dotted line below the curves."""
        self._marked.add(self._column(epoch) // (2 if self._colored else 1))

    def add(self, place: int, curve: Points) -> None:
        """Draw a curve over what is there."""
        spots = [(self._column(epoch), self._row(value)) for epoch, value in curve]
        for x, y in spots[:1]:
            self._set(place, x, y)
        for before, after in pairwise(spots):
            for x, y in _line(before, after):
                self._set(place, x, y)

    def lines(self) -> Iterator[Text]:
        """Yield the lines of characters."""
        for bits, owners in zip(self._bits, self._owner, strict=True):
            line = Text()
            for column, (dots, owner) in enumerate(zip(bits, owners, strict=True)):
                if owner is None:
                    line.append("┊" if column in self._marked else " ", "dim" if self._colored else "")
                elif self._colored:
                    line.append(chr(0x2800 + dots), STYLES[owner % len(STYLES)])
                else:
                    line.append(SYMBOLS[owner % len(SYMBOLS)])
            yield line

    def _column(self, epoch: int) -> int:
        return round((epoch - 1) / (self._right - 1) * (self._x_dots - 1))

    def _row(self, value: float) -> int:
        return round((1 - self._axis.share(value)) * (self._y_dots - 1))

    def _set(self, place: int, x: int, y: int) -> None:
        if not self._colored:
            self._owner[y][x] = place
            return
        line, column = y // 4, x // 2
        if self._owner[line][column] != place:
            self._bits[line][column] = 0
        self._owner[line][column] = place
        self._bits[line][column] |= _DOTS[y % 4][x % 2]


def _line(before: tuple[int, int], after: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the dots from one to another, the first one left out."""
    (x0, y0), (x1, y1) = before, after
    steps = max(abs(x1 - x0), abs(y1 - y0), 1)
    for step in range(1, steps + 1):
        yield round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps)
