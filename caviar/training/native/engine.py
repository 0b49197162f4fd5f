"""Native engine: trains one network at a time on one core, in compiled code and without the GIL.

It computes what the reference engine computes (law 3), arranged for speed:

- All parameters of a network are in one flat array, so that an update is one pass.
- Matrices are padded with zeros to whole vectors, as the kernels need it (see `arrays`).
- A layer is computed strip by strip, in registers and the nearest cache (see `kernels`).
- An epoch is one call of a kernel, or a few calls if dropout's random numbers would take much memory.
- Mini-batches are those of `recipe.batches`, as in every engine.

**Memory** of a trial, in numbers of its dtype: (2 + averages) P + B (D + 1 + C + 2 U + 2 H) + W + 4 U, with P
parameters, 0 to 2 running averages of gradients, U hidden units in all, H the widest layer, W the largest weight
matrix after the first, and B rows of a mini-batch, or of the dev split evaluated at a time. All are rounded up to
whole vectors. Dropout takes 1 MiB of random numbers more, or as many as one mini-batch needs. An engine keeps one
padded copy of the train and dev splits.

Shape legend: N rows of a split, B rows of a mini-batch, D inputs of a layer, H its outputs, C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caviar.data.splits import Dataset, Split
from caviar.engine import Checkpoint, Engine, Part, PartDone, Progress
from caviar.training import random_streams
from caviar.training.layer_statistics import Observe
from caviar.training.native import kernels
from caviar.training.native.arrays import VECTOR_SIZE, Array, aligned_zeros, padded_size, row_stride
from caviar.training.native.kernel_cache import compile_once
from caviar.training.native.layout import AVERAGES, allocate_network, kernel_recipe_from, lay_out_layers
from caviar.training.recipe import Recipe, batches, recipe_from
from caviar.training.train_loop import NetworkTraining, train_one_by_one
from caviar.trial import Trial, Value

_DEV_ROWS = 128
"""Minimum number of rows of the dev split to evaluate at a time."""
_DROPOUT_WORDS = 1 << 17
"""Number of 64-bit random words (1 MiB) to draw at a time, if one mini-batch does not take more."""


class NativeEngine(Engine):
    """An engine that trains one network after the other in compiled kernels, on one core.

    The first engine on a machine compiles the kernels, and later ones load them (see `kernel_cache`).

    Args:
        dataset: data set to learn from. Its test split is not used.
        fixed: hyperparameters that all trials share.
        dtype: float32, or float64 to compare engines.
        observe: returns further metrics after each epoch; None for none.
    """

    def __init__(
        self,
        dataset: Dataset,
        fixed: Mapping[str, Value] | None = None,
        dtype: npt.DTypeLike = np.float32,
        observe: Observe | None = None,
    ) -> None:
        self._fixed, self._dtype, self._observe = fixed or {}, np.dtype(dtype), observe
        self._train = PaddedSplit.of(dataset.train, self._dtype)
        self._dev = PaddedSplit.of(dataset.dev, self._dtype)
        self._features, self._classes = dataset.features, len(dataset.classes)
        _compile_kernels(self._dtype)

    @property
    def name(self) -> str:
        return "native"

    def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        return train_one_by_one(parts, self.begin, observe=self._observe)

    def evaluate(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> Mapping[str, float]:
        training = self.begin(Part(trial=trial, checkpoint=checkpoint))
        loss, accuracy = training.score(PaddedSplit.of(split, self._dtype))
        return {"accuracy": accuracy, "loss": loss}

    def predict(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> npt.NDArray[np.floating]:
        training = self.begin(Part(trial=trial, checkpoint=checkpoint))
        return training.probabilities(PaddedSplit.of(split, self._dtype))

    def begin(self, part: Part) -> "NativeTraining":
        """Return a part's network: new, or restored from its checkpoint."""
        recipe = recipe_from({**self._fixed, **part.trial.params})
        sizes = [self._features, *recipe.hidden, self._classes]
        training = NativeTraining(recipe, sizes, self._train, self._dev, part.trial.seed, self._dtype)
        if part.checkpoint is None:
            training.initialise(random_streams.initial_weights(part.trial.seed, sizes, recipe.activation))
        else:
            training.load(part.checkpoint)
        return training


