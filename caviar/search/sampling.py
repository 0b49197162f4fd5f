"""The params of a round's trials, drawn with Optuna's samplers in memory.

A draw depends on the region, on the seed, the round and its index, and for samplers that learn on the results of
earlier rounds. It never depends on workers, on the order in which results arrive, or on interruptions.
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
from caviar.search.candidate_ranking import NeighborRanking
from caviar.search.region import Box, Region, Window, whole_range
from caviar.space import Choice, Domain, Interval, Space
from caviar.study import SamplerFactory
from caviar.trial import Value, derive_seed

optuna.logging.set_verbosity(optuna.logging.WARNING)

_STRATA = 16
"""Number of equal parts that a range is divided into in the first round, and a window in later rounds."""
_STUDY_SIZE = 512
"""Draws from one in-memory Optuna study before it is replaced, because it keeps every trial."""


def require_sampler(sampler: str | SamplerFactory) -> None:
    """Refuse a function that does not make an Optuna sampler.

    Raises:
        StudyError: it returns something else.
    """
    if isinstance(sampler, str):
        return
    made = sampler(0)
    if not isinstance(made, BaseSampler):
        raise StudyError(
            f"sampler: the function returns {made!r}, which is not an Optuna sampler; "
            "use for instance lambda seed: optuna.samplers.TPESampler(seed=seed)"
        )


@dataclass(frozen=True, slots=True)
class Observation:
    """A finished trial, as told to a sampler that learns."""

    params: Mapping[str, Value]
    value: float


def draw_params(
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
    """Draw the params of a round's trials, in the order of their indices.

    Args:
        region: the region that the round draws from.
        rule: the settings of narrowing.
        count: number of trials in the round.
        seed: the study's seed.
        round_number: number of the round, from 1.
        sampler: "random", "qmc", "tpe", or a function that makes an Optuna sampler from a seed. All but "random" draw
            from the region's `space`, which also holds what is between the elite values.
        history: results of earlier rounds, for samplers that learn. Those outside the region's space are left out.
        maximize: True if larger values are better, for samplers that learn.
        skip: indices of trials that are not needed. They cost nothing, unless the sampler learns.

    Yields:
        The params of each trial, without those whose conditions do not hold.

    Example:
        >>> from caviar.space import Space, log
        >>> region = Region(declared=Space(learning_rate=log(1e-4, 1.0)))
        >>> list(draw_params(region, Narrowing(), count=1, seed=0, round_number=1)) == list(
        ...     draw_params(region, Narrowing(), count=1, seed=0, round_number=1)
        ... )
        True
    """
    draw = _random_draws(region.declared, seed, round_number)
    learner = None
    if sampler != "random":
        sampler_seed = derive_seed(seed, "sampler", round_number)
        learner = _learner_draws(region.space, sampler, sampler_seed, history, maximize)
    anywhere = {name: whole_range(parameter.domain) for name, parameter in region.declared.items()}
    stratified = _latin_hypercube(region.declared, seed, round_number)
    ranking = NeighborRanking(region.declared, region.finished)
    for index in range(count):
        if learner is None and index in skip:
            continue
        random = Random(derive_seed(seed, "place", round_number, index))
        if region.elite and random.random() < rule.explore:
            values = draw(index, anywhere)
        elif learner is not None:
            values = learner()
        elif region.elite:
            boxes = [_random_stratum(region.draw_box(rule, random), random) for _ in range(rule.candidates)]
            candidates = [_center(region.declared, box) for box in boxes]
            values = draw(index, boxes[ranking.best_candidate(candidates, rule.n_neighbors)])
        else:
            values = draw(index, stratified(index))
        if index not in skip:
            yield region.declared.active(values)


def distribution(domain: Domain) -> BaseDistribution:
    """Return the Optuna distribution of a domain.

    Optuna has no reverse-log distribution, so there it is the distribution of the coordinate. Optuna's categories must
    never change, so for a choice it is the distribution of the option's index.
    """
    if isinstance(domain, Choice):
        return CategoricalDistribution(tuple(range(len(domain.options))))
    if domain.integer:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.scale == "log")
    if domain.scale == "reverse_log":
        return FloatDistribution(*domain.ends)
    return FloatDistribution(domain.low, domain.high, log=domain.scale == "log")


def _from_optuna(domain: Domain, drawn: Value) -> Value:
    """Convert a draw from `distribution(domain)` to the parameter's value."""
    if isinstance(domain, Choice):
        return domain.options[drawn]  # type: ignore[index]
    if domain.scale == "reverse_log":
        return domain.value(drawn)  # type: ignore[arg-type]
    return drawn


def _to_optuna(domain: Domain, value: Value) -> Value:
    """Convert a parameter's value to the draw from `distribution(domain)` that gives it."""
    if isinstance(domain, Choice):
        return domain.options.index(value)
    if domain.scale == "reverse_log":
        return domain.coordinate(value)  # type: ignore[arg-type]
    return value


