"""Law 3 for modules that train as one: a trial has the numbers that it has alone."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import caviar as cv
from caviar.engine import Part, PartDone
from caviar.training.module.engine import ModuleEngine
from caviar.training.module.side_by_side import ModulesSideBySide
from caviar.training.module.stack import Stack
from caviar.trial import Measurement, Outcome
from tests.training.module import modules
from tests.training.networks import run_parts, trial

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")
Trained = dict[int, tuple[list[Measurement], PartDone]]


def images(params: dict[str, Any]) -> nn.Module:
    """Return a convolutional network with all that a stack has to keep apart."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 3, 3, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Dropout2d(params["dropped"]),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.LazyLinear(10),
    )


class Scaled(nn.Module):
    """A network with a number of its own in each trial."""

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(13, 3), params["scale"]

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.scale * self.linear(x)
        return outputs


class Branching(nn.Module):
    """A network whose way depends on its numbers."""

    def __init__(self, params: dict[str, Any]) -> None:
        del params
        super().__init__()
        self.linear = nn.Linear(13, 3)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.linear(x)
        return outputs if outputs.sum().item() > 0 else -outputs


def wine(build: Callable[[dict[str, Any]], nn.Module]) -> cv.Module:
    return cv.Module(build, data="sklearn:wine", preprocess="standardize")


STACKED: dict[str, tuple[cv.Module, list[dict[str, Any]]]] = {
    "convolutions": (
        modules.digits_objective(images),
        [
            {"dropped": 0.3, "learning_rate": 0.1, "l2": 1e-3, "batch_size": 200},
            {"dropped": 0.0, "learning_rate": 0.02, "momentum": 0.5, "batch_size": 200},
            {"dropped": 0.1, "learning_rate": 0.05, "decay": "cosine", "batch_size": 200},
        ],
    ),
    "attention": (
        cv.Module(lambda params: without_dropout(modules.Attention({"units": 8})), data=modules.tokens()),
        [
            {"optimizer": "adam", "learning_rate": 0.01},
            {"optimizer": "adam", "learning_rate": 0.003, "beta1": 0.5, "epsilon": 1e-4},
        ],
    ),
    "two losses": (
        modules.two_losses_objective(fixed={"units": 5}),
        [
            {"optimizer": "rmsprop", "learning_rate": 0.01},
            {"optimizer": "rmsprop", "learning_rate": 0.003, "beta2": 0.9},
        ],
    ),
    "regression": (
        modules.numbers_objective(fixed={"units": 5}),
        [{"optimizer": "sgd", "learning_rate": 1e-4}, {"optimizer": "sgd", "learning_rate": 1e-3, "l2": 0.1}],
    ),
}


def without_dropout(module: nn.Module) -> nn.Module:
    """Return a transformer block without the dropout that attention draws from torch's own generator."""
    for layer in module.modules():
        if isinstance(layer, nn.MultiheadAttention):
            layer.dropout = 0.0
    return module


def make_engine(objective: cv.Module, lanes: int) -> ModuleEngine:
    return ModuleEngine(lambda: nullcontext(objective), objective.load().without_test(), lanes=lanes)


def parts(params: list[dict[str, Any]], epochs: int = 3) -> list[Part]:
    return [
        Part(trial=trial(number, epochs=epochs, seed=100 + number, **one), keep_checkpoint=True)
        for number, one in enumerate(params)
    ]


def assert_close(ours: Trained, theirs: Trained) -> None:
    for number, (curve, end) in theirs.items():
        assert end.outcome is ours[number][1].outcome is Outcome.COMPLETED, (end, ours[number][1])
        for mine, other in zip(ours[number][0], curve, strict=True):
            assert mine.metrics == pytest.approx(other.metrics, rel=1e-3, abs=2e-3)


