"""Learned costs order trials as their seconds do."""

from random import Random

import pytest

from caviar.driver.learned_costs import MIN_S, MIN_TRIALS, LearnedCosts
from caviar.space import Space, choice, integer, linear, log, when
from caviar.trial import Value

SPACE = Space(
    rate=log(1e-4, 1.0),
    layers=integer(1, 4),
    method=choice("plain", "heavy"),
    beta=when(linear(0.0, 1.0), method="heavy"),
)


def draw(random: Random) -> dict[str, Value]:
    params: dict[str, Value] = {
        "rate": 10 ** random.uniform(-4, 0),
        "layers": random.randint(1, 4),
        "method": random.choice(["plain", "heavy"]),
    }
    return params if params["method"] == "plain" else {**params, "beta": random.random()}


def seconds(params: dict[str, Value], random: Random) -> float:
    """Return the seconds of a trial that depend on its layers and its method, with some noise."""
    layers, is_heavy = params["layers"], params["method"] == "heavy"
    assert isinstance(layers, int)
    return float(2.0**layers * (3.0 if is_heavy else 1.0) * random.lognormvariate(0.0, 0.2))


def learned(trials: int, observed_s: float | None = None) -> LearnedCosts:
    """Return what so many trials teach; they take these seconds, or those of `seconds`."""
    random, costs = Random(0), LearnedCosts(SPACE)
    for _ in range(trials):
        params = draw(random)
        costs.note(params, 1.0, seconds(params, random) if observed_s is None else observed_s)
    costs.learn()
    return costs


def test_learned_costs_are_nearly_those_of_new_trials() -> None:
    random, costs = Random(1), learned(100)
    for _ in range(100):
        params = draw(random)
        assert 0.5 < costs.factor(params) / seconds(params, random) < 2.0


@pytest.mark.parametrize(("trials", "observed_s"), [(MIN_TRIALS - 1, 5.0), (100, MIN_S / 2), (100, 0.0)])
def test_few_or_short_trials_teach_nothing(trials: int, observed_s: float) -> None:
    assert learned(trials, observed_s).factor(draw(Random(1))) == 1.0


def test_corrections_stay_within_those_observed() -> None:
    random, costs = Random(2), LearnedCosts(SPACE)
    observed = []
    for _ in range(30):
        params = draw(random)
        observed.append(random.lognormvariate(0.0, 3.0))
        costs.note(params, 1.0, observed[-1])
    costs.learn()
    factors = [costs.factor(draw(random)) for _ in range(500)]
    assert min(observed) <= min(factors) * (1 + 1e-9)
    assert max(factors) <= max(observed) * (1 + 1e-9)
    assert costs.gain < 0.2


def test_what_is_learned_helps_with_trials_left_out() -> None:
    assert learned(100).gain > 0.8


def test_predictions_of_another_magnitude_are_corrected() -> None:
    costs = LearnedCosts(Space(layers=integer(1, 4)))
    for layers in 10 * [1, 2, 3, 4]:
        costs.note({"layers": layers}, predicted_s=1e-3, observed_s=100.0 * layers)
    costs.learn()
    assert costs.factor({"layers": 4}) / costs.factor({"layers": 1}) == pytest.approx(4.0, rel=0.2)
