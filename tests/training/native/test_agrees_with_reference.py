"""Law 3 for the native engine: a trial has the same curves and network as with the reference engine."""

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caviar.data.splits import Dataset
from caviar.training.classifier import Classifier
from caviar.training.native.engine import NativeEngine
from caviar.training.recipe import DECAYS, OPTIMIZERS
from caviar.training.reference import ReferenceEngine
from caviar.trial import Outcome
from tests.training.networks import blobs, checkpoint_difference, curve_difference, products, run, trial

SMALL = blobs(rows=50)
RATES = {"sgd": 0.05, "momentum": 0.02, "rmsprop": 0.001, "adam": 0.005}


@pytest.fixture(scope="module")
def engines() -> tuple[NativeEngine, ReferenceEngine]:
    return NativeEngine(SMALL, dtype=np.float64), ReferenceEngine(SMALL, dtype=torch.float64)


def _named(params: dict[str, Any]) -> str:
    return "-".join(str(value) for value in params.values())


SETTINGS = list(
    products(
        optimizer=OPTIMIZERS,
        activation=("relu", "tanh"),
        batch_norm=(True, False),
        dropout=(0.0, 0.3),
        l2=(0.0, 0.02),
        layers=(0, 1, 2, 3, 4, 5),
    )
)


@pytest.mark.parametrize("params", SETTINGS, ids=_named)
def test_a_hundred_float64_steps_differ_by_a_billionth_at_most(
    engines: tuple[NativeEngine, ReferenceEngine], params: dict[str, Any]
) -> None:
    # 30 rows in mini-batches of 8, so that the last of an epoch is smaller
    decay = DECAYS[zlib.crc32(_named(params).encode()) % len(DECAYS)]
    rate = RATES[params["optimizer"]]
    what = trial(epochs=25, units=9, batch_size=8, decay=decay, learning_rate=rate, **params)
    (curve, trained), (expected_curve, expected) = (run(engine, what) for engine in engines)
    assert trained.outcome is expected.outcome is Outcome.COMPLETED
    assert curve_difference(curve, expected_curve) < 1e-9
    assert checkpoint_difference(trained.checkpoint, expected.checkpoint) < 1e-9


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_schedule_agrees_with_every_optimizer(
    engines: tuple[NativeEngine, ReferenceEngine], optimizer: str, decay: str
) -> None:
    what = trial(
        epochs=25,
        batch_size=8,
        layers=2,
        units_1=20,
        units_2=5,
        optimizer=optimizer,
        decay=decay,
        decay_epochs=7,
        learning_rate=RATES[optimizer],
    )
    (curve, trained), (expected_curve, expected) = (run(engine, what) for engine in engines)
    assert curve_difference(curve, expected_curve) < 1e-9
    assert checkpoint_difference(trained.checkpoint, expected.checkpoint) < 1e-9


