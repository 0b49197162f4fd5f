"""The native engine: compiled for the CPU, one trial at a time on one core, without the GIL.

It computes what the reference engine computes (law 3), in an order of its own:

- all parameters of a network lie in one flat array, so that an update is one pass;
- matrices are padded with zeros to whole vectors, which kernels need (see `memory`);
- a layer goes through its formulas strip by strip, in registers and the nearest cache (see `kernels`);
- an epoch is one call of a kernel, or a few where dropout's random bits would take much memory;
- the last, smaller mini-batch of an epoch, and one of a single row, follow `recipe.batches` as everywhere.

**Memory** of a trial, in numbers of its dtype: (2 + averages) P + B (D + 1 + C + 2 U + 2 H) + W + 4 U, with P
parameters, 0 to 2 averages of gradients (see `State`), U hidden units in all, H the widest layer, W the
largest weight matrix after the first, B rows of a mini-batch (or those of the dev split evaluated at a
time), everything rounded up to whole vectors. Dropout takes 1 MiB of random bits more, or as many as one
mini-batch needs. An engine keeps one padded copy of the train and dev splits.

Shape legend: N rows, B rows of a mini-batch, D inputs of a layer, H its outputs, C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caviar.data.splits import Dataset, Split
from caviar.engine import Engine, Job, Progress, State, Trained
from caviar.training import random_streams
from caviar.training.native import kernels
from caviar.training.native.arrays import LANES, Array, aligned, padded, stride
from caviar.training.native.kernel_cache import compiled_once
from caviar.training.native.layout import AVERAGES, allocate, hyper_from, lay_out
from caviar.training.recipe import Recipe, batches, recipe_from
from caviar.training.train_loop import train_in_turn
from caviar.trial import Trial, Value

_DEV_ROWS = 128
"""Rows of the dev split that are evaluated at a time, at least."""
_DROPOUT_WORDS = 1 << 17
"""64-bit words of random bits that are drawn at a time, where one mini-batch does not take more: 1 MiB."""


class NativeEngine(Engine):
    """Trains one network after the other in compiled kernels, on one core.

    The first engine of a machine compiles the kernels; later ones load them (see `kernel_cache`).

    Args:
        dataset: what to learn from; its test split is not touched.
        fixed: hyperparameters that all trials share.
        dtype: float32; float64 for comparing engines.
    """

    def __init__(
        self,
        dataset: Dataset,
        fixed: Mapping[str, Value] | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self._fixed, self._dtype = fixed or {}, np.dtype(dtype)
        self._train, self._dev = self._padded(dataset.train), self._padded(dataset.dev)
        self._features, self._classes = dataset.features, len(dataset.classes)
        _compile(self._dtype)

    @property
    def name(self) -> str:
        return "native"

    def train(self, jobs: Sequence[Job]) -> Iterator[Progress | Trained]:
        return train_in_turn(jobs, self.begin)

    def evaluate(self, trial: Trial, state: State, split: Split) -> Mapping[str, float]:
        loss, accuracy = self.begin(Job(trial=trial, state=state)).score(self._padded(split))
        return {"accuracy": accuracy, "loss": loss}

    def begin(self, job: Job) -> "Training":
        """A network before training, or where a state left it."""
        recipe = recipe_from({**self._fixed, **job.trial.params})
        sizes = [self._features, *recipe.hidden, self._classes]
        training = Training(recipe, sizes, self._train, self._dev, job.trial.seed, self._dtype)
        if job.state is None:
            training.initialise(random_streams.initial_weights(job.trial.seed, sizes, recipe.activation))
        else:
            training.load(job.state)
        return training

    def _padded(self, split: Split) -> "Rows":
        """A copy with zeros around it, wherever the rows came from (Ray's shared arrays are read-only)."""
        count, features = split.x.shape
        x_ND = aligned(padded(count) * stride(features), self._dtype).reshape(-1, stride(features))
        x_ND[:count, :features] = split.x
        return Rows(x_ND, np.array(split.y, dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A split as kernels want it."""

    x: Array
    """(N, D), padded."""
    y: npt.NDArray[np.int64]
    """(N,)"""

    @property
    def rows(self) -> int:
        """N."""
        return len(self.y)


class Training:
    """One network in training: its memory, and how far it is.

    Args:
        recipe: how it is built and trained.
        sizes: inputs, widths of the hidden layers, classes.
        train: the rows to learn from.
        dev: the rows to be scored on.
        seed: the trial's.
        dtype: of all numbers.
    """

    def __init__(
        self,
        recipe: Recipe,
        sizes: Sequence[int],
        train: "Rows",
        dev: "Rows",
        seed: int,
        dtype: npt.DTypeLike,
    ) -> None:
        self.recipe, self._sizes, self._dtype = recipe, sizes, np.dtype(dtype)
        self._train, self._dev, self._seed = train, dev, seed
        self._orders = random_streams.EpochOrders(seed, train.rows)
        self._batches = np.array(batches(train.rows, recipe), dtype=np.int64)
        self._capacity = padded(max(_DEV_ROWS, min(recipe.batch_size, train.rows)))
        self._layers = lay_out(recipe, sizes, self._capacity)
        self._network = allocate(recipe, self._layers, self._capacity, self._dtype)
        self._compiled = tuple(self._network), self._layers, tuple(hyper_from(recipe, self._dtype))
        self._step = 0
        self.epoch = 0

    @property
    def memory_bytes(self) -> int:
        """What it holds between epochs."""
        return sum(array.nbytes for array in self._network)

    def initialise(self, weights: Sequence[npt.NDArray[np.float32]]) -> None:
        """Begin from these weights; gamma is 1, biases and beta are 0."""
        views = self._parameters()
        for (stem, _, has_norm), w_DH in zip(self._named_layers(), weights, strict=True):
            views[f"{stem}.weight"][:] = w_DH
            if has_norm:
                views[f"{stem}.gamma"][:] = 1
        self._network.var[:] = 1

    def advance(self, learning_rate: float) -> float:
        """Train one epoch; returns the mean loss of its mini-batches, each row weighing the same."""
        train = self._train
        order = self._orders.order(self.epoch)
        dropped = random_streams.DropoutStream(self._seed, self.epoch) if self.recipe.dropout > 0 else None
        loss = 0.0
        for part in self._parts():
            bits = _NO_BITS if dropped is None else _with_room(dropped.words(self._words(part)).view("<u2"))
            loss += kernels.train(
                *self._compiled,
                train.x,
                train.y,
                order,
                part,
                bits,
                learning_rate,
                self._step,
            )
            self._step += len(part)
        self.epoch += 1
        return loss / int(self._batches[-1, 1])

    def score(self, rows: Rows | None = None) -> tuple[float, float]:
        """Mean loss and accuracy on the dev split or other rows, with the running averages for batch norm."""
        split = self._dev if rows is None else rows
        loss, accuracy = kernels.evaluate(*self._compiled, split.x, split.y, self._capacity, _NO_BITS)
        return float(loss), float(accuracy)

    def save(self) -> dict[str, npt.NDArray[np.generic]]:
        """Its state under the names that all engines share."""
        counts_steps = self.recipe.optimizer in ("rmsprop", "adam")
        state: dict[str, npt.NDArray[np.generic]] = {
            "epoch": np.array(self.epoch),
            "step": np.array(self._step if counts_steps else 0),
        }
        state |= {name: view.copy() for name, view in self._parameters().items()}
        state |= {name: view.copy() for name, view in self._running().items()}
        if self._step > 0:
            state |= {name: view.copy() for name, view in self._averages().items()}
        return state

    def load(self, state: State) -> None:
        """Go on where a state ends."""
        for name, view in (self._parameters() | self._running()).items():
            view[:] = state[name]
        for name, view in self._averages().items():
            view[:] = state.get(name, 0)
        self.epoch = int(state["epoch"])
        self._step = int(state["step"]) or self.epoch * len(self._batches)

    def _parts(self) -> Iterator[Array]:
        """The mini-batches of an epoch, as many at a time as dropout's random bits leave memory for."""
        if self.recipe.dropout == 0:
            yield self._batches
            return
        count = max(1, _DROPOUT_WORDS // max(1, self._words(self._batches[:1])))
        for start in range(0, len(self._batches), count):
            yield self._batches[start : start + count]

    def _words(self, part: Array) -> int:
        """64-bit words of random bits that mini-batches take."""
        sizes = np.diff(part)[:, 0].tolist()
        return sum(-(-rows * units // 4) for rows in sizes for units in self._sizes[1:-1])

    def _parameters(self, of: Array | None = None) -> dict[str, Array]:
        """Views of the parameters, or of what is laid out like them, under their names in `State`."""
        flat = self._network.parameters if of is None else of
        views = {}
        for stem, layer, has_norm in self._named_layers():
            units = layer["units"]
            w_DH = flat[layer["weight"] : layer["scale"]].reshape(-1, layer["stride"])
            views[f"{stem}.weight"] = w_DH[: layer["inputs"], :units]
            if has_norm:
                views[f"{stem}.gamma"] = flat[layer["scale"] :][:units]
            views[f"{stem}.beta" if has_norm else f"{stem}.bias"] = flat[layer["shift"] :][:units]
        return views

    def _averages(self) -> dict[str, Array]:
        """Views of the optimizer's averages, likewise."""
        return {
            f"{average}.{name}": view
            for average in AVERAGES[self.recipe.optimizer]
            for name, view in self._parameters(getattr(self._network, average)).items()
        }

    def _running(self) -> dict[str, Array]:
        """Views of batch norm's running averages, likewise."""
        return {
            f"{stem}.{name}": flat[layer["unit"] :][: layer["units"]]
            for stem, layer, has_norm in self._named_layers()
            if has_norm
            for name, flat in (("mean", self._network.mean), ("var", self._network.var))
        }

    def _named_layers(self) -> Iterator[tuple[str, np.void, bool]]:
        """What a layer's names begin with, the layer, and whether it has batch norm."""
        for number, layer in enumerate(self._layers[:-1]):
            yield f"hidden.{number}", layer, self.recipe.batch_norm
        yield "output", self._layers[-1], False


_NO_BITS = np.zeros(0, dtype="<u2")


def _with_room(bits: Array) -> Array:
    """The bits, and a vector more that kernels may load."""
    longer = np.zeros(len(bits) + LANES, bits.dtype)
    longer[: len(bits)] = bits
    return longer


def _compile(dtype: npt.DTypeLike) -> None:
    """Load the kernels, or compile them, by training a tiny network."""
    recipe = recipe_from({"layers": 1, "units": 2, "batch_size": 2})
    with compiled_once(np.dtype(dtype).name):
        rows = Rows(aligned(256, dtype).reshape(16, 16), np.zeros(2, dtype=np.int64))
        training = Training(recipe, [2, 2, 2], rows, rows, 0, dtype)
        training.advance(0.0)
        training.score()
