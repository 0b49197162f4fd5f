"""Space -> Optuna distributions -> params, drawn by ask and tell in memory.

What a round draws depends on its region, on (seed, round, index) and, for samplers that learn, on the results of
the rounds before: never on workers, order of arrival or interruptions.
"""

import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from caviar.errors import StudyError
from caviar.rounds import Narrowing
from caviar.search.candidate_ranking import Neighbours
from caviar.search.region import Cell, Region, Stretch, everywhere
from caviar.space import Choice, Domain, Interval, Space
from caviar.study import SamplerFactory
from caviar.trial import Value, derive_seed

optuna.logging.set_verbosity(optuna.logging.WARNING)

_STRATA = 16
"""Of a range, in the first round; and of a stretch, in a later one."""
_BLOCK = 512
"""Random draws that share an in-memory Optuna study, which keeps every trial it ever asked."""


def require_sampler(sampler: str | SamplerFactory) -> None:
    """Refuse a function that makes something else.

    Raises:
        StudyError: what it makes is no Optuna sampler.
    """
    if isinstance(sampler, str):
        return
    made = sampler(0)
    if not isinstance(made, BaseSampler):
        raise StudyError(
            f"sampler: the function makes {made!r} from a seed, which is no Optuna sampler; "
            "use for instance lambda seed: optuna.samplers.TPESampler(seed=seed)"
        )


@dataclass(frozen=True, slots=True)
class Observation:
    """A finished trial, as told to a sampler that learns."""

    params: Mapping[str, Value]
    value: float


def draws(
    region: Region,
    rule: Narrowing,
    *,
    count: int,
    seed: int,
    round_number: int,
    sampler: str | SamplerFactory = "random",
    history: Sequence[Observation] = (),
    maximize: bool = True,
    skip: Container[int] = (),
) -> Iterator[dict[str, Value]]:
    """The params of a round's trials, index by index; those whose conditions fail are absent.

    Args:
        region: where the round draws.
        rule: how draws are spread over the region.
        count: how many.
        seed: the study's.
        round_number: from 1.
        sampler: "random", "qmc", "tpe", or a function from a seed to an Optuna sampler. All but "random" draw
            from the region's `space`, without regard to the places in it.
        history: results of earlier rounds, for samplers that learn; those inside the region's space are told.
        maximize: whether more is better, for samplers that learn.
        skip: indices that are left out, at no cost where no draw depends on another.

    Example:
        >>> from caviar.space import Space, log
        >>> region = Region(whole=Space(learning_rate=log(1e-4, 1.0)))
        >>> list(draws(region, Narrowing(), count=1, seed=0, round_number=1)) == list(
        ...     draws(region, Narrowing(), count=1, seed=0, round_number=1)
        ... )
        True
    """
    ask = _random(region.whole, seed, round_number)
    learned = None
    if sampler != "random":
        learned = _learner(
            region.space, sampler, derive_seed(seed, "sampler", round_number), history, maximize
        )
    anywhere = {name: everywhere(parameter.domain) for name, parameter in region.whole.items()}
    spread = _spread(region.whole, seed, round_number)
    neighbours = Neighbours(region.whole, region.tried)
    for index in range(count):
        if learned is None and index in skip:
            continue
        random = Random(derive_seed(seed, "place", round_number, index))
        if region.elite and random.random() < rule.explore:
            values = ask(index, anywhere)
        elif learned is not None:
            values = learned()
        elif region.elite:
            cells = [_small(region.cell(rule, random), random) for _ in range(rule.draws)]
            middles = [_middle(region.whole, cell) for cell in cells]
            values = ask(index, cells[neighbours.favourite(middles, rule.nearest)])
        else:
            values = ask(index, spread(index))
        if index not in skip:
            yield region.whole.active(values)


def distribution(domain: Domain) -> BaseDistribution:
    """The Optuna distribution of a domain: of its coordinate for `reverse_log`, of the index for choices.

    Optuna has no reverse-log distribution, and its categories may be plain values only and never change.
    """
    if isinstance(domain, Choice):
        return CategoricalDistribution(tuple(range(len(domain.options))))
    if domain.integer:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.scale == "log")
    if domain.scale == "reverse_log":
        return FloatDistribution(*domain.ends)
    return FloatDistribution(domain.low, domain.high, log=domain.scale == "log")


def _value(domain: Domain, drawn: Value) -> Value:
    """The user's value of what Optuna drew."""
    if isinstance(domain, Choice):
        return domain.options[drawn]  # type: ignore[index]
    if domain.scale == "reverse_log":
        return domain.value(drawn)  # type: ignore[arg-type]
    return drawn


def _drawn(domain: Domain, value: Value) -> Value:
    """What Optuna would have drawn for the user's value."""
    if isinstance(domain, Choice):
        return domain.options.index(value)
    if isinstance(domain, Interval) and domain.scale == "reverse_log":
        return domain.coordinate(value)  # type: ignore[arg-type]
    return value


Asker = Callable[[], dict[str, Value]]
"""Gives values for all parameters, conditions not yet applied."""


