"""The region that a round draws from: near the best trials so far, or the whole space.

A region is not one box. It holds the values of the elite, each with a window around it. So it can hold two good ranges
without the poor values between them, and a good value at the very end of a range.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random
from typing import Any

from caviar.rounds import Narrowing
from caviar.space import Choice, Domain, Interval, Parameter, Space
from caviar.trial import Value

INTEGER_REACH = 0.6
"""Least distance from an integer to the ends of its window. Above 0.5, the adjacent integers can be drawn too."""
Window = tuple[float, float]
"""The lower and the upper end of a part of a range, in coordinates of its scale."""

Box = Mapping[str, Window | Choice]
"""The part of the space that one trial is drawn from: a window for each number, and the options of each choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The part of the space that a round draws from.

    Example:
        >>> from caviar.space import linear
        >>> region = Region(
        ...     declared=Space(x=linear(0, 1)),
        ...     elite=({"x": 0.3}, {"x": 0.9}),
        ...     elite_values={"x": (0.3, 0.9)},
        ...     width=0.2,
        ... )
        >>> print(region.space["x"].domain)
        0.2 .. 1
    """

    declared: Space
    """The space that the study declares."""
    elite: tuple[Mapping[str, Value], ...] = ()
    """The params of the elite, best first; empty in the first round, which draws from the whole space."""
    elite_trials: tuple[int, ...] = ()
    """The numbers of the elite trials."""
    elite_values: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """The values of each parameter in the best trials that have it. A parameter that too few trials have is absent."""
    width: float = 1.0
    """The width of the window around a value, as a share of the parameter's range on its scale."""
    finished: tuple[Mapping[str, Value], ...] = ()
    """The params of the finished trials that candidates are compared with, best first."""

    @property
    def space(self) -> Space:
        """The smallest space that holds the region, without parameters whose conditions hold nowhere in it."""
        inside: dict[str, Parameter] = {}
        for name, parameter in self.declared.items():  # each comes after those that its conditions name
            if all(
                other in inside and any(value in inside[other].domain for value in allowed)
                for other, allowed in parameter.when.items()
            ):
                inside[name] = replace(parameter, domain=self.domain(name))
        return self.declared.with_parameters(inside)

    def option_shares(self, name: str, choice_mutation: float) -> tuple[float, ...]:
        """Return the probability of each option of a choice, in draws that do not explore.

        Args:
            name: the name of the choice.
            choice_mutation: the probability that the option is drawn from all of them (see `Narrowing`).
        """
        counts = self.option_counts(name)
        n, total = len(counts), sum(counts)
        if not total:
            return (1 / n,) * n
        return tuple((1 - choice_mutation) * count / total + choice_mutation / n for count in counts)

    def option_counts(self, name: str) -> tuple[int, ...]:
        """Return how many of the best trials have each option of a choice."""
        domain = self.declared[name].domain
        assert isinstance(domain, Choice)
        values = [(type(value), value) for value in self.elite_values.get(name, ())]
        return tuple(values.count((type(option), option)) for option in domain.options)

    def draw_box(self, rule: Narrowing, random: Random) -> Box:
        """Return the box that one trial is drawn from, if it does not explore.

        Most boxes are a uniform crossover (Syswerda 1989) with the whole elite as parents: each parameter is near a
        value of another member. The others are near one member, so that values that only work together stay together.
        """
        one, crosses = random.choice(self.elite), random.random() < rule.crossover
        box: dict[str, Window | Choice] = {}
        for name in sorted(self.declared):  # the order in which a space is written must not change a draw
            domain = self.declared[name].domain
            if name not in self.elite_values:
                box[name] = whole_range(domain)
            elif isinstance(domain, Choice) and random.random() < rule.choice_mutation:
                box[name] = domain
            else:
                value = one[name] if name in one and not crosses else random.choice(self.elite_values[name])
                box[name] = (
                    only(value) if isinstance(domain, Choice) else window_around(domain, value, self.width)
                )
        return box

    def domain(self, name: str) -> Domain:
        """Return the range that holds all windows of a number, or all options of a choice."""
        domain = self.declared[name].domain
        if isinstance(domain, Choice) or name not in self.elite_values:
            return domain
        values: tuple[Any, ...] = self.elite_values[name]
        low, _ = window_around(domain, min(values), self.width)
        _, high = window_around(domain, max(values), self.width)
        if domain.integer:  # draws are rounded to the nearest integer
            low, high = domain.coordinate(domain.value(low)), domain.coordinate(domain.value(high))
        return domain.between(low, high)


@lru_cache(typed=True)
def only(option: Value) -> Choice:
    """Return the choice of a single option; of 1, 1.0 and True each has its own."""
    return Choice((option,))


def whole_range(domain: Domain) -> Window | Choice:
    """Return all of a domain."""
    return domain if isinstance(domain, Choice) else domain.drawn_ends


def window_around(domain: Interval, value: Value, width: float) -> Window:
    """Return the window around a value, inside the range.

    Args:
        domain: the declared range.
        value: a number in it.
        width: the width of the window, as a share of the range on its scale.
    """
    assert isinstance(value, int | float)
    low, high = domain.ends
    middle, half = domain.coordinate(value), width * (high - low) / 2
    below, above = middle - half, middle + half
    if domain.integer:
        below = min(below, domain.coordinate(value - INTEGER_REACH))
        above = max(above, domain.coordinate(value + INTEGER_REACH))
    return max(low, below), min(high, above)
