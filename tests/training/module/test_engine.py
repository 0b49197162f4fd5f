"""Modules train as they should: the same numbers however they are interrupted, and as the reference engine does."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import caviar as cv
from caviar.backends.objective_pickle import copy_objective
from caviar.data.splits import Dataset
from caviar.engine import Engine, Part
from caviar.errors import StudyError
from caviar.training import random_streams
from caviar.training.module import training
from caviar.training.module.engine import ModuleEngine
from caviar.training.recipe import Recipe
from caviar.training.reference import ReferenceEngine
from caviar.trial import Outcome
from tests.training.module import modules
from tests.training.networks import blobs, checkpoint_of, metric, run_part, trial

OBJECTIVES: dict[str, tuple[Callable[..., cv.Module], dict[str, Any]]] = {
    "convolutions": (modules.digits_objective, {"channels": 3, "decay": "cosine", "l2": 1e-3}),
    "attention": (modules.tokens_objective, {"units": 8, "optimizer": "adam", "learning_rate": 0.01}),
    "two losses": (modules.two_losses_objective, {"units": 5, "optimizer": "rmsprop", "learning_rate": 0.01}),
    "regression": (modules.numbers_objective, {"units": 5, "optimizer": "adam", "batch_size": 16}),
}


def step_optimizer(params: dict[str, Any], module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), lr=params["rate"], amsgrad=True)


def step_schedule(params: dict[str, Any], optimizer: torch.optim.Optimizer, epochs: int) -> Any:
    del params
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=epochs + 1)


def plateau(params: dict[str, Any], optimizer: torch.optim.Optimizer, epochs: int) -> Any:
    del params, epochs
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)


def make_engine(objective: cv.Module, dataset: Dataset | None = None) -> ModuleEngine:
    return ModuleEngine(lambda: nullcontext(objective), dataset or objective.load().without_test())


def states(checkpoint: Any) -> list[Any]:
    """Return what a checkpoint holds, with tensors as lists: the files differ in nothing else."""

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.tolist()
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value

    cpu = torch.device("cpu")
    return [plain(training._from_file(checkpoint[name], cpu)) for name in ("module", "training")]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_training_in_parts_equals_training_in_one_go(name: str) -> None:
    make, params = OBJECTIVES[name]
    engine = make_engine(make())
    whole = trial(epochs=5, **params)
    curve, end = run_part(engine, Part(trial=whole, keep_checkpoint=True))
    assert end.outcome is Outcome.COMPLETED, end.failure
    first, paused = run_part(engine, Part(trial=whole, until=2, keep_checkpoint=True))
    run_part(engine, Part(trial=trial(number=9, seed=5, **params)))  # another in between
    second, last = run_part(engine, Part(trial=whole, checkpoint=checkpoint_of(paused), keep_checkpoint=True))
    assert [*first, *second] == curve
    assert states(last.checkpoint) == states(end.checkpoint)
    assert curve[-1].metrics["train_loss"] < curve[0].metrics["train_loss"]


@pytest.mark.parametrize("schedule", [None, step_schedule, plateau])
def test_own_optimizers_and_schedules_continue(schedule: Any) -> None:
    engine = make_engine(modules.numbers_objective(optimizer=step_optimizer, schedule=schedule))
    whole = trial(epochs=6, units=4, rate=0.02, learning_rate=17.0)
    curve, end = run_part(engine, Part(trial=whole))
    assert end.failure is None
    first, paused = run_part(engine, Part(trial=whole, until=3, keep_checkpoint=True))
    second, _ = run_part(engine, Part(trial=whole, checkpoint=checkpoint_of(paused)))
    assert [*first, *second] == curve
    assert (len(set(metric(curve, "learning_rate"))) > 1) == (schedule is not None)


class Twin(nn.Module):
    """The reference engine's network, written as a user would."""

    def __init__(self, params: dict[str, Any], seed: int) -> None:
        super().__init__()
        recipe = Recipe(layers=2, units=6)
        sizes = [7, *recipe.hidden, 3]
        weights = random_streams.initial_weights(seed, sizes, "relu")
        layers: list[nn.Module] = []
        for n_in, n_out in ((7, 6), (6, 6)):
            linear = nn.Linear(n_in, n_out, bias=False)
            layers += [linear, nn.BatchNorm1d(n_out), nn.ReLU(), nn.Dropout(params["dropped"])]
        self.layers = nn.Sequential(*layers, nn.Linear(6, 3))
        linears = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        with torch.no_grad():
            for linear, w_DH in zip(linears, weights, strict=True):
                linear.weight.copy_(torch.from_numpy(w_DH.T))
            linears[-1].bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layers(x)
        return outputs


