"""The params of the trials of a round or step, drawn at random or with Optuna's samplers in memory.

A draw depends on the region, on the seed, the step and its index, on the params drawn before it, and for samplers that
learn on the results of the trials that its step learns from. It never depends on workers, on the order in which results
arrive, or on interruptions.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from random import Random
from types import MappingProxyType
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, QMCSampler, TPESampler
from optuna.trial import TrialState, create_trial

from caviar.errors import SpaceError, StudyError
from caviar.rounds import Narrowing
from caviar.search.candidate_ranking import CandidateRanking
from caviar.search.grid import grid_trials
from caviar.search.region import Box, Region, Window, only, whole_range
from caviar.search.schedule import search_steps
from caviar.space import Choice, Domain, Interval, Space
from caviar.space_draws import TRIES
from caviar.study import SamplerFactory, Study
from caviar.trial import Value, derive_seed
from caviar.validation import plain_value

optuna.logging.set_verbosity(optuna.logging.ERROR)  # its samplers would log a line or more a draw

_STRATA = 16
"""Number of equal parts that a range is divided into in the first round."""
ASKED = 1_000
"""Largest number of times that a sampler is asked for one trial, while the constraints refuse what it draws."""
TRIES_NEAR = 100
"""Largest number of draws near the elite for each candidate, while the constraints refuse them."""
_REHEARSED = 100
"""Largest number of draws by which a user's sampler is checked before a study starts."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A finished trial, as told to a sampler that learns."""

    params: Mapping[str, Value]
    value: float


def require_sampler(study: Study) -> None:
    """Refuse a sampler that could not draw the study's params, by drawing with it what the study would draw.

    A grid must have a point for each trial, and no more points than that in its coarsest form.

    The first step is drawn, up to `_REHEARSED` trials. If more steps follow, the sampler is then told these trials
    with made-up values and draws once more, because many samplers need their packages only then.

    Raises:
        StudyError: the grid does not fit; the function makes no Optuna sampler, or ignores its seed; or the sampler
            raises an exception or draws a value that is not in the space.
    """
    if study.sampler == "grid":
        grid_trials(study)
    if isinstance(study.sampler, str):
        return
    with _errors_as_study_errors():
        made = study.sampler(0)
    if not isinstance(made, BaseSampler):
        raise StudyError(
            f"sampler: the function returns {made!r}, which is not an Optuna sampler; "
            "use for instance lambda seed: optuna.samplers.TPESampler(seed=seed)"
        )
    first, *later = search_steps(study.rounds)

    def rehearse(round_number: int, count: int, history: Sequence[Observation]) -> list[dict[str, Value]]:
        return list(
            draw_params(
                Region(declared=study.space),
                study.narrowing,
                count=count,
                seed=study.seed,
                round_number=round_number,
                sampler=study.sampler,
                history=history,
                maximize=study.objective.maximize,
            )
        )

    params = rehearse(1, min(first.count, _REHEARSED), ())
    if params != rehearse(1, len(params), ()):
        raise StudyError(
            "sampler: two samplers that the function makes from one seed draw different params, so the study could "
            "not be repeated; pass the seed on, as in lambda seed: optuna.samplers.TPESampler(seed=seed)"
        )
    if later:
        rehearse(2, 1, [Observation(drawn, float(index)) for index, drawn in enumerate(params)])