@dataclass(frozen=True, slots=True, eq=False)
class PaddedSplit:
    """Rows and classes of a split as kernels read them."""

    x: Array
    """Rows (N, D) with zeros around them, in the dtype of the network."""
    y: npt.NDArray[np.int64]
    """Classes (N,)."""

    @classmethod
    def of(cls, split: Split, dtype: npt.DTypeLike) -> "PaddedSplit":
        """Copy a split. The original may be read-only, as Ray's shared arrays are."""
        count, features = split.x.shape
        stride = row_stride(features)
        x_ND = aligned_zeros(padded_size(count) * stride, dtype).reshape(-1, stride)
        x_ND[:count, :features] = split.x
        return cls(x_ND, np.array(split.y, dtype=np.int64))

    @property
    def rows(self) -> int:
        """Number of rows N."""
        return len(self.y)


class NativeTraining(NetworkTraining):
    """One network in training (a `train_loop.NetworkTraining`).

    Args:
        recipe: recipe of the trial.
        sizes: inputs, width of each hidden layer, classes.
        train: split to learn from.
        dev: split to score on.
        seed: seed of the trial.
        dtype: dtype of all numbers, float32 or float64.
    """

    def __init__(
        self,
        recipe: Recipe,
        sizes: Sequence[int],
        train: PaddedSplit,
        dev: PaddedSplit,
        seed: int,
        dtype: npt.DTypeLike,
    ) -> None:
        self.recipe, self._sizes = recipe, sizes
        self._train, self._dev, self._seed = train, dev, seed
        self._batches = batches(train.rows, recipe)
        self._orders = random_streams.EpochOrders(seed, train.rows)
        self._calls = self._split_into_calls()
        self._capacity = padded_size(max(_DEV_ROWS, min(recipe.batch_size, train.rows)))
        self._layers = lay_out_layers(recipe, sizes, self._capacity)
        self._network = allocate_network(recipe, self._layers, self._capacity, dtype)
        self._kernel_args = tuple(self._network), self._layers, tuple(kernel_recipe_from(recipe, dtype))
        self._step = 0
        self.epoch = 0

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory held between epochs."""
        return sum(array.nbytes for array in self._network)

    def initialise(self, weights: Sequence[npt.NDArray[np.float32]]) -> None:
        """Set the weights W_DH of each layer. Set gamma to 1, and biases and beta to 0."""
        views = self._view_parameters(self._network.parameters)
        for (name, _, has_norm), w_DH in zip(self._named_layers(), weights, strict=True):
            views[f"{name}.weight"][:] = w_DH
            if has_norm:
                views[f"{name}.gamma"][:] = 1
        self._network.running_var[:] = 1

    def advance(self, learning_rate: float) -> float:
        train, order = self._train, self._orders.order(self.epoch)
        masks = random_streams.DropoutStream(self._seed, self.epoch) if self.recipe.dropout > 0 else None
        loss = 0.0
        for part, words in self._calls:
            bits = _NO_BITS if masks is None else _with_room_for_a_vector(masks.words(words).view("<u2"))
            loss += kernels.train_batches(
                *self._kernel_args,
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
        return loss / self._batches[-1][1]

    def score(self, split: PaddedSplit | None = None) -> tuple[float, float]:
        split = split or self._dev
        return kernels.evaluate(*self._kernel_args, split.x, split.y, self._capacity, _NO_BITS)

    def probabilities(self, split: PaddedSplit) -> npt.NDArray[np.floating]:
        """Return the probability of each class for each row of a split, (N, C)."""
        classes = self._sizes[-1]
        p_NC = np.empty((split.rows, classes), self._network.da.dtype)
        for start in range(0, split.rows, self._capacity):
            part = PaddedSplit(split.x[start:], split.y[start : start + self._capacity])
            self.score(part)  # leaves p_CB, in rows of whole vectors, where z_CB was
            width = padded_size(part.rows)
            p_CB = self._network.da[: classes * width].reshape(classes, width)
            p_NC[start : start + part.rows] = p_CB[:, : part.rows].T
        return p_NC

    def save(self) -> dict[str, npt.NDArray[np.generic]]:
        counts_steps = self.recipe.optimizer in ("rmsprop", "adam")
        checkpoint: dict[str, npt.NDArray[np.generic]] = {
            "epoch": np.array(self.epoch),
            "step": np.array(self._step if counts_steps else 0),
        }
        views = self._view_parameters(self._network.parameters) | self._view_running_averages()
        if self._step > 0:
            views |= self._view_optimizer_averages()
        return checkpoint | {name: view.copy() for name, view in views.items()}

    def load(self, checkpoint: Checkpoint) -> None:
        """Restore the network that `save` returned, of this engine or another."""
        views = self._view_parameters(self._network.parameters) | self._view_running_averages()
        for name, view in views.items():
            view[:] = checkpoint[name]
        for name, view in self._view_optimizer_averages().items():
            view[:] = checkpoint.get(name, 0)
        self.epoch = int(checkpoint["epoch"])
        self._step = int(checkpoint["step"]) or self.epoch * len(self._batches)

    def _split_into_calls(self) -> list[tuple[Array, int]]:
        """Return an epoch's mini-batches as the calls of a kernel take them, and each call's words of random bits."""
        if self.recipe.dropout == 0:
            return [(np.array(self._batches, dtype=np.int64), 0)]
        words = [self._dropout_words(stop - start) for start, stop in self._batches]
        count = max(1, _DROPOUT_WORDS // max(1, words[0]))
        return [
            (np.array(self._batches[i : i + count], dtype=np.int64), sum(words[i : i + count]))
            for i in range(0, len(words), count)
        ]

    def _dropout_words(self, rows: int) -> int:
        """Return the 64-bit words of random bits that dropout takes for a mini-batch."""
        return sum(-(-rows * units // 4) for units in self._sizes[1:-1])

    def _view_parameters(self, flat: Array) -> dict[str, Array]:
        """Return views of the parameters, or of an array laid out like them, under their names in `Checkpoint`."""
        views = {}
        for name, layer, has_norm in self._named_layers():
            units, scale, shift = layer["units"], layer["scale_start"], layer["shift_start"]
            w_DH = flat[layer["weight_start"] : scale].reshape(-1, layer["stride"])
            views[f"{name}.weight"] = w_DH[: layer["inputs"], :units]
            if has_norm:
                views[f"{name}.gamma"] = flat[scale:][:units]
            views[f"{name}.beta" if has_norm else f"{name}.bias"] = flat[shift:][:units]
        return views

    def _view_optimizer_averages(self) -> dict[str, Array]:
        """Return views of the optimizer's running averages under their names in `Checkpoint`."""
        return {
            f"{average}.{name}": view
            for average in AVERAGES[self.recipe.optimizer]
            for name, view in self._view_parameters(getattr(self._network, average)).items()
        }

    def _view_running_averages(self) -> dict[str, Array]:
        """Return views of batch norm's running averages under their names in `Checkpoint`."""
        return {
            f"{name}.{statistic}": flat[layer["unit_start"] :][: layer["units"]]
            for name, layer, has_norm in self._named_layers()
            if has_norm
            for statistic, flat in (("mean", self._network.running_mean), ("var", self._network.running_var))
        }

    def _named_layers(self) -> Iterator[tuple[str, np.void, bool]]:
        """Yield each layer's name in `Checkpoint`, its place, and whether it has batch norm."""
        for number, layer in enumerate(self._layers[:-1]):
            yield f"hidden.{number}", layer, self.recipe.batch_norm
        yield "output", self._layers[-1], False


_NO_BITS = np.zeros(0, dtype="<u2")


def _with_room_for_a_vector(bits: Array) -> Array:
    """Return the bits, followed by zeros that a kernel may load with the last of them."""
    longer = np.zeros(len(bits) + VECTOR_SIZE, bits.dtype)
    longer[: len(bits)] = bits
    return longer


def _compile_kernels(dtype: npt.DTypeLike) -> None:
    """Compile or load the kernels for a dtype by training a tiny network."""
    recipe = recipe_from({"layers": 1, "units": 2, "batch_size": 2})
    with compile_once(np.dtype(dtype).name):
        split = PaddedSplit(aligned_zeros(256, dtype).reshape(16, 16), np.zeros(2, dtype=np.int64))
        training = NativeTraining(recipe, [2, 2, 2], split, split, 0, dtype)
        training.advance(0.0)
        training.score()
