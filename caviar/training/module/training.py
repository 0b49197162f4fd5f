"""One module of the user's in training.

Its randomness follows from the trial's seed alone: the global generators begin the build and each epoch with seeds of
their own, and dropout layers draw from a stream of the trial. A checkpoint therefore holds no random state.

Shape legend: N rows of a split, B rows of a mini-batch, ... the shape of one row.
"""

import contextvars
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from caviar.data.splits import Split
from caviar.engine import Checkpoint
from caviar.training import random_streams
from caviar.training.batch_statistics import BATCH_NORMS
from caviar.training.function.process_state import ProcessState, child_ends
from caviar.training.module.dropout import DropoutMasks, key_dropout
from caviar.training.module.losses import logits_BC, loss_terms, total
from caviar.training.module.user_code import Loss, UserCode, during, takes_params, with_params
from caviar.training.recipe import batches, learning_rate_at, recipe_from
from caviar.training.reference import limited_threads, make_optimizer
from caviar.training.train_loop import Training
from caviar.trial import Value

EVALUATED_ROWS = 1024
"""Rows of a split that are evaluated at a time."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a split on the device."""

    x: Tensor
    """(N, ...)."""
    y: Tensor
    """(N,) or (N, ...)."""

    @classmethod
    def of(cls, split: Split, device: str) -> "Rows":
        """Return a copy in torch's own memory: Ray's shared arrays are read-only and differently aligned."""
        return cls(torch.tensor(split.x, device=device), torch.tensor(split.y, device=device))


@dataclass(frozen=True, slots=True)
class Place:
    """The device, threads and process that a module trains in."""

    device: str
    threads: int
    state: ProcessState

    @contextmanager
    def isolated(self, seed: int) -> Iterator[None]:
        """Seed the global generators, and undo afterwards what the user's code changed in the process."""
        with self.state.isolated(seed), limited_threads(self.threads), child_ends():
            yield

    def call(self, seed: int, step: Callable[[], Any]) -> Any:
        """Return what a step of the training returns. In a copy, context variables do not reach the next step."""
        with self.isolated(seed):
            return contextvars.copy_context().run(step)


