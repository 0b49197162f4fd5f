"""Requests to the autoscaler of a cluster that starts machines on demand.

Ray's autoscaler starts machines for actors that wait for resources. So caviar asks for machines by starting the workers
that do not fit yet. Nothing has to be taken back: the request ends with the waiting actor or its driver.
"""

import logging
from collections.abc import Sequence
from typing import Any

from caviar.backends.ray.placement import ResourceDict, WorkerRequest, find_unplaced
from caviar.errors import ClusterError

_log = logging.getLogger(__name__)
STATUS_TIMEOUT_S = 10
"""Seconds that the head may take to report the state of its autoscaler."""


class AutoscalerRequests:
    """The machines that a study requests from its cluster's autoscaler, if the cluster has one.

    Args:
        ray: the `ray` module, connected to the cluster.
    """

    def __init__(self, ray: Any) -> None:
        self._address = ray.get_runtime_context().gcs_address
        self._has_autoscaler = _has_autoscaler()
        self._n_requested = 0

    def missing(self, request: WorkerRequest, machines: Sequence[ResourceDict]) -> list[ResourceDict]:
        """Return the resources that the autoscaler has to add, one entry a worker; log when they grow.

        Args:
            request: the workers that were asked for.
            machines: resources of each machine of the cluster.
        """
        if not self._has_autoscaler:
            return []
        missing = request.missing(machines)
        if len(missing) > self._n_requested:
            workers = "1 more worker" if len(missing) == 1 else f"{len(missing):,} more workers"
            _log.warning(
                f"asking the cluster's autoscaler for room for {workers}; `ray status` on the head shows its progress"
            )
        self._n_requested = len(missing)
        return missing

    def require_feasible(self, waiting: Sequence[ResourceDict]) -> None:
        """Require that the cluster can ever start at least one of the waiting workers.

        Args:
            waiting: resources of each worker; none of them has been placed.

        Raises:
            ClusterError: no machine has them, and none that the autoscaler may start.
        """
        if not waiting or self._n_requested < len(waiting):
            return  # some of them fit on machines that are there
        if len(find_unplaced(waiting, self._infeasible())) == len(waiting):
            raise ClusterError(
                "no machine of the cluster has what a worker needs, and its autoscaler may not start one that has: "
                "ask for less, or choose another cluster with --address"
            )

    def _infeasible(self) -> list[ResourceDict]:
        """Return the demands that no machine type of the autoscaler meets, or only types whose limit is reached."""
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
        from ray.core.generated import autoscaler_pb2
        from ray.exceptions import RpcError

        try:
            status = GcsClient(self._address).get_cluster_status(timeout_s=STATUS_TIMEOUT_S)
        except RpcError:  # the head is busy: the next check asks again
            return []
        reply = autoscaler_pb2.GetClusterStatusReply.FromString(status)  # type: ignore[attr-defined]
        return [dict(ask.resources_bundle) for ask in reply.autoscaling_state.infeasible_resource_requests]


def _has_autoscaler() -> bool:
    """Return whether the cluster can start machines.

    Clusters of `ray up` and KubeRay run version 2 of Ray's autoscaler. A cluster of plain `ray start` commands runs
    version 1, which starts no machines there.
    """
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    return bool(is_autoscaler_v2(fetch_from_server=True))
