"""Fused engine: trains many networks of any shape at once, as one program on a GPU.

It computes what the reference engine computes (law 3). Each network is a lane of a pack. The lanes take their
mini-batches together, each at its own place in its own epoch; a lane that ends makes room for the next trial. A lane's
numbers depend on no other lane (see `kernels`).
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from caviar.data.splits import Dataset, Split
from caviar.engine import Checkpoint, Engine, Part, PartDone, Progress, divergence
from caviar.errors import one_line
from caviar.training.fused.pack import DeviceSplit, Pack, Scores, Tiles
from caviar.training.recipe import recipe_from
from caviar.training.reference import ReferenceEngine
from caviar.trial import Measurement, Outcome, Trial, Value


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
    ) -> None:
        self._reference = ReferenceEngine(dataset, fixed, device, dtype)
        self._fixed, self._lanes, self._classes = fixed or {}, lanes, len(dataset.classes)
        self._precision, self._tiles = precision, tiles
        self._train, self._dev = (
            DeviceSplit(torch.tensor(part.x, dtype=dtype, device=device), torch.tensor(part.y, device=device))
            for part in (dataset.train, dataset.dev)
        )

    @property
    def name(self) -> str:
        return "fused"

    def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        waiting = deque(parts)
        slots = min(self._lanes, len(parts))
        pack = Pack(self._train, self._dev, self._classes, slots, self._precision, self._tiles)
        while waiting or pack.lanes:
            while waiting and pack.has_room:
                try:
                    pack.add(waiting[0], recipe_from({**self._fixed, **waiting[0].trial.params}))
                except torch.OutOfMemoryError as error:
                    if pack.lanes:
                        break  # it starts when others have ended
                    yield _failed(waiting[0], error)
                except Exception as error:
                    yield _failed(waiting[0], error)
                waiting.popleft()
            if pack.lanes:
                for slot, scores in pack.advance().items():
                    yield from _report(pack, slot, scores)

    def evaluate(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> Mapping[str, float]:
        return self._reference.evaluate(trial, checkpoint, split)

    def predict(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> npt.NDArray[np.floating]:
        return self._reference.predict(trial, checkpoint, split)


def _failed(part: Part, error: Exception) -> PartDone:
    return PartDone(trial=part.trial.number, outcome=Outcome.FAILED, failure=one_line(error))


def _report(pack: Pack, slot: int, scores: Scores) -> Iterator[Progress | PartDone]:
    """Yield the measurement of an epoch; if it was the part's last, remove the lane and yield the part's end."""
    lane = pack.lanes[slot]
    number = lane.part.trial.number
    metrics = {
        "train_loss": scores.train_loss,
        "dev_loss": scores.dev_loss,
        "dev_accuracy": scores.dev_accuracy,
        "learning_rate": scores.learning_rate,
    }
    yield Progress(number, Measurement(lane.epoch, metrics))
    failure = divergence(scores.train_loss, scores.dev_loss)
    if failure is None and lane.epoch < lane.until:
        return
    pack.remove(slot)
    yield PartDone(
        trial=number,
        outcome=Outcome.COMPLETED if failure is None else Outcome.DIVERGED,
        failure=failure,
        checkpoint=lane.save() if lane.part.keep_checkpoint else None,
        setup_s=lane.setup_s,
        train_s=lane.train_s,
    )
