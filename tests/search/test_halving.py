"""Cohorts that race: who goes on, whatever the order in which trials arrive."""

from collections.abc import Mapping, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.errors import StudyError
from caviar.rounds import Halving, Round, coarse_to_fine
from caviar.search.halving import Race
from caviar.trial import Measurement

EPOCHS = 9
FIRST = 100
"""The number of the round's first trial."""


def race(count: int, rule: Halving | None = None) -> Race:
    rule = rule or Halving(cohort=9)
    return Race(rule=rule, epochs=EPOCHS, first=FIRST, count=count, metric="loss", maximize=False)


def curve(losses: Sequence[float], until: int) -> list[Measurement]:
    return [Measurement(epoch + 1, {"loss": loss}) for epoch, loss in enumerate(losses[:until])]


def train_all(
    race: Race, losses: Mapping[int, Sequence[float]], dies: Mapping[int, int], random: Random
) -> dict[int, int]:
    """The epoch at which each trial ended, where they arrive in a random order and some die at some epoch."""
    trained: dict[int, int] = {}
    running = dict.fromkeys(losses, race.rung_epochs[0])
    while running:
        number = random.choice(sorted(running))
        until = running.pop(number)
        dead = dies.get(number, EPOCHS + 1) <= until
        trained[number] = dies[number] if dead else until
        if until == EPOCHS:
            continue  # it was in its last part, and races no more
        race, verdict = race.report(number, curve(losses[number], trained[number]), ended=dead)
        assert not set(verdict.stopped) & set(verdict.promoted)
        running |= verdict.promoted
    assert not race.cohorts, "a cohort waits for nobody"
    return trained


def random_losses(count: int, seed: int) -> dict[int, list[float]]:
    random = Random(seed)
    return {FIRST + n: [random.random() for _ in range(EPOCHS)] for n in range(count)}


def test_a_third_of_each_rung_goes_on_from_where_it_is() -> None:
    losses = {FIRST + n: [float(n)] * EPOCHS for n in range(9)}
    trained = train_all(race(9), losses, {}, Random(0))
    assert [trained[FIRST + n] for n in range(9)] == [9, 3, 3, 1, 1, 1, 1, 1, 1]


def test_ties_go_to_the_smaller_dev_loss_then_to_the_earlier_trial() -> None:
    racing = race(3, Halving(rungs=(1,), cohort=3))
    for number, dev_loss in ((FIRST, 0.5), (FIRST + 1, 0.4), (FIRST + 2, 0.4)):
        racing, verdict = racing.report(
            number, [Measurement(1, {"loss": 0.1, "dev_loss": dev_loss})], ended=False
        )
    assert verdict.promoted == {FIRST + 1: EPOCHS}
    assert verdict.stopped == (FIRST, FIRST + 2)


def test_cohorts_do_not_wait_for_each_other() -> None:
    racing = race(18)
    for n in range(9):
        racing, verdict = racing.report(FIRST + n, curve([n], 1), ended=False)
    assert verdict.promoted == {FIRST: 3, FIRST + 1: 3, FIRST + 2: 3}


def test_a_trial_that_dies_leaves_its_place_to_the_next() -> None:
    losses = {FIRST + n: [float(n)] * EPOCHS for n in range(9)}
    trained = train_all(race(9), losses, {FIRST: 0, FIRST + 1: 0}, Random(0))
    assert [trained[FIRST + n] for n in range(9)] == [0, 0, 9, 3, 3, 1, 1, 1, 1]


def test_a_loss_that_is_not_finite_goes_nowhere() -> None:
    losses = {FIRST + n: [float("nan") if n < 8 else 1.0] * EPOCHS for n in range(9)}
    trained = train_all(race(9), losses, {FIRST + n: 1 for n in range(8)}, Random(0))
    assert [trained[FIRST + n] for n in range(9)] == [1] * 8 + [9]