class ModuleTraining(Training):
    """A module, its optimizer and its schedule.

    Args:
        code: the user's functions.
        params: all hyperparameters of the trial.
        epochs: epochs that the trial trains in all.
        seed: seed of the trial.
        train: rows to learn from.
        dev: rows to score on.
        classes: number of classes; 0 if y holds numbers.
        place: the device and process to train in.
        checkpoint: the state to continue from; None for the first epoch.

    Raises:
        Exception: whatever the user's functions raise, or an error that says what they should return.
    """

    def __init__(
        self,
        code: UserCode,
        params: Mapping[str, Value],
        epochs: int,
        seed: int,
        train: Rows,
        dev: Rows,
        classes: int,
        place: Place,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.epoch = 0
        self._code, self._params, self.epochs, self._seed = code, params, epochs, seed
        self.train_rows, self.dev_rows, self.classes, self._place = train, dev, classes, place
        self.loss: Loss = with_params(code.loss, params)
        self._metrics: Mapping[str, Callable[..., Any]] = with_params(code.metrics, params)
        self._orders = random_streams.EpochOrders(seed, len(train.x))
        self.masks = DropoutMasks(seed)
        place.call(seed % 2**32, lambda: self._build(checkpoint))

    def train_epoch(self, epochs: int) -> Mapping[str, float]:
        seed = random_streams.generator_seed(self._seed, self.epoch)
        measured: Mapping[str, float] = self._place.call(seed, lambda: self._train_epoch(epochs))
        self.epoch += 1
        return measured

    @property
    def has_own_optimizer(self) -> bool:
        """True if the optimizer or the schedule is a function of the user's."""
        return self._code.optimizer is not None or self._code.schedule is not None

    @property
    def loss_takes_params(self) -> bool:
        """True if the loss depends on params, not on outputs and y alone."""
        loss = self._code.loss
        functions = loss.values() if isinstance(loss, Mapping) else [loss]
        return any(callable(function) and takes_params(function) for function in functions)

    def save(self) -> Checkpoint:
        """Return a checkpoint: the state dict of the module, as `torch.save` writes it, and all else.

        The arrays are `epoch`; `module`, uint8, the file of the state dict; and `training`, uint8, likewise the states
        of optimizer and schedule, the hyperparameters with which these were made, and the buffers that are not in the
        state dict.
        """
        kept = self.module.state_dict()
        training = {
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self._schedule is None else self._schedule.state_dict(),
            "made": self._made,
            "buffers": {name: buffer for name, buffer in self.module.named_buffers() if name not in kept},
        }
        for name, tensor in kept.items():
            kept[name] = tensor.cpu() if isinstance(tensor, Tensor) else tensor
        return {"epoch": np.array(self.epoch), "module": _to_file(kept), "training": _to_file(training)}

    def score(self, rows: Rows) -> dict[str, float]:
        """Return the metrics on the rows of a split by their names without a prefix: loss, accuracy, and the user's."""
        measured: dict[str, float] = self._place.call(self._seed % 2**32, lambda: self._score(rows))
        return measured

    def outputs(self, x: Tensor) -> Any:
        """Return the module's outputs for rows (N, ...), in evaluation mode."""
        return self._place.call(self._seed % 2**32, lambda: evaluate(self.module, x))

    def _build(self, checkpoint: Checkpoint | None) -> None:
        device = self.train_rows.x.device
        self.module = build_module(self._code.build, self._params, self.train_rows.x[:2])
        trained = [p for p in self.module.parameters() if p.requires_grad]
        if not trained:
            raise ValueError("the module has no parameters that are trained: assign layers in its __init__")
        has_norm = any(isinstance(layer, BATCH_NORMS) for layer in self.module.modules())
        named = {name: self._params[name] for name in self._code.training_names if name in self._params}
        self.recipe = recipe_from({**named, "batch_norm": has_norm})
        self.optimizer = self._make_optimizer(trained)
        self._schedule = self._make_schedule()
        self._made = [_without_params(group) for group in self.optimizer.param_groups]
        if checkpoint is not None:
            self.module.load_state_dict(_from_file(checkpoint["module"], device))
            training = _from_file(checkpoint["training"], device)
            self.optimizer.load_state_dict(training["optimizer"])
            if self._schedule is not None:
                self._schedule.load_state_dict(training["schedule"])
            self._apply_changes(training["made"])
            buffers = dict(self.module.named_buffers())
            for name, saved in training["buffers"].items():
                buffers[name].copy_(saved)
            self.epoch = int(checkpoint["epoch"])
        key_dropout(self.module, self.masks)

    def _apply_changes(self, before: list[dict[str, Any]]) -> None:
        """Let the restored optimizer and schedule have the hyperparameters of this part where they have changed.

        A checkpoint holds those of the part before. What a schedule has changed since, such as the learning rate, is
        changed in proportion.

        Args:
            before: the hyperparameters of each group as the optimizer of the checkpoint was made.
        """
        for group, made, then in zip(self.optimizer.param_groups, self._made, before, strict=True):
            for name in (name for name in made if made[name] != then.get(name)):
                is_scheduled = group[name] != then.get(name) and then.get(name)
                group[name] = group[name] * made[name] / then[name] if is_scheduled else made[name]
        if self._schedule is not None:
            made_lr, then_lr = ([group["lr"] for group in groups] for groups in (self._made, before))
            _scale_base_rates(
                self._schedule, [m / t if t else 1.0 for m, t in zip(made_lr, then_lr, strict=True)]
            )

    def _make_optimizer(self, trained: list[nn.Parameter]) -> torch.optim.Optimizer:
        make = self._code.optimizer
        if make is None:
            weights, others = [p for p in trained if p.dim() > 1], [p for p in trained if p.dim() <= 1]
            return make_optimizer(weights, others, self.recipe)
        with during("in the function optimizer"):
            made = make(dict(self._params), self.module)
        if not isinstance(made, torch.optim.Optimizer):
            raise TypeError(
                f"optimizer(params, module) must return a torch.optim.Optimizer, not {type(made).__name__}"
            )
        return made

    def _make_schedule(self) -> Any:
        make = self._code.schedule
        if make is None:
            return None
        with during("in the function schedule"):
            made = make(dict(self._params), self.optimizer, self.epochs)
        if not hasattr(made, "step") or not hasattr(made, "state_dict"):
            raise TypeError(
                f"schedule(params, optimizer, epochs) must return a scheduler of torch.optim, not {type(made).__name__}"
            )
        return made

    def _train_epoch(self, epochs: int) -> dict[str, float]:
        order = torch.from_numpy(self.begin_epoch(epochs)).to(self.train_rows.x.device)
        self.module.train()
        x, y = self.train_rows.x, self.train_rows.y
        summed: dict[str, Tensor] = {}
        seen = 0
        for start, stop in batches(len(x), self.recipe):
            rows = order[start:stop]
            terms = self._descend(x[rows], y[rows])
            seen += stop - start
            for name, term in terms.items():
                summed.setdefault(name, torch.zeros((), dtype=torch.float64, device=x.device))
                summed[name] += term.detach() * (stop - start)
        return self.end_epoch(
            {name: float(loss) / seen for name, loss in summed.items()}, self._score(self.dev_rows)
        )

    def begin_epoch(self, epochs: int) -> npt.NDArray[np.int64]:
        """Set the learning rate and the masks of the next epoch; return the order of its rows, (N,)."""
        self._set_learning_rate(epochs)
        self.masks.begin(self.epoch)
        return self._orders.order(self.epoch)

    def end_epoch(self, losses: Mapping[str, float], scored: Mapping[str, float]) -> dict[str, float]:
        """End an epoch that was trained and scored: step the schedule.

        Args:
            losses: mean of each term of the loss over the epoch's rows.
            scored: metrics on the dev split, by their names without a prefix.

        Returns:
            The metrics of the epoch.
        """
        rate = self.learning_rate
        trained = {"loss": sum(losses.values()), **losses}
        measured = {f"train_{name}": value for name, value in trained.items()}
        measured |= {f"dev_{name}": value for name, value in scored.items()}
        if isinstance(self._schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self._schedule.step(scored["loss"])
        elif self._schedule is not None:
            self._schedule.step()
        return {**measured, "learning_rate": rate}

    @property
    def learning_rate(self) -> float:
        """The learning rate of the epoch."""
        return float(self.optimizer.param_groups[0].get("lr", float("nan")))

    def _descend(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Take one step of the optimizer, and return the terms of the loss before it."""
        with during(f"in the module, called with x {tuple(x.shape)} {_kind(x)}"):
            outputs = self.module(x)
        with during("in the loss"):
            terms = loss_terms(self.loss, outputs, y, self.classes)
            loss = total(terms)
        self.optimizer.zero_grad()
        with during("in loss.backward()"):
            loss.backward()  # type: ignore[no-untyped-call]
        with during("in optimizer.step()"):
            self.optimizer.step()
        return terms

    def _set_learning_rate(self, epochs: int) -> None:
        """Set the learning rate of the epoch, unless the user's functions do."""
        if self._code.optimizer is None and self._schedule is None:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate_at(self.recipe, self.epoch, epochs)

    @torch.no_grad()
    def _score(self, rows: Rows) -> dict[str, float]:
        outputs, y = evaluate(self.module, rows.x), rows.y.clone()
        with during("in the loss, in evaluation"):
            terms = loss_terms(self.loss, outputs, y, self.classes)
        scored = {"loss": float(total(terms)), **{name: float(term) for name, term in terms.items()}}
        if self.classes:
            scored["accuracy"] = float(accuracy(outputs, y, self.classes))
        return scored | self.measure(outputs, y)

    def measure(self, outputs: Any, y: Tensor) -> dict[str, float]:
        """Return the user's metrics of some outputs, by name."""
        if not self._metrics:
            return {}
        outputs, y = combined([outputs], lambda tensors: tensors[0].cpu()), y.cpu()
        measured = {}
        for name, function in self._metrics.items():
            with during(f"in the metric {name}"):
                measured[name] = _to_number(name, function(outputs, y))
        return measured


def _without_params(group: dict[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of a group of an optimizer."""
    return {name: value for name, value in group.items() if name != "params"}


def _scale_base_rates(schedule: Any, factors: list[float]) -> None:
    """Multiply the learning rates from which a schedule, and those inside it, start."""
    if hasattr(schedule, "base_lrs"):
        schedule.base_lrs = [rate * factor for rate, factor in zip(schedule.base_lrs, factors, strict=True)]
    for inner in getattr(schedule, "_schedulers", ()):
        _scale_base_rates(inner, factors)


def accuracy(outputs: Any, y: Tensor, classes: int) -> Tensor:
    """Return the share of rows whose class has the largest logit, float64."""
    return (logits_BC(outputs, y, classes).argmax(dim=1) == y).double().mean()


def build_module(build: Callable[..., Any], params: Mapping[str, Value], x: Tensor) -> nn.Module:
    """Call the user's build, and give lazy layers their shapes.

    Args:
        build: the user's function.
        params: all hyperparameters of a trial; the function gets a copy.
        x: a few rows (B, ...), on the device that the module moves to.

    Raises:
        TypeError: it returns no module.
    """
    with during("in build"):
        module = build(dict(params))
    if not isinstance(module, nn.Module):
        raise TypeError(f"build(params) must return a torch.nn.Module, not {type(module).__name__}")
    module = module.to(x.device)
    if any(nn.parameter.is_lazy(p) for p in (*module.parameters(), *module.buffers())):
        with torch.no_grad(), during(f"in the module, called with x {tuple(x.shape)} {_kind(x)}"):
            module.eval()(x.clone())
    return module


@torch.no_grad()
def evaluate(module: nn.Module, x: Tensor) -> Any:
    """Return a module's outputs for rows (N, ...), in evaluation mode, so that no row depends on the others.

    Raises:
        ValueError: the outputs of more rows than are evaluated at a time have no first dimension of rows.
    """
    module.eval()
    parts = []
    for start in range(0, len(x), EVALUATED_ROWS):
        rows = x[start : start + EVALUATED_ROWS].clone()  # the module may change its input
        with during(f"in the module, called with x {tuple(rows.shape)} {_kind(rows)}"):
            parts.append(module(rows))
    if len(parts) == 1:
        return parts[0]
    return combined(parts, _join)


def _join(tensors: list[Tensor]) -> Tensor:
    """Return the same output of several calls as one tensor."""
    rows = [EVALUATED_ROWS] * (len(tensors) - 1)
    if [tensor.shape[:1].numel() if tensor.dim() else 0 for tensor in tensors[:-1]] != rows:
        raise ValueError(
            f"each tensor that the module returns must have its rows first, ({rows[0]}, ...), not "
            f"{tuple(tensors[0].shape)}"
        )
    return torch.cat(tensors)


def combined(parts: list[Any], combine: Callable[[list[Tensor]], Tensor]) -> Any:
    """Return outputs of the same structure as one: tensors, or tuples, lists and dicts of them.

    Args:
        parts: the outputs.
        combine: returns one tensor for those at the same place of each.
    """
    first = parts[0]
    if isinstance(first, Tensor):
        return combine(parts)
    if isinstance(first, Mapping):
        return {name: combined([part[name] for part in parts], combine) for name in first}
    if isinstance(first, tuple | list):
        inner = [combined(list(places), combine) for places in zip(*parts, strict=True)]
        return type(first)(*inner) if hasattr(first, "_fields") else type(first)(inner)
    return first


def _to_number(name: str, value: Any) -> float:
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        kind = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"the metric {name!r} must return one number, not {kind}") from error


def _kind(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _to_file(state: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """Return the content of the file that `torch.save` writes."""
    file = io.BytesIO()
    torch.save(state, file)
    return np.frombuffer(file.getvalue(), np.uint8)


def _from_file(content: npt.NDArray[np.generic], device: torch.device) -> Any:
    """Read a checkpoint of this study; the states of the user's own optimizers may hold any object."""
    return torch.load(io.BytesIO(content.tobytes()), map_location=device, weights_only=False)
