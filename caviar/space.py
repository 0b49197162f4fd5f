"""The search space: names, scales, choices and conditions of hyperparameters.

A numeric parameter is an `Interval` with a scale. The scale maps a number x to a *coordinate* r. Draws are uniform in
r, and widths and distances are measured in r:

    scale         coordinate r         uniform over
    linear        x                    the numbers themselves
    log           log10(x)             decades of x: 0.001..0.01 as often as 0.01..0.1
    reverse_log   -log10(1 - x)        decades of 1 - x: 0.9..0.99 as often as 0.99..0.999

`reverse_log` is the scale of momenta and of Adam's betas: an average with factor x covers about 1 / (1 - x) steps.

A space may have constraints between its parameters: functions that say which draws to train (`caviar.constraints`).
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal, get_args

from caviar.constraints import Constraint, allows, check_constraints
from caviar.errors import SpaceError
from caviar.trial import Value
from caviar.validation import number, plain_value, require_name, require_text, require_type, set_fields

ScaleName = Literal["linear", "log", "reverse_log"]
MAX_INTEGER = 2**53
"""Largest integer that floating-point numbers represent without gaps."""
_LN10 = math.log(10.0)


@dataclass(frozen=True, slots=True)
class Interval:
    """The numbers between two bounds, both included, on a scale.

    Raises:
        SpaceError: the bounds are not finite numbers in ascending order, or do not fit the scale.
    """

    low: float
    high: float
    scale: ScaleName = "linear"
    integer: bool = False

    def __post_init__(self) -> None:
        set_fields(self, low=plain_value(self.low), high=plain_value(self.high))
        where = self._as_code()
        low, high = (
            number(f"{where}: each bound", bound, error=SpaceError) for bound in (self.low, self.high)
        )
        set_fields(self, low=low, high=high)
        if self.scale not in get_args(ScaleName):
            raise SpaceError(f"{where}: the scale must be one of {', '.join(get_args(ScaleName))}")
        if self.low > self.high:
            raise SpaceError(f"{where}: the bounds are reversed; write the smaller one first")
        if self.low == self.high:
            raise SpaceError(f"{where}: the range is empty; pass a fixed value to the objective instead")
        if self.integer:
            self._check_integer(where)
        if self.scale == "log" and self.low <= 0:
            raise SpaceError(f"{where}: the lower bound of a log scale must be above 0")
        if self.scale == "reverse_log" and not (self.low >= 0 and self.high < 1):
            raise SpaceError(f"{where}: the bounds of a reverse_log scale must be in 0 <= x < 1")

    def _check_integer(self, where: str) -> None:
        if max(abs(self.low), abs(self.high)) > MAX_INTEGER:
            raise SpaceError(f"{where}: integers must be at most 2**53; floats cannot tell larger ones apart")
        if self.scale == "reverse_log":
            raise SpaceError(f"{where}: the scale of an integer must be linear or log")
        if not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise SpaceError(f"{where}: the bounds of an integer must be whole numbers")

    def _as_code(self) -> str:
        """Return the code that makes this interval."""
        if not self.integer:
            return f"{self.scale}({self.low!r}, {self.high!r})"
        scale = "" if self.scale == "linear" else f', scale="{self.scale}"'
        return f"integer({self.low!r}, {self.high!r}{scale})"

    def coordinate(self, x: float) -> float:
        """Return the coordinate of a number on the scale (see the table above)."""
        if self.scale == "log":
            return math.log10(x)
        if self.scale == "reverse_log":
            return -math.log1p(-x) / _LN10  # log1p is exact near 0
        return float(x)

    def value(self, r: float) -> float:
        """Return the number at a coordinate: inside the bounds, and rounded if it is an integer."""
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
        """The coordinates of the two bounds."""
        return self.coordinate(self.low), self.coordinate(self.high)

    @property
    def drawn_ends(self) -> tuple[float, float]:
        """The coordinates that draws lie between: the first and the last integer get as much room as the others."""
        if not self.integer:
            return self.ends
        return self.coordinate(self.low - 0.5), self.coordinate(self.high + 0.5)

    @property
    def width(self) -> float:
        """The distance between the bounds on the scale: decades on the two log scales."""
        low, high = self.ends
        return high - low

    def between(self, r_low: float, r_high: float) -> "Interval":
        """Return the part between two coordinates.

        Integers are rounded outward, so that none is lost. The part holds at least two numbers, however close the
        coordinates are.
        """
        low, high = self.ends
        r_low, r_high = max(r_low, low), min(r_high, high)
        if not self.integer:
            x_low, x_high = self.value(r_low), self.value(r_high)
            if x_low == x_high:  # the coordinates are closer than two floats
                x_high = min(math.nextafter(x_low, math.inf), self.high)
                x_low = x_low if x_low < x_high else math.nextafter(x_low, -math.inf)
            return replace(self, low=x_low, high=x_high)
        exact = replace(self, integer=False)
        x_low = max(math.floor(exact.value(r_low) + 1e-9), int(self.low))
        x_high = min(math.ceil(exact.value(r_high) - 1e-9), int(self.high))
        if x_low == x_high:
            x_low, x_high = (x_low, x_high + 1) if x_high < self.high else (x_low - 1, x_high)
        return replace(self, low=x_low, high=x_high)

    def __contains__(self, x: object) -> bool:
        if isinstance(x, bool) or not isinstance(x, int | float):
            return False
        return self.low <= x <= self.high and (not self.integer or float(x).is_integer())

    def text(self, x: float) -> str:
        """Format a number with the digits that matter on this scale."""
        if self.integer or 1_000 <= abs(x) < 1_000_000:
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
        SpaceError: there is no option, a duplicate option, or one of another type, such as a member of an enum.
    """

    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        set_fields(self, options=tuple(plain_value(option) for option in self.options))
        if not self.options:
            raise SpaceError("choice(): give at least one option")
        for option in self.options:
            _require_plain("choice: an option", option)
            if isinstance(option, str):
                require_text("choice: the option", option, SpaceError)
            if isinstance(option, float) and not math.isfinite(option):
                raise SpaceError(f"choice: an option must be a finite number, not {option!r}")
            if isinstance(option, int) and abs(option) > MAX_INTEGER:
                raise SpaceError(f"choice: an integer must be at most 2**53, not {option!r}")
        if len(set(self.options)) < len(self.options):
            raise SpaceError(f"choice{self.options!r}: duplicate option (1, 1.0 and True are equal)")

    def __contains__(self, x: object) -> bool:
        return any(type(x) is type(o) and x == o for o in self.options)

    def __str__(self) -> str:
        return ", ".join(str(option) for option in self.options)


