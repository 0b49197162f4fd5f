"""The reference engine: plain torch, written to be read. Faster engines are tested against it.

Batch norm follows Ioffe & Szegedy 2015, Adam Kingma & Ba 2015, RMSProp Tieleman & Hinton 2012, and dropout Srivastava
et al. 2014, all as torch implements them; the dropout masks come from `random_streams`.

Shape legend: N rows, B rows of a mini-batch, D inputs of a layer, H its outputs, C classes.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from caviar.data.splits import Dataset, Split
from caviar.engine import Checkpoint, Engine, Part, PartDone, Progress
from caviar.errors import ClusterError
from caviar.training import random_streams
from caviar.training.layer_statistics import Observe
from caviar.training.recipe import Recipe, batches, recipe_from
from caviar.training.train_loop import NetworkTraining, train_one_by_one
from caviar.trial import Trial, Value


class HiddenLayer(nn.Module):
    """A hidden layer: linear, batch norm on z (or a bias), activation, dropout."""

    def __init__(self, n_in: int, n_out: int, recipe: Recipe) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out, bias=not recipe.batch_norm)
        self.norm = (
            nn.BatchNorm1d(n_out, eps=recipe.batch_norm_epsilon, momentum=recipe.batch_norm_momentum)
            if recipe.batch_norm
            else nn.Identity()
        )
        self.activation = nn.ReLU() if recipe.activation == "relu" else nn.Tanh()
        self.dropout = recipe.dropout

    def forward(self, x_BD: Tensor, dropped: random_streams.DropoutStream | None = None) -> Tensor:
        """Return the activations a_BH (B, H); units are dropped by the stream, or kept without one."""
        a_BH: Tensor = self.activation(self.norm(self.linear(x_BD)))
        if dropped is None or self.dropout == 0:
            return a_BH
        keep = torch.from_numpy(dropped.keep(a_BH.shape[0], a_BH.shape[1], self.dropout)).to(a_BH.device)
        return a_BH * keep / (1 - self.dropout)


class Network(nn.Module):
    """Hidden layers and a softmax over the classes."""

    def __init__(self, n_in: int, n_classes: int, recipe: Recipe) -> None:
        super().__init__()
        sizes = [n_in, *recipe.hidden]
        self.hidden = nn.ModuleList(HiddenLayer(a, b, recipe) for a, b in itertools.pairwise(sizes))
        self.output = nn.Linear(sizes[-1], n_classes)

    def forward(self, x_BD: Tensor, dropped: random_streams.DropoutStream | None = None) -> Tensor:
        """Return the logits z_BC (B, C), whose softmax gives the probabilities of the classes."""
        for layer in self.hidden:
            x_BD = layer(x_BD, dropped)
        z_BC: Tensor = self.output(x_BD)
        return z_BC


class ReferenceEngine(Engine):
    """An engine that trains one network after the other with torch.nn and torch.optim.

    Args:
        dataset: train and dev split to use; the test split is not touched.
        fixed: hyperparameters that all trials share.
        device: "cpu" or "cuda".
        dtype: float32, or float64 for comparing engines.
        observe: returns further metrics after each epoch; None for none.

    Raises:
        ClusterError: `device` is "cuda" and torch cannot use a GPU.
    """

    def __init__(
        self,
        dataset: Dataset,
        fixed: Mapping[str, Value] | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        observe: Observe | None = None,
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise ClusterError(
                "Ray offers a GPU, but torch cannot use one here: install a CUDA build of torch, or use --gpus 0"
            )
        self._fixed, self._device, self._dtype, self._observe = fixed or {}, device, dtype, observe
        self._train, self._dev = self._tensors(dataset.train), self._tensors(dataset.dev)
        self._classes = len(dataset.classes)
        # torch imports much when it creates its first optimizer: do that before the first trial
        ReferenceTraining(Recipe(), self._classes, self._train, self._dev, seed=0)

    @property
    def name(self) -> str:
        return "reference"

    def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        with limited_threads():
            yield from train_one_by_one(parts, self.begin, observe=self._observe)

    def evaluate(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> Mapping[str, float]:
        training = self.begin(Part(trial=trial, checkpoint=checkpoint))
        with limited_threads():
            loss, accuracy = training.score(self._tensors(split))
        return {"accuracy": accuracy, "loss": loss}

    @torch.no_grad()
    def predict(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> npt.NDArray[np.floating]:
        training = self.begin(Part(trial=trial, checkpoint=checkpoint))
        with limited_threads():
            z_NC = training.network.eval()(self._tensors(split)[0])
            p_NC: npt.NDArray[np.floating] = F.softmax(z_NC, dim=1).cpu().numpy()
        return p_NC

    def begin(self, part: Part) -> "ReferenceTraining":
        """Return a part's network: new, or restored from its checkpoint."""
        recipe = recipe_from({**self._fixed, **part.trial.params})
        training = ReferenceTraining(recipe, self._classes, self._train, self._dev, part.trial.seed)
        if part.checkpoint is not None:
            training.epoch = load_checkpoint(training.network, training.optimizer, part.checkpoint)
        return training

    def _tensors(self, split: Split) -> "SplitTensors":
        """Return copies in torch's own memory, because Ray's shared arrays are read-only and differently aligned."""
        x_ND = torch.tensor(split.x, dtype=self._dtype, device=self._device)
        return x_ND, torch.tensor(split.y, device=self._device)


