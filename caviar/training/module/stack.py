"""Modules of one structure that train as one: their tensors are stacked, and each step trains them all at once.

`torch.func.vmap` runs the user's forward and loss for all lanes. Each lane has its own rows, learning rate and other
numbers of its optimizer, and its own dropout masks. The tensors of each lane stay where its `ModuleTraining` finds
them, as parts of the stacked ones, so it is scored and saved as if it trained alone.

Shape legend: K lanes, N rows of a split, B rows of a mini-batch, ... the shape of a parameter or of one row.
"""

import pickle
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caviar.errors import one_line
from caviar.training.module.dropout import DROPPED_TOGETHER, key_dropout
from caviar.training.module.losses import loss_terms
from caviar.training.module.stacked_optimizer import StackedOptimizer
from caviar.training.module.training import EVALUATED_ROWS, ModuleTraining, accuracy, combined
from caviar.training.recipe import batches

TOLERANCE = 1e-3
"""Largest relative difference of a loss, or of a buffer, between a lane of a stack and the same module alone."""

_Call = tuple[str, tuple[int, ...]]
"""Name of a dropout layer, and shape of its input."""


class NotStackableError(Exception):
    """A module that cannot train together with others; the message is the reason."""


class Stack:
    """Modules of one structure, which train their next epochs together.

    Args:
        lanes: the modules, each between two epochs.
    """

    def __init__(self, lanes: Sequence[ModuleTraining]) -> None:
        self.lanes = list(lanes)
        self._module = lanes[0].module
        named = [dict(lane.module.named_parameters()) for lane in lanes]
        self._parameters = _stacked(named)
        self._buffers = _stacked([dict(lane.module.named_buffers()) for lane in lanes])
        self._optimizer = StackedOptimizer(
            [lane.recipe for lane in lanes], [lane.optimizer for lane in lanes], named, self._parameters
        )
        self._layers = {
            name: DROPPED_TOGETHER[type(layer)]
            for name, layer in self._module.named_modules()
            if type(layer) in DROPPED_TOGETHER
        }
        self._calls: dict[int, list[_Call]] = {}
        self._masks: Iterator[tuple[Tensor, Tensor]] | None = None

    def train_epoch(self) -> list[dict[str, float]]:
        """Train the next epoch of each lane; return the metrics of each, as `ModuleTraining.train_epoch` does."""
        first = self.lanes[0]
        x, y = first.train_rows.x, first.train_rows.y
        orders = torch.from_numpy(np.stack([lane.begin_epoch(lane.epochs) for lane in self.lanes])).to(
            x.device
        )
        self._optimizer.set_rates([lane.learning_rate for lane in self.lanes])
        summed: dict[str, Tensor] = {}
        seen = 0
        self._module.train()
        with self._shared_dropout():
            for start, stop in batches(len(x), first.recipe):
                rows = orders[:, start:stop]
                for name, term in self._descend(x[rows], y[rows]).items():
                    summed[name] = summed.get(name, torch.zeros_like(term)) + term * (stop - start)
                seen += stop - start
        self._optimizer.finish()
        means = {name: (loss / seen).tolist() for name, loss in summed.items()}
        scored = self._score()
        ended = []
        for k, lane in enumerate(self.lanes):
            ended.append(lane.end_epoch({name: values[k] for name, values in means.items()}, scored[k]))
            lane.epoch += 1
        return ended

    @torch.no_grad()
    def _score(self) -> list[dict[str, float]]:
        """Return the metrics of each lane on the dev split, by their names without a prefix."""
        self._module.eval()
        first = self.lanes[0]
        x, y = first.dev_rows.x, first.dev_rows.y
        forward = torch.func.vmap(self._forward, in_dims=(0, 0, None), randomness="error")
        parts = [
            forward(self._parameters, self._buffers, x[start : start + EVALUATED_ROWS].clone())
            for start in range(0, len(x), EVALUATED_ROWS)
        ]
        outputs = combined(parts, lambda tensors: torch.cat(tensors, dim=1))

        def measured(outputs: Any) -> dict[str, Tensor]:
            terms = loss_terms(first.loss, outputs, y, first.classes)
            found = {"loss": _sum(terms), **terms}
            return found | ({"accuracy": accuracy(outputs, y, first.classes)} if first.classes else {})

        of_all = {name: values.tolist() for name, values in torch.func.vmap(measured)(outputs).items()}
        return [
            {name: values[k] for name, values in of_all.items()}
            | lane.measure(combined([outputs], lambda tensors, k=k: tensors[0][k]), y)  # type: ignore[misc]
            for k, lane in enumerate(self.lanes)
        ]

    def _forward(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], x: Tensor) -> Any:
        return torch.func.functional_call(self._module, {**parameters, **buffers}, (x,))

    @torch.no_grad()
    def check(self) -> None:
        """Compare the loss and the buffers after a first mini-batch with those of each module alone.

        Raises:
            NotStackableError: they differ, or torch cannot run the module for several lanes at once.
        """
        first = self.lanes[0]
        rows = slice(*batches(len(first.train_rows.x), first.recipe)[0])
        x, y = first.train_rows.x[rows], first.train_rows.y[rows]
        expected, kept = [], []
        before = _generators()
        for lane in self.lanes:
            tensors = {name: tensor.clone() for name, tensor in lane.module.named_buffers()}
            lane.module.train()
            with _no_dropout(lane.module):
                outputs = torch.func.functional_call(lane.module, tensors, (x.clone(),))
            expected.append(_sum(loss_terms(lane.loss, outputs, y, lane.classes)))
            kept.append(tensors)
        buffers = {name: tensor.clone() for name, tensor in self._buffers.items()}
        each = torch.func.vmap(self._loss, in_dims=(0, 0, None, None, None), randomness="error")
        self._masks = None
        try:
            with _no_dropout(self._module):
                losses, _ = each(self._parameters, buffers, x, y, [])
        except Exception as error:
            raise NotStackableError(f"torch.func.vmap cannot run it ({one_line(error)})") from error
        if _generators() != before:
            raise NotStackableError("it draws random numbers in forward")
        if not _are_close(losses, torch.stack(expected)):
            raise NotStackableError("its loss is another one when it trains with others")
        for name, tensor in buffers.items():
            if not _are_close(tensor, torch.stack([tensors[name] for tensors in kept])):
                raise NotStackableError(
                    f"its buffer {name} changes in another way when it trains with others"
                )

    def _descend(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Take one step of each lane's optimizer; return the terms of the losses before it, (K,) float64."""
        masks = self._draw_masks(x)
        leaves = {name: p.detach().requires_grad_() for name, p in self._parameters.items()}
        losses, terms = torch.func.vmap(self._loss, randomness="error")(leaves, self._buffers, x, y, masks)
        trained = [name for name, p in self._module.named_parameters() if p.requires_grad]
        found = torch.autograd.grad(losses.sum(), [leaves[name] for name in trained], allow_unused=True)
        self._optimizer.step({n: g for n, g in zip(trained, found, strict=True) if g is not None})
        return {name: term.detach().double() for name, term in terms.items()}

    def _loss(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        x: Tensor,
        y: Tensor,
        masks: list[tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one lane, and its terms."""
        self._masks = iter(masks)
        outputs = self._forward(parameters, buffers, x)
        terms = loss_terms(self.lanes[0].loss, outputs, y, self.lanes[0].classes)
        return _sum(terms), terms

    @contextmanager
    def _shared_dropout(self) -> Iterator[None]:
        """Let the dropout layers of the module that stands for all take the masks of all lanes."""
        for name in self._layers:
            layer: Any = self._module.get_submodule(name)
            layer.forward = self._drop
        try:
            yield
        finally:
            key_dropout(self._module, self.lanes[0].masks)

    def _drop(self, input: Tensor) -> Tensor:
        assert self._masks is not None
        keep, share = next(self._masks)
        return input * keep / share

    def _draw_masks(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the mask and the kept share (K,) of each call of a dropout layer, from the streams of the lanes."""
        rows = x.shape[1]
        if rows not in self._calls:
            self._calls[rows] = self._note_calls(x[0])
        found = []
        for name, shape in self._calls[rows]:
            drawn = [
                lane.masks.draw(shape, float(lane.module.get_submodule(name).p), self._layers[name])  # type: ignore[arg-type]
                for lane in self.lanes
            ]
            keep = torch.from_numpy(np.stack([mask for mask, _ in drawn])).to(x.device)
            shares = torch.tensor([share for _, share in drawn], dtype=torch.float32, device=x.device)
            found.append((keep, shares))
        return found

    @torch.no_grad()
    def _note_calls(self, x: Tensor) -> list[_Call]:
        """Return the calls of dropout layers in a forward pass of the first lane, which changes nothing."""
        calls: list[_Call] = []
        if not self._layers:
            return calls

        def note(name: str, input: Tensor) -> Tensor:
            calls.append((name, tuple(input.shape)))
            return input

        tensors = {name: tensor.clone() for name, tensor in self._module.named_buffers()}
        with _with_forward(self._module, note):
            torch.func.functional_call(self._module, tensors, (x.clone(),))
        return calls


def _sum(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def _stacked(named: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Stack the tensors of the lanes by name, and make those of each lane parts of the stacked ones."""
    stacked = {}
    for name in named[0]:
        stacked[name] = torch.stack([tensors[name].detach() for tensors in named])
        for lane, tensors in enumerate(named):
            tensors[name].data = stacked[name][lane]
    return stacked


def _no_dropout(module: torch.nn.Module) -> Any:
    return _with_forward(module, lambda name, input: input)


@contextmanager
def _with_forward(module: torch.nn.Module, forward: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
    """Let the dropout layers of a module do something else, given their name and input."""
    layers: dict[str, Any] = {
        name: layer for name, layer in module.named_modules() if type(layer) in DROPPED_TOGETHER
    }
    before = {name: layer.forward for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer.forward = partial(forward, name)
        yield
    finally:
        for name, layer in layers.items():
            layer.forward = before[name]


def _generators() -> bytes:
    """Return the states of the global generators of Python and NumPy."""
    return pickle.dumps((random.getstate(), np.random.get_state()))  # noqa: NPY002


def _are_close(ours: Tensor, theirs: Tensor) -> bool:
    return bool(torch.allclose(ours.double(), theirs.double(), rtol=TOLERANCE, atol=TOLERANCE * 1e-3))