def _require_plain(what: str, value: object) -> None:
    """Refuse other values than None, booleans, numbers and strings: files and other processes keep no other classes."""
    if type(value) in (bool, int, float, str, type(None)):
        return
    if isinstance(value, Enum):
        advice = f"use its value, {value.value!r}, and {type(value).__name__}(...) in the function"
    elif isinstance(value, int | float | str):
        advice = f"convert it from {type(value).__name__} first"
    else:
        advice = "use its name, and look the object up in the function"
    raise SpaceError(f"{what} must be None, a bool, a number or a string, not {value!r:.200}: {advice}")


Domain = Interval | Choice


@dataclass(frozen=True, slots=True)
class Parameter:
    """A domain, and the conditions under which the parameter applies."""

    domain: Domain
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """Other parameters, each with the values for which this parameter applies. All conditions must hold."""

    def applies(self, values: Mapping[str, Value]) -> bool:
        """Return True if all conditions hold, given the values of the parameters that apply."""
        return all(other in values and values[other] in allowed for other, allowed in self.when.items())


def linear(low: float, high: float) -> Interval:
    """Return a range of real numbers, drawn uniformly.

    Args:
        low: the smallest number.
        high: the largest number.

    Raises:
        SpaceError: the bounds are not finite numbers in ascending order.

    Example:
        >>> space = Space(dropout=linear(0.0, 0.5))
    """
    return Interval(low, high, "linear")


