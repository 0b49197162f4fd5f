"""Resources of a worker: cores, GPUs or a share of one, memory, the cluster's custom resources, and cores beside it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from caviar.errors import StudyError
from caviar.validation import check_fields, number

GIB = 2**30


def usable_cores() -> int:
    """Return the number of cores of this machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The resources of each worker. caviar starts as many workers as fit.

    Ray counts cores and GPUs but does not enforce the numbers: two workers with half a GPU each share its memory
    freely. A worker without GPUs can still see those of its machine; ask for GPUs to be assigned one.

    On Linux, `memory_gib` is a limit: a worker that exceeds it, child processes included, is stopped at once. Its trial
    is `failed` as out of memory if this happens again while the trial is alone on a worker (see `Retries`). The memory
    of a worker before its first trial counts too: about 0.2 GiB, 0.5 GiB with torch. Without a limit, and on other
    systems, Ray stops a worker of its own choice when the machine is nearly out of memory. A worker in the
    driver's process (`address="here"`) cannot be stopped.

    Args:
        cpus: cores; also the number of threads that numeric libraries start by default (`OMP_NUM_THREADS`).
        gpus: a whole number, or a share of one GPU: 0.25 for four workers on each GPU.
        memory_gib: main memory in GiB, which is also the limit; 0 for no limit.
        custom: custom resources of the cluster by name, such as `{"license": 1}`.
        nested_cpus: cores that stay free beside each worker, for Ray tasks and actors that its trials start. Without
            them such a task waits until a worker ends if all cores of the cluster have workers.

    Raises:
        StudyError: an amount is negative, or all are zero, so that any number of workers would fit.

    Example:
        >>> Resources(cpus=2, gpus=0.5, custom={"license": 1}).needs()
        {'CPU': 2.0, 'GPU': 0.5, 'license': 1.0}
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gib: float = 0.0
    custom: Mapping[str, float] = field(default_factory=dict)
    nested_cpus: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "cpus gpus memory_gib nested_cpus", number, 0)
        for name, amount in self.custom.items():
            number(f"Resources: custom[{name!r}]", amount, 0)
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise StudyError(
                f"Resources: gpus must be a whole number, or a share of one GPU below 1, not {self.gpus!r}"
            )
        if not self.needs():
            raise StudyError("Resources: all amounts are 0; give at least cpus, such as Resources(cpus=1)")

    def needs(self) -> dict[str, float]:
        """Return the amounts above zero, by Ray's names; memory in bytes."""
        own = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory_gib * GIB}
        return {name: float(amount) for name, amount in {**own, **self.custom}.items() if amount > 0}
