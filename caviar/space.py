"""The search space: what may vary, and on which scale.

A numeric parameter is an `Interval` with a scale. In its scale's *coordinate* r, drawing is uniform, and
widths, edges and narrowing are measured there:

    scale         coordinate r         drawn so that
    linear        x                    every stretch of equal length is equally likely
    log           log10(x)             every decade is
    reverse_log   -log10(1 - x)        every decade of 1 - x is: 0.9..0.99 as often as 0.99..0.999

`reverse_log` is the scale of averages (momentum, Adam's betas): x averages over about 1 / (1 - x) steps.
"""

import math
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from caviar.errors import SpaceError
from caviar.trial import Value

ScaleName = Literal["linear", "log", "reverse_log"]
MAX_INTEGER = 2**53
"""Beyond it floating-point numbers skip whole ones."""
_LN10 = math.log(10.0)


def plain_value(value: Any) -> Any:
    """A NumPy scalar as the Python number that it holds; anything else as it is.

    Example:
        >>> import numpy as np
        >>> plain_value(np.int64(3)), plain_value("adam")
        (3, 'adam')
    """
    numpy = sys.modules.get("numpy")  # where it is not loaded, there are no scalars of it
    return value.item() if numpy is not None and isinstance(value, numpy.generic) else value


@dataclass(frozen=True, slots=True)
class Interval:
    """All numbers between two bounds, both included, on a scale.

    Raises:
        SpaceError: bounds that are not finite numbers, empty, reversed, or outside the scale.
    """

    low: float
    high: float
    scale: ScaleName = "linear"
    integer: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", plain_value(self.low))
        object.__setattr__(self, "high", plain_value(self.high))
        where = self._as_typed()
        for bound in (self.low, self.high):
            if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
                raise SpaceError(f"{where}: bounds must be finite numbers, not {bound!r}")
        if self.scale not in get_args(ScaleName):
            raise SpaceError(f"{where}: the scale must be one of {', '.join(get_args(ScaleName))}")
        if self.low > self.high:
            raise SpaceError(f"{where}: the range is reversed; write the smaller bound first")
        if self.low == self.high:
            raise SpaceError(f"{where}: the range is empty; a fixed value belongs to the objective")
        if self.integer and max(abs(self.low), abs(self.high)) > MAX_INTEGER:
            raise SpaceError(f"{where}: whole numbers beyond 2**53 cannot be told apart")
        if self.integer and self.scale == "reverse_log":
            raise SpaceError(f"{where}: integers can be linear or log")
        if self.integer and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise SpaceError(f"{where}: bounds of an integer must be whole numbers")
        if self.scale == "log" and self.low <= 0:
            raise SpaceError(f"{where}: a log scale has no zero; the lower bound must be above 0")
        if self.scale == "reverse_log" and not (self.low >= 0 and self.high < 1):
            raise SpaceError(f"{where}: a reverse_log scale lies in 0 <= x < 1")

    def _as_typed(self) -> str:
        """What the user wrote to make it."""
        if not self.integer:
            return f"{self.scale}({self.low!r}, {self.high!r})"
        scale = "" if self.scale == "linear" else f', scale="{self.scale}"'
        return f"integer({self.low!r}, {self.high!r}{scale})"

    def coordinate(self, x: float) -> float:
        """Where x lies on the scale (see the table above)."""
        if self.scale == "log":
            return math.log10(x)
        if self.scale == "reverse_log":
            return -math.log1p(-x) / _LN10  # log1p: exact where x is near 0
        return float(x)

    def value(self, r: float) -> float:
        """The number at coordinate r, rounded to an integer where it is one, inside the bounds."""
        if self.scale == "log":
            x = math.pow(10.0, r)
        elif self.scale == "reverse_log":
            x = -math.expm1(-r * _LN10)
        else:
            x = r
        if self.integer:
            return min(max(round(x), int(self.low)), int(self.high))
        return min(max(x, self.low), self.high)

    @property
    def ends(self) -> tuple[float, float]:
        """The coordinates of both bounds."""
        return self.coordinate(self.low), self.coordinate(self.high)

    @property
    def width(self) -> float:
        """Length on the scale: decades on the two log scales."""
        low, high = self.ends
        return high - low

    def between(self, r_low: float, r_high: float) -> "Interval":
        """The part from one coordinate to another; integers are rounded outward, so none is lost.

        However near the two are, it holds two numbers at least.
        """
        low, high = self.ends
        r_low, r_high = max(r_low, low), min(r_high, high)
        if not self.integer:
            x_low, x_high = self.value(r_low), self.value(r_high)
            if x_low == x_high:  # nearer than the next float
                x_high = min(math.nextafter(x_low, math.inf), self.high)
                x_low = x_low if x_low < x_high else math.nextafter(x_low, -math.inf)
            return replace(self, low=x_low, high=x_high)
        exact = replace(self, integer=False)
        x_low = max(math.floor(exact.value(r_low) + 1e-9), int(self.low))
        x_high = min(math.ceil(exact.value(r_high) - 1e-9), int(self.high))
        if x_low == x_high:  # an interval holds two integers at least
            x_low, x_high = (x_low, x_high + 1) if x_high < self.high else (x_low - 1, x_high)
        return replace(self, low=x_low, high=x_high)

    def __contains__(self, x: object) -> bool:
        if isinstance(x, bool) or not isinstance(x, int | float):
            return False
        return self.low <= x <= self.high and (not self.integer or float(x).is_integer())

    def text(self, x: float) -> str:
        """A number as a reader wants it: with the digits that matter on this scale."""
        if self.integer:
            return f"{x:,.0f}"
        if self.scale == "reverse_log" and 0.9 <= x < 1:
            return f"{x:.{2 - math.floor(math.log10(1 - x))}f}".rstrip("0")
        return f"{x:.3g}"

    def __str__(self) -> str:
        return f"{self.text(self.low)} .. {self.text(self.high)}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several options: None, booleans, numbers or strings.

    Raises:
        SpaceError: fewer than one option, one twice, or one that is not a plain value.
    """

    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(plain_value(option) for option in self.options))
        if not self.options:
            raise SpaceError("choice(): there must be at least one option")
        for option in self.options:
            if not isinstance(option, bool | int | float | str | None):
                raise SpaceError(
                    f"choice: an option must be None, a bool, a number or a string, not {option!r}"
                )
            if isinstance(option, float) and not math.isfinite(option):
                raise SpaceError(f"choice: {option!r} is not a finite number")
            if isinstance(option, int) and abs(option) > MAX_INTEGER:
                raise SpaceError(f"choice: {option!r}: whole numbers beyond 2**53 cannot be told apart")
        if len(set(self.options)) < len(self.options):  # 1, 1.0 and True are one key and one number
            raise SpaceError(
                f"choice{self.options!r}: an option stands there twice (1, 1.0 and True are equal)"
            )

    def __contains__(self, x: object) -> bool:
        return any(type(x) is type(o) and x == o for o in self.options)

    def __str__(self) -> str:
        return ", ".join(str(option) for option in self.options)


Domain = Interval | Choice


@dataclass(frozen=True, slots=True)
class Parameter:
    """A domain, and the conditions under which the parameter exists."""

    domain: Domain
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """Other parameters, each with the values at which this one exists; all must hold."""


def linear(low: float, high: float) -> Interval:
    """Real numbers, every stretch equally likely: `dropout=cv.linear(0.0, 0.5)`."""
    return Interval(low, high, "linear")


def log(low: float, high: float) -> Interval:
    """Real numbers above zero, every decade equally likely: `learning_rate=cv.log(1e-4, 1.0)`."""
    return Interval(low, high, "log")


def reverse_log(low: float, high: float) -> Interval:
    """Real numbers below one, every decade of 1 - x equally likely: `momentum=cv.reverse_log(0.9, 0.999)`."""
    return Interval(low, high, "reverse_log")


def integer(low: int, high: int, scale: ScaleName = "linear") -> Interval:
    """Whole numbers, linear or log: `units=cv.integer(16, 256, scale="log")`."""
    return Interval(low, high, scale, integer=True)


def choice(*options: Value) -> Choice:
    """One of these: `batch_size=cv.choice(32, 64, 128)`."""
    return Choice(options)


def when(domain: Domain, **conditions: Value | Collection[Value]) -> Parameter:
    """A parameter that exists only where others have certain values.

    Args:
        domain: what it may be where it exists.
        conditions: for each other parameter a value, or a collection of values (a range too).

    Returns:
        The conditional parameter, for `Space`.

    Raises:
        SpaceError: no condition, or one without values.

    Example:
        >>> beta2 = when(reverse_log(0.9, 0.9999), optimizer="adam")
        >>> units_3 = when(integer(16, 256, scale="log"), layers=range(3, 6))
    """
    if not isinstance(domain, Interval | Choice):
        raise SpaceError(f"when: the first argument must be a scale such as log(1e-4, 1), not {domain!r}")
    if not conditions:
        raise SpaceError('when: no condition; write for instance when(log(1e-5, 1e-2), optimizer="adam")')
    allowed: dict[str, tuple[Value, ...]] = {}
    for name, values in conditions.items():
        single = isinstance(values, str) or not isinstance(values, Collection)
        allowed[name] = tuple(plain_value(value) for value in ((values,) if single else values))  # type: ignore[union-attr]
        if not allowed[name]:
            raise SpaceError(f"when: the condition on {name} allows no value")
    return Parameter(domain, allowed)


class Space(Mapping[str, Parameter]):
    """A search space: names, what each may be, and which exist only under conditions.

    Raises:
        SpaceError: no parameter, something that is not a scale, or a condition that cannot be.

    Example:
        >>> space = Space(learning_rate=log(1e-4, 1.0), layers=integer(1, 4))
        >>> print(space["learning_rate"].domain)
        0.0001 .. 1
    """

    __slots__ = ("_parameters",)

    def __init__(self, /, **parameters: Domain | Parameter) -> None:
        if not parameters:
            raise SpaceError(
                "Space(): there must be at least one parameter, such as learning_rate=log(1e-4, 1)"
            )
        found: dict[str, Parameter] = {}
        for name, parameter in parameters.items():
            if isinstance(parameter, Interval | Choice):
                parameter = Parameter(parameter)
            if not isinstance(parameter, Parameter):
                raise SpaceError(
                    f"Space: {name}={parameter!r} is not a scale; use linear, log, reverse_log, integer, "
                    "choice or when, and give fixed values to the objective"
                )
            found[name] = parameter
        self._parameters = _parents_first(found)

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        """Names, each after those that its conditions speak of."""
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __repr__(self) -> str:
        return f"Space({', '.join(f'{name}: {p.domain}' for name, p in self.items())})"

    def active(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Of values for all parameters, those whose conditions hold."""
        kept: dict[str, Value] = {}
        for name, parameter in self.items():
            if all(other in kept and kept[other] in allowed for other, allowed in parameter.when.items()):
                kept[name] = values[name]
        return kept

    def to_json(self) -> dict[str, Any]:
        """A plain form for `json.dump`; `space_from_json` reads it back."""
        return {name: _parameter_to_json(parameter) for name, parameter in self.items()}


