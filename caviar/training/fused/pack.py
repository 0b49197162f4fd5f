"""A pack: the lanes that train at the same time, and the tables in which the kernels find them.

A step of the pack trains one mini-batch of each lane that is not idle. Lanes end their epochs at different steps; one
that has ended is idle until enough others have, and they are scored together.

On a GPU the launches of a step, and those of scoring, are captured in a CUDA graph each, because launching kernels one
by one would take longer than they run. A graph holds for all lanes that come and go, until a network is deeper or wider
than those that it was captured for.

Shape legend: N rows of a split, D features.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caviar.engine import Checkpoint, Part
from caviar.training import random_streams
from caviar.training.fused import kernels
from caviar.training.fused.kernels import Real, Whole
from caviar.training.fused.layout import Field, Layout, lay_out
from caviar.training.recipe import MAX_LAYERS, OPTIMIZERS, Recipe, batches, learning_rate_at

SCORED_ROWS = 256
"""Number of rows of the dev split to score at a time."""
ENDED_SHARE = 0.25
"""Share of the lanes that have ended an epoch before they are scored."""
_OPTIONS = {"enable_fp_fusion": True}
"""Options of all launches: a product and a sum are rounded once, in every version of Triton."""
_BIT_BLOCKS = 256
"""Blocks of random bits that a program draws."""
_MOVED_LANES = 128
"""Lanes that a program moves to their next mini-batch."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Sizes of the tiles that a program works on, powers of 2 and at least 16."""

    rows: int = 64
    units: int = 64
    inputs: int = 32
    warps: int = 8
    """Warps of a program. With four of them, tiles of 64 rows and 64 units do not fit into the registers."""


@dataclass(slots=True, eq=False)
class Lane:
    """One network in training."""

    part: Part
    recipe: Recipe
    layout: Layout
    memory: Tensor
    """The flat array."""
    bits: Tensor
    """Random bits of dropout, 64-bit words; empty without dropout."""
    batches: list[tuple[int, int]]
    orders: random_streams.EpochOrders
    epoch: int
    """Epochs trained so far."""
    step: int
    """Optimizer steps so far."""
    steps_left: int = 0
    """Mini-batches left in the epoch."""
    learning_rate: float = 0.0
    """Learning rate of the epoch."""
    setup_s: float = 0.0
    """Seconds for building the network."""
    train_s: float = 0.0
    """Share of the pack's seconds in training."""

    @property
    def until(self) -> int:
        """Epoch after which the part ends."""
        trial = self.part.trial
        return trial.epochs if self.part.until is None else self.part.until

    @property
    def state(self) -> Tensor:
        """The part of the flat array that a checkpoint holds."""
        return self.memory[: self.layout.state]

    def save(self) -> Checkpoint:
        """Return a checkpoint from which training continues as if it had never stopped."""
        counts_steps = self.recipe.optimizer in ("rmsprop", "adam")
        views = self.layout.state_views(self.state.cpu().numpy())
        return {
            "epoch": np.array(self.epoch),
            "step": np.array(self.step if counts_steps else 0),
            **{name: view.copy() for name, view in views.items()},
        }


@dataclass(frozen=True, slots=True, eq=False)
class EndedEpoch:
    """An epoch that a lane has trained."""

    slot: int
    lane: Lane
    epoch: int
    """Number of the epoch, from 1."""
    learning_rate: float
    train_loss: float = math.nan
    """Mean loss of the epoch's rows in nats, each measured when its mini-batch was trained."""
    dev_loss: float = math.nan
    """Mean loss on the dev split in nats."""
    dev_accuracy: float = math.nan
    state: Checkpoint = field(default_factory=dict)
    """Arrays of the network after the epoch, if the pack keeps them; else empty."""