def _random(whole: Space, seed: int, round_number: int) -> Callable[[int, Cell], dict[str, Value]]:
    """Each index has a generator of its own, so that a draw depends on no other."""
    study, asked = _study(RandomSampler(), maximize=True), 0

    def ask(index: int, cell: Cell) -> dict[str, Value]:
        nonlocal study, asked
        if asked == _BLOCK:
            study, asked = _study(RandomSampler(), maximize=True), 0
        asked += 1
        study.sampler = RandomSampler(seed=derive_seed(seed, "draw", round_number, index) % 2**32)
        parts = {name: _within(cell[name]) for name in sorted(whole)}
        drawn = study.ask({name: part for name, part in parts.items() if part is not None}).params
        return {name: _placed(whole[name].domain, cell[name], drawn.get(name)) for name in whole}

    return ask


def _small(cell: Cell, random: Random) -> Cell:
    """A place in a cell: one of the strata of each stretch, and one option of each choice."""
    small: dict[str, Stretch | Choice] = {}
    for name in sorted(cell):
        part = cell[name]
        if isinstance(part, Choice):
            small[name] = Choice((random.choice(part.options),))
        else:
            small[name] = _stratum(part, random.randrange(_STRATA))
    return small


def _middle(whole: Space, cell: Cell) -> dict[str, Value]:
    """The params in the middle of a place."""
    values: dict[str, Value] = {}
    for name, part in cell.items():
        domain = whole[name].domain
        if isinstance(part, Choice):
            values[name] = part.options[0]
        else:
            assert isinstance(domain, Interval)
            values[name] = domain.value((part[0] + part[1]) / 2)
    return whole.active(values)


def _stratum(part: Stretch, place: int) -> Stretch:
    length = (part[1] - part[0]) / _STRATA
    return part[0] + place * length, part[0] + (place + 1) * length


def _spread(whole: Space, seed: int, round_number: int) -> Callable[[int], Cell]:
    """Where a round draws that looks everywhere: no part of a range is missed by `_STRATA` draws in a row.

    Each range is cut into so many strata, and each of these draws falls into another one, in an order of its own for
    every parameter: a Latin hypercube (McKay, Beckman & Conover 1979), again and again. Options take turns likewise.
    """

    @cache
    def order(name: str, block: int) -> list[int]:
        places = list(range(_STRATA))
        Random(derive_seed(seed, "strata", round_number, name, block)).shuffle(places)
        return places

    def cell(index: int) -> Cell:
        block, turn = divmod(index, _STRATA)
        parts: dict[str, Stretch | Choice] = {}
        for name, parameter in whole.items():
            place, part = order(name, block)[turn], everywhere(parameter.domain)
            if isinstance(part, Choice):
                parts[name] = Choice((part.options[(place + block * _STRATA) % len(part.options)],))
            else:
                parts[name] = _stratum(part, place)
        return parts

    return cell


def _within(part: Stretch | Choice) -> BaseDistribution | None:
    """The Optuna distribution of a part of a domain: of a coordinate, or an option's index; None for one option."""
    if isinstance(part, Choice):
        return distribution(part) if len(part.options) > 1 else None
    return FloatDistribution(*part)


def _placed(domain: Domain, part: Stretch | Choice, drawn: Value) -> Value:
    """The user's value of what Optuna drew from a part of a domain."""
    if isinstance(part, Choice):
        return part.options[0] if len(part.options) == 1 else _value(part, drawn)
    assert isinstance(domain, Interval)
    return domain.value(drawn)  # type: ignore[arg-type]


def _learner(
    space: Space, sampler: str | SamplerFactory, seed: int, history: Sequence[Observation], maximize: bool
) -> Asker:
    """A sampler with a memory counts its draws itself; it is told what lies in its space."""
    factory = _FACTORIES[sampler] if isinstance(sampler, str) else sampler
    study, distributions = _study(factory(seed % 2**32), maximize), _distributions(space)
    for observation in history:
        if all(name in space and value in space[name].domain for name, value in observation.params.items()):
            study.add_trial(_told(space, observation))

    def ask() -> dict[str, Value]:
        drawn = study.ask(distributions).params
        return {name: _value(parameter.domain, drawn[name]) for name, parameter in space.items()}

    return ask


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    """By name, so that the order in which a space is written changes no draw."""
    return {name: distribution(space[name].domain) for name in sorted(space)}


def _study(sampler: BaseSampler, maximize: bool) -> optuna.Study:
    return optuna.create_study(sampler=sampler, direction="maximize" if maximize else "minimize")


def _told(space: Space, observation: Observation) -> optuna.trial.FrozenTrial:
    params = {name: _drawn(space[name].domain, value) for name, value in observation.params.items()}
    return create_trial(
        state=TrialState.COMPLETE,
        value=observation.value,
        params=params,
        distributions={name: distribution(space[name].domain) for name in params},
    )


def _qmc(seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return QMCSampler(
            qmc_type="sobol",
            scramble=True,
            seed=seed,
            warn_independent_sampling=False,
            warn_asynchronous_seeding=False,
        )


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(seed=seed)


_FACTORIES: dict[str, SamplerFactory] = {"qmc": _qmc, "tpe": _tpe}