def draw_params(
    region: Region,
    rule: Narrowing,
    *,
    count: int,
    seed: int,
    round_number: int,
    sampler: "str | SamplerFactory | OptunaSearch" = "random",
    history: Sequence[Observation] = (),
    maximize: bool = True,
    drawn: Iterable[Mapping[str, Value]] = (),
    given: Mapping[int, Mapping[str, Value]] = MappingProxyType({}),
    done: Mapping[int, Mapping[str, Value]] = MappingProxyType({}),
) -> Iterator[dict[str, Value]]:
    """Draw the params of a round's trials, in the order of their indices. All keep the constraints of the space.

    If these refuse a draw, the next is tried: one from the whole space in place of a draw from a stratum, so that the
    draws of the first round are uniform over what is allowed.

    Args:
        region: the region that the round draws from.
        rule: the settings of narrowing.
        count: number of trials in the round.
        seed: the study's seed.
        round_number: number of the round, from 1.
        sampler: "random", "qmc", "tpe", a function that makes an Optuna sampler from a seed, or a search with such a
            sampler. All but "random" draw from the region's `space`, which also holds what is between the elite values.
            The sampler of a function is asked only for the parameters whose conditions hold.
        history: results of earlier rounds, for samplers that learn. Those outside the region's space are left out.
        maximize: True if larger values are better, for samplers that learn.
        drawn: params of earlier trials that the region does not know. A random draw near the elite repeats none of
            them, nor any other, if one of its candidates is new.
        given: params of the round's trials that the study gives, by index, such as those of a grid. They are not drawn.
        done: params of the round's trials that are recorded already, by index. They are not drawn again, unless the
            sampler learns.

    Yields:
        The params of each other trial, without those whose conditions do not hold.

    Raises:
        SpaceError: a constraint raises an exception, or refuses every draw.
        StudyError: a user's sampler raises an exception, or draws what is not in the space.

    Example:
        >>> from caviar.space import Space, log
        >>> region = Region(declared=Space(learning_rate=log(1e-4, 1.0)))
        >>> list(draw_params(region, Narrowing(), count=1, seed=0, round_number=1)) == list(
        ...     draw_params(region, Narrowing(), count=1, seed=0, round_number=1)
        ... )
        True
    """
    draws = _random_draws(region.declared, seed, round_number)
    learner: Callable[[], dict[str, Value]] | None = None
    sampler_seed = derive_seed(seed, "sampler", round_number)
    if isinstance(sampler, OptunaSearch):
        learner = sampler.ask
    elif not isinstance(sampler, str):
        learner = OptunaSearch(region.space, sampler, sampler_seed, history, maximize).ask
    elif sampler in _FACTORIES:
        learner = _learner_draws(region.space, sampler, sampler_seed, history, maximize)
    space, whole = region.declared, {name: whole_range(p.domain) for name, p in region.declared.items()}
    stratified = _latin_hypercube(space, seed, round_number)
    ranking = CandidateRanking(space, region.finished)
    before = {_identity(params) for params in chain(region.finished, drawn)}
    for index in range(count):
        if learner is None and index in done:
            before.add(_identity(done[index]))
            continue
        draw = draws(index)
        anywhere = _repeat(draw, whole)
        random = Random(derive_seed(seed, "place", round_number, index)) if region.elite else None
        if index in given:
            params = dict(given[index])
        elif random is not None and random.random() < rule.explore:  # as `explores` says
            params = _first_allowed(space, anywhere)
        elif learner is not None:
            asked = map(space.active, islice(_repeat(learner), ASKED))
            params = _first_allowed(space, chain(asked, anywhere))
        elif random is not None:
            near = (draw(region.draw_box(rule, random)) for _ in range(rule.candidates * TRIES_NEAR))
            candidates = list(islice(filter(space.allows, near), rule.candidates))
            candidates = candidates or [_first_allowed(space, anywhere)]
            new = [candidate for candidate in candidates if _identity(candidate) not in before] or candidates
            params = new[ranking.best_candidate(new)]
        else:
            params = _first_allowed(space, chain([draw(stratified(index))], anywhere))
        before.add(_identity(params))
        if index not in done:
            yield params


def explores(seed: int, round_number: int, index: int, share: float) -> bool:
    """Return whether a draw of a round with an elite comes from the whole space.

    Args:
        seed: the study's seed.
        round_number: number of the round, from 1.
        index: index of the trial in the round.
        share: the share of such draws (`Narrowing.explore`).
    """
    return Random(derive_seed(seed, "place", round_number, index)).random() < share


def _repeat(draw: Callable[..., dict[str, Value]], *arguments: Any) -> Iterator[dict[str, Value]]:
    """Yield draws without end."""
    while True:
        yield draw(*arguments)


def _first_allowed(space: Space, draws: Iterable[dict[str, Value]]) -> dict[str, Value]:
    """Return the first of some draws that the constraints allow.

    Raises:
        SpaceError: they refuse all of the first `TRIES`.
    """
    for params in islice(draws, TRIES):
        if space.allows(params):
            return params
    raise SpaceError(f"Space: the constraints refuse all of {TRIES:,} draws, the last of them {params}")


def distribution(domain: Domain) -> BaseDistribution:
    """Return the Optuna distribution of a domain.

    Optuna has no reverse-log distribution, so there it is the distribution of log10(1 - x), the negative coordinate.
    """
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.options)
    if domain.integer:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.scale == "log")
    if domain.scale == "reverse_log":
        low, high = domain.ends
        return FloatDistribution(-high, -low)
    return FloatDistribution(domain.low, domain.high, log=domain.scale == "log")


