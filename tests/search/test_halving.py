"""Halving promotes the best of each cohort, in whatever order trials report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from caviar.rounds import Halving
from caviar.search.halving import Race
from caviar.trial import Measurement

EPOCHS = 9
FIRST = 100
"""Number of the round's first trial."""


def race(count: int, rule: Halving | None = None) -> Race:
    rule = rule or Halving(cohort=9)
    return Race(rule=rule, epochs=EPOCHS, first=FIRST, count=count, metric="loss", maximize=False)


def curve(losses: Sequence[float], until: int) -> list[Measurement]:
    return [Measurement(epoch + 1, {"loss": loss}) for epoch, loss in enumerate(losses[:until])]


def train_all(
    race: Race, losses: Mapping[int, Sequence[float]], fails_at: Mapping[int, int], random: Random
) -> dict[int, int]:
    """Train the trials, which report in a random order, and return the epoch at which each ended.

    Args:
        race: the halving of the round.
        losses: the loss of each trial after each epoch.
        fails_at: the epoch at which some trials fail.
        random: draws the order.
    """
    trained: dict[int, int] = {}
    running = dict.fromkeys(losses, race.rung_epochs[0])
    while running:
        number = random.choice(sorted(running))
        until = running.pop(number)
        failed = fails_at.get(number, EPOCHS + 1) <= until
        trained[number] = fails_at[number] if failed else until
        if until == EPOCHS:
            continue  # nothing waits for a trial in its last part
        race, verdict = race.report(number, curve(losses[number], trained[number]), ended=failed)
        assert not set(verdict.stopped) & set(verdict.promoted)
        running |= verdict.promoted
    assert not race.cohorts, "all cohorts are decided"
    return trained


def random_losses(count: int, seed: int) -> dict[int, list[float]]:
    random = Random(seed)
    return {FIRST + n: [random.random() for _ in range(EPOCHS)] for n in range(count)}


def test_best_third_continues_at_each_rung() -> None:
    losses = {FIRST + n: [float(n)] * EPOCHS for n in range(9)}
    trained = train_all(race(9), losses, {}, Random(0))
    assert [trained[FIRST + n] for n in range(9)] == [9, 3, 3, 1, 1, 1, 1, 1, 1]


def test_ties_go_to_smaller_dev_loss_then_earlier_trial() -> None:
    racing = race(3, Halving(rungs=(1,), cohort=3))
    for number, dev_loss in ((FIRST, 0.5), (FIRST + 1, 0.4), (FIRST + 2, 0.4)):
        racing, verdict = racing.report(
            number, [Measurement(1, {"loss": 0.1, "dev_loss": dev_loss})], ended=False
        )
    assert verdict.promoted == {FIRST + 1: EPOCHS}
    assert verdict.stopped == (FIRST, FIRST + 2)


def test_cohorts_are_decided_independently() -> None:
    racing = race(18)
    for n in range(9):
        racing, verdict = racing.report(FIRST + n, curve([n], 1), ended=False)
    assert verdict.promoted == {FIRST: 3, FIRST + 1: 3, FIRST + 2: 3}


def test_failed_trial_leaves_its_place_to_the_next() -> None:
    losses = {FIRST + n: [float(n)] * EPOCHS for n in range(9)}
    trained = train_all(race(9), losses, {FIRST: 0, FIRST + 1: 0}, Random(0))
    assert [trained[FIRST + n] for n in range(9)] == [0, 0, 9, 3, 3, 1, 1, 1, 1]


def test_trials_without_a_finite_loss_stop() -> None:
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
def test_promotion_does_not_depend_on_arrival_order(  # type: ignore[no-untyped-def]
    count, cohort, keep, rungs, seed, orders, data
) -> None:
    rule = Halving(keep=keep, rungs=rungs, cohort=cohort)
    losses = random_losses(count, seed)
    fails_at = data.draw(
        st.dictionaries(st.sampled_from(sorted(losses)), st.integers(0, EPOCHS), max_size=10)
    )
    one, other = (train_all(race(count, rule), losses, fails_at, Random(order)) for order in orders)
    assert one == other
    assert set(one) == set(losses)


@given(count=st.integers(1, 40), seed=st.integers(0, 1000), data=st.data())
def test_resumed_race_decides_as_the_first_run(count, seed, data) -> None:  # type: ignore[no-untyped-def]
    losses = random_losses(count, seed)
    fails_at = data.draw(st.dictionaries(st.sampled_from(sorted(losses)), st.integers(0, EPOCHS), max_size=5))
    whole = train_all(race(count), losses, fails_at, Random(0))
    recorded = data.draw(st.sets(st.sampled_from(sorted(losses))))
    again = race(count)
    for number in recorded:
        again, verdict = again.report(number, curve(losses[number], whole[number]), ended=True)
        assert not verdict.stopped
        assert not verdict.promoted
    rest = {number: values for number, values in losses.items() if number not in recorded}
    assert train_all(again, rest, fails_at, Random(1)) == {n: whole[n] for n in rest}


@given(trials=st.integers(1, 500), cohort=st.integers(2, 100), epochs=st.integers(2, 100))
def test_cohorts_have_about_the_size_asked_for(trials: int, cohort: int, epochs: int) -> None:
    rule = Halving(cohort=cohort)
    indices = [race(trials, rule).cohort_index(FIRST + n) for n in range(trials)]
    assert indices == sorted(indices)
    sizes = Counter(indices)
    assert len(sizes) == rule.cohort_count(trials)
    assert max(sizes.values()) - min(sizes.values()) <= 1
    for size in sizes.values():
        rungs = rule.rung_sizes(size, epochs)
        assert len(rungs) == len(rule.rung_epochs(epochs)) + 1
        assert sorted(rungs, reverse=True) == list(rungs)
        assert rungs[-1] >= 1
