"""A look at a running cluster: its machines, and the workers that they have room for. Nothing starts there."""

from collections import Counter
from collections.abc import Mapping

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
        machines = tuple(dict(node["Resources"]) for node in found.ray.nodes() if node["Alive"])
    request.require_room(machines)
    return machines, Counter(spec.device for spec in request.plan(machines))