@pytest.mark.parametrize(
    "params",
    [
        {"optimizer": "momentum", "l2": 1e-2, "decay": "step", "decay_epochs": 2},
        {"optimizer": "adam", "learning_rate": 0.01, "decay": "inverse", "batch_size": 59},
        {"optimizer": "rmsprop", "learning_rate": 0.01, "batch_size": 16},
    ],
)
def test_a_module_trains_as_the_reference_network(params: dict[str, Any]) -> None:
    dataset = blobs()
    objective = cv.Module(lambda p: Twin(p, seed=11), data="sklearn:iris")
    ours, _ = run_part(make_engine(objective, dataset), Part(trial=trial(seed=11, dropped=0.3, **params)))
    reference = ReferenceEngine(dataset)
    theirs, _ = run_part(reference, Part(trial=trial(seed=11, layers=2, units=6, dropout=0.3, **params)))
    assert [dict(m.metrics) for m in ours] == [dict(m.metrics) for m in theirs]


@pytest.mark.parametrize(
    ("params", "changes"),
    [
        ({"optimizer": "momentum"}, {"momentum": 0.5, "l2": 0.1}),
        ({"optimizer": "adam", "learning_rate": 0.01}, {"beta1": 0.5, "beta2": 0.9, "epsilon": 1e-4}),
        ({"optimizer": "rmsprop", "learning_rate": 0.01}, {"learning_rate": 0.001, "decay": "cosine"}),
    ],
)
def test_changed_hyperparameters_count_after_a_checkpoint(
    params: dict[str, Any], changes: dict[str, Any]
) -> None:
    dataset = blobs()
    objective = cv.Module(lambda p: Twin(p, seed=11), data="sklearn:iris")
    curves = []
    networks: list[tuple[Engine, dict[str, Any]]] = [
        (make_engine(objective, dataset), {"dropped": 0.3}),
        (ReferenceEngine(dataset), {"layers": 2, "units": 6, "dropout": 0.3}),
    ]
    for engine, own in networks:
        before, after = trial(seed=11, **own, **params), trial(seed=11, **own, **{**params, **changes})
        _, paused = run_part(engine, Part(trial=before, until=2, keep_checkpoint=True))
        same, _ = run_part(engine, Part(trial=before, checkpoint=checkpoint_of(paused)))
        changed, _ = run_part(engine, Part(trial=after, checkpoint=checkpoint_of(paused)))
        assert metric(same, "train_loss")[-1] != metric(changed, "train_loss")[-1]
        curves.append([dict(m.metrics) for m in changed])
    assert curves[0] == curves[1]


def halving_schedule(params: dict[str, Any], optimizer: torch.optim.Optimizer, epochs: int) -> Any:
    del params, epochs
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)


def shrinking_schedule(params: dict[str, Any], optimizer: torch.optim.Optimizer, epochs: int) -> Any:
    del params, epochs
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)


@pytest.mark.parametrize("schedule", [None, halving_schedule, shrinking_schedule])
def test_own_schedules_continue_with_a_changed_rate(schedule: Any) -> None:
    engine = make_engine(modules.numbers_objective(optimizer=step_optimizer, schedule=schedule))
    before, after = (trial(epochs=6, units=4, rate=rate) for rate in (0.02, 0.002))
    first, paused = run_part(engine, Part(trial=before, until=3, keep_checkpoint=True))
    second, _ = run_part(engine, Part(trial=after, checkpoint=checkpoint_of(paused)))
    factor = 1.0 if schedule is None else 0.5
    rates = metric([*first, *second], "learning_rate")
    assert rates == pytest.approx(
        [0.02 * factor**epoch if epoch < 3 else 0.002 * factor**epoch for epoch in range(6)]
    )


