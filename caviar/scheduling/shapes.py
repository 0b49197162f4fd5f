"""How many workers of which shape, and what they wait for: pure arithmetic over what a cluster has."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caviar.errors import ClusterError
from caviar.resources import GIB, Resources

Amounts = Mapping[str, float]
"""Of resources, by the names that Ray uses."""
ROUNDING = 1e-6
"""Ten shares of 0.1 make a whole."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What one worker is given, by the names that Ray uses."""

    needs: Mapping[str, float]
    whole_gpu: bool = False
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
    def options(self) -> dict[str, object]:
        """For Ray."""
        named = ("CPU", "GPU", "memory")
        return {
            "num_cpus": self.needs.get("CPU", 0),
            "num_gpus": self.needs.get("GPU", 0),
            "memory": self.needs.get("memory"),
            "resources": {name: amount for name, amount in self.needs.items() if name not in named},
        }


CORE = Shape({"CPU": 1.0})
WHOLE_GPU = Shape({"GPU": 1.0}, whole_gpu=True)


def shapes(
    resources: Resources, machines: Sequence[Amounts], workers: int | None, gpus: int | None
) -> list[Shape]:
    """The workers of an objective that says what each needs.

    Args:
        resources: of each.
        machines: of the cluster.
        workers: how many; as many as fit by default.
        gpus: how many GPUs they may take in all; as many as there are by default.

    Raises:
        ClusterError: not so many fit, or none.
    """
    needs = resources.needs()
    fitting = sum(room_for(needs, machine) for machine in machines)
    if fitting < 1:
        raise ClusterError(
            f"each worker needs {_text(needs)}, and no machine of the cluster has that ({_offers(machines)}): "
            "ask for less in cv.Resources(...), or choose another cluster with --address"
        )
    if gpus is not None and resources.gpus > 0:
        fitting = min(fitting, int(gpus / resources.gpus + ROUNDING))
    if workers is not None and workers > fitting:
        raise ClusterError(
            f"{workers} workers with {_text(needs)} each asked for, but only {fitting} fit: use --workers {fitting}"
        )
    count = fitting if workers is None else workers
    if count < 1:
        raise ClusterError("no workers: none were asked for, or no GPUs for them")
    return [Shape(needs)] * count


def worker_counts(machines: Sequence[Amounts], workers: int | None, gpus: int | None) -> tuple[int, int]:
    """How many CPU and GPU workers on these machines.

    Raises:
        ClusterError: the cluster has fewer cores or GPUs, or no worker at all would be left.
    """
    has_cpu, has_gpu = (int(sum(machine.get(name, 0.0) for machine in machines)) for name in ("CPU", "GPU"))
    n_cpu, n_gpu = has_cpu if workers is None else workers, has_gpu if gpus is None else gpus
    if n_cpu > has_cpu:
        raise ClusterError(
            f"{n_cpu} workers asked for, but the cluster has {has_cpu} cores: use --workers {has_cpu}"
        )
    if n_gpu > has_gpu:
        raise ClusterError(
            f"{n_gpu} GPU workers asked for, but the cluster has {has_gpu} GPUs: use --gpus {has_gpu}"
        )
    if n_cpu + n_gpu < 1:
        raise ClusterError("no workers: the cluster has no CPU and no GPU for them, or none were asked for")
    return n_cpu, n_gpu


def shortage(waiting: Sequence[Amounts], total: Amounts, free: Amounts) -> str | None:
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


def room_for(needs: Amounts, machine: Amounts) -> int:
    """How many workers with these needs fit on a machine."""
    return min(int(machine.get(name, 0.0) / amount + ROUNDING) for name, amount in needs.items())


def _offers(machines: Sequence[Amounts]) -> str:
    """The different machines, in words."""
    hidden = ("node:", "accelerator_type:", "object_store_memory")
    plain = [{k: v for k, v in machine.items() if not k.startswith(hidden)} for machine in machines]
    texts = list(dict.fromkeys(_text({"CPU": 0.0, "GPU": 0.0, **offered}) for offered in plain))
    return "; ".join(texts[:4]) + ("; ..." if len(texts) > 4 else "")


def _text(amounts: Amounts) -> str:
    return ", ".join(
        f"{amount / GIB:.1f} GiB memory" if name == "memory" else f"{amount:g} {name}"
        for name, amount in amounts.items()
    )
