"""Draws lie in their region, fall where the scales say, and depend on nothing but the study."""

import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    GPSampler,
    GridSampler,
    NSGAIISampler,
    PartialFixedSampler,
    RandomSampler,
    TPESampler,
)
from scipy import stats

from caviar.errors import StudyError
from caviar.rounds import Confirmation, Narrowing, Round, Search, Stages
from caviar.search import sampling
from caviar.search.region import Region
from caviar.search.sampling import Observation, draw_params
from caviar.space import Choice, Interval, Space, choice, integer, linear, log, reverse_log, when
from caviar.study import SamplerFactory
from caviar.trial import Value
from tests import strategies
from tests.objectives import bowl_study
from tests.runs import run_inline

SPACE = Space(
    learning_rate=log(1e-4, 1.0),
    dropout=linear(0.0, 0.5),
    optimizer=choice("sgd", "momentum", "adam"),
    momentum=when(reverse_log(0.8, 0.999), optimizer="momentum"),
    beta1=when(reverse_log(0.8, 0.99), optimizer="adam"),
    layers=integer(1, 4),
    units=integer(16, 256, scale="log"),
    units_3=when(integer(16, 64), layers=(3, 4)),
    clip=choice(None, True, 5, 0.5, "auto"),
)


def _custom(seed: int) -> RandomSampler:
    return RandomSampler(seed=seed)


SAMPLERS: list[str | SamplerFactory] = ["random", "qmc", "tpe", _custom]
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=["random", "qmc", "tpe", "custom"])


def drawn(
    space: Space = SPACE, region: Region | None = None, count: int = 20, explore: float = 0.0, **more: Any
) -> list[dict[str, Value]]:
    """Return the draws of a round, by default of round 1 with seed 0."""
    plain = {"seed": 0, "round_number": 1, **more}
    rule = Narrowing(explore=explore)
    return list(draw_params(region or Region(declared=space), rule, count=count, **plain))


def near(whole: Space, *elite: dict[str, Value], width: float = 0.001) -> Region:
    """Return a region around an elite; each member must have all its parameters."""
    values = {name: tuple(member[name] for member in elite) for name in elite[0]}
    return Region(declared=whole, elite=elite, elite_values=values, width=width)


def places(name: str, params: list[dict[str, Value]], space: Space = SPACE) -> np.ndarray:
    """Return the positions of the draws of a number on its scale, from 0 to 1."""
    domain = space[name].domain
    assert isinstance(domain, Interval)
    found = np.array([domain.coordinate(p[name]) for p in params if name in p])  # type: ignore[arg-type]
    return (found - domain.ends[0]) / domain.width


def observations(count: int) -> list[Observation]:
    """Return a history that is best at a learning rate of 0.01 with "adam"."""
    return [
        Observation(p, -abs(np.log10(p["learning_rate"]) + 2) + (p["optimizer"] == "adam"))  # type: ignore[arg-type]
        for p in drawn(count=count, seed=99)
    ]


@settings(max_examples=30)
@given(strategies.spaces, st.integers(0, 2**63), st.integers(1, 9))
def test_draws_lie_in_their_space_and_keep_types(space: Space, seed: int, number: int) -> None:
    for params in draw_params(Region(declared=space), Narrowing(), count=5, seed=seed, round_number=number):
        assert set(params) == set(space)
        for name, value in params.items():
            domain = space[name].domain
            assert value in domain  # of the same type: True is not 1
            if isinstance(domain, Interval):
                assert type(value) is (int if domain.integer else float)


@every_sampler
def test_samplers_stay_in_the_space_and_keep_types(sampler: str | SamplerFactory) -> None:
    for params in drawn(count=40, sampler=sampler, history=observations(30)):
        for name, value in params.items():
            domain = SPACE[name].domain
            assert value in domain  # of the same type: True is not 1
            if isinstance(domain, Interval):
                assert type(value) is (int if domain.integer else float)