def _from_optuna(name: str, domain: Domain, drawn: Value) -> Value:
    """Convert what a sampler draws from `distribution(domain)` to the parameter's value.

    Samplers with values of their own, such as those of a grid, return these whatever the distribution. On a reverse-log
    scale they are told apart by their sign: log10(1 - x) is negative for every x above 0.

    Raises:
        StudyError: the value is not in the domain.
    """
    drawn = plain_value(drawn)
    if isinstance(domain, Choice):
        if drawn in domain.options:
            return domain.options[domain.options.index(drawn)]
    elif isinstance(drawn, int | float) and not isinstance(drawn, bool):
        if domain.scale == "reverse_log" and _is_within(-drawn, *domain.ends):
            return domain.value(-drawn)
        if _is_within(drawn, domain.low, domain.high) and (not domain.integer or float(drawn).is_integer()):
            inside = min(max(drawn, domain.low), domain.high)
            return int(inside) if domain.integer else float(inside)
    raise StudyError(f"sampler: it draws {name} = {drawn!r}, which is not in the space: {domain}")


def _is_within(x: float, low: float, high: float) -> bool:
    """Return True for a number between two bounds, up to the rounding of a sampler that works on a log scale."""
    return low <= x <= high or math.isclose(x, low, rel_tol=1e-12) or math.isclose(x, high, rel_tol=1e-12)


def _to_optuna(domain: Domain, value: Value) -> Value:
    """Convert a parameter's value to the draw from `distribution(domain)` that gives it."""
    if isinstance(domain, Interval) and domain.scale == "reverse_log":
        return -domain.coordinate(value)  # type: ignore[arg-type]
    return value


def _identity(params: Mapping[str, Value]) -> frozenset[tuple[str, Value]]:
    """Return what trials with the same params share."""
    return frozenset(params.items())


def _random_draws(
    declared: Space, seed: int, round_number: int
) -> Callable[[int], Callable[[Box], dict[str, Value]]]:
    """Return a function that returns, for the index of a trial, a function that draws uniformly from a box.

    Each index has a seed of its own, so that a draw does not depend on the others. The generator is the one whose
    numbers no version of NumPy changes. The numbers are those of Optuna's `RandomSampler`, at a tenth of its cost.
    """
    names = sorted(declared)
    random = np.random.RandomState()

    def draw(box: Box) -> dict[str, Value]:
        return declared.active({name: _draw_part(declared[name].domain, box[name], random) for name in names})

    def draws(index: int) -> Callable[[Box], dict[str, Value]]:
        random.seed(derive_seed(seed, "draw", round_number, index) % 2**32)
        return draw

    return draws


def _draw_part(domain: Domain, part: Window | Choice, random: np.random.RandomState) -> Value:
    """Draw a value from a window or from some options; a single option takes no random number."""
    if isinstance(part, Choice):
        options = part.options
        return options[int(random.random_sample(len(options)).argmax()) if len(options) > 1 else 0]
    assert isinstance(domain, Interval)
    low, high = part
    return domain.value(min(low + (high - low) * random.random_sample(), math.nextafter(high, low)))


def _stratum(window: Window, index: int) -> Window:
    length = (window[1] - window[0]) / _STRATA
    return window[0] + index * length, window[0] + (index + 1) * length


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
                parts[name] = only(part.options[(stratum + block * _STRATA) % len(part.options)])
            else:
                parts[name] = _stratum(part, stratum)
        return parts

    return box


def _learner_draws(
    space: Space, sampler: str, seed: int, history: Sequence[Observation], maximize: bool
) -> Callable[[], dict[str, Value]]:
    """Return a function that asks an Optuna sampler for the next params, after telling it the history."""
    study = _optuna_study(_FACTORIES[sampler](seed % 2**32), maximize)
    space = space.with_parameters(
        dict(sorted(space.items()))
    )  # however it is written, the draws are the same
    distributions = {name: distribution(parameter.domain) for name, parameter in space.items()}
    for observation in history:
        if _is_inside(space, observation.params):
            study.add_trial(_optuna_trial(space, observation.params, observation.value))

    def draw_all() -> dict[str, Value]:
        drawn = study.ask(dict(distributions)).params
        return {name: _from_optuna(name, space[name].domain, drawn[name]) for name in space}

    return draw_all


def _is_inside(space: Space, params: Mapping[str, Value]) -> bool:
    return all(name in space and value in space[name].domain for name, value in params.items())


