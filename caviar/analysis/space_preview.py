"""The draws of a study's space before anything is trained: shares an order of magnitude, and scales that look wrong."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from caviar.search.grid import grid_trials
from caviar.search.region import Region
from caviar.search.sampling import draw_params, require_sampler
from caviar.search.schedule import search_steps
from caviar.space import Choice, Interval, Space
from caviar.study import Study, start_source
from caviar.trial import Value

DRAWS = 1_000
"""Smallest number of draws that are looked at, unless the sampler is the user's or a grid."""
MAX_VALUES = 12
"""Largest number of integers that are counted one by one."""
PARTS = 4
"""Number of equal parts of a range that has no decades."""
MIN_DECADES = {False: 2.0, True: 3.0}
"""Decades from which a linear scale looks wrong: of a number, and of one that is an integer (True)."""
RARE = 0.05
"""Share of the draws below which a conditional parameter is called rare."""
_EXACT = 1e-9


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a parameter's range, or one of its options."""

    label: str
    """Its ends, or the option."""
    share: float
    """Share of the draws with the parameter that lie in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterDraws:
    """The draws of one parameter."""

    name: str
    scale: str
    """Its scale in words; "choice" for a choice."""
    applies: float
    """Share of the draws in which it applies."""
    parts: tuple[Part, ...]
    """Parts of its range: decades of x or of 1 - x, single values, or equal parts."""
    hint: str | None
    """Advice about its scale, if that looks wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpacePreview:
    """The draws of a study's space."""

    study: str
    sampler: str
    draws: int
    """Number of draws that the shares were measured by; the first of them are the study's own."""
    first: int
    """Number of the study's trials that are drawn without learning from others."""
    given: int
    """Number of the study's first trials whose params it gives."""
    start: str | None
    """The run that the study starts from; None without one."""
    refused: float | None
    """Share of the draws from the whole space that the constraints refuse; None without constraints."""
    parameters: tuple[ParameterDraws, ...]


def preview(study: Study) -> SpacePreview:
    """Draw what a study would draw before it learns anything, and count what falls where.

    Args:
        study: the study.

    Raises:
        StudyError: the sampler cannot draw the study's params.
        SpaceError: a constraint raises an exception.
    """
    require_sampler(study)
    first = search_steps(study.rounds)[0].count
    draws = _draw(study, first)
    return SpacePreview(
        study=study.name,
        sampler=study.sampler
        if isinstance(study.sampler, str)
        else getattr(study.sampler, "__name__", "function"),
        draws=len(draws),
        first=first,
        given=len(study.given_params),
        start=None if study.start_from is None else start_source(study.start_from),
        refused=study.refused if study.space.constraints else None,
        parameters=tuple(_parameter(study.space, name, draws) for name in study.space),
    )


def _draw(study: Study, first: int) -> Sequence[Mapping[str, Value]]:
    """Return the draws of the first step, and more of their kind if the sampler is caviar's; all points of a grid."""
    if study.sampler == "grid":
        return grid_trials(study)[len(study.given_params) :]
    return list(
        draw_params(
            Region(declared=study.space),
            study.narrowing,
            count=max(first, DRAWS) if study.narrows else first,
            seed=study.seed,
            round_number=1,
            sampler=study.sampler,
            maximize=study.objective.maximize,
        )
    )


def _parameter(space: Space, name: str, draws: Sequence[Mapping[str, Value]]) -> ParameterDraws:
    domain, values = space[name].domain, [params[name] for params in draws if name in params]
    applies = len(values) / len(draws)
    if isinstance(domain, Choice):
        parts = tuple(
            Part(str(option), _share(sum(type(v) is type(option) and v == option for v in values), values))
            for option in domain.options
        )
        return ParameterDraws(name=name, scale="choice", applies=applies, parts=parts, hint=_rare(applies))
    parts = tuple(_parts(domain, np.array(values, float)))
    scale = f"{'integer, ' if domain.integer else ''}{domain.scale}"
    hint = _scale_hint(name, domain, parts) or _rare(applies)
    return ParameterDraws(name=name, scale=scale, applies=applies, parts=parts, hint=hint)