class _Download:
    """A copy of a tensor to this process, which a device makes in its turn.

    Args:
        tensor: the tensor.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._copy, self._event = tensor, None
        if tensor.is_cuda:
            self._copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._copy.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def wait(self) -> npt.NDArray[Any]:
        """Wait for the copy and return it."""
        if self._event is not None:
            self._event.synchronize()
        copy: npt.NDArray[Any] = self._copy.numpy()
        return copy


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """Epochs whose scores are on their way."""

    epochs: tuple[EndedEpoch, ...]
    dev_rows: int
    reals: _Download
    """Rows of the table of real numbers."""
    states: tuple[_Download, ...]
    """State of each lane after its epoch; empty if the pack keeps none."""

    def read(self) -> list[EndedEpoch]:
        """Wait for the scores, and return the epochs with them."""
        found = []
        for epoch, sums in zip(self.epochs, self.reals.wait(), strict=True):
            train_loss = float(sums[Real.LOSS]) / epoch.lane.batches[-1][1]
            dev_loss, dev_accuracy = (
                float(sums[n]) / self.dev_rows for n in (Real.SCORED_LOSS, Real.CORRECT)
            )
            found.append(replace(epoch, train_loss=train_loss, dev_loss=dev_loss, dev_accuracy=dev_accuracy))
        for number, state in enumerate(self.states):
            arrays = found[number].lane.layout.state_views(state.wait())
            found[number] = replace(found[number], state=arrays)
        return found


@dataclass(frozen=True, slots=True)
class LaunchShape:
    """Numbers of programs that the launches of a step need for the lanes of a pack. Larger ones do as well."""

    layers: int = 0
    """Hidden layers of the deepest network."""
    unit_tiles: int = 1
    """Tiles of units of the widest hidden layer."""
    weight_tiles: int = 1
    """Tiles of weights of the largest network."""
    bit_programs: int = 0
    """Programs that draw the random bits of a mini-batch; 0 without dropout."""

    def joined(self, other: "LaunchShape") -> "LaunchShape":
        """Return the smallest shape that covers both, with tiles rounded up so that few shapes are needed."""
        tiles = (max(mine, theirs) for mine, theirs in zip(astuple(self), astuple(other), strict=True))
        layers, *rest = tiles
        return LaunchShape(layers, *(count and 1 << (count - 1).bit_length() for count in rest))


@dataclass(frozen=True, slots=True, eq=False)
class DeviceSplit:
    """Rows x_ND and classes y_N of a split on the device."""

    x: Tensor
    y: Tensor

    @property
    def rows(self) -> int:
        """Number of rows N."""
        return len(self.y)

    def head(self, rows: int = 1024) -> "DeviceSplit":
        """Return the first rows, for measuring."""
        return DeviceSplit(self.x[:rows], self.y[:rows])


class Pack:
    """Lanes that train at the same time.

    Args:
        train: split to learn from.
        dev: split to score on.
        classes: number of classes.
        slots: largest number of lanes.
        precision: precision of products: "ieee", "tf32x3" or "tf32".
        tiles: sizes of tiles.
        has_states: True to return the state of each lane after each epoch.
    """

    def __init__(
        self,
        train: DeviceSplit,
        dev: DeviceSplit,
        classes: int,
        slots: int,
        precision: str = "ieee",
        tiles: Tiles = Tiles(),
        *,
        has_states: bool = False,
    ) -> None:
        self._train, self._dev, self._classes = train, dev, classes
        self._has_states = has_states
        self._precision, self._tiles = precision, tiles
        self.lanes: dict[int, Lane] = {}
        """The lanes in training, by their slot."""
        self._free = list(range(slots))[::-1]
        self._slots, device = slots, train.x.device
        self._wholes = torch.zeros((slots, len(Whole)), dtype=torch.int64, device=device)
        self._reals = torch.zeros((slots, len(Real)), dtype=torch.float64, device=device)
        self._tables = torch.zeros((slots, MAX_LAYERS + 1, len(Field)), dtype=torch.int64, device=device)
        self._orders = torch.zeros((slots, train.rows), dtype=torch.int32, device=device)
        self._launches = LaunchShape()
        self._scored: _Scored | None = None
        self._steps, self._scorings = (
            _Graphs(device, self._launch_step),
            _Graphs(device, self._launch_scoring),
        )

    @property
    def has_room(self) -> bool:
        """True if a slot is free."""
        return bool(self._free)

    def add(self, part: Part, recipe: Recipe) -> int:
        """Put a network into a free slot: new, or restored from its part's checkpoint.

        Args:
            part: the part to train.
            recipe: its recipe.

        Returns:
            The slot.

        Raises:
            torch.OutOfMemoryError: the device has no memory left for it.
        """
        began = time.perf_counter()
        lane = self._create(part, recipe)
        slot = self._free.pop()
        self.lanes[slot] = lane
        self._wholes[slot] = self._upload(_wholes(lane))
        self._reals[slot] = self._upload(_reals(lane))
        self._tables[slot, : len(lane.layout.table)] = self._upload(lane.layout.table)
        self._launches = self._launches.joined(self._launch_shape(lane))
        lane.setup_s = time.perf_counter() - began
        return slot

    def remove(self, slot: int) -> Lane:
        """Free a slot, and return its lane."""
        self._wholes[slot, Whole.ROWS] = 0
        self._free.append(slot)
        lane = self.lanes.pop(slot)
        if not self.lanes:
            self._launches = LaunchShape()
        return lane

    def advance(self) -> list[EndedEpoch]:
        """Launch steps until enough lanes end an epoch; return the epochs whose end was launched the last time.

        So the device trains while the caller looks at the epochs before. A lane goes on with its next epoch until it is
        removed or has come to its last.
        """
        began = time.perf_counter()
        ended, self._scored = self._scored, None
        self._begin_epochs(
            [slot for slot, lane in self.lanes.items() if lane.steps_left == 0 and lane.epoch < lane.until]
        )
        left = sorted(lane.steps_left for lane in self.lanes.values() if lane.steps_left)
        if left:
            self._scored = self._score(self._train_steps(left[math.ceil(ENDED_SHARE * len(left)) - 1]))
        found = ended.read() if ended else []
        found = [epoch for epoch in found if self.lanes.get(epoch.slot) is epoch.lane]
        share_s = (time.perf_counter() - began) / len(self.lanes)
        for lane in self.lanes.values():
            lane.train_s += share_s
        return found

    def _train_steps(self, steps: int) -> list[int]:
        """Launch steps; return the slots of the lanes that end an epoch in them."""
        for _ in range(steps):
            self._steps.launch(self._launches)
        ended = []
        for slot, lane in self.lanes.items():
            if lane.steps_left:
                taken = min(steps, lane.steps_left)
                lane.step += taken
                lane.steps_left -= taken
                if lane.steps_left == 0:
                    lane.epoch += 1
                    ended.append(slot)
        return ended

    def _create(self, part: Part, recipe: Recipe) -> Lane:
        train, seed = self._train, part.trial.seed
        features, device, dtype = train.x.shape[1], train.x.device, train.x.dtype
        sizes = [features, *recipe.hidden, self._classes]
        rows = max(min(recipe.batch_size, train.rows), min(SCORED_ROWS, self._dev.rows))
        layout = lay_out(recipe, sizes, rows)
        memory = torch.zeros(layout.size, dtype=dtype, device=device)
        state = np.zeros(layout.state, dtype=torch.zeros((), dtype=dtype).numpy().dtype)
        _fill(layout, state, part, sizes, recipe)
        memory[: layout.state] = self._upload(state)
        words = _words(recipe, min(recipe.batch_size, train.rows))
        at = part.checkpoint or {"epoch": np.array(0), "step": np.array(0)}
        found, epoch = batches(train.rows, recipe), int(at["epoch"])
        return Lane(
            part=part,
            recipe=recipe,
            layout=layout,
            memory=memory,
            bits=torch.zeros(words + 2 * 4 if words else 0, dtype=torch.int64, device=device),
            batches=found,
            orders=random_streams.EpochOrders(seed, train.rows),
            epoch=epoch,
            step=int(at["step"]) or epoch * len(found),
        )

    def _begin_epochs(self, slots: Sequence[int]) -> None:
        """Set these lanes to the start of their next epoch."""
        if not slots:
            return
        wholes = np.empty((len(slots), len(_SET_WHOLES)), dtype=np.int64)
        reals = np.zeros((len(slots), len(_SET_REALS)))
        orders = np.empty((len(slots), self._train.rows), dtype=np.int32)
        for row, slot in enumerate(slots):
            lane = self.lanes[slot]
            first, last = lane.batches[0], lane.batches[-1]
            lane.learning_rate = learning_rate_at(lane.recipe, lane.epoch, lane.part.trial.epochs)
            lane.steps_left = len(lane.batches)
            wholes[row] = 0, first[1], last[1], lane.epoch, 0
            reals[row] = lane.learning_rate, 0.0
            orders[row] = lane.orders.order(lane.epoch)
        index = self._upload(np.array(slots))
        for table, columns, values in ((self._wholes, _SET_WHOLES, wholes), (self._reals, _SET_REALS, reals)):
            table[index[:, None], self._upload(np.array(columns))] = self._upload(values)
        self._orders[index] = self._upload(orders)

    def _launch_shape(self, lane: Lane) -> LaunchShape:
        """Return what the launches of a step need for one lane."""
        table, tiles = lane.layout.table, self._tiles
        down, across = (
            -(-table[:, field] // tile)
            for field, tile in ((Field.INPUTS, tiles.inputs), (Field.UNITS, tiles.units))
        )
        words = _words(lane.recipe, lane.batches[0][1])
        return LaunchShape(
            layers=lane.layout.layers,
            unit_tiles=int(across[:-1].max(initial=1)),
            weight_tiles=int((down * across).sum()),
            bit_programs=-(-(words + 3) // (4 * _BIT_BLOCKS)) if words else 0,
        )

    def _launch_step(self, shape: LaunchShape) -> None:
        """Launch the kernels that train one mini-batch of each lane that is not idle."""
        tables = self._wholes, self._reals, self._tables
        sizes = self._train.rows, self._tables.shape[1]
        x, y, orders = self._train.x, self._train.y, self._orders
        units = self._slots, shape.unit_tiles
        if shape.bit_programs:
            kernels.draw_dropout_bits[(self._slots, shape.bit_programs)](
                self._wholes, _BIT_BLOCKS, **_OPTIONS
            )
        for layer in range(shape.layers):
            kernels.forward_hidden[units](
                x, orders, *tables, *sizes, layer, 0, 0, SCORES=False, **self._tiling()
            )
        kernels.forward_output[(self._slots,)](
            x, y, orders, *tables, *sizes, 0, 0, SCORES=False, **self._output_tiling()
        )
        for above in range(shape.layers):
            kernels.backward_hidden[units](*tables, sizes[1], above, **self._tiling())
        kernels.update_weights[(self._slots, shape.weight_tiles)](
            x, orders, *tables, *sizes, **self._tiling()
        )
        grid = (-(-self._slots // _MOVED_LANES),)
        kernels.next_batch[grid](self._wholes, self._reals, self._slots, _MOVED_LANES, **_OPTIONS)

    def _launch_scoring(self, shape: LaunchShape) -> None:
        """Launch the kernels that score the lanes marked for it on the dev split."""
        tables = self._wholes, self._reals, self._tables
        sizes = self._train.rows, self._tables.shape[1]
        x, y, orders = self._dev.x, self._dev.y, self._orders
        for first in range(0, self._dev.rows, SCORED_ROWS):
            rows = first, min(first + SCORED_ROWS, self._dev.rows)
            for layer in range(shape.layers):
                kernels.forward_hidden[(self._slots, shape.unit_tiles)](
                    x, orders, *tables, *sizes, layer, *rows, SCORES=True, **self._tiling()
                )
            kernels.forward_output[(self._slots,)](
                x, y, orders, *tables, *sizes, *rows, SCORES=True, **self._output_tiling()
            )

    def _score(self, slots: Sequence[int]) -> _Scored:
        """Launch the scoring of these lanes on the dev split; batch norm uses its running averages."""
        index = self._upload(np.array(slots))
        self._wholes[:, Whole.IS_SCORED] = 0
        self._wholes[index, Whole.IS_SCORED] = 1
        self._reals[:, Real.SCORED_LOSS : Real.CORRECT + 1] = 0
        self._scorings.launch(self._launches)
        lanes = [(slot, self.lanes[slot]) for slot in slots]
        epochs = tuple(EndedEpoch(slot, lane, lane.epoch, lane.learning_rate) for slot, lane in lanes)
        states = (_Download(lane.state.clone()) for _, lane in lanes if self._has_states)
        return _Scored(epochs, self._dev.rows, _Download(self._reals[index]), tuple(states))

    def _upload(self, array: npt.NDArray[Any]) -> Tensor:
        """Copy an array to the device, without waiting for what the device is doing."""
        tensor = torch.from_numpy(array)
        if self._wholes.device.type == "cuda":
            return tensor.pin_memory().to(self._wholes.device, non_blocking=True)
        return tensor

    def _tiling(self) -> dict[str, object]:
        return {
            "REAL": kernels.DTYPES[self._train.x.dtype],
            "ROW_TILE": self._tiles.rows,
            "UNIT_TILE": self._tiles.units,
            "INPUT_TILE": self._tiles.inputs,
            "PRECISION": self._precision,
            "num_warps": self._tiles.warps,
            **_OPTIONS,
        }

    def _output_tiling(self) -> dict[str, object]:
        tiling = self._tiling()
        del tiling["UNIT_TILE"]
        class_tile = max(16, 1 << (self._classes - 1).bit_length())
        return tiling | {
            "CLASS_TILE": class_tile,
            "ROW_TILE": max(16, min(self._tiles.rows, 4096 // class_tile)),
        }


class _Graphs:
    """CUDA graphs of a sequence of launches; on a CPU the launches themselves.

    The first launches of a shape compile the kernels, so a shape is captured at its second use.

    Args:
        device: device of the launches.
        launch: launches the kernels of a shape.
    """

    def __init__(self, device: torch.device, launch: Callable[[LaunchShape], None]) -> None:
        self._has_graphs, self._launch = device.type == "cuda", launch
        self._graphs: dict[LaunchShape, torch.cuda.CUDAGraph | None] = {}

    def launch(self, shape: LaunchShape) -> None:
        """Launch the kernels of a shape."""
        if not self._has_graphs:
            self._launch(shape)
            return
        if shape not in self._graphs:
            self._graphs[shape] = None
            self._launch(shape)
            return
        graph = self._graphs[shape]
        if graph is None:
            graph = self._graphs[shape] = torch.cuda.CUDAGraph()
            torch.cuda.synchronize()
            with torch.cuda.graph(graph):
                self._launch(shape)
        graph.replay()


_SET_WHOLES = (Whole.START, Whole.ROWS, Whole.END, Whole.EPOCH, Whole.FIRST_WORD)
"""Whole numbers of a lane that the start of an epoch sets."""
_SET_REALS = (Real.RATE, Real.LOSS)
"""Real numbers of a lane that the start of an epoch sets."""


def _wholes(lane: Lane) -> npt.NDArray[np.int64]:
    """Return a lane's row of whole numbers; it is idle until its epoch begins."""
    recipe, averages = lane.recipe, lane.layout.averages
    values: Mapping[Whole, int] = {
        Whole.MEMORY: lane.memory.data_ptr(),
        Whole.LAYERS: lane.layout.layers,
        Whole.BATCH_SIZE: lane.batches[0][1],
        Whole.FIRST: averages.get("first", 0),
        Whole.SECOND: averages.get("second", 0),
        Whole.OPTIMIZER: OPTIMIZERS.index(recipe.optimizer),
        Whole.IS_TANH: recipe.activation == "tanh",
        Whole.HAS_NORM: recipe.batch_norm,
        Whole.THRESHOLD: random_streams.dropout_threshold(recipe.dropout),
        Whole.SEED: int(np.uint64(lane.part.trial.seed).astype(np.int64)),
        Whole.BITS: lane.bits.data_ptr(),
        Whole.WORDS: _words(recipe, lane.batches[0][1]),
    }
    row = np.zeros(len(Whole), dtype=np.int64)
    for column, value in values.items():
        row[column] = value
    return row