@settings(max_examples=60, deadline=None)
@given(
    layers=st.integers(0, 4),
    widths=st.lists(st.integers(1, 70), min_size=4, max_size=4),
    batch_size=st.integers(2, 40),
    optimizer=st.sampled_from(OPTIMIZERS),
    activation=st.sampled_from(("relu", "tanh")),
    batch_norm=st.booleans(),
    batch_norm_momentum=st.sampled_from((0.0, 0.1, 0.7, 1.0)),
    batch_norm_epsilon=st.sampled_from((1e-6, 1e-3, 0.1)),
    dropout=st.sampled_from((0.0, 1e-7, 0.5)),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_shape_agrees(
    engines: tuple[NativeEngine, ReferenceEngine], layers: int, widths: list[int], seed: int, **params: Any
) -> None:
    for layer in range(layers):
        params[f"units_{layer + 1}"] = widths[layer]
    what = trial(epochs=3, seed=seed, layers=layers, learning_rate=1e-3, **params)
    (curve, trained), (expected_curve, expected) = (run(engine, what) for engine in engines)
    assert curve_difference(curve, expected_curve) < 1e-9
    assert checkpoint_difference(trained.checkpoint, expected.checkpoint) < 1e-9


@pytest.mark.parametrize(
    ("batch_size", "batch_norm"),
    [(1, False), (29, False), (29, True), (30, False), (30, True), (1000, False), (1000, True)],
)
def test_last_mini_batches_of_any_size_agree(
    engines: tuple[NativeEngine, ReferenceEngine], batch_size: int, batch_norm: bool
) -> None:
    what = trial(epochs=4, units=5, batch_size=batch_size, batch_norm=batch_norm, learning_rate=0.01)
    (curve, trained), (expected_curve, expected) = (run(engine, what) for engine in engines)
    assert curve_difference(curve, expected_curve) < 1e-9
    assert checkpoint_difference(trained.checkpoint, expected.checkpoint) < 1e-9


def test_twenty_layers_and_wide_ones_agree() -> None:
    dataset = blobs(rows=200, features=300, classes=20)
    engines = NativeEngine(dataset, dtype=np.float64), ReferenceEngine(dataset, dtype=torch.float64)
    # with batch norm, 20 layers amplify rounding a hundredfold each step
    deep = trial(epochs=2, batch_size=16, layers=20, units=6, batch_norm=False, activation="tanh")
    wide = trial(epochs=2, batch_size=16, layers=2, units=300, learning_rate=1e-3)
    for what in (deep, wide):
        (curve, trained), (expected_curve, expected) = (run(engine, what) for engine in engines)
        assert curve_difference(curve, expected_curve) < 1e-9
        assert checkpoint_difference(trained.checkpoint, expected.checkpoint) < 1e-9


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return Classifier(data="sklearn:digits").load()


@pytest.mark.parametrize(
    "params",
    list(
        products(
            optimizer=OPTIMIZERS,
            activation=("relu", "tanh"),
            batch_norm=(True, False),
            dropout=(0.0, 0.3),
            l2=(0.0, 0.01),
        )
    ),
    ids=_named,
)
def test_single_float32_steps_differ_by_rounding_at_most(params: dict[str, Any]) -> None:
    # the first steps of rmsprop and adam are as long for a gradient near 0, whose rounding differs between kinds of CPU
    tolerance = 1e-5 if params["optimizer"] in ("sgd", "momentum") else 1e-4
    native, reference = NativeEngine(SMALL), ReferenceEngine(SMALL)
    what = trial(
        seed=0,
        epochs=8,
        layers=2,
        units=24,
        batch_size=30,
        learning_rate=RATES[params["optimizer"]],
        **params,
    )
    checkpoint = None
    for epoch in range(8):  # one step each, both from the reference engine's last checkpoint
        curve, trained = run(native, what, until=epoch + 1, checkpoint=checkpoint)
        expected_curve, expected = run(reference, what, until=epoch + 1, checkpoint=checkpoint)
        assert curve_difference(curve, expected_curve) < 1e-5
        assert checkpoint_difference(trained.checkpoint, expected.checkpoint) < tolerance
        checkpoint = expected.checkpoint


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_full_float32_trainings_end_with_the_same_metrics(digits: Dataset, optimizer: str) -> None:
    # tolerances of 4 of the 359 dev rows and 0.02 nats, because training amplifies differences of rounding
    native, reference = NativeEngine(digits), ReferenceEngine(digits)
    what = trial(epochs=20, units=32, layers=2, optimizer=optimizer, learning_rate=RATES[optimizer])
    (curve, _), (expected, _) = (run(engine, what) for engine in (native, reference))
    assert abs(curve[0]["train_loss"] - expected[0]["train_loss"]) < 1e-3
    assert abs(curve[-1]["dev_accuracy"] - expected[-1]["dev_accuracy"]) <= 4 / 359 + 1e-9
    assert abs(curve[-1]["dev_loss"] - expected[-1]["dev_loss"]) < 0.02


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_engines_agree_after_hyperparameters_change_in_between(
    engines: tuple[NativeEngine, ReferenceEngine], optimizer: str
) -> None:
    rate = RATES[optimizer]
    before = trial(epochs=10, units=9, batch_size=8, optimizer=optimizer, learning_rate=rate)
    changes: dict[str, Any] = {"learning_rate": rate / 3, "l2": 0.05, "dropout": 0.2, "batch_size": 10}
    if optimizer in ("momentum", "adam"):
        changes |= {"momentum": 0.5} if optimizer == "momentum" else {"beta1": 0.5, "beta2": 0.9}
    after = replace(before, params={**before.params, **changes, "decay": "cosine"})
    curves, ends = [], []
    for engine in engines:
        _, paused = run(engine, before, until=4)
        curve, end = run(engine, after, checkpoint=paused.checkpoint)
        curves.append(curve)
        ends.append(end)
    assert curve_difference(*curves) < 1e-9
    assert checkpoint_difference(ends[0].checkpoint, ends[1].checkpoint) < 1e-9
