"""Fused engine: trains many networks of any shape at once, as one program on a GPU.

It computes what the reference engine computes (law 3). Each network is a lane of a pack. The lanes take their
mini-batches together, each at its own place in its own epoch; a lane that ends makes room for the next trial. A lane's
numbers depend on no other lane (see `kernels`).
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from caviar.data.splits import Dataset, Split
from caviar.engine import Checkpoint, Engine, Part, PartDone, Progress, divergence
from caviar.errors import ClusterError, StudyError, one_line
from caviar.training.fused import kernels, lane_count
from caviar.training.fused.pack import DeviceSplit, EndedEpoch, Pack, Tiles
from caviar.training.layer_statistics import Observe
from caviar.training.recipe import recipe_from
from caviar.training.reference import ReferenceEngine
from caviar.trial import Measurement, Outcome, Trial, Value

MAX_CLASSES = 1024
"""Largest number of classes: the softmax of a row is one tile."""
TRY_OUT_TOLERANCE = 1e-3
"""Largest relative difference of the loss of the first network from that of the reference engine."""


def try_out(dataset: Dataset, device: str) -> None:
    """Train a small network for an epoch, and compare it with the reference engine.

    It compiles the kernels, which takes seconds the first time on a machine.

    Args:
        dataset: data set to learn from.
        device: "cuda", or "cpu" for tests.

    Raises:
        ClusterError: the networks differ.
    """
    trial = Trial(number=0, round=0, params={"layers": 1, "units": 8, "dropout": 0.5}, epochs=1, seed=0)
    engines = FusedEngine(dataset, device=device, lanes=1), ReferenceEngine(dataset, device=device)
    (ours, _), (theirs, _) = (list(engine.train([Part(trial=trial)])) for engine in engines)
    assert isinstance(ours, Progress)
    assert isinstance(theirs, Progress)
    loss, expected = (event.measurement.metrics["train_loss"] for event in (ours, theirs))
    if not abs(loss - expected) <= TRY_OUT_TOLERANCE * abs(expected):
        raise ClusterError(f"a first network has the loss {loss:g} instead of {expected:g}")


class FusedEngine(Engine):
    """An engine that trains many networks at once.

    Args:
        dataset: data set to learn from. Its test split is not used.
        fixed: hyperparameters that all trials share.
        device: "cuda", or "cpu" for tests (see `kernels`).
        dtype: float32, or float64 to compare engines.
        lanes: largest number of networks in training.
        precision: precision of matrix products: "ieee" for float32 throughout; "tf32x3" and "tf32" use tensor cores.
        tiles: sizes of the kernels' tiles.
        observe: returns further metrics after each epoch; None for none.

    Raises:
        ClusterError: there is no GPU.
        StudyError: the data set has too many classes.
    """

    def __init__(
        self,
        dataset: Dataset,
        fixed: Mapping[str, Value] | None = None,
        device: str = "cuda",
        dtype: torch.dtype = torch.float32,
        lanes: int = 1024,
        precision: str = "ieee",
        tiles: Tiles = Tiles(),  # noqa: B008
        observe: Observe | None = None,
    ) -> None:
        if device == "cpu" and not kernels.are_interpreted():
            raise ClusterError('the fused engine needs a GPU; use engine="auto" for CPU workers')
        if len(dataset.classes) > MAX_CLASSES:
            raise StudyError(
                f"the fused engine takes at most {MAX_CLASSES:,} classes, not {len(dataset.classes):,}"
            )
        self._reference = ReferenceEngine(dataset, fixed, device, dtype)
        self._fixed, self._lanes, self._classes = fixed or {}, lanes, len(dataset.classes)
        self._precision, self._tiles, self._observe = precision, tiles, observe
        self._train, self._dev = (
            DeviceSplit(torch.tensor(part.x, dtype=dtype, device=device), torch.tensor(part.y, device=device))
            for part in (dataset.train, dataset.dev)
        )

    @property
    def name(self) -> str:
        return "fused"

    @property
    def lanes(self) -> int:
        return self._lanes

    def choose_lanes(self) -> None:
        """Set the number of lanes to the one with which this device trains fastest, measured once a machine."""
        make_pack = partial(
            Pack,
            self._train.head(),
            self._dev.head(),
            self._classes,
            precision=self._precision,
            tiles=self._tiles,
        )
        key = lane_count.describe(self._train.x, self._classes, f"{self._precision} {self._tiles}")
        self._lanes = lane_count.remember(key, lambda: lane_count.measure(make_pack))

    def begin_side_by_side(self) -> "FusedTraining":
        return self._begin(self._lanes)

    def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        training = self._begin(min(self._lanes, len(parts)))
        for part in parts:
            training.add(part)
        while not training.is_idle:
            yield from training.advance()

    def _begin(self, lanes: int) -> "FusedTraining":
        has_states = self._observe is not None
        pack = Pack(
            self._train, self._dev, self._classes, lanes, self._precision, self._tiles, has_states=has_states
        )
        return FusedTraining(pack, self._fixed, self._observe)

    def evaluate(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> Mapping[str, float]:
        return self._reference.evaluate(trial, checkpoint, split)

    def predict(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> npt.NDArray[np.floating]:
        return self._reference.predict(trial, checkpoint, split)


class FusedTraining:
    """Trials that train as lanes of a pack, and those that wait for a lane.

    Args:
        pack: an empty pack.
        fixed: hyperparameters that all trials share.
        observe: returns further metrics after each epoch; None for none.
    """

    def __init__(self, pack: Pack, fixed: Mapping[str, Value], observe: Observe | None = None) -> None:
        self._pack, self._fixed, self._observe = pack, fixed, observe
        self._waiting: deque[Part] = deque()

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._pack.lanes

    def add(self, part: Part) -> None:
        self._waiting.append(part)

    def advance(self) -> list[Progress | PartDone]:
        events: list[Progress | PartDone] = []
        while self._waiting and self._pack.has_room:
            part = self._waiting[0]
            try:
                slot = self._pack.add(part, recipe_from({**self._fixed, **part.trial.params}))
                if self._pack.lanes[slot].epoch >= self._pack.lanes[slot].until:
                    events.append(self._end(slot))
            except torch.OutOfMemoryError as error:
                if self._pack.lanes:
                    break  # it starts when others have ended
                events.append(_failed(part, error))
            except Exception as error:
                events.append(_failed(part, error))
            self._waiting.popleft()
        if self._pack.lanes:
            for epoch in self._pack.advance():
                events += self._report(epoch)
        return events

    def _report(self, ended: EndedEpoch) -> list[Progress | PartDone]:
        """Return the measurement of an epoch; if it was the part's last, also its end, and free the slot."""
        lane, number = ended.lane, ended.lane.part.trial.number
        metrics = {
            "train_loss": ended.train_loss,
            "dev_loss": ended.dev_loss,
            "dev_accuracy": ended.dev_accuracy,
            "learning_rate": ended.learning_rate,
        }
        if self._observe is not None:
            began = time.perf_counter()
            metrics |= self._observe(lane.part.trial, ended.state)
            lane.train_s += time.perf_counter() - began
        progress = Progress(number, Measurement(ended.epoch, metrics))
        failure = divergence(ended.train_loss, ended.dev_loss)
        if failure is None and ended.epoch < lane.until:
            return [progress]
        return [progress, self._end(ended.slot, failure)]

    def _end(self, slot: int, failure: str | None = None) -> PartDone:
        """Free a slot, and return the end of its part, which has diverged if there is a reason."""
        lane = self._pack.remove(slot)
        return PartDone(
            trial=lane.part.trial.number,
            outcome=Outcome.COMPLETED if failure is None else Outcome.DIVERGED,
            failure=failure,
            checkpoint=lane.save() if lane.part.keep_checkpoint else None,
            setup_s=lane.setup_s,
            train_s=lane.train_s,
        )


def _failed(part: Part, error: Exception) -> PartDone:
    return PartDone(trial=part.trial.number, outcome=Outcome.FAILED, failure=one_line(error))