@given(
    count=st.integers(1, 60),
    cohort=st.integers(2, 30),
    keep=st.sampled_from([0.2, 1 / 3, 0.5]),
    rungs=st.sampled_from([1, 2, 3, (1,), (2, 5)]),
    seed=st.integers(0, 1000),
    orders=st.tuples(st.integers(0, 99), st.integers(100, 199)),
    data=st.data(),
)
def test_who_goes_on_does_not_depend_on_who_came_first(  # type: ignore[no-untyped-def]
    count, cohort, keep, rungs, seed, orders, data
) -> None:
    rule = Halving(keep=keep, rungs=rungs, cohort=cohort)
    losses = random_losses(count, seed)
    dies = data.draw(st.dictionaries(st.sampled_from(sorted(losses)), st.integers(0, EPOCHS), max_size=10))
    one, other = (train_all(race(count, rule), losses, dies, Random(order)) for order in orders)
    assert one == other
    assert set(one) == set(losses)


@given(count=st.integers(1, 40), seed=st.integers(0, 1000), data=st.data())
def test_a_race_that_is_taken_up_again_decides_as_it_would_have(count, seed, data) -> None:  # type: ignore[no-untyped-def]
    losses = random_losses(count, seed)
    dies = data.draw(st.dictionaries(st.sampled_from(sorted(losses)), st.integers(0, EPOCHS), max_size=5))
    whole = train_all(race(count), losses, dies, Random(0))
    recorded = data.draw(st.sets(st.sampled_from(sorted(losses))))
    again = race(count)
    for number in recorded:
        again, verdict = again.report(number, curve(losses[number], whole[number]), ended=True)
        assert not verdict.stopped
        assert not verdict.promoted
    rest = {number: values for number, values in losses.items() if number not in recorded}
    assert train_all(again, rest, dies, Random(1)) == {n: whole[n] for n in rest}


@pytest.mark.parametrize(
    ("epochs", "rule", "ends"),
    [
        (27, Halving(), (3, 9)),
        (20, Halving(), (3, 7)),
        (20, Halving(rungs=(1,)), (1,)),
        (20, Halving(keep=0.5, rungs=3), (3, 5, 10)),
        (2, Halving(), (1,)),
    ],
)
def test_rungs_are_spaced_by_the_share_that_goes_on(
    epochs: int, rule: Halving, ends: tuple[int, ...]
) -> None:
    assert rule.rung_epochs(epochs) == ends


@given(trials=st.integers(1, 500), cohort=st.integers(2, 100), epochs=st.integers(2, 100))
def test_every_trial_is_in_one_cohort_of_about_the_size_asked_for(
    trials: int, cohort: int, epochs: int
) -> None:
    rule = Halving(cohort=cohort)
    sizes = [
        trials * (p + 1) // rule.cohort_count(trials) - trials * p // rule.cohort_count(trials)
        for p in range(rule.cohort_count(trials))
    ]
    assert sum(sizes) == trials
    assert max(sizes) - min(sizes) <= 1
    for size in sizes:
        places = rule.rung_sizes(size, epochs)
        assert len(places) == len(rule.rung_epochs(epochs)) + 1
        assert sorted(places, reverse=True) == list(places)
        assert places[-1] >= 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Halving(keep=0),
        lambda: Halving(keep=1.0),
        lambda: Halving(rungs=0),
        lambda: Halving(rungs=()),
        lambda: Halving(rungs=(3, 1)),
        lambda: Halving(cohort=1),
        lambda: Round(10, 1, Halving()),
        lambda: Round(10, 9, True),  # type: ignore[arg-type]
        lambda: coarse_to_fine(trials=50, epochs=9, halving=True),  # type: ignore[arg-type]
        lambda: Round(10, 5, Halving(rungs=(5,))),
        lambda: Round(10, 5, "yes"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_halved_is_refused(wrong) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(StudyError):
        wrong()