@every_sampler
def test_parameters_are_drawn_exactly_where_their_conditions_hold(sampler: str | SamplerFactory) -> None:
    params = drawn(count=60, sampler=sampler)
    for p in params:
        assert ("momentum" in p) == (p["optimizer"] == "momentum")
        assert ("beta1" in p) == (p["optimizer"] == "adam")
        assert ("units_3" in p) == (p["layers"] in (3, 4))
        assert {"learning_rate", "dropout", "layers", "units", "clip"} <= set(p)
    assert {p["optimizer"] for p in params} == {"sgd", "momentum", "adam"}
    assert {p["layers"] for p in params} == {1, 2, 3, 4}


@every_sampler
def test_same_round_gives_the_same_draws(sampler: str | SamplerFactory) -> None:
    history = observations(25)
    assert drawn(sampler=sampler, history=history) == drawn(sampler=sampler, history=history)


@every_sampler
@pytest.mark.parametrize("other", [{"seed": 1}, {"round_number": 2}])
def test_another_seed_or_round_gives_other_draws(
    sampler: str | SamplerFactory, other: dict[str, Any]
) -> None:
    these, those = drawn(sampler=sampler), drawn(sampler=sampler, **other)
    assert not {p["learning_rate"] for p in these} & {p["learning_rate"] for p in those}


@pytest.mark.parametrize("explore", [0.0, 0.25])
def test_draw_does_not_depend_on_count_or_skipped_draws(explore: float) -> None:
    region = near(
        SPACE, {"learning_rate": 0.1, "optimizer": "adam"}, {"learning_rate": 0.01, "optimizer": "sgd"}
    )
    region = replace(region, finished=tuple(drawn(count=20, seed=5)))
    long = drawn(region=region, count=40, explore=explore)
    for count in (0, 1, 7, 39):
        assert drawn(region=region, count=count, explore=explore) == long[:count]
    done = {index: long[index] for index in range(5, 38)}
    assert drawn(region=region, count=40, explore=explore, done=done) == [*long[:5], *long[38:]]


def test_draws_are_the_same_in_every_version() -> None:
    space = Space(rate=linear(0.0, 1.0), method=choice(1, "a", None), size=integer(1, 100))
    assert drawn(space, count=2) == [
        {"rate": 0.3510628189249678, "method": 1, "size": 33},
        {"rate": 0.9221903333987553, "method": 1, "size": 6},
    ]
    region = near(space, {"rate": 0.5, "method": "a", "size": 50}, width=0.5)
    assert drawn(region=region, count=2) == [
        {"rate": 0.5585025513997424, "method": "a", "size": 32},
        {"rate": 0.6275226671900423, "method": "a", "size": 73},
    ]


def test_order_of_parameters_does_not_matter() -> None:
    forward = Space(a=linear(0, 1), b=log(1, 10), c=choice(1, 2, 3))
    backward = Space(c=choice(1, 2, 3), b=log(1, 10), a=linear(0, 1))
    assert forward == backward
    for sampler in SAMPLERS:
        assert drawn(forward, sampler=sampler) == drawn(backward, sampler=sampler)
    elite: list[dict[str, Value]] = [{"a": 0.5, "b": 2.0, "c": 2}, {"a": 0.1, "b": 9.0, "c": 3}]
    assert drawn(region=near(forward, *elite)) == drawn(region=near(backward, *elite))


def test_no_two_draws_are_the_same() -> None:
    rates = [p["learning_rate"] for number in (1, 2) for p in drawn(count=300, round_number=number)]
    assert len(set(rates)) == len(rates)


def test_log_scale_draws_decades_equally_often() -> None:
    params = drawn(Space(learning_rate=log(1e-4, 1.0)), count=2_000)
    decades = Counter(int(4 * place) for place in places("learning_rate", params))
    assert sorted(decades) == [0, 1, 2, 3]
    assert stats.chisquare(list(decades.values())).pvalue > 0.01
    assert stats.kstest(places("learning_rate", params), "uniform").pvalue > 0.01


def test_reverse_log_scale_draws_decades_equally_often() -> None:
    space = Space(momentum=reverse_log(0.9, 0.99999))
    params = drawn(space, count=2_000)
    between = sum(0.99 <= p["momentum"] < 0.999 for p in params)  # type: ignore[operator]
    assert between == pytest.approx(500, abs=60)
    assert stats.kstest(places("momentum", params, space), "uniform").pvalue > 0.01