def log(low: float, high: float) -> Interval:
    """Return a range of positive numbers, each decade equally likely.

    Args:
        low: the smallest number, above 0.
        high: the largest number.

    Raises:
        SpaceError: the bounds are not positive finite numbers in ascending order.

    Example:
        >>> space = Space(learning_rate=log(1e-4, 1.0))
    """
    return Interval(low, high, "log")


def reverse_log(low: float, high: float) -> Interval:
    """Return a range of numbers below 1, each decade of 1 - x equally likely.

    Args:
        low: the smallest number, at least 0.
        high: the largest number, below 1.

    Raises:
        SpaceError: the bounds are not numbers in ascending order with 0 <= x < 1.

    Example:
        >>> space = Space(momentum=reverse_log(0.9, 0.999))
    """
    return Interval(low, high, "reverse_log")


def integer(low: int, high: int, scale: ScaleName = "linear") -> Interval:
    """Return a range of whole numbers.

    Args:
        low: the smallest number.
        high: the largest number.
        scale: "linear" or "log".

    Raises:
        SpaceError: the bounds are not whole numbers in ascending order, or do not fit the scale.

    Example:
        >>> space = Space(layers=integer(1, 4), units=integer(16, 256, scale="log"))
    """
    return Interval(low, high, scale, integer=True)


def choice(*options: Value) -> Choice:
    """Return a choice of one of several options.

    Args:
        options: None, booleans, numbers or strings. Of an enum, give the values.

    Raises:
        SpaceError: there is no option, a duplicate option, or one that is not a plain value.

    Example:
        >>> space = Space(batch_size=choice(32, 64, 128), optimizer=choice("sgd", "adam"))
    """
    return Choice(options)


def when(domain: Domain, **conditions: Value | Collection[Value]) -> Parameter:
    """Return a conditional parameter: it applies only for certain values of other parameters.

    Args:
        domain: the range or choice of the parameter where it applies.
        conditions: for each other parameter a value, or a collection of values such as a range.

    Raises:
        SpaceError: there is no condition, or one without values.

    Example:
        >>> space = Space(
        ...     optimizer=choice("sgd", "adam"),
        ...     beta2=when(reverse_log(0.9, 0.9999), optimizer="adam"),
        ...     layers=integer(1, 5),
        ...     units_3=when(integer(16, 256, scale="log"), layers=range(3, 6)),
        ... )
    """
    require_type("when: the first argument", domain, Domain, "a scale such as log(1e-4, 1)", SpaceError)
    if not conditions:
        raise SpaceError('when: give a condition, such as when(log(1e-5, 1e-2), optimizer="adam")')
    allowed: dict[str, tuple[Value, ...]] = {}
    for name, values in conditions.items():
        single = isinstance(values, str) or not isinstance(values, Collection)
        allowed[name] = tuple(plain_value(value) for value in ((values,) if single else values))  # type: ignore[union-attr]
        for value in allowed[name]:
            _require_plain(f"when: the value of {name}", value)
        if not allowed[name]:
            raise SpaceError(f"when: the condition on {name} allows no value")
    return Parameter(domain, allowed)


