"""Where a round draws: near the best trials so far, or anywhere.

A region is a list of places, not one box: the values of the elite, each with a stretch around it. So it can hold
two good places without the poor ground between them, and a good place at the very end of a range.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random

from caviar.rounds import Narrowing
from caviar.space import Choice, Domain, Interval, Parameter, Space
from caviar.trial import Value

NEIGHBOURS = 0.6
"""Of the way from one whole number to the next, that stretches reach at least: beyond a half, it is the next one."""
Stretch = tuple[float, float]
"""From one coordinate of a scale to another."""

Cell = Mapping[str, Stretch | Choice]
"""Where one trial is drawn from: a stretch for each number, and the options that each choice still has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """What a round draws from.

    Example:
        >>> from caviar.space import linear
        >>> region = Region(
        ...     whole=Space(x=linear(0, 1)), elite=({"x": 0.3}, {"x": 0.9}), near={"x": (0.3, 0.9)}, width=0.2
        ... )
        >>> print(region.space["x"].domain)
        0.2 .. 1
    """

    whole: Space
    """What the study declares."""
    elite: tuple[Mapping[str, Value], ...] = ()
    """The params of the best trials so far, best first; none in the first round, which draws anywhere."""
    trials: tuple[int, ...] = ()
    """The numbers of these trials."""
    near: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """The values of each parameter in the best of the trials that have it; one with too few is absent."""
    width: float = 1.0
    """Length of the stretch around a value, as a share of the parameter's range on its scale."""
    tried: tuple[Mapping[str, Value], ...] = ()
    """The params of the trials that draws are compared with, best first."""

    @property
    def space(self) -> Space:
        """The smallest space that holds all draws but the exploring ones.

        A parameter whose condition holds nowhere in it is not part of it.
        """
        inside: dict[str, Parameter] = {}
        for name, parameter in self.whole.items():  # parents come first
            if all(
                other in inside and any(value in inside[other].domain for value in allowed)
                for other, allowed in parameter.when.items()
            ):
                inside[name] = replace(parameter, domain=self.domain(name))
        return Space(**inside)

    def shares(self, name: str, stray: float) -> tuple[float, ...]:
        """How often a choice's options are drawn, where the draw does not explore."""
        domain = self.whole[name].domain
        assert isinstance(domain, Choice)
        n, values = len(domain.options), self.near.get(name, ())
        if not values:
            return (1 / n,) * n
        counts = [sum(_same(value, option) for value in values) for option in domain.options]
        return tuple((1 - stray) * count / len(values) + stray / n for count in counts)

    def cell(self, rule: Narrowing, random: Random) -> Cell:
        """Where one trial is drawn from, if it does not explore.

        Near one member of the elite, so that what only works together stays together; or, mixed,
        with each parameter near another member, so that what is good in one meets what is good in another.
        """
        one, mixed = random.choice(self.elite), random.random() < rule.mix
        cell: dict[str, Stretch | Choice] = {}
        for name in sorted(self.whole):  # so that the order in which a space is written changes no draw
            domain = self.whole[name].domain
            if name not in self.near or (isinstance(domain, Choice) and random.random() < rule.stray):
                cell[name] = everywhere(domain)
                continue
            value = one[name] if name in one and not mixed else random.choice(self.near[name])
            cell[name] = Choice((value,)) if isinstance(domain, Choice) else around(domain, value, self.width)
        return cell

    def domain(self, name: str) -> Domain:
        """Of a number, the range that all its stretches lie in; choices keep their options, though some get rare."""
        domain = self.whole[name].domain
        if isinstance(domain, Choice) or name not in self.near:
            return domain
        stretches = [around(domain, value, self.width) for value in self.near[name]]
        low, high = min(low for low, _ in stretches), max(high for _, high in stretches)
        if domain.integer:  # a draw rounds to the nearest whole number
            low, high = domain.coordinate(domain.value(low)), domain.coordinate(domain.value(high))
        return domain.between(low, high)


def everywhere(domain: Domain) -> Stretch | Choice:
    """All of a domain; the first and last whole numbers have as long a stretch as those between."""
    if isinstance(domain, Choice):
        return domain
    if not domain.integer:
        return domain.ends
    return domain.coordinate(domain.low - 0.5), domain.coordinate(domain.high + 0.5)


def around(domain: Interval, value: Value, width: float) -> Stretch:
    """The stretch around a value, a share of the range wide, cut where the range ends."""
    assert isinstance(value, int | float)
    low, high = domain.ends
    middle, half = domain.coordinate(value), width * (high - low) / 2
    below, above = middle - half, middle + half
    if domain.integer:  # the numbers next to it stay within reach
        below = min(below, domain.coordinate(value - NEIGHBOURS))
        above = max(above, domain.coordinate(value + NEIGHBOURS))
    return max(low, below), min(high, above)


def _same(value: Value, option: Value) -> bool:
    return type(value) is type(option) and value == option