def test_linear_numbers_and_options_are_drawn_uniformly() -> None:
    params = drawn(count=1_000)
    assert stats.kstest(places("dropout", params), "uniform").pvalue > 0.01
    for name in ("optimizer", "layers", "clip"):
        assert stats.chisquare(list(Counter(p[name] for p in params).values())).pvalue > 0.01


def test_draws_of_different_parameters_are_independent() -> None:
    params = drawn(count=600)
    rate, dropout = places("learning_rate", params), places("dropout", params)
    assert stats.spearmanr(rate, dropout).pvalue > 0.01
    sixteen_apart = []  # closer draws share a block of strata, so they are not independent
    for seed in range(4):
        rate = places("learning_rate", drawn(count=320, seed=seed))
        sixteen_apart.append(stats.spearmanr(rate[16:], rate[:-16]).statistic)
    assert abs(np.mean(sixteen_apart)) < 0.06


@every_sampler
def test_share_of_exploring_draws_matches_the_setting(sampler: str | SamplerFactory) -> None:
    whole = Space(x=linear(0, 100), kind=choice("a", "b"))
    region = near(whole, {"x": 50.0, "kind": "b"})
    params = drawn(region=region, count=200, explore=0.2, sampler=sampler)
    outside = [p for p in params if p["x"] not in region.space["x"].domain]
    assert 25 <= len(outside) <= 55
    assert {p["kind"] for p in outside} == {"a", "b"}
    inside = drawn(region=region, count=50, explore=0.0, sampler=sampler)
    assert all(p["x"] in region.space["x"].domain for p in inside)


def test_exploring_draws_have_parameters_outside_the_region() -> None:
    whole = Space(layers=integer(1, 9), last=when(integer(8, 64), layers=(7, 8, 9)))
    region = near(whole, {"layers": 2})
    assert list(region.space) == ["layers"]
    for sampler in SAMPLERS:
        params = drawn(region=region, count=60, explore=0.5, sampler=sampler)
        assert all(("last" in p) == (p["layers"] in (7, 8, 9)) for p in params)
        assert any("last" in p for p in params)


def test_sobol_points_are_more_even_than_random_ones() -> None:
    space = Space(x=linear(0, 1), y=linear(0, 1))

    def discrepancy(sampler: str) -> float:
        points = [(p["x"], p["y"]) for p in drawn(space, count=128, sampler=sampler)]
        return float(stats.qmc.discrepancy(points))

    assert discrepancy("qmc") < discrepancy("random") / 3


def test_tpe_draws_near_the_optimum() -> None:
    def mean_distance(params: list[dict[str, Value]]) -> float:
        return float(np.mean([abs(np.log10(p["learning_rate"]) + 2) for p in params]))  # type: ignore[arg-type]

    history, random = observations(80), drawn(count=40)
    learned = drawn(count=40, sampler="tpe", history=history)
    assert mean_distance(learned) < mean_distance(random) / 2
    assert sum(p["optimizer"] == "adam" for p in learned) > 20
    misled = drawn(count=40, sampler="tpe", history=history, maximize=False)
    assert mean_distance(misled) > mean_distance(random)


