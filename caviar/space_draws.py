"""Uniform draws of a space, and what its constraints refuse.

A study is checked with them when it is declared, before any library of a sampler is loaded.
"""

from collections.abc import Mapping
from random import Random
from typing import Any

from caviar.constraints import allows
from caviar.errors import SpaceError, StudyError
from caviar.space import Choice, Domain, Interval, Space
from caviar.trial import Value
from caviar.validation import plain_value

MEASURED = 1_000
"""Number of draws by which the share is measured that the constraints refuse."""
MIN_ALLOWED = 0.01
"""Share of the draws that the constraints must allow, so that a trial takes about a hundred draws at most."""
TRIES = 10_000
"""Largest number of draws for one trial that the constraints may refuse in a row."""


def refused_share(space: Space) -> float:
    """Return the share of the draws from a whole space that its constraints refuse.

    Raises:
        SpaceError: they refuse nearly all draws; or a constraint raises an exception, or returns no truth value.

    Example:
        >>> from caviar.space import linear
        >>> space = Space(x=linear(0, 1), y=linear(0, 1), where=lambda p: p["x"] < p["y"])
        >>> 0.4 < refused_share(space) < 0.6
        True
    """
    if not space.constraints:
        return 0.0
    random = Random(0)
    draws = [space.active(_draw_all(space, random)) for _ in range(MEASURED)]
    allowed = sum(map(space.allows, draws))
    if allowed < MIN_ALLOWED * MEASURED:
        counts = [sum(allows([constraint], params) for params in draws) for constraint in space.constraints]
        alone = f" (alone: {', '.join(f'{count:,}' for count in counts)})" if len(counts) > 1 else ""
        raise SpaceError(
            f"Space: the constraints allow {allowed:,} of {MEASURED:,} draws from the space{alone}, so it is nearly "
            f"empty: choose ranges of which they allow at least {MIN_ALLOWED:.0%}"
        )
    return 1 - allowed / MEASURED


def draw(space: Space, random: Random) -> dict[str, Value]:
    """Return a draw from a whole space that its constraints allow.

    Args:
        space: a space of which the constraints allow at least the share `MIN_ALLOWED`.
        random: the generator of the draw.
    """
    return complete(space, {}, random, "Space")


def complete(space: Space, given: Mapping[str, Any], random: Random, where: str) -> dict[str, Value]:
    """Return params of a trial: those that the user gives, and draws of the others.

    Args:
        space: the space.
        given: values of some parameters.
        random: the generator of the draws.
        where: the place of the values in the user's declaration, for errors.

    Raises:
        StudyError: a name or a value is not in the space, a parameter does not apply beside the others, or the
            constraints refuse the params whatever is drawn.

    Example:
        >>> from caviar.space import choice, linear, when
        >>> space = Space(kind=choice("a", "b"), x=when(linear(0, 1), kind="b"))
        >>> complete(space, {"x": 0.5}, Random(0), "try_first")
        {'kind': 'b', 'x': 0.5}
    """
    return fill(
        space, {name: _value(space, name, value, where) for name, value in given.items()}, random, where
    )


def fill(space: Space, values: Mapping[str, Value], random: Random, where: str) -> dict[str, Value]:
    """Return params of a trial: values, which may lie outside the space, and draws of the other parameters.

    Args:
        space: the space.
        values: values of some parameters of the space.
        random: the generator of the draws.
        where: the place of the values, for errors.

    Raises:
        StudyError: a parameter does not apply beside the others, or the constraints refuse the params whatever is
            drawn.
    """
    params, refused = dict[str, Value](), None
    for _ in range(TRIES):
        params = space.active({**_draw_all(space, random), **values})
        if values.keys() <= params.keys():
            if space.allows(params):
                return params
            refused = params
    if refused is not None:
        drawn = [name for name in refused if name not in values]
        whatever = f", whatever is drawn for {', '.join(drawn)}" if drawn else ""
        raise StudyError(f"{where}: the constraints refuse {dict(values)}{whatever}")
    unused = ", ".join(name for name in values if name not in params)
    raise StudyError(f"{where}: {unused} does not apply in {params}")


def _value(space: Space, name: str, value: Any, where: str) -> Value:
    """Return a user's value of a parameter, as an int or a float if the parameter is a number."""
    if name not in space:
        raise StudyError(f"{where}: the space has no parameter {name!r}; it has {', '.join(space)}")
    domain, value = space[name].domain, plain_value(value)
    if value not in domain:
        raise StudyError(f"{where}: {name}={value!r} is not in the space: {domain}")
    if isinstance(domain, Interval):
        return int(value) if domain.integer else float(value)
    return value  # type: ignore[no-any-return]


def _draw_all(space: Space, random: Random) -> dict[str, Value]:
    """Draw a value for every parameter, in an order that does not depend on how the space is written."""
    return {name: _draw(space[name].domain, random) for name in sorted(space)}


def _draw(domain: Domain, random: Random) -> Value:
    if isinstance(domain, Choice):
        return domain.options[int(random.random() * len(domain.options))]
    low, high = domain.drawn_ends
    return domain.value(low + (high - low) * random.random())
