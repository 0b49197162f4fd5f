"""The engine that trains one module of the user's after the other, with eager torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from caviar.data.splits import Dataset, Split
from caviar.engine import Checkpoint, Engine, Part, PartDone, Progress
from caviar.errors import ClusterError, StudyError
from caviar.training.function.process_state import ProcessState
from caviar.training.module.side_by_side import Begun, ModulesSideBySide
from caviar.training.module.training import ModuleTraining, Place, Rows
from caviar.training.module.user_code import UserCode, describe
from caviar.training.train_loop import train_one_by_one, train_part
from caviar.trial import Trial


class ModuleEngine(Engine):
    """An engine that trains modules on a CPU or a GPU.

    Args:
        copies: returns a context with a copy of the user's functions, for one trial.
        dataset: train and dev split to use; the test split is not touched.
        device: "cpu" or "cuda".
        threads: number of CPU threads.
        damage: returns the reason why a trial's changes cannot be undone; None if they can.
        lanes: largest number of modules that train at the same time.

    Raises:
        ClusterError: `device` is "cuda" and torch cannot use a GPU.
    """

    def __init__(
        self,
        copies: Callable[[], AbstractContextManager[UserCode]],
        dataset: Dataset,
        device: str = "cpu",
        threads: int = 1,
        damage: Callable[[], str | None] = lambda: None,
        lanes: int = 1,
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise ClusterError(
                "Ray offers a GPU, but torch cannot use one here: install a CUDA build of torch, or use --gpus 0"
            )
        self._copies, self._damage, self._lanes = copies, damage, lanes
        self._place = Place(device, threads, ProcessState())
        self._train, self._dev = Rows.of(dataset.train, device), Rows.of(dataset.dev, device)
        self._classes = len(dataset.classes)
        # torch imports much when it creates its first optimizer: do that before the first trial
        torch.optim.SGD([torch.zeros(1, requires_grad=True)])

    @property
    def name(self) -> str:
        return "module"

    @property
    def damage(self) -> str | None:
        return self._place.state.damage or self._damage()

    @property
    def lanes(self) -> int:
        return self._lanes

    def begin_side_by_side(self) -> ModulesSideBySide:
        with self._copies() as code:
            describe_build = partial(describe, build=code.build)
        return ModulesSideBySide(self._begin_lane, describe_build, partial(self._place.call, 0), self._lanes)

    def begin(self, part: Part) -> ModuleTraining:
        """Return a part's module: new, or restored from its checkpoint."""
        return self._begin_lane(part)[0]

    def _begin_lane(self, part: Part) -> Begun:
        with self._copies() as code:
            return self._begin(code, part), code.max_loss, partial(describe, build=code.build)

    def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        if self._lanes > 1:
            training = self.begin_side_by_side()
            for part in parts:
                training.add(part)
            while not training.is_idle:
                yield from training.advance()
            return
        for part in parts:
            with self._copies() as code:
                begin = partial(self._begin, code)
                yield from train_one_by_one([part], begin, code.max_loss, partial(describe, build=code.build))

    def train_openly(self, part: Part) -> list[Progress | PartDone]:
        with self._copies() as code:
            return list(train_part(part, partial(self._begin, code), code.max_loss))

    def evaluate(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> Mapping[str, float]:
        """Return accuracy and mean loss on the rows of a split, and the ranking metric there as "value"."""
        with self._copies() as code:
            try:
                rows = Rows.of(split, self._place.device)
                scores = self._begin(code, Part(trial=trial, checkpoint=checkpoint)).score(rows)
            except (Exception, SystemExit) as error:
                raise StudyError(f"the test score failed: {describe(error, code.build)}") from error
            kept: dict[str, float] = {name: scores[name] for name in ("accuracy", "loss") if name in scores}
            metric = code.metric.removeprefix("dev_")
            return kept if metric == "accuracy" else {**kept, "value": scores[metric]}

    def predict(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> npt.NDArray[np.floating] | None:
        if not self._classes:
            return None
        with self._copies() as code:
            training = self._begin(code, Part(trial=trial, checkpoint=checkpoint))
            outputs = training.outputs(torch.tensor(split.x, device=self._place.device))
            z_NC: Tensor = outputs[0] if isinstance(outputs, tuple | list) else outputs
            p_NC: npt.NDArray[np.floating] = F.softmax(z_NC, dim=1).cpu().numpy()
            return p_NC

    def _begin(self, code: UserCode, part: Part) -> ModuleTraining:
        """Return a part's module: new, or restored from its checkpoint."""
        trial = part.trial
        return ModuleTraining(
            code,
            code.recipe(trial.params),
            trial.epochs,
            trial.seed,
            self._train,
            self._dev,
            self._classes,
            self._place,
            part.checkpoint,
        )
