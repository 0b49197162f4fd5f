"""A look at a running cluster: its machines, and the workers that they have room for. Nothing starts there."""

from collections import Counter
from collections.abc import Mapping
from types import ModuleType

from caviar.backends.ray import session
from caviar.backends.ray.placement import WorkerRequest
from caviar.resources import Resources


def look_at_cluster(
    address: str, resources: Resources | None, workers: int | None, gpus: int | None
) -> tuple[tuple[Mapping[str, float], ...], Mapping[str, int]]:
    """Return the resources of each machine by Ray's names, and the number of workers on each device.

    Args:
        address: "auto" or HOST:PORT.
        resources: resources of each worker; None for workers with one core or one GPU each.
        workers: number of workers that are asked for.
        gpus: number of GPUs that are asked for.

    Raises:
        ClusterError: there is no such cluster, it refuses access, or it has too little room.
    """
    request = WorkerRequest(resources, workers, gpus)
    with session.connect(address, request, 0) as found:
        machines = _machines(found.ray)
    request.require_room(machines)
    return machines, Counter(spec.device for spec in request.plan(machines))


def count_workers(resources: Resources | None, workers: int | None, gpus: int | None) -> Mapping[str, int]:
    """Return the number of workers on each device for which the cluster of this process has room.

    Args:
        resources: resources of each worker, as for `look_at_cluster`.
        workers: number of workers that are asked for.
        gpus: number of GPUs that are asked for.
    """
    import ray

    return Counter(spec.device for spec in WorkerRequest(resources, workers, gpus).plan(_machines(ray)))


def _machines(ray: ModuleType) -> tuple[Mapping[str, float], ...]:
    """Return the resources of each machine of the cluster that Ray is connected to."""
    return tuple(dict(node["Resources"]) for node in ray.nodes() if node["Alive"])
