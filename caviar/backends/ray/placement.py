"""Placement of workers: how many fit on the machines of a cluster, and what the others wait for. Pure arithmetic."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from caviar.errors import ClusterError
from caviar.plurals import counted
from caviar.resources import GIB, Resources

ResourceDict = Mapping[str, float]
"""Amounts of resources by Ray's names, such as {"CPU": 2.0, "memory": 1e9}; memory is in bytes."""
ROUNDING = 1e-6
"""Tolerance for rounding errors in a number of workers: ten shares of 0.1 GPU fit into one GPU."""
RAY_PRECISION = 1.1e-4
"""Largest difference between an amount and Ray's copy of it: Ray keeps four decimals and whole bytes."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """The resources of one worker."""

    needs: ResourceDict
    has_whole_gpu: bool = False
    """True if it trains with torch on a GPU of its own."""
    nested_cpus: float = 0.0
    """Cores that stay free beside it, for Ray tasks that its trials start."""

    @property
    def room(self) -> ResourceDict:
        """The resources that a machine must have for it."""
        cpus = self.needs.get("CPU", 0.0) + self.nested_cpus
        return {**self.needs, "CPU": cpus} if self.nested_cpus else self.needs

    @property
    def kind(self) -> str:
        """The first part of the worker's name: "gpu" or "cpu"."""
        return "gpu" if self.needs.get("GPU") else "cpu"

    @property
    def device(self) -> str:
        """Torch's name of the device that the engine trains on."""
        return "cuda" if self.kind == "gpu" else "cpu"

    @property
    def actor_options(self) -> dict[str, object]:
        """The resource options of the worker's Ray actor."""
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
    """The workers that the user asked for.

    Args:
        resources: resources of each worker; None for workers with one core or one GPU each.
        workers: number of workers, without resources of the CPU workers alone; None for as many as fit.
        gpus: number of GPUs that all workers take together; None for all GPUs of the cluster.
    """

    resources: Resources | None
    workers: int | None
    gpus: int | None

    def plan(self, machines: Sequence[ResourceDict]) -> list[WorkerSpec]:
        """Return the specs of the requested workers that fit on the machines."""
        plan: list[WorkerSpec] = []
        for spec, limit in self._limits():
            fitting = _count_fitting(spec.room, machines)
            plan += [spec] * (fitting if limit is None else min(fitting, limit))
        return plan

    def missing(self, machines: Sequence[ResourceDict]) -> list[ResourceDict]:
        """Return the resources that must join before all requested workers fit, one entry a worker.

        A request without numbers takes the machines that are there, but at least one worker.

        Example:
            >>> WorkerRequest(resources=None, workers=3, gpus=1).missing([{"CPU": 2.0}])
            [{'CPU': 1.0}, {'GPU': 1.0}]
        """
        limits = self._limits()
        if all(limit is None for _, limit in limits) and not self.plan(machines):
            return [limits[0][0].room]
        missing: list[ResourceDict] = []
        for spec, limit in limits:
            missing += [spec.room] * ((limit or 0) - _count_fitting(spec.room, machines))
        return missing

    def require_room(self, machines: Sequence[ResourceDict]) -> None:
        """Require that the machines have room for all requested workers, which must hold when a study starts.

        Raises:
            ClusterError: some do not fit, or no worker at all is left.
        """
        if self.resources is None:
            self._require_devices(machines)
        else:
            self._require_fit(self.resources, machines)

    def _limits(self) -> list[tuple[WorkerSpec, int | None]]:
        """Return the kinds of workers, and the largest number of each; None for as many as fit."""
        if self.resources is None:
            return [(CPU_WORKER, self.workers), (GPU_WORKER, self.gpus)]
        limits = [] if self.workers is None else [self.workers]
        if self.gpus is not None and self.resources.gpus > 0:
            limits.append(int(self.gpus / self.resources.gpus + ROUNDING))
        spec = WorkerSpec(self.resources.needs(), nested_cpus=self.resources.nested_cpus)
        return [(spec, min(limits, default=None))]

    @property
    def _options(self) -> str:
        """The numbers that were asked for, as options of the command line."""
        options = {"--workers": self.workers, "--gpus": self.gpus}
        words = [f"{option} {count}" for option, count in options.items() if count is not None]
        return f"{' '.join(words)}: " if words else ""

    def _require_devices(self, machines: Sequence[ResourceDict]) -> None:
        cores, gpus = (_count_fitting(worker.needs, machines) for worker in (CPU_WORKER, GPU_WORKER))
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
                f"{self._options}no workers; the cluster has {cores} cores and {gpus} GPUs: "
                "ask for at least one worker with --workers or --gpus"
            )

    def _require_fit(self, resources: Resources, machines: Sequence[ResourceDict]) -> None:
        needs = WorkerSpec(resources.needs(), nested_cpus=resources.nested_cpus).room
        if _count_fitting(needs, machines) == 0:
            raise ClusterError(
                f"each worker needs {_describe(needs)}, and no machine of the cluster has that "
                f"({_describe_all(machines)}): ask for less in cv.Resources(...) or choose another cluster with "
                "--address"
            )
        room = len(replace(self, workers=None).plan(machines))
        if self.workers is not None and self.workers > room:
            raise ClusterError(
                f"{self.workers} workers with {_describe(needs)} each asked for, but only {room} fit: "
                f"use --workers {room}"
            )
        if not self.plan(machines):
            gpus = f" and {resources.gpus:g} GPU" if resources.gpus else ""
            raise ClusterError(f"{self._options}no workers: ask for at least one worker{gpus}")


