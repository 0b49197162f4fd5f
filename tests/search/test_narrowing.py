"""The next round draws near the best trials so far, and every change has a reason."""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.rounds import Narrowing
from caviar.search import narrowing
from caviar.search.narrowing import Decision, narrow, rank
from caviar.search.region import Region, window_around
from caviar.search.sampling import draw_params
from caviar.space import Choice, Interval, Space, choice, integer, linear, log, reverse_log, when
from caviar.trial import Outcome, Value
from tests.search.frames import searched

RULE = Narrowing()
LINE = Space(x=linear(0.0, 1.0))
EVERY_KIND = Space(
    rate=log(1e-4, 1.0),
    momentum=reverse_log(0.8, 0.999),
    layers=integer(1, 4),
    units=integer(16, 256, scale="log"),
    dropout=linear(0.0, 0.5),
    method=choice("plain", "heavy", None),
    beta=when(reverse_log(0.8, 0.99), method="heavy"),
    last=when(integer(8, 64), layers=(3, 4)),
)


def on_line(places: list[float], *, shrinkages: int = 0, rule: Narrowing = RULE) -> tuple[Region, Decision]:
    """Return the region after trials at these places, best first, and the decision."""
    trials = searched(LINE, [{"x": x} for x in places], [float(i) for i in range(len(places))])
    region, decisions = narrow(trials, Region(declared=LINE), rule, shrinkages=shrinkages, maximize=False)
    return region, decisions[0]


def bounds(region: Region, name: str = "x") -> tuple[float, float]:
    domain = region.space[name].domain
    assert isinstance(domain, Interval)
    return domain.low, domain.high


@cache
def forty_trials(seed: int) -> tuple[dict[str, Value], ...]:
    return tuple(draw_params(Region(declared=EVERY_KIND), RULE, count=40, seed=seed, round_number=1))


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[dict[str, Value]], list[float | None]]:
    count = draw(st.integers(1, 40))
    values = draw(st.lists(st.none() | st.floats(-1, 1, allow_nan=False), min_size=count, max_size=count))
    return list(forty_trials(draw(st.integers(0, 5)))[:count]), values


def test_elite_values_are_counted_by_quarter() -> None:
    _, decision = on_line([0.1, 0.2, 0.3, 0.9, *[0.5] * 20], rule=Narrowing(elite=0.06, min_elite=4))
    assert decision.counts == (2, 1, 0, 1)
    assert "the best 4 lie between 0.1 and 0.9" in decision.reason


def test_best_trial_outside_the_last_range_is_a_reason() -> None:
    before = Region(declared=LINE, elite=({"x": 0.35},), elite_values={"x": (0.35,)}, width=0.12)
    trials = searched(LINE, [{"x": x} for x in (0.9, 0.34, 0.35, 0.36)], [0.0, 1.0, 2.0, 3.0])
    _, (decision,) = narrow(trials, before, RULE, shrinkages=1, maximize=False)
    assert "the best one outside the last range" in decision.reason
    assert "near the end" not in decision.reason


@given(st.integers(1, 20), st.floats(0.001, 1.0))
def test_integer_range_ends_where_its_windows_round_to(best: int, width: float) -> None:
    domain = integer(1, 20)
    region = Region(declared=Space(n=domain), elite=({"n": best},), elite_values={"n": (best,)}, width=width)
    low, high = window_around(domain, best, width)
    assert bounds(region, "n") == (domain.value(low), domain.value(high))


def test_other_samplers_leave_options_unweighted() -> None:
    space = Space(x=linear(0.0, 1.0), method=choice("a", "b", "c"))
    trials = searched(space, [{"x": n / 10, "method": "a"} for n in range(10)], [*map(float, range(10))])
    whole = Region(declared=space)
    region, decisions = narrow(trials, whole, RULE, shrinkages=0, maximize=False, weights_options=False)
    method = next(decision for decision in decisions if decision.parameter == "method")
    assert (method.action, method.before) == ("kept", method.after)
    assert "the sampler chooses among the options itself" in method.reason
    drawn = Counter(
        p["method"]
        for p in draw_params(
            region, Narrowing(explore=0.0), count=96, seed=0, round_number=2, sampler="qmc", maximize=False
        )
    )
    assert all(22 <= count <= 42 for count in drawn.values())
    assert next(d for d in decisions if d.parameter == "x").action == "narrowed"


