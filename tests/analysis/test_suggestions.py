"""Suggestions for a training that somebody watches, on real curves and on made ones."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caviar.analysis.suggestions import Curve, Suggestion, suggest
from caviar.data.splits import Dataset, split
from caviar.engine import Part, Progress
from caviar.training.native.engine import NativeEngine
from caviar.trial import Trial

PARAMS = {"learning_rate": 0.1, "l2": 0.0, "dropout": 0.1}


def curve(train: Sequence[float], dev: Sequence[float] | None = None, **more: Any) -> Curve:
    """Return a curve of losses."""
    return Curve(range(1, len(train) + 1), train, dev or train, params=PARAMS, **more)


def found(train: Sequence[float], dev: Sequence[float] | None = None, **more: Any) -> Suggestion:
    """Return the suggestion for a curve, which must have one."""
    suggestion = suggest(curve(train, dev, **more))
    assert suggestion is not None
    return suggestion


def test_divergence_steps_back_with_a_smaller_rate() -> None:
    losses = [0.9, 0.5, 0.7, math.nan]
    suggestion = found(losses, diverged="loss is not finite")
    assert suggestion.kind == "diverged"
    assert suggestion.commands == ("back 2; learning_rate /10; go",)


def test_an_epoch_that_diverged_is_not_stepped_back_to() -> None:
    assert found([1e12], [0.1], diverged="loss exploded").commands == ("back 0; learning_rate /10; go",)
    assert found([0.9, 0.5, 0.1], diverged="loss exploded").commands == ("back 2; learning_rate /10; go",)


def test_a_loss_that_explodes_steps_back() -> None:
    suggestion = found([2.0, 0.5, 0.4, 1.5, 3.0])
    assert suggestion.kind == "exploding"
    assert suggestion.commands == ("back 3; learning_rate /10; go",)


def test_overfitting_regularises_from_the_best_epoch() -> None:
    train = [0.9 * 0.8**epoch for epoch in range(12)]
    dev = [0.9, 0.7, 0.5, 0.4, 0.41, 0.43, 0.46, 0.5, 0.53, 0.56, 0.6, 0.65]
    suggestion = found(train, dev)
    assert suggestion.kind == "overfitting"
    assert "0.4 (epoch 4)" in suggestion.reason
    assert suggestion.commands == ("back 4; dropout 0.2; go",)


def test_accuracy_that_falls_is_overfitting_too() -> None:
    train = [0.9 * 0.8**epoch for epoch in range(10)]
    accuracy = [0.5, 0.7, 0.8, 0.85, 0.84, 0.83, 0.82, 0.8, 0.78, 0.76]
    suggestion = found(train, [-a for a in accuracy], dev_name="dev_accuracy", dev_sign=-1)
    assert "dev_accuracy fell from 0.85 (epoch 4) to 0.77" in suggestion.reason


def test_a_plateau_offers_both_directions() -> None:
    train = [1.0, 0.6, *(0.4 + 0.0004 * (-1) ** epoch for epoch in range(8))]
    suggestion = found(train)
    assert suggestion.kind == "plateau"
    assert suggestion.commands == ("learning_rate /3", "learning_rate *3")


def test_no_plateau_is_told_right_after_a_change() -> None:
    train = [1.0, 0.6, *(0.4 + 0.0004 * (-1) ** epoch for epoch in range(8))]
    assert suggest(curve(train, since=6)) is None


def test_a_slow_even_fall_wants_a_larger_rate() -> None:
    suggestion = found([2.30 - 0.004 * epoch for epoch in range(8)], rate=1e-4)
    assert suggestion.kind == "rate too low"
    assert "0.0001" in suggestion.reason
    assert suggestion.commands == ("learning_rate *3",)


def test_swings_without_a_fall_want_a_smaller_rate() -> None:
    suggestion = found([1.0, 0.5, 0.9, 0.55, 0.95, 0.5, 0.9, 0.6], [0.5] * 8)
    assert suggestion.kind == "rate too high"
    assert suggestion.commands == ("learning_rate /3",)


def test_a_change_that_harms_is_named() -> None:
    train = [1.0, 0.5, 0.3, 0.2, 0.45, 0.5, 0.55]
    dev = [1.0, 0.5, 0.35, 0.3, 0.9, 1.1, 1.3]
    suggestion = found(train, dev, since=4)
    assert suggestion.kind == "worse since the change"
    assert suggestion.commands == ("back 4; learning_rate /3; go",)


def test_commands_name_what_may_change_alone() -> None:
    suggestion = suggest(Curve(range(1, 9), [], [0.5] * 8, params={"depth": 3}))
    assert suggestion is not None
    assert suggestion.commands == ()


def noisy(rows: int) -> Dataset:
    """Return two classes that overlap much: small networks overfit them."""
    rng = np.random.default_rng(1)
    y = np.arange(rows) % 2
    x = rng.normal(size=(rows, 20)) + 0.35 * y[:, None]
    return split("noisy", x, y)


@pytest.mark.parametrize(
    ("params", "kinds"),
    [
        ({"learning_rate": 0.05, "units": 64, "batch_size": 16}, {"overfitting"}),
        ({"learning_rate": 1e-5, "units": 16, "optimizer": "sgd"}, {"rate too low", "plateau"}),
        ({"learning_rate": 30.0, "batch_norm": False}, {"diverged", "exploding", "rate too high", "plateau"}),
    ],
)
def test_real_trainings_get_the_suggestion_that_fits(params: dict[str, Any], kinds: set[str]) -> None:
    engine = NativeEngine(noisy(200))
    trial = Trial(number=0, round=1, params=params, epochs=30, seed=3)
    measured = [e.measurement.metrics for e in engine.train([Part(trial=trial)]) if isinstance(e, Progress)]
    train, dev = ([m[name] for m in measured] for name in ("train_loss", "dev_loss"))
    diverged = None if math.isfinite(train[-1]) and train[-1] < 1e3 else "it did"
    assert found(train, dev, diverged=diverged).kind in kinds


def test_a_training_that_does_well_gets_none() -> None:
    losses = [2.0 * 0.75**epoch + 0.01 for epoch in range(15)]
    for epochs in range(1, 16):
        assert suggest(curve(losses[:epochs], [loss * 1.1 for loss in losses[:epochs]])) is None


LOSSES = st.lists(st.one_of(st.floats(0, 1e6), st.sampled_from([math.nan, math.inf, 0.0])), max_size=20)


@settings(max_examples=80, deadline=None)
@given(LOSSES, LOSSES, st.integers(0, 20), st.booleans())
def test_any_curve_is_taken(train: list[float], dev: list[float], since: int, diverged: bool) -> None:
    epochs = range(1, len(dev) + 1)
    suggestion = suggest(
        Curve(epochs, train[: len(dev)], dev, params=PARAMS, since=since, diverged="so" if diverged else None)
    )
    if diverged:
        assert suggestion is not None
    if suggestion is not None:
        assert suggestion.reason
        assert len(suggestion.commands) <= 2