def _random_draws(declared: Space, seed: int, round_number: int) -> Callable[[int, Box], dict[str, Value]]:
    """Return a function that draws uniformly from a box.

    Each index has a generator of its own, so that a draw does not depend on the others.
    """
    study, asked = _optuna_study(RandomSampler(), maximize=True), 0

    def draw(index: int, box: Box) -> dict[str, Value]:
        nonlocal study, asked
        if asked == _STUDY_SIZE:
            study, asked = _optuna_study(RandomSampler(), maximize=True), 0
        asked += 1
        study.sampler = RandomSampler(seed=derive_seed(seed, "draw", round_number, index) % 2**32)
        parts = {name: _part_distribution(box[name]) for name in sorted(declared)}
        drawn = study.ask({name: part for name, part in parts.items() if part is not None}).params
        return {name: _part_value(declared[name].domain, box[name], drawn.get(name)) for name in declared}

    return draw


def _part_distribution(part: Window | Choice) -> BaseDistribution | None:
    """Return the distribution of a coordinate in a window, or of an option's index; None for a single option."""
    if isinstance(part, Choice):
        return distribution(part) if len(part.options) > 1 else None
    return FloatDistribution(*part)


def _part_value(domain: Domain, part: Window | Choice, drawn: Value) -> Value:
    """Convert a draw from `_part_distribution(part)` to the parameter's value."""
    if isinstance(part, Choice):
        return part.options[0] if len(part.options) == 1 else _from_optuna(part, drawn)
    assert isinstance(domain, Interval)
    return domain.value(drawn)  # type: ignore[arg-type]


def _random_stratum(box: Box, random: Random) -> Box:
    """Return a small part of a box: one stratum of each window, and one option of each choice."""
    small: dict[str, Window | Choice] = {}
    for name in sorted(box):
        part = box[name]
        if isinstance(part, Choice):
            small[name] = Choice((random.choice(part.options),))
        else:
            small[name] = _stratum(part, random.randrange(_STRATA))
    return small


def _stratum(window: Window, index: int) -> Window:
    length = (window[1] - window[0]) / _STRATA
    return window[0] + index * length, window[0] + (index + 1) * length


def _center(declared: Space, box: Box) -> dict[str, Value]:
    """Return the params in the middle of a box whose choices have one option each."""
    values: dict[str, Value] = {}
    for name, part in box.items():
        domain = declared[name].domain
        if isinstance(part, Choice):
            values[name] = part.options[0]
        else:
            assert isinstance(domain, Interval)
            values[name] = domain.value((part[0] + part[1]) / 2)
    return declared.active(values)


def _latin_hypercube(declared: Space, seed: int, round_number: int) -> Callable[[int], Box]:
    """Return a function from a trial's index to its box in a Latin hypercube (McKay, Beckman & Conover 1979).

    Each range is divided into `_STRATA` strata, and each block of `_STRATA` trials has one trial in every stratum, in
    a random order for each parameter. Options take turns in the same way.
    """

    @cache
    def order(name: str, block: int) -> list[int]:
        strata = list(range(_STRATA))
        Random(derive_seed(seed, "strata", round_number, name, block)).shuffle(strata)
        return strata

    def box(index: int) -> Box:
        block, place = divmod(index, _STRATA)
        parts: dict[str, Window | Choice] = {}
        for name, parameter in declared.items():
            stratum, part = order(name, block)[place], whole_range(parameter.domain)
            if isinstance(part, Choice):
                parts[name] = Choice((part.options[(stratum + block * _STRATA) % len(part.options)],))
            else:
                parts[name] = _stratum(part, stratum)
        return parts

    return box


def _learner_draws(
    space: Space, sampler: str | SamplerFactory, seed: int, history: Sequence[Observation], maximize: bool
) -> Callable[[], dict[str, Value]]:
    """Return a function that asks an Optuna sampler for the next params, after telling it the history."""
    factory = _FACTORIES[sampler] if isinstance(sampler, str) else sampler
    study = _optuna_study(factory(seed % 2**32), maximize)
    distributions = {name: distribution(space[name].domain) for name in sorted(space)}
    for observation in history:
        if all(name in space and value in space[name].domain for name, value in observation.params.items()):
            study.add_trial(_optuna_trial(space, observation))

    def draw() -> dict[str, Value]:
        drawn = study.ask(distributions).params
        return {name: _from_optuna(parameter.domain, drawn[name]) for name, parameter in space.items()}

    return draw


def _optuna_study(sampler: BaseSampler, maximize: bool) -> optuna.Study:
    return optuna.create_study(sampler=sampler, direction="maximize" if maximize else "minimize")


def _optuna_trial(space: Space, observation: Observation) -> optuna.trial.FrozenTrial:
    params = {name: _to_optuna(space[name].domain, value) for name, value in observation.params.items()}
    return create_trial(
        state=TrialState.COMPLETE,
        value=observation.value,
        params=params,
        distributions={name: distribution(space[name].domain) for name in params},
    )


def _sobol(seed: int) -> BaseSampler:
    """Make a sampler of scrambled Sobol points (Owen 1998)."""
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
    """Make a tree-structured Parzen estimator (Bergstra et al. 2011)."""
    return TPESampler(seed=seed)


_FACTORIES: dict[str, SamplerFactory] = {"qmc": _sobol, "tpe": _tpe}