def space_from_json(plain: Mapping[str, Any]) -> Space:
    """Read back what `Space.to_json` gave."""
    return Space(**{name: _parameter_from_json(entry) for name, entry in plain.items()})


def _parameter_to_json(parameter: Parameter) -> dict[str, Any]:
    domain = parameter.domain
    entry: dict[str, Any]
    if isinstance(domain, Choice):
        entry = {"choice": list(domain.options)}
    else:
        entry = {"scale": domain.scale, "low": domain.low, "high": domain.high, "integer": domain.integer}
    if parameter.when:
        entry["when"] = {name: list(values) for name, values in parameter.when.items()}
    return entry


def _parameter_from_json(entry: Mapping[str, Any]) -> Parameter:
    conditions = {name: tuple(values) for name, values in entry.get("when", {}).items()}
    if "choice" in entry:
        return Parameter(Choice(tuple(entry["choice"])), conditions)
    return Parameter(Interval(entry["low"], entry["high"], entry["scale"], entry["integer"]), conditions)


def _parents_first(parameters: dict[str, Parameter]) -> dict[str, Parameter]:
    """The parameters in an order in which each comes after those it depends on; else the given order."""
    for name, parameter in parameters.items():
        for other, allowed in parameter.when.items():
            if other not in parameters:
                raise SpaceError(f"Space: {name} depends on {other}, which is not in the space")
            domain = parameters[other].domain
            never = [value for value in allowed if value not in domain]
            numbers = all(
                isinstance(value, int | float) for value in never
            )  # of a range, which may reach beyond
            if len(never) == len(allowed) or not numbers:
                raise SpaceError(
                    f"Space: {name} exists only when {other} is {', '.join(map(repr, allowed))}, "
                    f"but {other} is never {' or '.join(map(repr, never))}: {domain}"
                )
    ordered: dict[str, Parameter] = {}
    while len(ordered) < len(parameters):
        ready = [n for n, p in parameters.items() if n not in ordered and all(o in ordered for o in p.when)]
        if not ready:
            circle = ", ".join(name for name in parameters if name not in ordered)
            raise SpaceError(f"Space: the conditions of {circle} go round in a circle")
        ordered[ready[0]] = parameters[ready[0]]
    return ordered