SplitTensors = tuple[Tensor, Tensor]
"""Features x_ND (N, D) and class numbers y_N (N,) of a split."""


class ReferenceTraining(NetworkTraining):
    """A network in training.

    Args:
        recipe: hyperparameters of the network and its training.
        classes: number of classes, C.
        train: rows to learn from.
        dev: rows to score on.
        seed: seed of the trial.
    """

    def __init__(
        self, recipe: Recipe, classes: int, train: SplitTensors, dev: SplitTensors, seed: int
    ) -> None:
        self.recipe, self.epoch = recipe, 0
        self._train, self._dev, self._seed = train, dev, seed
        self._orders = random_streams.EpochOrders(seed, len(train[1]))
        x_ND = train[0]
        sizes = [x_ND.shape[1], *recipe.hidden, classes]
        self.network = Network(sizes[0], sizes[-1], recipe).to(x_ND.device, x_ND.dtype)
        weights = random_streams.initial_weights(seed, sizes, recipe.activation)
        with torch.no_grad():
            for linear, w_DH in zip(_linears(self.network), weights, strict=True):
                linear.weight.copy_(torch.from_numpy(w_DH.T))
                if linear.bias is not None:
                    linear.bias.zero_()
        self.optimizer = _optimizer(self.network, recipe)

    def advance(self, learning_rate: float) -> float:
        """Train one epoch; return the mean loss of its mini-batches in nats, weighted by their rows."""
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        x_ND, y_N = self._train
        order = torch.from_numpy(self._orders.order(self.epoch)).to(x_ND.device)
        dropped = random_streams.DropoutStream(self._seed, self.epoch) if self.recipe.dropout > 0 else None
        summed, seen = torch.zeros((), dtype=torch.float64, device=x_ND.device), 0
        for start, stop in batches(len(x_ND), self.recipe):
            batch = order[start:stop]
            z_BC = self.network(x_ND[batch], dropped)
            loss = F.cross_entropy(z_BC, y_N[batch])
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            summed += loss.detach() * (stop - start)
            seen += stop - start
        self.epoch += 1
        return float(summed) / seen

    @torch.no_grad()
    def score(self, rows: SplitTensors | None = None) -> tuple[float, float]:
        """Return mean loss and accuracy on the dev split or other rows; batch norm uses its running averages."""
        self.network.eval()
        x_ND, y_N = self._dev if rows is None else rows
        z_NC = self.network(x_ND)
        accuracy = (z_NC.argmax(dim=1) == y_N).double().mean()
        return float(F.cross_entropy(z_NC, y_N)), float(accuracy)

    def save(self) -> Checkpoint:
        """Return a checkpoint from which training continues as if it had never stopped."""
        return save_checkpoint(self.network, self.optimizer, self.epoch)


@contextmanager
def limited_threads(count: int = 1) -> Iterator[None]:
    """Use one thread, or a few, and flush denormals; restore the process's settings afterwards.

    A worker is one core, and other numbers of threads round differently. Denormals are slow.

    Args:
        count: the number of threads.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(count)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


def _optimizer(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    weights = [linear.weight for linear in _linears(network)]
    others = [p for p in network.parameters() if not any(p is weight for weight in weights)]
    return make_optimizer(weights, others, recipe)


def make_optimizer(
    weights: Sequence[Tensor], others: Sequence[Tensor], recipe: Recipe
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer; L2 applies to weights only.

    Args:
        weights: matrices, filters and the like.
        others: all other parameters, such as biases.
        recipe: the recipe.
    """
    groups: list[dict[str, Any]] = [
        {"params": list(weights), "weight_decay": recipe.l2},
        {"params": list(others), "weight_decay": 0.0},
    ]
    rate = recipe.learning_rate
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate)
    if recipe.optimizer == "momentum":
        return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, alpha=recipe.beta2, eps=recipe.epsilon)
    return torch.optim.Adam(groups, lr=rate, betas=(recipe.beta1, recipe.beta2), eps=recipe.epsilon)