def _reals(lane: Lane) -> npt.NDArray[np.float64]:
    """Return a lane's row of real numbers."""
    recipe = lane.recipe
    values: Mapping[Real, float] = {
        Real.L2: recipe.l2,
        Real.MOMENTUM: recipe.momentum,
        Real.BETA1: recipe.beta1,
        Real.BETA2: recipe.beta2,
        Real.EPSILON: recipe.epsilon,
        Real.POWER1: recipe.beta1 ** (lane.step + 1),
        Real.POWER2: recipe.beta2 ** (lane.step + 1),
        Real.NORM_MOMENTUM: recipe.batch_norm_momentum,
        Real.NORM_EPSILON: recipe.batch_norm_epsilon,
        Real.KEEP: 1 - recipe.dropout,
    }
    row = np.zeros(len(Real))
    for column, value in values.items():
        row[column] = value
    return row


def _words(recipe: Recipe, rows: int) -> int:
    """Return the 64-bit words of random bits that dropout takes for a mini-batch."""
    return sum(-(-rows * units // 4) for units in recipe.hidden) if recipe.dropout > 0 else 0


def _fill(
    layout: Layout, state: npt.NDArray[np.floating], part: Part, sizes: list[int], recipe: Recipe
) -> None:
    """Fill a state with the checkpoint of a part, or with the network before any training."""
    views = layout.state_views(state)
    if part.checkpoint is not None:
        for name, view in views.items():
            view[:] = (
                part.checkpoint.get(name, 0)
                if name.startswith(("first.", "second."))
                else part.checkpoint[name]
            )
        return
    weights = random_streams.initial_weights(part.trial.seed, sizes, recipe.activation)
    names = [*(f"hidden.{number}" for number in range(recipe.layers)), "output"]
    for name, w_DH in zip(names, weights, strict=True):
        views[f"{name}.weight"][:] = w_DH
        for one in (f"{name}.gamma", f"{name}.var"):
            if one in views:
                views[one][:] = 1