def test_next_round_draws_around_the_best() -> None:
    region, decision = on_line([0.5, 0.52, 0.48, 0.51, *[0.9] * 20], shrinkages=2)
    low, high = bounds(region)
    assert low == pytest.approx(0.48 - 0.256)
    assert high == pytest.approx(0.52 + 0.256)
    assert region.elite_trials == (0, 1, 2, 3)
    assert decision.action == "narrowed"
    assert (decision.elite, decision.elite_low, decision.elite_high, decision.best) == (4, 0.48, 0.52, 0.5)
    assert "the best 4 lie between 0.48 and 0.52" in decision.reason


def test_two_good_ranges_exclude_the_values_between() -> None:
    region, _ = on_line([0.1, 0.9, 0.1, 0.9, *[0.5] * 20], shrinkages=6)
    # The best of several would nearly always be near the best trial
    rule = Narrowing(explore=0.0, candidates=1)
    drawn = [p["x"] for p in draw_params(region, rule, count=40, seed=1, round_number=8)]
    assert all(abs(x - 0.1) < 0.11 or abs(x - 0.9) < 0.11 for x in drawn)  # type: ignore[operator]
    assert min(drawn) < 0.5 < max(drawn)  # type: ignore[type-var, operator]


def test_windows_shrink_down_to_min_width() -> None:
    widths = [RULE.width_after(number) for number in range(30)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == RULE.width
    assert widths[-1] == RULE.min_width
    low, high = bounds(on_line([0.5] * 8, shrinkages=998)[0])
    assert high - low == pytest.approx(RULE.min_width)


def test_range_widens_where_the_best_is_at_its_end() -> None:
    whole = Region(declared=LINE)
    narrowed = Region(declared=LINE, elite=({"x": 0.4},), elite_values={"x": (0.4,)}, width=0.2)
    trials = searched(LINE, [{"x": x} for x in (0.5, 0.49, 0.48, 0.47)], [1.0, 2.0, 3.0, 4.0])
    region, (decision,) = narrow(trials, narrowed, RULE, shrinkages=4, maximize=False)
    assert bounds(region)[1] > bounds(narrowed)[1]
    assert decision.action in ("widened", "shifted")
    assert "near the end of the last range" in decision.reason
    assert bounds(region)[1] <= bounds(whole)[1]


def test_best_trial_near_the_declared_limit_is_a_reason() -> None:
    _, decision = on_line([0.99, 0.98, 0.97, 0.96, *[0.1] * 10])
    assert "near the declared limit" in decision.reason


def test_no_option_is_ever_ruled_out() -> None:
    space = Space(method=choice("a", "b", "c"))
    trials = searched(space, [{"method": "a"}] * 10 + [{"method": "b"}] * 30, [*range(10), *range(100, 130)])
    region, (decision,) = narrow(trials, Region(declared=space), RULE, shrinkages=0, maximize=False)
    shares = region.option_shares("method", RULE.choice_mutation)
    assert sum(shares) == pytest.approx(1)
    assert shares[0] > 0.8
    assert min(shares) >= RULE.choice_mutation / 3 - 1e-12
    assert decision.action == "weighted"
    assert decision.counts == (4, 0, 0)
    assert decision.reason == "the best 4 all have a"
    assert decision.after == "a 87%, b 7%, c 7%"


def test_reason_names_the_most_frequent_options() -> None:
    space = Space(method=choice("a", "b", "c", "d"))
    trials = searched(space, [{"method": method} for method in "aabbaacd"], [*range(8)])
    rule = Narrowing(min_elite=8)
    _, (decision,) = narrow(trials, Region(declared=space), rule, shrinkages=0, maximize=False)
    assert decision.reason == "4 of the best 8 have a, 2 have b, 1 has c, 1 has others"


def test_options_are_drawn_with_their_stated_shares() -> None:
    space = Space(method=choice("a", "b", "c"))
    elite = ({"method": "a"}, {"method": "a"}, {"method": "b"}, {"method": "b"})
    region = Region(declared=space, elite=elite, elite_values={"method": ("a", "a", "b", "b")}, width=0.5)
    rule = Narrowing(explore=0.0)
    drawn = [p["method"] for p in draw_params(region, rule, count=600, seed=3, round_number=2)]
    for option, share in zip("abc", region.option_shares("method", rule.choice_mutation), strict=True):
        assert drawn.count(option) / 600 == pytest.approx(share, abs=0.06)


def test_conditional_parameter_is_judged_by_trials_that_have_it() -> None:
    space = Space(method=choice("plain", "heavy"), beta=when(linear(0.0, 1.0), method="heavy"))
    plain: list[Mapping[str, Value]] = [{"method": "plain"}] * 20
    heavy: list[Mapping[str, Value]] = [
        {"method": "heavy", "beta": beta} for beta in (0.3, 0.31, 0.29, 0.3, 0.9, 0.9, 0.9)
    ]
    values = [*range(20), *range(100, 107)]
    region, decisions = narrow(
        searched(space, [*plain, *heavy], values),
        Region(declared=space),
        RULE,
        shrinkages=4,
        maximize=False,
    )
    assert {p["method"] for p in region.elite} == {"plain"}
    assert region.elite_values["beta"] == (0.3, 0.31, 0.29, 0.3)
    assert bounds(region, "beta")[1] < 0.5
    assert decisions[1].elite == 4


def test_parameter_of_too_few_trials_keeps_its_range() -> None:
    space = Space(method=choice("plain", "heavy"), beta=when(linear(0.0, 1.0), method="heavy"))
    rows: list[Mapping[str, Value]] = [{"method": "plain"}] * 20 + [{"method": "heavy", "beta": 0.3}] * 3
    region, decisions = narrow(
        searched(space, rows, [*range(23)]), Region(declared=space), RULE, shrinkages=4, maximize=False
    )
    assert bounds(region, "beta") == (0.0, 1.0)
    assert decisions[1].action == "kept"
    assert "fewer than 4" in decisions[1].reason


def test_too_few_completed_trials_keep_the_region() -> None:
    before = Region(declared=LINE, elite=({"x": 0.4},), elite_values={"x": (0.4,)}, width=0.2)
    trials = searched(LINE, [{"x": 0.9}] * 10, [1.0, 2.0, 3.0, *[None] * 7])
    region, (decision,) = narrow(trials, before, RULE, shrinkages=1, maximize=False)
    assert region == before
    assert decision.action == "kept"
    assert decision.reason == "only 3 trials completed"


def test_dropped_parameter_can_come_back() -> None:
    space = Space(layers=integer(1, 9), last=when(integer(8, 64), layers=(8, 9)))
    few: list[Mapping[str, Value]] = [{"layers": 2}] * 10
    many: list[Mapping[str, Value]] = [{"layers": 9, "last": 32}] * 10
    rule = Narrowing(width=0.2)
    shallow, decisions = narrow(
        searched(space, [*few, *many], [*range(20)]),
        Region(declared=space),
        rule,
        shrinkages=0,
        maximize=False,
    )
    assert list(shallow.space) == ["layers"]
    assert decisions[1].action == "dropped"
    assert decisions[1].reason == "layers is no longer 8 or 9"
    deep, decisions = narrow(
        searched(space, [*few, *many], [*range(20, 0, -1)]), shallow, rule, shrinkages=1, maximize=False
    )
    assert list(deep.space) == ["layers", "last"]
    assert decisions[0].action == "shifted"


def test_diverged_trials_are_never_elite() -> None:
    trials = searched(LINE, [{"x": 0.9}] * 10 + [{"x": 0.2}] * 5, [None] * 10 + [1.0] * 5)
    region, _ = narrow(trials, Region(declared=LINE), RULE, shrinkages=0, maximize=True)
    assert region.elite_values["x"] == (0.2,) * 4


def test_ties_go_to_smaller_dev_loss_then_earlier_trial() -> None:
    trials = searched(LINE, [{"x": 0.1}] * 4, [0.9, 0.9, 0.9, 0.8], dev_loss=[0.5, 0.3, 0.3, 0.1])
    assert rank(trials, maximize=True)["trial"].tolist() == [1, 2, 0, 3]
    assert rank(trials, maximize=False)["trial"].tolist() == [3, 1, 2, 0]


def test_failed_trial_with_a_value_is_not_ranked() -> None:
    outcomes = [Outcome.FAILED, Outcome.STOPPED, Outcome.COMPLETED]
    trials = searched(LINE, [{"x": 0.1}] * 3, [0.9, 0.9, 0.1], outcomes=outcomes)
    assert rank(trials, maximize=True)["trial"].tolist() == [2, 1]


def test_stopped_trials_rank_last_and_by_epochs() -> None:
    outcomes = [Outcome.STOPPED, Outcome.COMPLETED, Outcome.STOPPED, Outcome.STOPPED, Outcome.COMPLETED]
    trials = searched(LINE, [{"x": 0.1}] * 5, [0.99, 0.5, 0.8, 0.9, 0.6], outcomes=outcomes)
    trials["epochs_trained"] = [1, 9, 3, 3, 7]  # a function may complete before its last epoch
    assert rank(trials, maximize=True)["trial"].tolist() == [4, 1, 3, 2, 0]


@given(histories(), st.integers(2, 12), st.booleans(), st.integers(0, 3))
def test_draws_stay_in_the_region(
    history: tuple[list[dict[str, Value]], list[float | None]], round_number: int, maximize: bool, seed: int
) -> None:
    trials = searched(EVERY_KIND, *history)
    region, _ = narrow(
        trials, Region(declared=EVERY_KIND), RULE, shrinkages=round_number - 2, maximize=maximize
    )
    rule, inside = Narrowing(explore=0.0), region.space
    for params in draw_params(region, rule, count=6, seed=seed, round_number=round_number):
        for name, value in params.items():
            assert value in EVERY_KIND[name].domain
            domain = inside[name].domain
            if isinstance(domain, Interval):
                assert domain.low * (1 - 1e-9) <= value <= domain.high * (1 + 1e-9)  # type: ignore[operator]


@given(histories(), st.booleans())
def test_ranges_are_at_least_half_a_window_wide(
    history: tuple[list[dict[str, Value]], list[float | None]], maximize: bool
) -> None:
    trials = searched(EVERY_KIND, *history)
    region, decisions = narrow(trials, Region(declared=EVERY_KIND), RULE, shrinkages=3, maximize=maximize)
    assert [decision.parameter for decision in decisions] == list(EVERY_KIND)
    for name, parameter in region.space.items():
        whole, domain = EVERY_KIND[name].domain, parameter.domain
        if isinstance(domain, Choice):
            assert domain == whole
            continue
        assert isinstance(whole, Interval)
        assert whole.low <= domain.low < domain.high <= whole.high
        assert domain.width >= region.width * whole.width / 2 - 1e-9


@given(histories(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(
    history: tuple[list[dict[str, Value]], list[float | None]], random: Random
) -> None:
    trials = searched(EVERY_KIND, *history)
    shuffled = trials.sample(frac=1, random_state=random.randrange(2**31))
    one, other = (
        narrow(frame, Region(declared=EVERY_KIND), RULE, shrinkages=1, maximize=True)
        for frame in (trials, shuffled)
    )
    assert one == other


def test_draw_depends_on_seed_round_and_index() -> None:
    region = Region(declared=LINE, elite=({"x": 0.4},), elite_values={"x": (0.4,)}, width=0.2)
    ten = list(draw_params(region, RULE, count=10, seed=7, round_number=3))
    assert list(draw_params(region, RULE, count=4, seed=7, round_number=3)) == ten[:4]
    assert list(draw_params(region, RULE, count=10, seed=8, round_number=3)) != ten
    assert list(draw_params(region, RULE, count=10, seed=7, round_number=4)) != ten


def test_candidates_are_compared_with_all_trials_best_first() -> None:
    outcomes = [Outcome.COMPLETED] * 5 + [Outcome.DIVERGED, Outcome.FAILED, Outcome.COMPLETED]
    params: list[dict[str, Value]] = [{"x": x / 10} for x in range(8)]
    trials = searched(LINE, params, [3.0, 1.0, 2.0, 5.0, 4.0, None, None, 0.0], outcomes=outcomes)
    region, _ = narrow(trials, Region(declared=LINE), RULE, shrinkages=0, maximize=False)
    best_first = [7, 1, 2, 0, 4, 3, 5]  # the diverged trial is last, the failed one is left out
    assert region.finished == tuple(params[number] for number in best_first)


def test_only_the_latest_of_many_trials_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrowing, "MAX_COMPARED", 3)
    region, _ = on_line([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert region.finished == ({"x": 0.4}, {"x": 0.5}, {"x": 0.6})


def test_elite_of_a_large_search_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrowing, "MAX_ELITE", 5)
    region, decision = on_line([x / 200 for x in range(200)])
    assert region.elite_trials == (0, 1, 2, 3, 4)
    assert decision.elite == 5


def test_best_of_several_candidates_avoids_poor_values() -> None:
    """Half of the window around the best trials has poor trials only."""
    poor = [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45]
    region, _ = on_line([0.5, 0.52, 0.54, 0.56, 0.6, 0.7, 0.8, 0.9, *poor])

    def low(count: int) -> int:
        rule = Narrowing(explore=0.0, candidates=count)
        drawn = draw_params(region, rule, count=200, seed=0, round_number=2)
        return sum(p["x"] < 0.45 for p in drawn)  # type: ignore[operator]

    assert low(1) > 60
    assert low(8) < 10


def test_some_draws_explore_the_whole_space() -> None:
    region = Region(declared=LINE, elite=({"x": 0.5},), elite_values={"x": (0.5,)}, width=0.1)
    drawn = [p["x"] for p in draw_params(region, Narrowing(explore=0.2), count=400, seed=0, round_number=2)]
    far = sum(abs(x - 0.5) > 0.05 for x in drawn)  # type: ignore[operator]
    assert 0.12 < far / 400 < 0.25


@pytest.mark.parametrize("crossover", [0.0, 1.0])
def test_crossover_combines_members_of_the_elite(crossover: float) -> None:
    space = Space(x=linear(0, 1), y=linear(0, 1))
    elite = ({"x": 0.1, "y": 0.1}, {"x": 0.9, "y": 0.9})
    region = Region(declared=space, elite=elite, elite_values={"x": (0.1, 0.9), "y": (0.1, 0.9)}, width=0.1)
    rule = Narrowing(crossover=crossover, explore=0.0)
    apart = sum(
        abs(p["x"] - p["y"]) > 0.5  # type: ignore[operator]
        for p in draw_params(region, rule, count=200, seed=0, round_number=2)
    )
    assert apart == 0 if crossover == 0 else 60 < apart < 140


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_other_samplers_draw_from_the_regions_space(sampler: str) -> None:
    region = Region(declared=LINE, elite=({"x": 0.4},), elite_values={"x": (0.4,)}, width=0.2)
    rule = Narrowing(explore=0.0)
    for params in draw_params(region, rule, count=8, seed=0, round_number=2, sampler=sampler):
        assert params["x"] in region.space["x"].domain


def test_window_at_the_end_of_a_range_reaches_it() -> None:
    region = Region(declared=LINE, elite=({"x": 0.98},), elite_values={"x": (0.98,)}, width=0.2)
    rule = Narrowing(explore=0.0)
    drawn = [float(p["x"]) for p in draw_params(region, rule, count=400, seed=0, round_number=2)]  # type: ignore[arg-type]
    assert 0.99 < max(drawn) <= 1.0
    assert sum(x > 0.99 for x in drawn) > 20


def test_integers_narrow_to_one_value_and_its_neighbours() -> None:
    space = Space(layers=integer(1, 5))

    def shares(region: Region, round_number: int) -> list[float]:
        drawn = draw_params(region, Narrowing(explore=0.0), count=1_000, seed=0, round_number=round_number)
        tally = Counter(p["layers"] for p in drawn)
        assert all(type(value) is int for value in tally)
        return [tally[value] / 1_000 for value in range(1, 6)]

    assert shares(Region(declared=space), 1) == pytest.approx([0.2] * 5, abs=0.04)
    narrowed = Region(declared=space, elite=({"layers": 2},), elite_values={"layers": (2,)}, width=0.1)
    one, two, three, four, five = shares(narrowed, 8)
    assert two > 0.8
    assert one > 0.02
    assert three > 0.02
    assert four == five == 0.0


@given(
    low=st.integers(1, 20), width=st.integers(2, 60), scale=st.sampled_from(["linear", "log"]), data=st.data()
)
def test_adjacent_integers_stay_within_reach(low, width, scale, data) -> None:  # type: ignore[no-untyped-def]
    domain = Interval(low, low + width, scale, integer=True)
    value = data.draw(st.integers(low, low + width))
    below, above = window_around(domain, value, 0.001)
    for neighbour in (value - 1, value + 1):
        assert neighbour not in domain or neighbour in (domain.value(below), domain.value(above))
