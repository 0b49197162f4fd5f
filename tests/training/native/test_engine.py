"""The native engine on its own: gradients, determinism, checkpoints, divergence, memory."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caviar.engine import Part, PartDone, Progress
from caviar.training import random_streams
from caviar.training.native.engine import NativeEngine, NativeTraining, PaddedSplit
from caviar.training.recipe import OPTIMIZERS, recipe_from
from caviar.training.reference import ReferenceEngine
from caviar.trial import Outcome
from tests.training.networks import (
    blobs,
    checkpoint_difference,
    checkpoint_of,
    curve_difference,
    products,
    run,
    same_checkpoint,
    trial,
    with_arrays,
    with_train,
)

DATA = blobs(rows=100, features=7, classes=3)


@pytest.fixture(scope="module")
def engine() -> NativeEngine:
    return NativeEngine(DATA, dtype=np.float64)


def _gradient(engine: NativeEngine, checkpoint: Any = None, **params: Any) -> dict[str, Any]:
    """Return the gradient of the first step, which is the step of gradient descent with learning rate 1."""
    what = trial(epochs=2, optimizer="sgd", batch_size=1000, learning_rate=1.0, **params)
    _, before = run(engine, what, until=0, checkpoint=checkpoint)
    _, after = run(engine, what, until=1, checkpoint=before.checkpoint)
    return {name: array - checkpoint_of(after)[name] for name, array in checkpoint_of(before).items()}


# Gradients


@pytest.mark.parametrize(
    "params", list(products(activation=("relu", "tanh"), batch_norm=(True, False), layers=(0, 1, 3)))
)
def test_gradients_are_those_of_autograd(engine: NativeEngine, params: dict[str, Any]) -> None:
    what = trial(units=6, optimizer="sgd", **params)
    checkpoint = checkpoint_of(run(engine, what, until=0)[1])
    tensors = {name: torch.tensor(array, requires_grad=array.ndim > 0) for name, array in checkpoint.items()}
    a = torch.tensor(DATA.train.x, dtype=torch.float64)
    for layer in range(params["layers"]):
        name = f"hidden.{layer}"
        z = a @ tensors[f"{name}.weight"]
        if params["batch_norm"]:
            z = (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt()
            z = z * tensors[f"{name}.gamma"] + tensors[f"{name}.beta"]
        else:
            z = z + tensors[f"{name}.bias"]
        a = z.relu() if params["activation"] == "relu" else z.tanh()
    z = a @ tensors["output.weight"] + tensors["output.bias"]
    rows = torch.arange(len(z))
    (-z.log_softmax(1)[rows, torch.tensor(DATA.train.y)].mean()).backward()  # type: ignore[no-untyped-call]
    gradient = _gradient(engine, units=6, **params)
    expected = {name: t.grad.numpy() for name, t in tensors.items() if t.grad is not None}
    assert len(expected) >= 2 + 2 * params["layers"]
    for name, array in expected.items():
        np.testing.assert_allclose(gradient[name], array, rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_bias_before_batch_norm_has_zero_gradient() -> None:
    x = DATA.train.x.copy()
    x[:, 0] = 1.0  # the weights of a constant input act as a bias
    engine = NativeEngine(with_train(DATA, x, DATA.train.y), dtype=np.float64)
    assert np.abs(_gradient(engine, layers=2, units=8)["hidden.0.weight"][0]).max() < 1e-14
    with_bias = _gradient(engine, layers=2, units=8, batch_norm=False)
    np.testing.assert_allclose(with_bias["hidden.0.weight"][0], with_bias["hidden.0.bias"], rtol=1e-12)
    assert np.abs(with_bias["hidden.0.bias"]).max() > 1e-3


def test_the_softmax_gradient_sums_to_zero_over_the_classes(engine: NativeEngine) -> None:
    gradient = _gradient(engine, layers=1, units=8)
    assert abs(gradient["output.bias"].sum()) < 1e-15
    assert np.abs(gradient["output.weight"].sum(axis=1)).max() < 1e-14


@given(scale=st.sampled_from((0.01, 0.5, 30.0, 1e4)))
@settings(deadline=None)
def test_scaling_the_weights_before_batch_norm_changes_nothing(engine: NativeEngine, scale: float) -> None:
    what = trial(epochs=1, layers=2, units=8, batch_norm_epsilon=1e-12, learning_rate=0.0)
    checkpoint = checkpoint_of(run(engine, what, until=0)[1])
    scaled = with_arrays(checkpoint, hidden_0_weight=scale * checkpoint["hidden.0.weight"])
    plain, _ = run(engine, what, checkpoint=checkpoint)
    other, _ = run(engine, what, checkpoint=scaled)
    assert abs(plain[0]["train_loss"] - other[0]["train_loss"]) < 1e-7


# Loss


@pytest.mark.parametrize("layers", [0, 2])
def test_loss_at_zero_weights_is_log_of_classes(engine: NativeEngine, layers: int) -> None:
    what = trial(layers=layers, units=4)
    checkpoint = checkpoint_of(run(engine, what, until=0)[1])
    zeros = with_arrays(checkpoint, output_weight=0 * checkpoint["output.weight"])
    assert math.isclose(engine.evaluate(what, zeros, DATA.dev)["loss"], math.log(3), rel_tol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_is_stable_at_logits_of_ten_thousand(dtype: type) -> None:
    engine, what = NativeEngine(DATA, dtype=dtype), trial(layers=0)
    checkpoint = checkpoint_of(run(engine, what, until=0)[1])
    stretched = with_arrays(
        checkpoint, output_weight=0 * checkpoint["output.weight"], output_bias=np.array([1e4, -1e4, 1e4])
    )
    wrong = np.mean(DATA.dev.y == 1)
    expected = (1 - wrong) * math.log(2) + wrong * (2e4 + math.log(2))
    assert math.isclose(engine.evaluate(what, stretched, DATA.dev)["loss"], expected, rel_tol=1e-6)


def test_evaluation_counts_every_row_of_any_split(engine: NativeEngine) -> None:
    reference = ReferenceEngine(DATA, dtype=torch.float64)
    what = trial(layers=1, units=20, batch_size=3)
    _, trained = run(engine, what)
    for rows in (1, 127, 128, 129, 300):
        split = blobs(rows=600).train
        split = type(split)(split.x[:rows], split.y[:rows])
        found, expected = (e.evaluate(what, checkpoint_of(trained), split) for e in (engine, reference))
        assert found == pytest.approx(expected, rel=1e-12)


def test_predictions_agree_with_the_reference_in_every_row(engine: NativeEngine) -> None:
    reference = ReferenceEngine(DATA, dtype=torch.float64)
    what = trial(layers=1, units=20, batch_size=3)
    checkpoint = checkpoint_of(run(engine, what)[1])
    for rows in (1, 127, 128, 129, 300):
        split = blobs(rows=600).train
        split = type(split)(split.x[:rows], split.y[:rows])
        p_NC, expected_NC = (e.predict(what, checkpoint, split) for e in (engine, reference))
        np.testing.assert_allclose(p_NC, expected_NC, rtol=1e-9)
        accuracy = float((p_NC.argmax(axis=1) == split.y).mean())
        assert accuracy == engine.evaluate(what, checkpoint, split)["accuracy"]


# Order of rows and trials


def test_permuting_the_rows_of_a_batch_permutes_nothing_else(engine: NativeEngine) -> None:
    order = np.random.default_rng(1).permutation(len(DATA.train.y))
    other = NativeEngine(with_train(DATA, DATA.train.x[order], DATA.train.y[order]), dtype=np.float64)
    what = trial(epochs=10, layers=2, units=8, batch_size=1000)
    (curve, trained), (expected_curve, expected) = run(other, what), run(engine, what)
    assert curve_difference(curve, expected_curve) < 1e-12
    assert checkpoint_difference(trained.checkpoint, expected.checkpoint) < 1e-10


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_trial_gives_the_same_bits_after_other_trials(optimizer: str, dropout: float) -> None:
    what = trial(epochs=4, layers=2, units=37, batch_size=16, optimizer=optimizer, dropout=dropout)
    engine = NativeEngine(DATA)
    expected, trained = run(engine, what)
    elsewhere = []  # so that the next arrays have other addresses
    for size in (1, 100, 3001):
        elsewhere.append(np.zeros(size, np.uint8))
        run(NativeEngine(DATA), trial(units=size % 50 + 1, batch_size=10))
        again, once_more = run(NativeEngine(DATA), what)
        assert again == expected
        assert same_checkpoint(once_more.checkpoint, trained.checkpoint)
        again, once_more = run(engine, what)
        assert again == expected
        assert same_checkpoint(once_more.checkpoint, trained.checkpoint)


def test_unaligned_read_only_inputs_give_the_same_bits() -> None:
    x = DATA.train.x
    raw = np.empty(x.nbytes + 4, np.uint8)[4:].view(np.float32).reshape(x.shape)
    raw[:] = x
    raw.flags.writeable = False
    what = trial(layers=2, units=12)
    assert run(NativeEngine(with_train(DATA, raw, DATA.train.y)), what)[0] == run(NativeEngine(DATA), what)[0]


# Checkpoints


@pytest.mark.parametrize(
    "params", list(products(optimizer=OPTIMIZERS, batch_norm=(True, False), dropout=(0.0, 0.3)))
)
def test_a_continued_training_equals_an_uninterrupted_one(params: dict[str, Any]) -> None:
    engine, what = NativeEngine(DATA), trial(epochs=6, layers=2, units=9, decay="cosine", **params)
    expected, whole = run(engine, what)
    first, half = run(engine, what, until=2)
    second, rest = run(NativeEngine(DATA), what, checkpoint=half.checkpoint)
    assert first + second == expected
    assert same_checkpoint(rest.checkpoint, whole.checkpoint)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_checkpoints_can_be_moved_between_engines(engine: NativeEngine, optimizer: str) -> None:
    reference = ReferenceEngine(DATA, dtype=torch.float64)
    what = trial(epochs=9, layers=2, units=9, optimizer=optimizer, learning_rate=0.003, dropout=0.2)
    expected, whole = run(reference, what)
    first, checkpoint = run(reference, what, until=3)
    second, checkpoint = run(engine, what, until=6, checkpoint=checkpoint.checkpoint)
    third, checkpoint = run(reference, what, checkpoint=checkpoint.checkpoint)
    assert curve_difference(first + second + third, expected) < 1e-9
    assert checkpoint_difference(checkpoint.checkpoint, whole.checkpoint) < 1e-9


def test_a_diverging_trial_ends_early(engine: NativeEngine) -> None:
    curve, trained = run(engine, trial(epochs=50, learning_rate=1e5, batch_norm=False, layers=3, units=30))
    assert trained.outcome is Outcome.DIVERGED
    assert len(curve) < 50
    assert trained.failure is not None
    assert "loss" in trained.failure


def test_nan_in_the_data_diverges() -> None:
    x = DATA.train.x.copy()
    x[0, 0] = np.nan
    for params in products(activation=("relu", "tanh"), batch_norm=(True, False)):
        _, trained = run(NativeEngine(with_train(DATA, x, DATA.train.y)), trial(**params))
        assert trained.outcome is Outcome.DIVERGED


def test_a_failing_trial_does_not_change_the_others(engine: NativeEngine) -> None:
    parts = [
        Part(trial=trial(number=0, epochs=1)),
        Part(trial=trial(number=1, epochs=1, batch_size=1)),
        Part(trial=trial(number=2, epochs=1)),
    ]
    events = list(engine.train(parts))
    assert [type(event) for event in events] == [Progress, PartDone, PartDone, Progress, PartDone]
    outcomes = [event.outcome for event in events if isinstance(event, PartDone)]
    assert outcomes == [Outcome.COMPLETED, Outcome.FAILED, Outcome.COMPLETED]


# Memory


@pytest.mark.parametrize(
    "params", list(products(optimizer=OPTIMIZERS, layers=(0, 1, 3), batch_size=(16, 512)))
)
def test_memory_follows_the_documented_formula(params: dict[str, Any]) -> None:
    recipe = recipe_from({"units": 128, **params})
    sizes = [64, *recipe.hidden, 16]  # whole vectors, which need no padding
    parameters = sum(a * b + b for a, b in itertools.pairwise(sizes)) + sum(recipe.hidden)
    averages = {"sgd": 0, "momentum": 1, "rmsprop": 1, "adam": 2}[recipe.optimizer]
    rows, units, widest = max(128, recipe.batch_size), sum(recipe.hidden), max(sizes[1:])
    largest = max([a * b for a, b in itertools.pairwise(sizes[1:])], default=0)
    numbers = (
        (2 + averages) * parameters + rows * (64 + 1 + 16 + 2 * units + 2 * widest) + largest + 4 * units
    )
    train = PaddedSplit(np.zeros((2000, 64), np.float32), np.zeros(2000, np.int64))
    assert NativeTraining(recipe, sizes, train, train, 0, np.float32).memory_bytes == 4 * numbers


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 100), seed=st.integers(0, 10))
def test_random_bits_do_not_depend_on_the_parts_drawn(count: int, seed: int) -> None:
    one, two = random_streams.DropoutStream(seed, 0), random_streams.DropoutStream(seed, 0)
    parts = np.concatenate([one.words(count), one.words(3)])
    assert np.array_equal(parts, two.words(count + 3))


def test_dropout_bits_of_an_epoch_may_be_drawn_in_parts(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = trial(epochs=2, layers=2, units=33, batch_size=7, dropout=0.3)
    expected, _ = run(engine, what)
    monkeypatch.setattr("caviar.training.native.engine._DROPOUT_WORDS", 1)
    assert run(engine, what)[0] == expected
