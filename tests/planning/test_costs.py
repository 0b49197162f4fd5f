"""Costs of trials from timed ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.planning.costs import learn_costs
from caviar.planning.measuring import TimedPart
from caviar.space import Space, log
from caviar.trial import Outcome, Trial

SPACE = Space(rate=log(1e-3, 1.0))


def timed(number: int, seconds: float, epochs: int = 20, of: int = 20, **more: object) -> TimedPart:
    trial = Trial(number=number, round=1, params={"rate": 0.1}, epochs=of, seed=number)
    values: dict[str, object] = {"predicted_s": 2.0, "outcome": Outcome.COMPLETED, "is_whole": epochs == of}
    return TimedPart(trial=trial, epochs=epochs, took_s=seconds, **{**values, **more})  # type: ignore[arg-type]


@given(seconds=st.lists(st.floats(1e-4, 1e4), min_size=3, max_size=30))
def test_the_mean_cost_is_that_of_the_timed_trials(seconds: list[float]) -> None:
    parts = [timed(number, took_s) for number, took_s in enumerate(seconds)]
    costs = learn_costs(parts, SPACE)
    assert costs is not None
    assert costs.train_s({"rate": 0.1}, 2.0) == pytest.approx(sum(seconds) / len(seconds))
    assert costs.timed == len(seconds)


def test_the_first_trial_of_a_worker_is_kept_apart() -> None:
    parts = [timed(0, 7.0, is_first=True), *(timed(number, 2.0) for number in range(1, 5))]
    costs = learn_costs(parts, SPACE)
    assert costs is not None
    assert costs.first_s == pytest.approx(5.0)
    assert costs.train_s({"rate": 0.1}, 2.0) == pytest.approx(2.0)


@given(slow_s=st.floats(0.0, 10.0), workers=st.integers(1, 4))
def test_the_slow_seconds_of_the_start_are_paid_once(slow_s: float, workers: int) -> None:
    first = [timed(number, 2.0 + slow_s, is_first=True) for number in range(workers)]
    early = [timed(10 + number, 2.0 + slow_s, began_s=1.0) for number in range(workers)]
    steady = [timed(20 + number, 2.0, began_s=5.0) for number in range(10)]
    costs = learn_costs([*first, *early, *steady], SPACE)
    assert costs is not None
    assert costs.train_s({"rate": 0.1}, 2.0) == pytest.approx(2.0)
    assert costs.first_s == pytest.approx(2 * slow_s, abs=1e-6)


@given(start_s=st.floats(0.1, 50.0), epoch_s=st.floats(0.1, 50.0), epochs=st.integers(2, 19))
def test_start_and_epochs_of_a_long_trial_are_told_apart(start_s: float, epoch_s: float, epochs: int) -> None:
    part = timed(
        0,
        start_s + epochs * epoch_s,
        epochs,
        is_first=True,
        later_epochs=epochs - 1,
        later_s=(epochs - 1) * epoch_s,
    )
    costs = learn_costs([part], SPACE)
    assert costs is not None
    assert costs.start_s == pytest.approx(start_s)
    assert costs.train_s({"rate": 0.1}, 2.0) == pytest.approx(20 * epoch_s)
    assert costs.error > 0.2


def test_whole_trials_that_report_tell_their_start() -> None:
    """Each part of a halved trial pays for it, so it is not shared by the epochs."""
    parts = [timed(number, 0.5 + 2.0, later_epochs=12, later_s=1.2) for number in range(4)]
    costs = learn_costs(parts, SPACE)
    assert costs is not None
    assert costs.start_s == pytest.approx(0.5)
    assert costs.train_s({"rate": 0.1}, 2.0) == pytest.approx(2.0)


@given(seconds=st.lists(st.floats(0.1, 100.0), min_size=3, max_size=10), later_s=st.floats(1e-3, 10.0))
def test_a_start_is_no_longer_than_a_trial(seconds: list[float], later_s: float) -> None:
    parts = [timed(n, took_s, later_epochs=12, later_s=later_s) for n, took_s in enumerate(seconds)]
    costs = learn_costs(parts, SPACE)
    assert costs is not None
    assert 0.0 <= costs.start_s <= min(seconds)
    assert costs.start_s + costs.train_s({"rate": 0.1}, 2.0) == pytest.approx(sum(seconds) / len(seconds))


def test_a_trial_without_a_report_tells_nothing() -> None:
    assert learn_costs([timed(0, 300.0, epochs=0, outcome=None)], SPACE) is None
    assert learn_costs([], SPACE) is None