def _share(count: int, values: Sequence[Value]) -> float:
    return count / len(values) if values else 0.0


def _parts(domain: Interval, values: np.ndarray) -> Iterator[Part]:
    """Yield the parts of a range with the share of the values in each."""
    if domain.integer and domain.high - domain.low < MAX_VALUES:
        for x in range(int(domain.low), int(domain.high) + 1):
            yield Part(domain.text(x), float(np.mean(values == x)) if len(values) else 0.0)
        return
    edges, shown = part_edges(domain), replace(domain, scale="reverse_log") if is_near_one(domain) else domain
    counts = np.histogram(values, [*edges[:-1], math.nextafter(edges[-1], math.inf)])[0]
    for (low, high), count in zip(pairwise(edges), counts.tolist(), strict=True):
        last = (
            high - 1 if domain.integer and high < domain.high else high
        )  # whole numbers are in one part each
        label = shown.text(low) if last == low else f"{shown.text(low)} .. {shown.text(last)}"
        yield Part(label, count / max(1, len(values)))


def part_edges(domain: Interval) -> list[float]:
    """Return the ends of the parts of a range: powers of ten, 1 minus powers of ten, or equal parts of it.

    Example:
        >>> from caviar.space import linear, log, reverse_log
        >>> [part_edges(domain) for domain in (log(1e-3, 0.5), reverse_log(0.9, 0.999), linear(-1, 1))]
        [[0.001, 0.01, 0.1, 0.5], [0.9, 0.99, 0.999], [-1, -0.5, 0.0, 0.5, 1]]
    """
    if is_near_one(domain):
        powers = [float(f"{1 - 10.0**-k:.12g}") for k in range(1, 16)]
    elif _decades(domain) >= 1 - _EXACT:
        powers = [float(f"{10.0**k:.12g}") for k in range(-300, 300)]
    else:
        low, high = domain.ends
        powers = [domain.value(low + (high - low) * part / PARTS) for part in range(1, PARTS)]
    inner = (x for x in powers if domain.low < x < domain.high)
    return list(dict.fromkeys([domain.low, *inner, domain.high]))  # rounded integers may be equal


def _decades(domain: Interval) -> float:
    """Return the decades of a range of positive numbers; 0 for others."""
    return math.log10(domain.high / domain.low) if domain.low > 0 else 0.0


def is_near_one(domain: Interval) -> bool:
    """Return True if a range is that of an average's factor, such as a momentum: its decades are those of 1 - x."""
    if domain.scale == "reverse_log":
        return True
    return (
        not domain.integer
        and domain.low >= 0.5
        and domain.high < 1
        and 1 - domain.low >= 10 * (1 - domain.high) * (1 - _EXACT)
    )


def _scale_hint(name: str, domain: Interval, parts: Sequence[Part]) -> str | None:
    """Return advice about a scale that puts most draws into one order of magnitude."""
    if is_near_one(domain) and domain.scale != "reverse_log":
        return (
            f"{parts[0].share:.0%} of the draws are in {parts[0].label}: "
            f"{name}=cv.reverse_log({domain.low!r}, {domain.high!r}) draws each decade of 1 - x as often"
        )
    if domain.scale == "linear" and _decades(domain) >= MIN_DECADES[domain.integer] - _EXACT:
        better = (
            f'cv.integer({domain.low!r}, {domain.high!r}, scale="log")'
            if domain.integer
            else f"cv.log({domain.low!r}, {domain.high!r})"
        )
        most = f"{parts[-1].share:.0%} of the draws are in {parts[-1].label}"
        return f"{most}: {name}={better} draws each decade as often"
    return None


def _rare(applies: float) -> str | None:
    if applies >= RARE:
        return None
    return f"it applies in {applies:.1%} of the draws, so few trials will tell what suits it"