class RecordingSampler(RandomSampler):
    """A random sampler that remembers the trials and the direction of its study."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed)
        self.seed = seed
        self.told: list[optuna.trial.FrozenTrial] = []
        self.direction: optuna.study.StudyDirection | None = None

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        self.told = [t for t in study.get_trials() if t.state == optuna.trial.TrialState.COMPLETE]
        self.direction = study.direction
        super().before_trial(study, trial)


def sampler_after(region: Region, **more: Any) -> RecordingSampler:
    """Return the sampler of a round after its only draw."""
    made: list[RecordingSampler] = []

    def factory(seed: int) -> RecordingSampler:
        made.append(RecordingSampler(seed))
        return made[-1]

    drawn(region=region, count=1, sampler=factory, **more)
    (sampler,) = made
    return sampler


def test_sampler_is_told_the_trials_inside_its_space() -> None:
    whole = Space(
        kind=choice("a", "b", None),
        x=linear(0, 1),
        decay=when(log(1e-3, 1.0), kind="a"),
    )
    history = [
        Observation({"kind": "b", "x": 0.75}, 1.0),
        Observation({"kind": None, "x": 0.25}, 2.0),
        Observation({"kind": "a", "x": 0.75, "decay": 0.1}, 3.0),
        Observation({"decay": 0.1, "x": 0.75, "kind": "a"}, 3.5),
        Observation({"kind": None, "x": 1.0}, 4.0),
    ]
    told = sampler_after(near(whole, {"x": 0.75}, width=0.5), history=history).told
    assert [(t.value, t.params) for t in told] == [
        (1.0, {"kind": "b", "x": 0.75}),
        (3.0, {"kind": "a", "x": 0.75, "decay": 0.1}),
        (3.5, {"kind": "a", "x": 0.75, "decay": 0.1}),
        (4.0, {"kind": None, "x": 1.0}),
    ]


def test_sampler_is_not_told_of_dropped_parameters() -> None:
    whole = Space(layers=integer(1, 9), last=when(integer(8, 64), layers=(7, 8, 9)))
    history = [Observation({"layers": 2}, 1.0), Observation({"last": 9, "layers": 9}, 2.0)]
    assert [t.value for t in sampler_after(near(whole, {"layers": 2}), history=history).told] == [1.0]


@given(strategies.spaces, st.data())
def test_every_draw_can_be_told(space: Space, data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 1_000))
    history = [Observation(p, 1.0) for p in drawn(space, count=3, seed=seed)]
    assert len(sampler_after(Region(declared=space), history=history).told) == 3


def test_ends_of_intervals_can_be_told() -> None:
    for domain in (log(1e-4, 1.0), reverse_log(0.9, 0.999), integer(3, 7), linear(-1, 1)):
        history = [Observation({"x": domain.low}, 0.0), Observation({"x": domain.high}, 1.0)]
        assert len(sampler_after(Region(declared=Space(x=domain)), history=history).told) == 2


def test_sampler_knows_the_direction() -> None:
    region = Region(declared=Space(x=linear(0, 1)))
    assert sampler_after(region, maximize=True).direction == optuna.study.StudyDirection.MAXIMIZE
    assert sampler_after(region, maximize=False).direction == optuna.study.StudyDirection.MINIMIZE


def test_sampler_has_another_seed_in_each_round_and_study() -> None:
    region = Region(declared=Space(x=linear(0, 1)))
    seeds = [sampler_after(region, seed=s, round_number=n).seed for s in range(3) for n in (1, 2, 3)]
    assert len(set(seeds)) == 9
    assert all(0 <= seed < 2**32 for seed in seeds)


def grid(values: dict[str, list[Value]]) -> SamplerFactory:
    """Return a function that makes a sampler of a grid."""
    return lambda seed: GridSampler(values, seed=seed)


def fixed(values: dict[str, Value]) -> SamplerFactory:
    """Return a function that makes a random sampler with fixed values."""

    def make(seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return PartialFixedSampler(values, RandomSampler(seed=seed))

    return make


def brute_force(seed: int) -> BaseSampler:
    """Make a sampler of all combinations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return BruteForceSampler(seed=seed)


@pytest.mark.parametrize(
    ("domain", "values"),
    [
        (reverse_log(0.9, 0.999), [0.9, 0.95, 0.99, 0.999]),
        (reverse_log(0.0, 0.9), [0, 0.5, 0.9]),
        (log(1e-4, 1.0), [1e-4, 0.1, 1.0]),
        (linear(0, 1), [0, 0.3, 1]),
        (integer(1, 8), [1, 2, 8]),
        (integer(1, 64, scale="log"), [1, 7, 64]),
        (choice("a", None, True, 5, 0.5, "5"), ["5", None, True, 0.5]),
    ],
)
def test_values_of_a_grid_and_fixed_values_are_drawn(domain: Interval | Choice, values: list[Value]) -> None:
    space = Space(m=domain, other=linear(0, 1))
    grid_of_both = grid({"m": values, "other": [0.25]})
    points = [p["m"] for p in drawn(space, count=len(values), sampler=grid_of_both)]
    assert Counter(points) == Counter(values)
    assert all(point in domain for point in points)
    for value in values:
        params = drawn(space, count=4, sampler=fixed({"m": value}), history=observed_in(space))
        assert {p["m"] for p in params} == {value}
        assert len({p["other"] for p in params}) == 4


