"""Workers that wait for machines which a cluster starts itself.

Ray's autoscaler starts machines for actors that wait for a place. So what is missing is ordered by starting its workers
all the same; nothing has to be taken back, for a worker that is not wanted any more, or whose driver was killed, waits
no longer.
"""

import logging
from collections.abc import Sequence
from typing import Any

from caviar.backends.ray.placement import ROUNDING, ResourceDict, WorkerRequest, count_fitting
from caviar.errors import ClusterError

_log = logging.getLogger(__name__)
STATUS_S = 10
"""How long the head may take to say what its autoscaler makes of what it was asked for."""


class AutoscalerRequests:
    """What a study asks of the autoscaler of its cluster, if there is one.

    Args:
        ray: connected to the cluster.
    """

    def __init__(self, ray: Any) -> None:
        self._address = ray.get_runtime_context().gcs_address
        self._scales = _has_autoscaler()
        self._ordered = 0

    def missing(self, wanted: WorkerRequest, machines: Sequence[ResourceDict]) -> list[ResourceDict]:
        """What the cluster shall start; said when it is more than before.

        Args:
            wanted: the workers that were asked for.
            machines: that are there.
        """
        if not self._scales:
            return []
        ordered = missing(wanted, machines)
        if len(ordered) > self._ordered:
            workers = "1 more worker" if len(ordered) == 1 else f"{len(ordered):,} more workers"
            _log.warning(
                f"asking the cluster's autoscaler for room for {workers}; `ray status` on the head shows its progress"
            )
        self._ordered = len(ordered)
        return ordered

    def require_feasible(self, waiting: Sequence[ResourceDict]) -> None:
        """Give up where no machine has room for a worker, and none ever will.

        Args:
            waiting: what each of the workers needs, none of which has a place.

        Raises:
            ClusterError: no machine that the autoscaler may start has it.
        """
        if not waiting or self._ordered < len(waiting):
            return  # some have only to wait for machines that are there
        refused = self._refused()
        if all(refused.count(needs) >= waiting.count(needs) for needs in waiting):
            raise ClusterError(
                "no machine of the cluster has what a worker needs, and its autoscaler may not start one that has: "
                "ask for less, or choose another cluster with --address"
            )

    def _refused(self) -> list[ResourceDict]:
        """What it can start no machine for: none of its kinds has it, or their largest number is reached."""
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
        from ray.core.generated import autoscaler_pb2
        from ray.exceptions import RpcError

        try:
            status = GcsClient(self._address).get_cluster_status(timeout_s=STATUS_S)
        except RpcError:  # it is busy; the next time will do
            return []
        reply = autoscaler_pb2.GetClusterStatusReply.FromString(status)  # type: ignore[attr-defined]
        return [dict(ask.resources_bundle) for ask in reply.autoscaling_state.infeasible_resource_requests]


def missing(wanted: WorkerRequest, machines: Sequence[ResourceDict]) -> list[ResourceDict]:
    """What must join before all workers that are asked for have a place, one entry a worker.

    Where nothing is asked for, the machines that are there will do; but where they have room for no worker at all,
    one is missing.

    Args:
        wanted: the workers that were asked for.
        machines: that are there.

    Example:
        >>> missing(WorkerRequest(resources=None, workers=3, gpus=1), [{"CPU": 2.0}])
        [{'CPU': 1.0}, {'GPU': 1.0}]
    """
    resources, workers, gpus = wanted.resources, wanted.workers, wanted.gpus
    if resources is not None:
        needs = resources.needs()
        if workers is None and gpus is not None and resources.gpus > 0:
            workers = int(gpus / resources.gpus + ROUNDING)
        there = sum(count_fitting(needs, machine) for machine in machines)
        return [needs] * max(0, (1 if workers is None else workers) - there)
    cores, devices = (int(sum(machine.get(name, 0.0) for machine in machines)) for name in ("CPU", "GPU"))
    if workers is None and gpus is None and cores + devices == 0:
        workers = 1
    lacking: list[ResourceDict] = [{"CPU": 1.0}] * max(0, (workers or 0) - cores)
    return [*lacking, *[{"GPU": 1.0}] * max(0, (gpus or 0) - devices)]


def _has_autoscaler() -> bool:
    """Whether the cluster may start machines.

    A cluster that is no more than a few `ray start` has version 1 of Ray's autoscaler, which starts nothing there;
    those that `ray up` and KubeRay make have version 2.
    """
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    return bool(is_autoscaler_v2(fetch_from_server=True))