class Space(Mapping[str, Parameter]):
    """A search space: a mapping from names to parameters.

    Args:
        where: a constraint between parameters, or several: functions of a draw's params that return True if it may be
            trained. Draws that break one are never trained, whatever the sampler. Params that do not apply are absent,
            and so are those that the objective fixes. (A scale here is a parameter named where.)
        parameters: for each name a scale, a choice, or a conditional parameter made by `when`.

    Raises:
        SpaceError: there is no parameter, one is not a scale, a condition cannot hold, or a constraint is no function.

    Example:
        >>> space = Space(learning_rate=log(1e-4, 1.0), layers=integer(1, 4))
        >>> print(space["learning_rate"].domain)
        0.0001 .. 1

        A second layer that is not wider than the first:

        >>> space = Space(
        ...     units_1=integer(16, 256, scale="log"),
        ...     units_2=integer(16, 256, scale="log"),
        ...     where=lambda p: p["units_2"] <= p["units_1"],
        ... )
        >>> space.allows({"units_1": 64, "units_2": 32})
        True
    """

    __slots__ = ("_parameters", "constraints")

    def __init__(
        self,
        /,
        where: Constraint | Sequence[Constraint] | Domain | Parameter = (),
        **parameters: Domain | Parameter,
    ) -> None:
        if isinstance(where, Domain | Parameter):
            parameters["where"] = where
        self.constraints = check_constraints(() if "where" in parameters else where)
        """The constraints, which a draw must all keep."""
        if not parameters:
            raise SpaceError("Space(): give at least one parameter, such as learning_rate=log(1e-4, 1)")
        found: dict[str, Parameter] = {}
        for name, parameter in parameters.items():
            require_name("Space", name, SpaceError)
            if not isinstance(parameter, Domain | Parameter):
                raise SpaceError(
                    f"Space: {name}={parameter!r} is not a scale; use linear, log, reverse_log, integer, "
                    "choice or when, and pass fixed values to the objective"
                )
            found[name] = parameter if isinstance(parameter, Parameter) else Parameter(parameter)
        for name, parameter in found.items():
            _check_conditions(name, parameter, found)
        self._parameters = _parents_first(found)

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names; each comes after those that its conditions name."""
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __repr__(self) -> str:
        return f"Space({', '.join(f'{name}: {p.domain}' for name, p in self.items())})"

    @property
    def can_repeat(self) -> bool:
        """True if several draws may be equal, because no continuous parameter always applies."""
        return all(
            parameter.when or isinstance(parameter.domain, Choice) or parameter.domain.integer
            for parameter in self.values()
        )

    def with_parameters(self, parameters: Mapping[str, Domain | Parameter]) -> "Space":
        """Return a space of other parameters with the same constraints."""
        space = Space(**parameters)
        space.constraints = self.constraints
        return space

    def allows(self, params: Mapping[str, Value]) -> bool:
        """Return True if a draw keeps all constraints.

        Args:
            params: the params that apply.

        Raises:
            SpaceError: a constraint raises an exception, or returns something else than True or False.
        """
        return allows(self.constraints, params, self.keys())

    def active(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return the values of the parameters whose conditions hold, from values for all parameters."""
        kept: dict[str, Value] = {}
        for name, parameter in self.items():
            if parameter.applies(kept):
                kept[name] = values[name]
        return kept

    def to_json(self) -> dict[str, Any]:
        """Return a plain form of the parameters for `json.dump`; `space_from_json` reads it back.

        Constraints are functions, which no JSON can hold.
        """
        return {name: _parameter_to_json(parameter) for name, parameter in self.items()}


def space_from_json(plain: Mapping[str, Any]) -> Space:
    """Return the space that `Space.to_json` has written.

    Raises:
        SpaceError: the plain form does not describe a valid space.
    """
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


def _check_conditions(name: str, parameter: Parameter, parameters: Mapping[str, Parameter]) -> None:
    """Refuse conditions on parameters that do not exist, or on values that they cannot have."""
    for other, allowed in parameter.when.items():
        if other not in parameters:
            raise SpaceError(f"Space: {name} depends on {other}, which is not in the space")
        domain = parameters[other].domain
        never = [value for value in allowed if value not in domain]
        numeric = all(isinstance(value, int | float) for value in never)  # a range() may reach too far
        if len(never) == len(allowed) or not numeric:
            raise SpaceError(
                f"Space: {name} applies only when {other} is {', '.join(map(repr, allowed))}, "
                f"but {other} is never {' or '.join(map(repr, never))}: {domain}"
            )


def _parents_first(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Sort parameters so that each comes after those it depends on; otherwise keep the order."""
    ordered: dict[str, Parameter] = {}
    while len(ordered) < len(parameters):
        ready = [n for n, p in parameters.items() if n not in ordered and all(o in ordered for o in p.when)]
        if not ready:
            cycle = ", ".join(name for name in parameters if name not in ordered)
            raise SpaceError(f"Space: the conditions of {cycle} are cyclic")
        ordered[ready[0]] = parameters[ready[0]]
    return ordered
