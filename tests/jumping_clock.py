"""A study whose processes have a wall clock that jumps, by hours and in both directions."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from caviar.data.splits import Dataset
from caviar.engine import Engine, Part, PartDone, Progress
from caviar.study import Study
from tests.objectives import Slow, SlowEngine, bowl_study

ROUNDS = (60, 20)
_now, _jumps = time.time, random.Random(0)


def _jumping() -> float:
    return _now() + _jumps.uniform(-5, 5) * 3_600


class JumpingEngine(SlowEngine):
    """An engine in a worker whose clock jumps."""

    def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        time.time = _jumping
        yield from super().train(parts)


@dataclass(frozen=True)
class Jumping(Slow):
    """The bowl with pauses, in workers whose clocks jump."""

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        del dataset, device
        return JumpingEngine(self.harm, self.harmed, self.pause_s, self.hurry)


def study() -> Study:
    """Let the clock of this process jump from now on; return the study."""
    time.time = _jumping
    return bowl_study(rounds=ROUNDS, objective=Jumping())
