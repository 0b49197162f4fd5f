import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from caviar.data.splits import Split
from caviar.engine import EXPLODED_LOSS, Checkpoint, Part, divergence
from caviar.training import random_streams
from caviar.training.recipe import (
    ACTIVATIONS,
    DECAYS,
    OPTIMIZERS,
    Recipe,
    batches,
    learning_rate_at,
    recipe_from,
)
from caviar.training.reference import (
    HiddenLayer,
    Network,
    ReferenceEngine,
    load_checkpoint,
    save_checkpoint,
    trained_network,
)
from caviar.trial import Measurement, Outcome
from tests.training.networks import blobs, metric, run_part, run_parts, same_checkpoint, trial

DATA = blobs(features=5)
SMALL: dict[str, Any] = {"layers": 2, "units": 6, "batch_size": 16}
RICH: dict[str, Any] = {**SMALL, "dropout": 0.25, "l2": 1e-3, "decay": "cosine", "learning_rate": 0.02}

Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def engine() -> ReferenceEngine:
    """Return an engine as a worker makes it."""
    return ReferenceEngine(DATA.without_test())


@pytest.fixture(scope="module")
def exact() -> ReferenceEngine:
    """Return an engine in float64, to compare with formulas."""
    return ReferenceEngine(DATA.without_test(), dtype=torch.float64)


def zeros(recipe: Recipe) -> dict[str, npt.NDArray[Any]]:
    """Return the checkpoint of a network of zeros."""
    network = Network(DATA.features, 3, recipe)
    checkpoint = save_checkpoint(network, torch.optim.SGD(network.parameters()), 0)
    return {name: np.zeros_like(array) for name, array in checkpoint.items()}


def random_network(recipe: Recipe, seed: int = 0) -> Network:
    """Return an untrained network in float64."""
    torch.manual_seed(seed)
    return Network(DATA.features, 3, recipe).double()


def hidden(network: Network, number: int = 0) -> HiddenLayer:
    """Return a hidden layer of a network."""
    layer = network.hidden[number]
    assert isinstance(layer, HiddenLayer)
    return layer


def rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first rows of the train split, in float64."""
    return torch.tensor(DATA.train.x[:count], dtype=torch.float64), torch.tensor(DATA.train.y[:count])


def trained_checkpoint(engine: ReferenceEngine, part: Part) -> dict[str, npt.NDArray[Any]]:
    """Train a part and return its checkpoint."""
    _, end = run_part(engine, part)
    assert end.checkpoint is not None, end
    return dict(end.checkpoint)


# --- the network and its loss ---


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_network_of_zeros_loses_ln_classes(engine: ReferenceEngine, layers: int, batch_norm: bool) -> None:
    params: dict[str, Any] = {"layers": layers, "units": 4, "batch_norm": batch_norm}
    scores = engine.evaluate(trial(**params), zeros(recipe_from(params)), DATA.dev)
    assert scores["loss"] == pytest.approx(math.log(3), rel=1e-6)


def test_the_gradient_at_the_softmax_is_a_minus_y() -> None:
    network = random_network(Recipe(layers=1, units=4, batch_norm=False))
    x, y = rows(7)
    z = network(x)
    z.retain_grad()
    F.cross_entropy(z, y).backward()  # type: ignore[no-untyped-call]
    a, a_hidden = torch.softmax(z, dim=1), hidden(network)(x)
    dz = (a - F.one_hot(y, 3)) / 7
    torch.testing.assert_close(z.grad, dz)
    torch.testing.assert_close(network.output.bias.grad, dz.sum(dim=0))
    torch.testing.assert_close(network.output.weight.grad, dz.T @ a_hidden)


@pytest.mark.parametrize("right", [True, False])
def test_softmax_is_stable_for_large_logits(engine: ReferenceEngine, right: bool) -> None:
    params: dict[str, Any] = {"layers": 0}
    checkpoint = {**zeros(recipe_from(params)), "output.bias": np.array([1e4, -1e4, 0.0], np.float32)}
    y = np.full(4, 0 if right else 1)
    scores = engine.evaluate(trial(**params), checkpoint, Split(DATA.dev.x[:4], y))
    assert scores["loss"] == (0.0 if right else 2e4)
    assert scores["accuracy"] == (1.0 if right else 0.0)


def test_there_is_no_bias_before_batch_norm() -> None:
    network = random_network(Recipe(layers=1, units=4))
    layer = hidden(network)
    assert "bias" not in dict(layer.linear.named_parameters())
    x, y = rows(16)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    a = layer.activation(layer.norm(layer.linear(x) + bias))
    F.cross_entropy(network.output(a), y).backward()  # type: ignore[no-untyped-call]
    assert bias.grad is not None
    assert bias.grad.abs().max() < 1e-12
    torch.testing.assert_close(a, layer(x))
    assert "bias" in dict(hidden(Network(5, 3, Recipe(batch_norm=False))).linear.named_parameters())


@pytest.mark.parametrize("factor", [1e-2, 3.0, 1e3])
def test_scaling_weights_before_batch_norm_changes_nothing(factor: float) -> None:
    network = random_network(Recipe(layers=2, units=6, batch_norm_epsilon=1e-12))
    x, _ = rows(16)
    before = network(x).detach()
    with torch.no_grad():
        for number in range(2):
            hidden(network, number).linear.weight.mul_(factor)
    torch.testing.assert_close(network(x), before, rtol=1e-6, atol=1e-7)


def test_a_large_epsilon_depends_on_the_weights_scale() -> None:
    network = random_network(Recipe(layers=1, units=6, batch_norm_epsilon=0.5))
    x, _ = rows(16)
    before = network(x).detach()
    with torch.no_grad():
        hidden(network).linear.weight.mul_(3.0)
    assert (network(x) - before).abs().max() > 1e-2


def test_dropout_follows_its_stream_and_rescales_kept_units() -> None:
    layer = hidden(random_network(Recipe(layers=1, units=6, dropout=0.25)))
    x, _ = rows(16)
    keep = random_streams.DropoutStream(5, 2).keep(16, 6, 0.25)
    assert 0 < keep.sum() < keep.size
    torch.testing.assert_close(
        layer(x, random_streams.DropoutStream(5, 2)),
        layer(x) * torch.from_numpy(keep) / 0.75,
        rtol=0,
        atol=1e-12,
    )


def test_each_epoch_has_its_own_dropout_stream(exact: ReferenceEngine) -> None:
    params: dict[str, Any] = {"layers": 2, "units": 6, "batch_norm": False, "dropout": 0.3, "batch_size": 23}
    still = trial(epochs=3, learning_rate=0.0, **params)
    curve, end = run_part(exact, Part(trial=still, keep_checkpoint=True))
    assert end.checkpoint is not None
    recipe = recipe_from(params)
    network = trained_network(recipe, end.checkpoint, DATA.features, len(DATA.classes)).double()
    (x, y), expected = rows(len(DATA.train.y)), []
    for epoch in range(3):
        order = random_streams.EpochOrders(11, len(y)).order(epoch)
        dropped, summed = random_streams.DropoutStream(11, epoch), 0.0
        for start, stop in batches(len(y), recipe):
            batch = order[start:stop]
            with torch.no_grad():
                summed += float(F.cross_entropy(network(x[batch], dropped), y[batch], reduction="sum"))
        expected.append(summed / len(y))
    assert metric(curve, "train_loss") == pytest.approx(expected, rel=1e-6)
    assert np.ptp(expected) > 1e-3


# --- agreement with formulas ---


def by_hand(recipe: Recipe, seed: int, epochs: int) -> dict[str, Array]:
    """Train one hidden layer by gradient descent in NumPy, with the backward formulas of batch norm written out."""
    x_ND, y_N = DATA.train.x.astype(float), DATA.train.y
    sizes = [DATA.features, *recipe.hidden, 3]
    w1, w2 = (w.astype(float) for w in random_streams.initial_weights(seed, sizes, recipe.activation))
    gamma, beta, bias = np.ones(sizes[1]), np.zeros(sizes[1]), np.zeros(3)
    mean, var = np.zeros(sizes[1]), np.ones(sizes[1])
    momentum = recipe.batch_norm_momentum
    for epoch in range(epochs):
        order = random_streams.EpochOrders(seed, len(y_N)).order(epoch)
        rate = learning_rate_at(recipe, epoch, epochs)
        for start, stop in batches(len(y_N), recipe):
            x, y = x_ND[order[start:stop]], y_N[order[start:stop]]
            n = len(y)
            z = x @ w1
            mu, sigma2 = z.mean(axis=0), z.var(axis=0)
            root = np.sqrt(sigma2 + recipe.batch_norm_epsilon)
            z_norm = (z - mu) / root
            pre = gamma * z_norm + beta
            a = np.maximum(pre, 0) if recipe.activation == "relu" else np.tanh(pre)
            logits = a @ w2 + bias
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            dlogits = (p - np.eye(3)[y]) / n
            dpre = dlogits @ w2.T * ((pre > 0) if recipe.activation == "relu" else 1 - a**2)
            dz_norm = dpre * gamma
            dz = (dz_norm - dz_norm.mean(axis=0) - z_norm * (dz_norm * z_norm).mean(axis=0)) / root
            dw2, dw1 = a.T @ dlogits + recipe.l2 * w2, x.T @ dz + recipe.l2 * w1
            gamma -= rate * (dpre * z_norm).sum(axis=0)
            beta -= rate * dpre.sum(axis=0)
            bias -= rate * dlogits.sum(axis=0)
            w1 -= rate * dw1
            w2 -= rate * dw2
            mean = (1 - momentum) * mean + momentum * mu
            var = (1 - momentum) * var + momentum * sigma2 * n / (n - 1)
    return {
        "hidden.0.weight": w1,
        "hidden.0.gamma": gamma,
        "hidden.0.beta": beta,
        "hidden.0.mean": mean,
        "hidden.0.var": var,
        "output.weight": w2,
        "output.bias": bias,
    }


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_training_agrees_with_formulas_in_numpy(exact: ReferenceEngine, activation: str, l2: float) -> None:
    params: dict[str, Any] = {"layers": 1, "units": 6, "optimizer": "sgd", "activation": activation, "l2": l2}
    params |= {"learning_rate": 0.3, "decay": "exponential", "batch_size": 25, "batch_norm_momentum": 0.3}
    checkpoint = trained_checkpoint(exact, Part(trial=trial(epochs=3, **params), keep_checkpoint=True))
    expected = by_hand(recipe_from(params), 11, 3)
    assert set(checkpoint) == {"epoch", "step", *expected}
    for name, array in expected.items():
        np.testing.assert_allclose(checkpoint[name], array, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_agree_with_formulas_in_numpy(exact: ReferenceEngine, optimizer: str) -> None:
    params: dict[str, Any] = {"layers": 0, "optimizer": optimizer, "batch_size": 1_000, "learning_rate": 0.05}
    params |= {"momentum": 0.8} if optimizer == "momentum" else {}
    params |= {"beta1": 0.7} if optimizer == "adam" else {}
    params |= {"beta2": 0.95, "epsilon": 1e-3} if optimizer in ("adam", "rmsprop") else {}
    checkpoint = trained_checkpoint(exact, Part(trial=trial(epochs=5, **params), keep_checkpoint=True))

    x, y = DATA.train.x.astype(float), np.eye(3)[DATA.train.y]
    (w32,) = random_streams.initial_weights(11, [DATA.features, 3], "relu")
    w = w32.astype(float)
    first, second = np.zeros_like(w), np.zeros_like(w)
    bias, bias_first, bias_second = np.zeros(3), np.zeros(3), np.zeros(3)
    for t in range(1, 6):
        p = np.exp(x @ w + bias)
        dz = (p / p.sum(axis=1, keepdims=True) - y) / len(y)
        for value, gradient, v, s in (
            (w, x.T @ dz, first, second),
            (bias, dz.sum(axis=0), bias_first, bias_second),
        ):
            if optimizer == "sgd":
                value -= 0.05 * gradient
            elif optimizer == "momentum":
                v[...] = 0.8 * v + gradient
                value -= 0.05 * v
            elif optimizer == "rmsprop":
                s[...] = 0.95 * s + 0.05 * gradient**2
                value -= 0.05 * gradient / (np.sqrt(s) + 1e-3)
            else:
                v[...] = 0.7 * v + 0.3 * gradient
                s[...] = 0.95 * s + 0.05 * gradient**2
                value -= 0.05 * (v / (1 - 0.7**t)) / (np.sqrt(s / (1 - 0.95**t)) + 1e-3)
    np.testing.assert_allclose(checkpoint["output.weight"], w, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(checkpoint["output.bias"], bias, rtol=1e-9, atol=1e-12)
    if optimizer in ("momentum", "adam"):
        np.testing.assert_allclose(checkpoint["first.output.weight"], first, rtol=1e-9, atol=1e-12)
    if optimizer in ("rmsprop", "adam"):
        np.testing.assert_allclose(checkpoint["second.output.bias"], bias_second, rtol=1e-9, atol=1e-14)
        assert checkpoint["step"] == 5


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_l2_applies_to_weights_only(exact: ReferenceEngine, optimizer: str) -> None:
    params: dict[str, Any] = {
        "layers": 1,
        "units": 6,
        "batch_size": 1_000,
        "optimizer": optimizer,
        "learning_rate": 0.1,
    }
    begun = trained_checkpoint(exact, Part(trial=trial(**params), until=0, keep_checkpoint=True))
    plain, pulled = (
        trained_checkpoint(exact, Part(trial=trial(**params, l2=l2), until=1, keep_checkpoint=True))
        for l2 in (0.0, 0.5)
    )
    for name in begun:
        if name in ("hidden.0.weight", "output.weight"):
            assert not np.allclose(pulled[name], plain[name])
            if optimizer in ("sgd", "momentum"):
                np.testing.assert_allclose(pulled[name], plain[name] - 0.1 * 0.5 * begun[name], atol=1e-12)
        else:
            np.testing.assert_array_equal(pulled[name], plain[name], err_msg=name)


def test_l2_does_not_apply_to_biases(exact: ReferenceEngine) -> None:
    params: dict[str, Any] = {
        "layers": 1,
        "units": 6,
        "batch_size": 1_000,
        "optimizer": "sgd",
        "batch_norm": False,
    }
    begun = trained_checkpoint(exact, Part(trial=trial(**params), until=0, keep_checkpoint=True))
    pushed = {**begun, "hidden.0.bias": np.ones(6), "output.bias": np.ones(3)}
    plain, pulled = (
        trained_checkpoint(
            exact, Part(trial=trial(**params, l2=l2), checkpoint=pushed, until=1, keep_checkpoint=True)
        )
        for l2 in (0.0, 0.5)
    )
    np.testing.assert_array_equal(pulled["hidden.0.bias"], plain["hidden.0.bias"])
    np.testing.assert_array_equal(pulled["output.bias"], plain["output.bias"])
    assert not np.allclose(pulled["output.weight"], plain["output.weight"])


# --- measurements ---


def test_the_training_loss_weights_all_rows_equally(engine: ReferenceEngine) -> None:
    still = trial(epochs=1, layers=1, units=6, batch_norm=False, learning_rate=0.0, batch_size=7)
    curve, end = run_part(engine, Part(trial=still, keep_checkpoint=True))
    assert end.checkpoint is not None
    loss = engine.evaluate(still, end.checkpoint, DATA.train)["loss"]
    assert metric(curve, "train_loss") == [pytest.approx(loss, rel=1e-6)]


@pytest.mark.parametrize("decay", DECAYS)
def test_measurements_have_epochs_and_learning_rates(engine: ReferenceEngine, decay: str) -> None:
    curve, end = run_part(engine, Part(trial=trial(epochs=5, **SMALL, decay=decay)))
    assert [m.epoch for m in curve] == [1, 2, 3, 4, 5]
    recipe = recipe_from({**SMALL, "decay": decay})
    assert metric(curve, "learning_rate") == [learning_rate_at(recipe, epoch, 5) for epoch in range(5)]
    assert all(set(m.metrics) == {"train_loss", "dev_loss", "dev_accuracy", "learning_rate"} for m in curve)
    assert (end.outcome, end.failure, end.checkpoint) == (Outcome.COMPLETED, None, None)
    assert end.setup_s > 0
    assert end.train_s > 0


def test_evaluate_agrees_with_the_last_measurement(engine: ReferenceEngine) -> None:
    part = Part(trial=trial(**RICH), keep_checkpoint=True)
    curve, end = run_part(engine, part)
    assert end.checkpoint is not None
    scores = engine.evaluate(part.trial, end.checkpoint, DATA.dev)
    assert scores == {"loss": curve[-1].metrics["dev_loss"], "accuracy": curve[-1].metrics["dev_accuracy"]}


def test_every_optimizer_learns(engine: ReferenceEngine) -> None:
    for optimizer in OPTIMIZERS:
        rate = 0.1 if optimizer in ("sgd", "momentum") else 0.01
        curve, _ = run_part(
            engine, Part(trial=trial(epochs=15, **SMALL, optimizer=optimizer, learning_rate=rate))
        )
        assert metric(curve, "train_loss")[-1] < 0.6 * metric(curve, "train_loss")[0]
        assert metric(curve, "dev_accuracy")[-1] > 0.6


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_row_scores_the_same_alone_and_in_a_batch(engine: ReferenceEngine, batch_norm: bool) -> None:
    part = Part(trial=trial(**{**RICH, "batch_norm": batch_norm}), keep_checkpoint=True)
    checkpoint = trained_checkpoint(engine, part)
    split = DATA.dev
    alone = [
        engine.evaluate(part.trial, checkpoint, Split(split.x[i : i + 1], split.y[i : i + 1]))
        for i in range(len(split.y))
    ]
    together = engine.evaluate(part.trial, checkpoint, split)
    assert np.mean([scores["accuracy"] for scores in alone]) == pytest.approx(together["accuracy"])
    assert np.mean([scores["loss"] for scores in alone]) == pytest.approx(together["loss"], rel=1e-5)
    backward = engine.evaluate(part.trial, checkpoint, Split(split.x[::-1].copy(), split.y[::-1].copy()))
    assert backward["loss"] == pytest.approx(together["loss"], rel=1e-5)


# --- law 1: reproducible ---


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_continued_training_equals_an_uninterrupted_one(engine: ReferenceEngine, optimizer: str) -> None:
    whole = trial(epochs=6, **RICH, optimizer=optimizer)
    straight, end = run_part(engine, Part(trial=whole, keep_checkpoint=True))
    curve: list[Measurement] = []
    checkpoint: Checkpoint | None = None
    for until in (1, 4, None):
        part, ended = run_part(
            engine, Part(trial=whole, until=until, checkpoint=checkpoint, keep_checkpoint=True)
        )
        curve, checkpoint = curve + part, ended.checkpoint
    assert curve == straight
    assert checkpoint is not None
    assert end.checkpoint is not None
    assert checkpoint["epoch"] == 6
    assert same_checkpoint(checkpoint, end.checkpoint)


def test_continuing_without_optimizer_averages_differs(engine: ReferenceEngine) -> None:
    whole = trial(epochs=4, **RICH, optimizer="adam")
    checkpoint = trained_checkpoint(engine, Part(trial=whole, until=2, keep_checkpoint=True))
    forgetful = {
        name: array for name, array in checkpoint.items() if not name.startswith(("first.", "second."))
    }
    full, _ = run_part(engine, Part(trial=whole, checkpoint=checkpoint))
    short, _ = run_part(engine, Part(trial=whole, checkpoint=forgetful))
    assert full != short


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_same_part_gives_the_same_bits_again(engine: ReferenceEngine, optimizer: str) -> None:
    part = Part(trial=trial(**RICH, optimizer=optimizer), keep_checkpoint=True)
    (curve, end), (again, end_again) = run_part(engine, part), run_part(ReferenceEngine(DATA), part)
    assert curve == again
    assert end.checkpoint is not None
    assert end_again.checkpoint is not None
    assert same_checkpoint(end.checkpoint, end_again.checkpoint)


def test_other_trials_and_torchs_seed_change_nothing(engine: ReferenceEngine) -> None:
    parts = [Part(trial=trial(number, seed=number, **{**RICH, "units": 4 + number})) for number in range(3)]
    alone = {part.trial.number: run_part(engine, part)[0] for part in parts}
    torch.manual_seed(99)
    together = run_parts(engine, *reversed(parts))
    assert {number: curve for number, (curve, _) in together.items()} == alone
    assert len({json.dumps(metric(curve, "train_loss")) for curve in alone.values()}) == 3


def test_another_seed_gives_another_training(engine: ReferenceEngine) -> None:
    one, other = (run_part(engine, Part(trial=trial(seed=seed, **SMALL)))[0] for seed in (1, 2))
    assert one != other


def test_read_only_data_can_be_used() -> None:
    data = blobs(features=5)
    for split in (data.train, data.dev):
        split.x.flags.writeable = split.y.flags.writeable = False
    curve, end = run_part(ReferenceEngine(data.without_test()), Part(trial=trial(**RICH)))
    assert end.outcome == Outcome.COMPLETED
    assert curve == run_part(ReferenceEngine(DATA), Part(trial=trial(**RICH)))[0]


def test_fixed_hyperparameters_count_like_drawn_ones(engine: ReferenceEngine) -> None:
    fixed = ReferenceEngine(DATA, {"optimizer": "adam", "units": 6})
    both = trial(learning_rate=0.01, optimizer="adam", units=6)
    assert run_part(fixed, Part(trial=trial(learning_rate=0.01)))[0] == run_part(engine, Part(trial=both))[0]


# --- law 4: failures stay inside the trial that caused them ---


def test_a_diverging_trial_ends_with_its_epoch_recorded(engine: ReferenceEngine) -> None:
    wild = trial(0, epochs=50, layers=2, units=6, batch_norm=False, optimizer="sgd", learning_rate=1e6)
    good = Part(trial=trial(1, **SMALL))
    ended = run_parts(engine, Part(trial=wild), good)
    curve, end = ended[0]
    assert end.outcome == Outcome.DIVERGED
    assert end.failure is not None
    assert "loss" in end.failure
    assert 1 <= len(curve) < 50
    assert [m.epoch for m in curve] == list(range(1, len(curve) + 1))
    last = curve[-1].metrics
    assert not (
        math.isfinite(last["train_loss"])
        and last["train_loss"] <= EXPLODED_LOSS
        and math.isfinite(last["dev_loss"])
    )
    assert ended[1][0] == run_part(engine, good)[0]
    assert ended[1][1].outcome == Outcome.COMPLETED


def test_divergence_is_a_loss_not_finite_or_above_a_thousand() -> None:
    assert divergence(0.5, 0.5) is None
    assert divergence(EXPLODED_LOSS, 1e9) is None  # the dev split may hold an outlier
    assert "exploded" in str(divergence(1.001 * EXPLODED_LOSS, 0.5))
    for train, dev in ((math.nan, 0.5), (0.5, math.nan), (math.inf, 0.5), (0.5, math.inf)):
        assert "not finite" in str(divergence(train, dev))


@pytest.mark.parametrize(
    ("params", "cause"),
    [
        ({"layers": 99}, "StudyError: layers must be a whole number"),
        ({"speed": 1}, "StudyError: speed is not"),
        ({"units_1": 4}, "StudyError: units_2 missing"),
    ],
)
def test_impossible_params_fail_only_their_trial(
    engine: ReferenceEngine, params: dict[str, Any], cause: str
) -> None:
    good = Part(trial=trial(1, **SMALL))
    ended = run_parts(engine, Part(trial=trial(0, **params)), good)
    curve, end = ended[0]
    assert curve == []
    assert end.outcome == Outcome.FAILED
    assert end.failure is not None
    assert end.failure.startswith(cause)
    assert "\n" not in end.failure
    assert ended[1][0] == run_part(engine, good)[0]


def test_a_checkpoint_of_another_shape_fails_only_its_trial(engine: ReferenceEngine) -> None:
    checkpoint = trained_checkpoint(engine, Part(trial=trial(**SMALL), until=1, keep_checkpoint=True))
    ended = run_parts(
        engine,
        Part(trial=trial(0, **{**SMALL, "units": 7}), checkpoint=checkpoint),
        Part(trial=trial(1, **SMALL)),
    )
    assert ended[0][1].outcome == Outcome.FAILED
    assert ended[1][1].outcome == Outcome.COMPLETED


def test_batch_norm_skips_a_single_last_row(engine: ReferenceEngine) -> None:
    assert len(DATA.train.y) % 59 == 1
    curve, end = run_part(engine, Part(trial=trial(layers=1, units=4, batch_size=59)))
    assert end.outcome == Outcome.COMPLETED
    assert len(curve) == 4


# --- checkpoints ---


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_checkpoint_is_restored_exactly(engine: ReferenceEngine, optimizer: str, batch_norm: bool) -> None:
    params: dict[str, Any] = {**SMALL, "optimizer": optimizer, "batch_norm": batch_norm}
    checkpoint = trained_checkpoint(engine, Part(trial=trial(**params), until=3, keep_checkpoint=True))
    recipe = recipe_from(params)
    network = Network(DATA.features, 3, recipe)
    make: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(network.parameters()),
        "momentum": lambda: torch.optim.SGD(network.parameters(), momentum=0.9),
        "rmsprop": lambda: torch.optim.RMSprop(network.parameters()),
        "adam": lambda: torch.optim.Adam(network.parameters()),
    }
    rebuilt = make[optimizer]()
    assert load_checkpoint(network, rebuilt, checkpoint) == 3
    assert same_checkpoint(save_checkpoint(network, rebuilt, 3), checkpoint)


def test_checkpoints_have_the_agreed_names_and_shapes(engine: ReferenceEngine) -> None:
    params: dict[str, Any] = {"layers": 2, "units_1": 7, "units_2": 4, "optimizer": "adam", "batch_size": 16}
    checkpoint = trained_checkpoint(engine, Part(trial=trial(epochs=2, **params), keep_checkpoint=True))
    shapes: dict[str, tuple[int, ...]] = {"output.weight": (4, 3), "output.bias": (3,)}
    for layer, (n_in, n_out) in enumerate([(5, 7), (7, 4)]):
        shapes[f"hidden.{layer}.weight"] = (n_in, n_out)
        shapes |= {f"hidden.{layer}.{name}": (n_out,) for name in ("gamma", "beta", "mean", "var")}
    learned = {name: shape for name, shape in shapes.items() if not name.endswith(("mean", "var"))}
    averages = {
        f"{average}.{name}": shape for average in ("first", "second") for name, shape in learned.items()
    }
    assert {name: array.shape for name, array in checkpoint.items()} == {
        **shapes,
        **averages,
        "epoch": (),
        "step": (),
    }
    assert all(array.flags.c_contiguous for array in checkpoint.values())
    assert {array.dtype for name, array in checkpoint.items() if name not in ("epoch", "step")} == {
        np.dtype("float32")
    }
    assert (int(checkpoint["epoch"]), int(checkpoint["step"])) == (
        2,
        2 * len(batches(60, recipe_from(params))),
    )


def test_a_checkpoint_is_a_copy(engine: ReferenceEngine) -> None:
    part = Part(trial=trial(**SMALL), until=1, keep_checkpoint=True)
    checkpoint = trained_checkpoint(engine, part)
    before = {name: array.copy() for name, array in checkpoint.items()}
    run_part(engine, Part(trial=part.trial, checkpoint=checkpoint))
    assert same_checkpoint(checkpoint, before)


@pytest.mark.parametrize("layers", [0, 2])
def test_a_trained_network_can_be_used_without_an_engine(engine: ReferenceEngine, layers: int) -> None:
    params: dict[str, Any] = {"layers": layers, "units": 6, "dropout": 0.3}
    part = Part(trial=trial(**params), keep_checkpoint=True)
    checkpoint = trained_checkpoint(engine, part)
    network = trained_network(recipe_from(params), checkpoint, DATA.features, len(DATA.classes))
    assert not network.training
    assert isinstance(network, nn.Module)
    guessed = network(torch.from_numpy(DATA.dev.x)).argmax(dim=1).numpy()
    assert (
        float((guessed == DATA.dev.y).mean()) == engine.evaluate(part.trial, checkpoint, DATA.dev)["accuracy"]
    )