def observed_in(space: Space) -> list[Observation]:
    """Return a history of random draws."""
    return [Observation(params, float(index)) for index, params in enumerate(drawn(space, count=12))]


@pytest.mark.parametrize(
    ("domain", "value"),
    [
        (reverse_log(0.9, 0.999), 0.5),
        (reverse_log(0.9, 0.999), 0),
        (reverse_log(0.9, 0.999), 1.5),
        (log(1e-4, 1.0), 2.0),
        (log(1e-4, 1.0), "0.1"),
        (linear(0, 1), -1),
        (integer(1, 8), 2.5),
        (integer(1, 8), 9),
        (choice("a", "b"), "c"),
        (choice(1, 2), "1"),
    ],
)
def test_values_outside_the_space_are_refused(domain: Interval | Choice, value: Value) -> None:
    for sampler in (grid({"m": [value]}), fixed({"m": value})):
        with pytest.raises(StudyError):
            drawn(Space(m=domain), count=1, sampler=sampler)


def test_brute_force_tries_each_combination_once() -> None:
    space = Space(kind=choice("b", "a"), above=when(integer(1, 3), kind="a"), zoom=choice(None, 2))
    params = drawn(space, count=8, sampler=brute_force)
    assert len({tuple(sorted(p.items(), key=str)) for p in params}) == 8
    history = [Observation(p, 1.0) for p in params[:5]]
    rest = drawn(space, count=3, sampler=brute_force, history=history, round_number=2)
    assert sorted(map(str, rest)) == sorted(map(str, params[5:]))


def test_users_sampler_searches_on_the_reverse_log_scale() -> None:
    space = Space(momentum=reverse_log(0.9, 0.9999))
    values = places("momentum", drawn(space, count=300, sampler=_custom), space)
    assert stats.kstest(values, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    "make", [TPESampler, NSGAIISampler, RandomSampler, pytest.param(GPSampler, marks=pytest.mark.slow)]
)
def test_optunas_samplers_learn_on_every_kind_of_parameter(make: type[BaseSampler]) -> None:
    def sampler(seed: int) -> BaseSampler:
        return make(seed=seed)  # type: ignore[call-arg]

    for params in drawn(count=3, sampler=sampler, history=observations(30)):
        assert all(value in SPACE[name].domain for name, value in params.items())


class Unavailable(RandomSampler):
    """A sampler that needs a package once it has been told of trials."""

    def sample_relative(self, study: optuna.Study, trial: Any, search_space: Any) -> dict[str, Any]:
        if study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
            raise ImportError("No module named 'unavailable'")
        return {}


@pytest.mark.parametrize("rounds", [(30, 20), (Search(50, 3, in_flight=10),)])
@pytest.mark.parametrize(
    "sampler",
    [
        lambda seed: Unavailable(seed=seed),
        lambda seed: RandomSampler(),
        grid({"rate": [0.1]}),
        grid({"rate": [0.1], "method": ["plain", "unknown"], "beta": [0.5]}),
        fixed({"rate": 2.0}),
        brute_force,
    ],
)
def test_sampler_that_cannot_draw_is_refused_before_work(
    tmp_path: Path, sampler: SamplerFactory, rounds: tuple[int | Search, ...]
) -> None:
    with pytest.raises(StudyError):
        run_inline(replace(bowl_study(rounds=rounds), sampler=sampler), tmp_path)
    assert not list(tmp_path.iterdir())


def test_users_sampler_draws_every_trial_from_the_whole_space(tmp_path: Path) -> None:
    study = replace(bowl_study(), sampler=fixed({"rate": 0.5}), rounds=[Round(20, 1)] * 3)
    run = run_inline(study, tmp_path)
    assert set(run.trials["params_rate"]) == {0.5}
    rates = run.rounds[run.rounds["parameter"] == "rate"]
    assert set(rates["low"]) == {1e-4}
    assert set(rates["high"]) == {1.0}