def find_unplaced(waiting: Sequence[ResourceDict], demands: Sequence[ResourceDict]) -> list[ResourceDict]:
    """Return the waiting workers that Ray has not given their resources yet.

    A worker whose process is starting waits too, but Ray no longer lists a demand for it.

    Args:
        waiting: resources of each worker that waits.
        demands: resources that Ray was asked for, by this study or others, and has not given to anybody yet.
    """
    left = Counter(frozenset(demand.items()) for demand in demands)
    unplaced = []
    for needs in waiting:
        demand = next((kind for kind in left if left[kind] > 0 and _is_same(needs, dict(kind))), None)
        if demand is not None:
            left[demand] -= 1
            unplaced.append(needs)
    return unplaced


def explain_shortage(waiting: Sequence[ResourceDict], total: ResourceDict, free: ResourceDict) -> str | None:
    """Return why workers wait if the resources they need are in use or have left the cluster; otherwise None.

    Args:
        waiting: resources of each worker that waits.
        total: resources of the whole cluster.
        free: resources that nobody uses.
    """
    least = {name: min(needs.get(name, math.inf) for needs in waiting) for needs in waiting for name in needs}
    short = [name for name, amount in least.items() if free.get(name, 0.0) < amount]
    if not short:
        return None
    workers = counted(len(waiting), "worker")
    gone = [name for name in short if total.get(name, 0.0) < least[name]]
    names = " and ".join({"CPU": "cores", "GPU": "GPUs"}.get(name, name) for name in gone or short)
    if gone:
        return f"waiting for {workers}: no machine of the cluster has {names} now"
    counts = ", ".join(f"{free.get(name, 0.0):g} of {total.get(name, 0.0):g} {name} free" for name in short)
    return f"waiting for {workers}: the cluster's {names} are in use ({counts})"


def explain_blocked_tasks(
    demands: Sequence[ResourceDict], waiting: Sequence[ResourceDict], free: ResourceDict
) -> str | None:
    """Return which Ray tasks wait for resources that nobody gives back; None if there are none.

    Args:
        demands: resources that Ray was asked for and has not given to anybody yet.
        waiting: resources of each worker of this study that waits; these demands do not count.
        free: resources that nobody uses.
    """
    others = list(demands)
    for needs in waiting:
        own = next((demand for demand in others if _is_same(needs, demand)), None)
        if own is not None:
            others.remove(own)
    blocked = [d for d in others if any(free.get(name, 0.0) < amount for name, amount in d.items())]
    if not blocked:
        return None
    tasks = "a Ray task waits" if len(blocked) == 1 else f"{len(blocked):,} Ray tasks wait"
    return (
        f"{tasks} for {_describe(blocked[0])}, which is in use: if trials started them, leave room with "
        "cv.Resources(nested_cpus=1) or fewer --workers, or declare the tasks with num_cpus=0"
    )


def _is_same(needs: ResourceDict, demand: ResourceDict) -> bool:
    """Return whether Ray's demand is for these resources; Ray rounds the amounts that it is asked for."""
    return needs.keys() == demand.keys() and all(
        math.isclose(amount, demand[name], rel_tol=1e-6, abs_tol=RAY_PRECISION)
        for name, amount in needs.items()
    )


def _count_fitting(needs: ResourceDict, machines: Sequence[ResourceDict]) -> int:
    """Return how many workers with these needs fit on the machines, each worker on one machine."""
    return sum(
        min(int(machine.get(name, 0.0) / amount + ROUNDING) for name, amount in needs.items())
        for machine in machines
    )


def _describe_all(machines: Sequence[ResourceDict]) -> str:
    """Return the resources of up to four different machines in words."""
    internal = ("node:", "accelerator_type:", "object_store_memory")
    usable = [{k: v for k, v in machine.items() if not k.startswith(internal)} for machine in machines]
    texts = list(dict.fromkeys(_describe({"CPU": 0.0, "GPU": 0.0, **amounts}) for amounts in usable))
    return "; ".join(texts[:4]) + ("; ..." if len(texts) > 4 else "")


def _describe(amounts: ResourceDict) -> str:
    return ", ".join(
        f"{amount / GIB:.1f} GiB memory" if name == "memory" else f"{amount:g} {name}"
        for name, amount in amounts.items()
    )
