"""What a worker needs of a machine: cores, GPUs or a share of one, memory, and whatever else a cluster counts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from caviar.errors import StudyError

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What each worker is given; as many workers as fit are started.

    Ray counts these, it does not enforce them: two workers with half a GPU each share its memory as they please.
    A worker without GPUs is not kept from seeing those of its machine: ask for GPUs to be given one.

    Main memory is a limit, on Linux: a worker that takes more, its child processes included, is stopped at once, and
    its trial is `failed` as out of memory if it does so again while it is alone there (`Retries`). What is loaded
    before the first trial counts: some 0.2 GiB, 0.5 with torch. Without a limit, or elsewhere, Ray stops a worker of
    its choice when the machine is nearly full. Workers in this process (`InlineBackend`) cannot be stopped.

    Args:
        cpus: cores; also how many threads numeric libraries start by default (`OMP_NUM_THREADS`).
        gpus: a whole number, or a share of one GPU, such as 0.25 for four workers a GPU.
        memory_gib: main memory, which is a limit, too; 0 for any.
        custom: what the cluster calls by a name of its own, such as `{"license": 1}`.

    Raises:
        StudyError: a negative amount, or nothing at all (any number of workers would fit).

    Example:
        >>> Resources(cpus=2, gpus=0.5, custom={"license": 1}).needs()
        {'CPU': 2.0, 'GPU': 0.5, 'license': 1.0}
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gib: float = 0.0
    custom: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("cpus", "gpus", "memory_gib"):
            _require_amount(name, getattr(self, name))
        for name, amount in self.custom.items():
            _require_amount(f"custom[{name!r}]", amount)
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise StudyError(
                f"Resources(gpus={self.gpus!r}): use a whole number, or a share of one GPU below 1"
            )
        if not self.needs():
            raise StudyError("Resources asks for nothing: give at least cpus, such as Resources(cpus=1)")

    def needs(self) -> dict[str, float]:
        """By the names that Ray uses; what is not needed is absent."""
        own = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory_gib * GIB}
        return {name: float(amount) for name, amount in {**own, **self.custom}.items() if amount > 0}


def _require_amount(name: str, amount: object) -> None:
    number = isinstance(amount, int | float) and not isinstance(amount, bool)
    if not number or not (math.isfinite(amount) and amount >= 0):  # type: ignore[operator, arg-type]
        raise StudyError(f"Resources({name}={amount!r}): must be a number from 0")
