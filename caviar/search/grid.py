"""The grid of `sampler="grid"`, for comparison with random search.

Each number has the same number of values, evenly spaced on its scale, with both ends of its range among them. A choice
has all its options, and an integer with few values has all of these. The number of values is the smallest with which
the grid has a point for each trial: it grows by one for one number after the other, in the order of their names, so
that two numbers differ by one value at most. The trials are the points in random order. If the grid has more points
than trials, a random few are left out. If a space has fewer points than trials, its points are trained again.

Optuna's `GridSampler` knows no conditions: of points that differ in a parameter that does not apply it trains each.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, islice, repeat
from random import Random

from caviar.errors import StudyError
from caviar.space import Choice, Domain, Interval, Space
from caviar.study import Study
from caviar.trial import Value, derive_seed

MAX_TRIALS = 100_000
"""Largest number of trials on a grid: all its points are in memory."""
LEAST = 2
"""Smallest number of values of a number."""
Params = Mapping[str, Value]


@lru_cache(maxsize=1)
def grid_trials(study: Study) -> Sequence[Params]:
    """Return the params of a study's search trials, in the order of their numbers: those of `try_first`, then the grid.

    Raises:
        StudyError: the trials are fewer than the points of the coarsest grid, or too many.
    """
    trials = sum(this.trials for this in study.search_rounds) - len(study.given_params)
    return (*study.given_params, *grid_points(study.space, trials, derive_seed(study.seed, "grid")))


def grid_points(space: Space, count: int, seed: int) -> list[Params]:
    """Return points of the coarsest grid that has so many, in random order.

    Args:
        space: the space; its constraints and conditions hold for each point.
        count: number of points.
        seed: the seed of the order.

    Raises:
        StudyError: the grid with two values a number has more points already; or there are too many trials, or no
            point that the constraints allow.

    Example:
        >>> from caviar.space import choice, linear, log
        >>> space = Space(rate=log(0.01, 1), dropout=linear(0, 0.5))
        >>> sorted({point["rate"] for point in grid_points(space, 9, seed=0)})
        [0.01, 0.1, 1.0]
    """
    if count > MAX_TRIALS:
        raise StudyError(f"sampler='grid': at most {MAX_TRIALS:,} trials, not {count:,}; use random search")
    space = space.with_parameters(dict(sorted(space.items())))  # however it is written, the grid is the same
    numbers = [name for name, parameter in space.items() if isinstance(parameter.domain, Interval)]

    def first_points(additions: int, limit: int) -> list[Params]:
        """Return at most so many points of the grid after some additions of a value."""
        each, more = divmod(additions, len(numbers) or 1)
        sizes = {name: LEAST + each + (place < more) for place, name in enumerate(numbers)}
        values = {name: _values(p.domain, sizes.get(name, 0)) for name, p in space.items()}
        return list(islice(filter(space.allows, _points(space, values, list(space), {})), limit))

    coarsest = len(first_points(0, count + 1))
    if coarsest > count:
        raise StudyError(
            f"sampler='grid': with {LEAST} values of each number ({', '.join(numbers) or 'none'}) and all options "
            f"of the choices, a grid has more points than the {count:,} trials of the search: search fewer parameters, "
            "train more trials, or use random search"
        )
    additions = bisect_left(
        range(count * len(numbers)), True, key=lambda n: len(first_points(n, count)) == count
    )
    points = first_points(additions, MAX_TRIALS * LEAST)
    if not points:
        raise StudyError("sampler='grid': the constraints refuse every point of the grid; use random search")
    random = Random(seed)
    rounds = (random.sample(points, len(points)) for _ in repeat(None))
    return list(islice(chain.from_iterable(rounds), count))


def _values(domain: Domain, count: int) -> Sequence[Value]:
    """Return so many values of a range at equal distances on its scale, or all options of a choice."""
    if isinstance(domain, Choice):
        return domain.options
    low, high = domain.ends
    values = (domain.value(low + (high - low) * place / (count - 1)) for place in range(count))
    return tuple(dict.fromkeys(values))  # integers are rounded, and some may be equal


def _points(
    space: Space, values: Mapping[str, Sequence[Value]], names: Sequence[str], begun: Params
) -> Iterator[dict[str, Value]]:
    """Yield each combination of values once, without parameters that do not apply.

    Args:
        space: the space.
        values: the values of each parameter.
        names: the parameters that are not chosen yet, each after those that its conditions name.
        begun: the values that are chosen.
    """
    if not names:
        yield dict(begun)
        return
    name, *later = names
    if not space[name].applies(begun):
        yield from _points(space, values, later, begun)
        return
    for value in values[name]:
        yield from _points(space, values, later, {**begun, name: value})