class OptunaSearch:
    """A search with a user's Optuna sampler, which is asked for one trial after the other.

    The sampler lives as long as the search, because some know only what they were asked for, such as that of a grid.
    Trials that have been asked for and not told are running for it, so it can avoid them. Draws that the constraints
    refuse have failed for it. Which trials are told before which are asked for follows from the steps of the search
    alone, so a resumed run asks and tells as the first one.

    Args:
        space: the space to draw from.
        factory: makes the sampler from a seed.
        seed: the seed.
        history: trials to tell at once, those inside the space.
        maximize: True if larger values are better.
        first: number of the first trial that it is asked for.
        given: params of the first trials of the study, which it does not choose.
    """

    def __init__(
        self,
        space: Space,
        factory: SamplerFactory,
        seed: int,
        history: Sequence[Observation] = (),
        maximize: bool = True,
        first: int = 0,
        given: Sequence[Mapping[str, Value]] = (),
    ) -> None:
        # However the space is written, the draws are the same
        self._space = space.with_parameters(dict(sorted(space.items())))
        self._study = _optuna_study(factory(seed % 2**32), maximize)
        self._study.stop = lambda: None  # type: ignore[method-assign]  # a grid calls it after its last point
        self._next, self._asked, self._given = first, dict[int, optuna.Trial](), given
        self._told: set[int] = set()
        for observation in history:
            # Samplers such as BruteForceSampler need the order in which they are asked
            params = {name: observation.params[name] for name in self._space if name in observation.params}
            if _is_inside(space, observation.params):
                self._study.add_trial(_optuna_trial(self._space, params, observation.value))

    def ask(self) -> dict[str, Value]:
        """Return the params of the next trial, those that apply.

        Raises:
            StudyError: the sampler raises an exception, or the constraints refuse all that it draws.
        """
        number, self._next = self._next, self._next + 1
        if number < len(self._given):
            given = dict(self._given[number])
            self._study.enqueue_trial({n: _to_optuna(self._space[n].domain, v) for n, v in given.items()})
            self._asked[number], _ = self._ask_sampler()
            return given
        for _ in range(ASKED):
            trial, values = self._ask_sampler()
            if self._space.allows(values):
                self._asked[number] = trial
                return values
            with _errors_as_study_errors():
                self._study.tell(trial, state=TrialState.FAIL)
        raise StudyError(f"sampler: the constraints refuse all of its {ASKED:,} draws, the last one {values}")

    def _ask_sampler(self) -> tuple[optuna.Trial, dict[str, Value]]:
        values: dict[str, Value] = {}
        with _errors_as_study_errors():
            trial = self._study.ask()
            for name, parameter in self._space.items():
                if parameter.applies(values):
                    drawn = _suggest(trial, name, distribution(parameter.domain), parameter.domain)
                    values[name] = _from_optuna(name, parameter.domain, drawn)
        return trial, values

    def learn(self, first: int, known: Mapping[int, float | None]) -> None:
        """Tell the sampler what is known before the next step draws its trials.

        Args:
            first: number of the step's first trial. Those before it that nobody needed are asked for now.
            known: values of the trials that the step learns from, by number; None for one that gave none.
        """
        while self._next < first:
            self.ask()
        with _errors_as_study_errors():
            for number in sorted(known.keys() - self._told):
                if number in self._asked:
                    value = known[number]
                    state = TrialState.FAIL if value is None else TrialState.COMPLETE
                    self._study.tell(self._asked[number], value, state)
        self._told |= known.keys()

    def skip_to(self, number: int) -> None:
        """Go on with another number: those before it are not of the search."""
        self._next = number


def _suggest(trial: optuna.Trial, name: str, part: BaseDistribution, domain: Domain) -> Value:
    """Return an Optuna trial's value of a parameter. A value that is not in the distribution raises an exception.

    A sampler with values of its own has others than the coordinates of a reverse-log scale; `_from_optuna` checks them.
    """
    with warnings.catch_warnings():
        has_coordinates = isinstance(domain, Interval) and domain.scale == "reverse_log"
        warnings.filterwarnings("ignore" if has_coordinates else "error", message=".*is out of range")
        match part:
            case CategoricalDistribution():
                return trial.suggest_categorical(name, part.choices)
            case IntDistribution():
                return trial.suggest_int(name, part.low, part.high, log=part.log)
            case FloatDistribution():
                return trial.suggest_float(name, part.low, part.high, log=part.log)
    raise AssertionError(part)


@contextmanager
def _errors_as_study_errors() -> Iterator[None]:
    """Raise what a user's sampler raises as a StudyError."""
    try:
        yield
    except StudyError:
        raise
    except Exception as error:
        raise StudyError(f"sampler: it raises {type(error).__name__}: {error}") from error


def _optuna_study(sampler: BaseSampler, maximize: bool) -> optuna.Study:
    return optuna.create_study(sampler=sampler, direction="maximize" if maximize else "minimize")


def _optuna_trial(space: Space, params: Mapping[str, Value], value: float) -> optuna.trial.FrozenTrial:
    return create_trial(
        state=TrialState.COMPLETE,
        value=value,
        params={name: _to_optuna(space[name].domain, told) for name, told in params.items()},
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