def test_first_round_covers_every_stratum() -> None:
    space = Space(x=log(1e-4, 1.0), y=reverse_log(0.8, 0.999), layers=integer(1, 4), method=choice("a", "b"))
    params = drawn(space, count=32)
    for block in (params[:16], params[16:]):
        for name in ("x", "y"):
            assert sorted((places(name, block, space) * 16).astype(int)) == list(range(16))
        assert sorted(p["layers"] for p in block) == sorted([1, 2, 3, 4] * 4)  # type: ignore[type-var]
        assert sum(p["method"] == "a" for p in block) == 8
    order_x, order_y = (np.argsort(places(name, params[:16], space)).tolist() for name in ("x", "y"))
    assert order_x != order_y


@pytest.mark.parametrize("count", [3, 6, 20])
def test_options_take_turns(count: int) -> None:
    space = Space(method=choice(*(f"option {n}" for n in range(count))))
    tally = Counter(p["method"] for p in drawn(space, count=16 * count))
    assert set(tally.values()) == {16}


CHOICES = Space(**{name: choice(*range(5)) for name in "abcdef"})
TWO_PARENTS = near(CHOICES, dict.fromkeys(CHOICES, 1), dict.fromkeys(CHOICES, 2))


def test_near_the_elite_no_params_are_drawn_twice() -> None:
    assert len({tuple(p.items()) for p in drawn(region=TWO_PARENTS, count=60)}) == 60


def test_earlier_params_are_not_drawn_again() -> None:
    region = TWO_PARENTS
    first, *_ = drawn(region=region, count=1)
    for known in ({"drawn": [first]}, {"done": {0: first}}):
        assert first not in drawn(region=region, count=40, **known)
    assert first not in drawn(region=replace(region, finished=(first,)), count=40)


def test_params_are_drawn_again_if_no_others_are_left() -> None:
    region = near(Space(a=choice(1, 2)), {"a": 1}, {"a": 2})
    assert {p["a"] for p in drawn(region=region, count=20)} == {1, 2}


@every_sampler
def test_skipped_draws_do_not_change_the_others(sampler: str | SamplerFactory) -> None:
    whole = drawn(count=40, sampler=sampler)
    needed = [number for number in range(40) if number % 3]
    done = {index: whole[index] for index in range(0, 40, 3)}
    assert drawn(count=40, sampler=sampler, done=done) == [whole[number] for number in needed]


def test_skipped_draws_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_parts = []
    draw_part = sampling._draw_part

    def counting(*arguments: Any) -> Value:
        drawn_parts.append(arguments)
        return draw_part(*arguments)

    monkeypatch.setattr(sampling, "_draw_part", counting)
    assert len(drawn(count=1_000, done={index: {} for index in range(990)})) == 10
    assert len(drawn_parts) == 10 * len(SPACE)


def test_function_that_makes_no_sampler_is_refused(tmp_path: Path) -> None:
    study = replace(bowl_study(), sampler=lambda seed: 3)
    with pytest.raises(StudyError, match="returns 3, which is not an Optuna sampler"):
        run_inline(study, tmp_path)
    assert not list(tmp_path.iterdir())


def test_sampler_is_told_only_of_comparable_trials(tmp_path: Path) -> None:
    """Only trials that trained for as long as those of the round before are told."""
    made: list[RecordingSampler] = []

    def factory(seed: int) -> RecordingSampler:
        made.append(RecordingSampler(seed))
        return made[-1]

    rounds: Stages = [Round(6, 1), Round(5, 3), Round(4, 3), Confirmation(1, 1)]
    run = run_inline(replace(bowl_study(), rounds=rounds, sampler=factory), tmp_path)
    heard = [{told.value for told in sampler.told} for sampler in made[-2:] if sampler.told]
    first, second = (set(run.trials.loc[run.trials["round"] == n, "value"]) for n in (1, 2))
    assert len(heard) == 2
    assert heard[0] <= first
    assert heard[1] <= second
