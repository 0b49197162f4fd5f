"""How many workers of which shape, and what they wait for: pure arithmetic over what a cluster has."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caviar.errors import ClusterError
from caviar.resources import GIB, Resources

ResourceDict = Mapping[str, float]
"""Of resources, by the names that Ray uses."""
ROUNDING = 1e-6
"""Ten shares of 0.1 make a whole."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What one worker is given, by the names that Ray uses."""

    needs: Mapping[str, float]
    has_whole_gpu: bool = False
    """It trains with torch on a GPU of its own."""

    @property
    def kind(self) -> str:
        """The word for it in the names of workers."""
        return "gpu" if self.needs.get("GPU") else "cpu"

    @property
    def device(self) -> str:
        """What its engine trains on, by torch's word for it."""
        return "cuda" if self.kind == "gpu" else "cpu"

    @property
    def actor_options(self) -> dict[str, object]:
        """For Ray."""
        named = ("CPU", "GPU", "memory")
        return {
            "num_cpus": self.needs.get("CPU", 0),
            "num_gpus": self.needs.get("GPU", 0),
            "memory": self.needs.get("memory"),
            "resources": {name: amount for name, amount in self.needs.items() if name not in named},
        }


CPU_WORKER = WorkerSpec({"CPU": 1.0})
GPU_WORKER = WorkerSpec({"GPU": 1.0}, has_whole_gpu=True)


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """The workers that were asked for."""

    resources: Resources | None
    """Of each; None for workers with a core or a whole GPU each."""
    workers: int | None
    """How many; without resources, those with a core. As many as fit by default."""
    gpus: int | None
    """How many GPUs they may take in all; as many as there are by default."""

    def plan(self, machines: Sequence[ResourceDict]) -> list[WorkerSpec]:
        """As many of them as fit on the machines that are there."""
        if self.resources is None:
            n_cpu, n_gpu = _at_most(self.workers, _whole("CPU", machines)), _whole("GPU", machines)
            return [CPU_WORKER] * n_cpu + [GPU_WORKER] * _at_most(self.gpus, n_gpu)
        needs = self.resources.needs()
        return [WorkerSpec(needs)] * _at_most(self.workers, self._room(self.resources, machines))

    def require_room(self, machines: Sequence[ResourceDict]) -> None:
        """Whether all of them fit, as they must when a study starts; later, machines come and go.

        Raises:
            ClusterError: they do not, or no worker at all would be left.
        """
        if self.resources is None:
            self._require_whole(machines)
        else:
            self._require_fit(self.resources, machines)

    def _require_whole(self, machines: Sequence[ResourceDict]) -> None:
        cores, gpus = _whole("CPU", machines), _whole("GPU", machines)
        if self.workers is not None and self.workers > cores:
            raise ClusterError(
                f"{self.workers} workers asked for, but the cluster has {cores} cores: use --workers {cores}"
            )
        if self.gpus is not None and self.gpus > gpus:
            raise ClusterError(
                f"{self.gpus} GPU workers asked for, but the cluster has {gpus} GPUs: use --gpus {gpus}"
            )
        if not self.plan(machines):
            raise ClusterError(
                f"{self._asked}no workers, for the cluster has {cores} cores and {gpus} GPUs: "
                "ask for at least one with --workers or --gpus"
            )

    def _require_fit(self, resources: Resources, machines: Sequence[ResourceDict]) -> None:
        needs = resources.needs()
        if not any(count_fitting(needs, machine) for machine in machines):
            raise ClusterError(
                f"each worker needs {_text(needs)}, and no machine of the cluster has that ({_offers(machines)}): "
                "ask for less in cv.Resources(...), or choose another cluster with --address"
            )
        room = self._room(resources, machines)
        if self.workers is not None and self.workers > room:
            raise ClusterError(
                f"{self.workers} workers with {_text(needs)} each asked for, but only {room} fit: use --workers {room}"
            )
        if not self.plan(machines):
            least = "one" if resources.gpus == 0 else f"one, and for {resources.gpus:g} GPU"
            raise ClusterError(f"{self._asked}no workers: ask for at least {least}")

    @property
    def _asked(self) -> str:
        """What was asked for, as the command line has it."""
        asked = {"--workers": self.workers, "--gpus": self.gpus}
        words = [f"{option} {count}" for option, count in asked.items() if count is not None]
        return f"{' '.join(words)}: " if words else ""

    def _room(self, resources: Resources, machines: Sequence[ResourceDict]) -> int:
        """How many workers fit on the machines, and into the GPUs that they may take."""
        fitting = sum(count_fitting(resources.needs(), machine) for machine in machines)
        if self.gpus is None or resources.gpus == 0:
            return fitting
        return min(fitting, int(self.gpus / resources.gpus + ROUNDING))