def _linears(network: Network) -> list[nn.Linear]:
    linears = [layer.linear for layer in network.hidden if isinstance(layer, HiddenLayer)]
    return [*linears, network.output]


def _named_tensors(network: Network) -> dict[str, Tensor]:
    """Return each tensor by its name in `Checkpoint`."""
    named: dict[str, Tensor] = {}
    stems = [*(f"hidden.{number}" for number in range(len(network.hidden))), "output"]
    norms = [*(layer.norm for layer in network.hidden), None]
    for stem, linear, norm in zip(stems, _linears(network), norms, strict=True):
        named[f"{stem}.weight"] = linear.weight
        if isinstance(norm, nn.BatchNorm1d):
            named |= {f"{stem}.{ours}": getattr(norm, its) for ours, its in _NORM_TENSORS.items()}
        else:
            named[f"{stem}.bias"] = linear.bias
    return named


_NORM_TENSORS = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var"}
"""Names of batch norm's tensors in torch, by those in `Checkpoint`."""
_AVERAGES: dict[type[torch.optim.Optimizer], dict[str, str]] = {
    torch.optim.SGD: {"momentum_buffer": "first"},
    torch.optim.RMSprop: {"square_avg": "second"},
    torch.optim.Adam: {"exp_avg": "first", "exp_avg_sq": "second"},
}
"""Names of each optimizer's running averages in `Checkpoint`, by those in torch."""


def save_checkpoint(network: Network, optimizer: torch.optim.Optimizer, epoch: int) -> dict[str, np.ndarray]:
    """Return the network and its optimizer as plain arrays (see `Checkpoint`).

    Args:
        network: the network.
        optimizer: its optimizer.
        epoch: epochs trained so far.
    """
    checkpoint: dict[str, np.ndarray] = {"epoch": np.array(epoch), "step": np.array(0)}
    for name, tensor in _named_tensors(network).items():
        checkpoint[name] = _to_array(tensor)
        for slot, average in optimizer.state.get(tensor, {}).items():
            if slot == "step":
                checkpoint["step"] = np.array(int(average))
            elif average is not None:
                checkpoint[f"{_AVERAGES[type(optimizer)][slot]}.{name}"] = _to_array(average)
    return checkpoint


def load_checkpoint(network: Network, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> int:
    """Restore a network and its optimizer.

    Args:
        network: a network of the same recipe; changed in place.
        optimizer: its optimizer; changed in place.
        checkpoint: what `save_checkpoint`, or another engine, returned.

    Returns:
        The number of epochs trained.
    """
    _fill(network, checkpoint)
    for name, tensor in _named_tensors(network).items():
        kept = {
            slot: _to_tensor(checkpoint[f"{average}.{name}"], tensor)
            for slot, average in _AVERAGES[type(optimizer)].items()
            if f"{average}.{name}" in checkpoint
        }
        if kept and not isinstance(optimizer, torch.optim.SGD):
            kept["step"] = torch.tensor(float(checkpoint["step"]))
        if kept:
            optimizer.state[tensor] = kept
    return int(checkpoint["epoch"])


def trained_network(recipe: Recipe, checkpoint: Checkpoint, n_in: int, n_classes: int) -> Network:
    """Return the network of a checkpoint, in evaluation mode, on the CPU.

    Raises:
        LookupError: an array is missing.
        ValueError: an array has another shape.
    """
    network = Network(n_in, n_classes, recipe)
    _fill(network, checkpoint)
    return network.eval()


def predict_classes(network: nn.Module, x_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return the number of the likeliest class of each row, (N,)."""
    with torch.no_grad():
        classes_N: npt.NDArray[np.int64] = network(torch.from_numpy(x_ND)).argmax(dim=1).numpy()
    return classes_N


@torch.no_grad()
def _fill(network: Network, checkpoint: Checkpoint) -> None:
    for name, tensor in _named_tensors(network).items():
        filled = _to_tensor(checkpoint[name], tensor)
        if filled.shape != tensor.shape:
            raise ValueError(f"{name} has shape {checkpoint[name].shape}")
        tensor.copy_(filled)


def _to_array(tensor: Tensor) -> np.ndarray:
    """Return a tensor as `Checkpoint` has it: torch keeps matrices transposed."""
    return np.array(tensor.detach().cpu().numpy().T, order="C")


def _to_tensor(array: np.ndarray, like: Tensor) -> Tensor:
    return torch.tensor(array.T, dtype=like.dtype, device=like.device).contiguous()