@pytest.fixture
def epochs_of_stacks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of lanes of each epoch that a stack trains."""
    found: list[int] = []
    train = Stack.train_epoch

    def counted(stack: Stack) -> list[dict[str, float]]:
        found.append(len(stack.lanes))
        return train(stack)

    monkeypatch.setattr(Stack, "train_epoch", counted)
    return found


@pytest.mark.parametrize("name", STACKED)
def test_stacked_modules_have_the_curves_that_they_have_alone(name: str, epochs_of_stacks: list[int]) -> None:
    objective, params = STACKED[name]
    ours = run_parts(make_engine(objective, lanes=8), *parts(params))
    assert epochs_of_stacks == [len(params)] * 3
    assert_close(ours, run_parts(make_engine(objective, lanes=1), *parts(params)))


@pytest.mark.parametrize("name", ["convolutions", "attention"])
def test_checkpoints_of_a_stack_continue_alone(name: str, epochs_of_stacks: list[int]) -> None:
    objective, params = STACKED[name]
    whole = run_parts(make_engine(objective, lanes=1), *parts(params))
    begun = [Part(trial=part.trial, until=1, keep_checkpoint=True) for part in parts(params)]
    paused = run_parts(make_engine(objective, lanes=8), *begun)
    assert epochs_of_stacks
    rest = [
        Part(trial=part.trial, checkpoint=paused[part.trial.number][1].checkpoint) for part in parts(params)
    ]
    ended = run_parts(make_engine(objective, lanes=1), *rest)
    for number, (curve, _) in ended.items():
        for mine, other in zip(curve, whole[number][0][1:], strict=True):
            assert mine.metrics == pytest.approx(other.metrics, rel=1e-3, abs=2e-3)


def test_lanes_come_and_go(epochs_of_stacks: list[int]) -> None:
    objective, params = STACKED["regression"]
    mixed = [
        Part(trial=trial(number, epochs=1 + number, seed=number, **params[number % 2])) for number in range(5)
    ]
    ours = run_parts(make_engine(objective, lanes=3), *mixed)
    assert max(epochs_of_stacks) == 3
    assert_close(ours, run_parts(make_engine(objective, lanes=1), *mixed))


@pytest.mark.parametrize(
    ("build", "params"),
    [(Scaled, [{"scale": 1.0}, {"scale": 5.0}]), (Branching, [{}, {}]), (lambda params: Noisy(), [{}, {}])],
)
def test_modules_that_do_not_fit_together_train_alone(
    build: Callable[[dict[str, Any]], nn.Module], params: list[dict[str, Any]], epochs_of_stacks: list[int]
) -> None:
    objective = wine(build)
    ours = run_parts(make_engine(objective, lanes=8), *parts(params))
    assert not epochs_of_stacks
    assert_close(ours, run_parts(make_engine(objective, lanes=1), *parts(params)))


class Noisy(nn.Linear):
    """A network that draws from torch's generator."""

    def __init__(self) -> None:
        super().__init__(13, 3)

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(super().forward(input), 0.5, self.training)


def test_a_diverging_module_leaves_the_others_alone() -> None:
    objective, params = STACKED["convolutions"]
    bad = {**params[1], "learning_rate": 1e6}
    ours = run_parts(make_engine(objective, lanes=8), *parts([params[0], bad, params[2]]))
    alone = run_parts(make_engine(objective, lanes=1), *parts(params))
    assert ours[1][1].outcome is Outcome.DIVERGED
    assert_close({n: ours[n] for n in (0, 2)}, {n: alone[n] for n in (0, 2)})


def test_a_stack_without_memory_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, params = STACKED["regression"]
    train = Stack.train_epoch

    def with_little_memory(stack: Stack) -> list[dict[str, float]]:
        if len(stack.lanes) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train(stack)

    monkeypatch.setattr(Stack, "train_epoch", with_little_memory)
    four = parts([*params, *params])
    assert_close(run_parts(make_engine(objective, 8), *four), run_parts(make_engine(objective, 1), *four))


def test_an_error_in_a_stack_fails_one_lane() -> None:
    class Late(nn.Module):
        def __init__(self, params: dict[str, Any]) -> None:
            super().__init__()
            self.linear, self.calls, self.bad = nn.Linear(13, 3), [0], params["bad"]

        def forward(self, x: Tensor) -> Tensor:
            self.calls[0] += 1
            if self.bad and self.calls[0] > 4:
                raise ArithmeticError("two and two are five")
            outputs: Tensor = self.linear(x)
            return outputs

    ours = run_parts(make_engine(wine(Late), 8), *parts([{"bad": True}, {"bad": False}, {"bad": False}]))
    assert [ours[number][1].outcome for number in range(3)] == [
        Outcome.FAILED,
        Outcome.COMPLETED,
        Outcome.COMPLETED,
    ]
    assert "two and two" in str(ours[0][1].failure)


def test_modules_side_by_side_are_a_training() -> None:
    objective, params = STACKED["regression"]
    training = make_engine(objective, lanes=2).begin_side_by_side()
    assert isinstance(training, ModulesSideBySide)
    assert training.is_idle
    training.add(parts(params)[0])
    assert not training.is_idle