def find_unplaced(waiting: Sequence[ResourceDict], demands: Sequence[ResourceDict]) -> list[ResourceDict]:
    """Those of the waiting that have no place yet.

    Args:
        waiting: what each needs; not all of their processes may have begun.
        demands: what Ray was asked for, by us or others, and has given to nobody yet.
    """
    left = Counter(frozenset(demand) for demand in demands)
    placeless = []
    for needs in waiting:
        if left[frozenset(needs)] > 0:
            left[frozenset(needs)] -= 1
            placeless.append(needs)
    return placeless


def explain_shortage(waiting: Sequence[ResourceDict], total: ResourceDict, free: ResourceDict) -> str | None:
    """Why workers that were asked for do not start, if what they need is held, or is gone with a machine.

    Args:
        waiting: what each of them needs.
        total: what the cluster has.
        free: what nobody uses.
    """
    needed = {
        name: min(needs.get(name, math.inf) for needs in waiting) for needs in waiting for name in needs
    }
    taken = [name for name, least in needed.items() if free.get(name, 0.0) < least]
    if not taken:
        return None
    workers = "1 worker" if len(waiting) == 1 else f"{len(waiting):,} workers"
    gone = [name for name in taken if total.get(name, 0.0) < needed[name]]
    words = " and ".join({"CPU": "cores", "GPU": "GPUs"}.get(name, name) for name in gone or taken)
    if gone:
        them = "it" if len(waiting) == 1 else "them"
        return f"waiting for {workers}: no machine of the cluster has {words} for {them} now"
    counts = ", ".join(f"{free.get(name, 0.0):g} of {total.get(name, 0.0):g} {name} free" for name in taken)
    return f"waiting for {workers}: the cluster's {words} are in use ({counts})"


def _at_most(asked: int | None, there: int) -> int:
    return there if asked is None else min(asked, there)


def _whole(name: str, machines: Sequence[ResourceDict]) -> int:
    """How many cores or GPUs there are."""
    return int(sum(machine.get(name, 0.0) for machine in machines))


def count_fitting(needs: ResourceDict, machine: ResourceDict) -> int:
    """How many workers with these needs fit on a machine."""
    return min(int(machine.get(name, 0.0) / amount + ROUNDING) for name, amount in needs.items())


def _offers(machines: Sequence[ResourceDict]) -> str:
    """The different machines, in words."""
    hidden = ("node:", "accelerator_type:", "object_store_memory")
    plain = [{k: v for k, v in machine.items() if not k.startswith(hidden)} for machine in machines]
    texts = list(dict.fromkeys(_text({"CPU": 0.0, "GPU": 0.0, **offered}) for offered in plain))
    return "; ".join(texts[:4]) + ("; ..." if len(texts) > 4 else "")


def _text(amounts: ResourceDict) -> str:
    return ", ".join(
        f"{amount / GIB:.1f} GiB memory" if name == "memory" else f"{amount:g} {name}"
        for name, amount in amounts.items()
    )