def test_trials_do_not_see_what_others_changed() -> None:
    copied = copy_objective(cv.Module(modules.hostile, data="sklearn:wine", preprocess="standardize"))
    engine = copied.make_engine(wine(), "cpu")
    alone, _ = run_part(engine, Part(trial=trial(harm="none")))
    failures = {}
    for number, harm in enumerate(("raise", "exit", "nothing", "wide"), start=1):
        _, end = run_part(engine, Part(trial=trial(number, harm=harm)))
        assert end.outcome is Outcome.FAILED
        failures[harm] = str(end.failure)
    assert failures["raise"].startswith("ArithmeticError: two and two are five (modules.py, line ")
    assert "SystemExit" in failures["exit"]
    assert "must return a torch.nn.Module, not NoneType" in failures["nothing"]
    assert "one number for each class" in failures["wide"]
    again, _ = run_part(engine, Part(trial=trial(harm="none")))
    assert again == alone
    assert torch.get_default_dtype() is torch.float32
    assert engine.damage is None


def wine() -> Dataset:
    return cv.Classifier(data="sklearn:wine").load().without_test()


def test_dropout_does_not_depend_on_the_global_generator() -> None:
    class Drawing(nn.Module):
        def __init__(self, draws: int) -> None:
            super().__init__()
            self.linear, self.drop, self.draws = nn.Linear(13, 3), nn.Dropout(0.4), draws

        def forward(self, x: Tensor) -> Tensor:
            torch.rand(self.draws)
            outputs: Tensor = self.linear(self.drop(x))
            return outputs

    curves = []
    for draws in (0, 5):
        objective = cv.Module(lambda params: Drawing(params["draws"]), data="sklearn:wine")
        curves.append(run_part(make_engine(objective, wine()), Part(trial=trial(draws=draws)))[0])
    assert curves[0] == curves[1]
    plain = cv.Module(lambda params: nn.Linear(13, 3), data="sklearn:wine")
    assert run_part(make_engine(plain, wine()), Part(trial=trial()))[0] != curves[0]


@pytest.mark.parametrize(
    ("layer", "shape", "together"),
    [
        (nn.Dropout(0.5), (50, 8), 1),
        (nn.Dropout2d(0.5), (50, 4, 3, 3), 9),
        (nn.Dropout1d(0.5), (50, 4, 3), 3),
    ],
)
def test_keyed_dropout_drops_and_scales_as_torch(
    layer: nn.Module, shape: tuple[int, ...], together: int
) -> None:
    from caviar.training.module.dropout import DropoutMasks, key_dropout

    masks = DropoutMasks(seed=3)
    key_dropout(layer, masks)
    first = layer(torch.ones(shape))
    units = first.reshape(-1, together)
    assert set(units.unique().tolist()) == {0.0, 2.0}
    assert bool((units == units[:, :1]).all())
    assert abs(float(first.mean()) - 1) < 0.2
    assert not torch.equal(layer(torch.ones(shape)), first)
    masks.begin(0)
    assert torch.equal(layer(torch.ones(shape)), first)
    assert torch.equal(layer.eval()(torch.ones(shape)), torch.ones(shape))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_rows_are_evaluated_in_pieces(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    make, params = OBJECTIVES[name]
    engine = make_engine(make())
    whole, _ = run_part(engine, Part(trial=trial(**params)))
    monkeypatch.setattr(training, "EVALUATED_ROWS", 7)
    pieces, _ = run_part(engine, Part(trial=trial(**params)))
    for one, other in zip(whole, pieces, strict=True):
        assert dict(other.metrics) == pytest.approx(dict(one.metrics), rel=1e-5)


def test_outputs_without_rows_first_are_refused_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "EVALUATED_ROWS", 7)
    objective = cv.Module(
        lambda params: Sideways(), data=modules.numbers(), loss=lambda outputs, y: outputs.mean()
    )
    engine = make_engine(objective)
    _, end = run_part(engine, Part(trial=trial()))
    assert "must have its rows first" in str(end.failure)


class Sideways(nn.Module):
    """A module whose outputs have their rows last."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.linear(x).T
        return outputs


def test_large_losses_diverge_only_if_they_are_in_nats() -> None:
    engine = make_engine(modules.numbers_objective())
    curve, end = run_part(engine, Part(trial=trial(units=4, learning_rate=1e-5)))
    assert end.outcome is Outcome.COMPLETED
    assert metric(curve, "train_loss")[0] > 1_000
    _, end = run_part(engine, Part(trial=trial(units=4, learning_rate=1e6)))
    assert end.outcome is Outcome.DIVERGED
    assert "not finite" in str(end.failure)


def test_terms_of_a_loss_sum_to_it() -> None:
    engine = make_engine(modules.two_losses_objective())
    curve, _ = run_part(engine, Part(trial=trial(units=4)))
    for measurement in curve:
        m = measurement.metrics
        assert tuple(m) == modules.two_losses_objective().metric_names
        for split in ("train", "dev"):
            parts = m[f"{split}_class"] + m[f"{split}_reconstruction"]
            assert m[f"{split}_loss"] == pytest.approx(parts, rel=1e-6)
    assert 0 <= curve[-1].metrics["dev_recall"] <= 1


def test_inputs_that_a_module_changes_stay_as_they_are() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.LazyLinear(1)

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.linear(x.add_(1))
            return outputs

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs[:, 0] - y.mul_(0.01)).square().mean()

    engine = make_engine(cv.Module(lambda params: InPlace(), data=modules.numbers(), loss=loss))
    first, end = run_part(engine, Part(trial=trial(learning_rate=0.01)))
    assert end.failure is None
    assert run_part(engine, Part(trial=trial(learning_rate=0.01)))[0] == first


class Named(NamedTuple):
    """Outputs with names."""

    logits: Tensor
    code: Tensor


class WithNames(nn.Module):
    """A module that returns a named tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(13, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Named:
        code = self.first(x)
        return Named(self.second(code), code)


@pytest.mark.parametrize("rows", [7, 1024])
def test_losses_and_metrics_get_outputs_by_name(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    def weighted(outputs: Named, y: Tensor, params: dict[str, Any]) -> Any:
        return params["weight"] * (
            nn.functional.cross_entropy(outputs.logits, y) + outputs.code.square().mean()
        )

    def size(outputs: Named, y: Tensor) -> Tensor:
        del y
        return outputs.code.abs().mean()

    monkeypatch.setattr(training, "EVALUATED_ROWS", rows)
    objective = cv.Module(
        lambda params: WithNames(),
        data="sklearn:wine",
        loss=weighted,
        targets="classes",
        metrics={"size": size},
    )
    engine = make_engine(objective, wine())
    losses = []
    for weight in (0.0, 2.0):
        curve, end = run_part(engine, Part(trial=trial(weight=weight, learning_rate=0.01)))
        assert end.failure is None, end.failure
        losses.append(metric(curve, "dev_loss"))
    assert losses[0] == [0.0] * 4
    assert losses[1][-1] < losses[1][0]


def test_initial_weights_follow_the_seed_alone() -> None:
    engine = make_engine(modules.digits_objective())

    def first(seed: int) -> Any:
        return run_part(engine, Part(trial=trial(epochs=1, seed=seed, channels=2)))[0]

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_global_generators_and_threads_are_left_alone() -> None:
    engine = make_engine(modules.digits_objective())
    run_part(engine, Part(trial=trial(epochs=1, channels=2)))
    threads = torch.get_num_threads()
    study = cv.Study(
        name="digits",
        objective=modules.digits_objective(),
        space=cv.Space(channels=cv.integer(2, 3)),
        rounds=[cv.Round(2, 1)],
    )
    torch.manual_seed(5)
    before = torch.get_rng_state()
    study.objective.rehearse(study.space, study.objective.load())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_a_test_score_that_fails_is_reported() -> None:
    def fragile(outputs: Any, y: Tensor) -> float:
        if len(y) == 15:
            raise ValueError("15 rows")
        return float(len(outputs))

    x, y = modules.numbers()
    splits = (x[:70], y[:70]), (x[70:105], y[70:105]), (x[105:], y[105:])
    objective = cv.Module(modules.perceptron, data=splits, loss="mse", metrics={"size": fragile})
    dataset = objective.load()
    assert dataset.test is not None
    engine = make_engine(objective, dataset.without_test())
    curve, end = run_part(engine, Part(trial=trial(units=3), keep_checkpoint=True))
    assert curve[-1].metrics["dev_size"] == 35
    with pytest.raises(StudyError, match="15 rows"):
        engine.evaluate(trial(units=3), checkpoint_of(end), dataset.test)
    assert engine.predict(trial(units=3), checkpoint_of(end), dataset.test) is None
