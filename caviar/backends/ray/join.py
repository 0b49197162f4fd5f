"""What is to be found out about a cluster that is joined, in part from the inner rooms of Ray.

A Ray that has moved these goes without: then it says by itself what is wrong, or it is not known.
"""

import contextlib
import os
import re
from collections.abc import Mapping
from typing import Any

from caviar.errors import ClusterError

NODE_S = 5
"""So long a node of the cluster is looked for on this machine: it may be starting."""
NO_NODE = "No node info found"
"""What Ray says where there is none."""
VERSIONS = re.compile(r"^ +Ray: (\S+)\n +Python: (\S+)$", re.MULTILINE)
"""What Ray says where its versions differ: the cluster's, and ours."""


def running_cluster() -> str:
    """The address of the cluster that runs on this machine, or that RAY_ADDRESS names."""
    from ray._private import services

    named = os.environ.get("RAY_ADDRESS")
    found = {named} if named else services.find_gcs_addresses()  # type: ignore[no-untyped-call]
    if not found:
        raise ClusterError(
            "there is no running Ray cluster on this machine: use --address local, or `ray start --head` first"
        )
    if len(found) > 1:
        raise ClusterError(
            f"several Ray clusters run on this machine: name one with --address: {', '.join(found)}"
        )
    return str(next(iter(found)))


def require_node(address: str) -> None:
    """Whether this machine is a node of the cluster, as Ray asks it, who would wait a minute for it to become one.

    Raises:
        ClusterError: it is none.
    """
    with contextlib.suppress(
        ImportError, AttributeError, TypeError
    ):  # a Ray that has moved these asks by itself
        from ray._private import services
        from ray._raylet import GcsClient  # type: ignore[attr-defined]

        try:
            services.get_node_to_connect_for_driver(GcsClient(address=address), timeout_seconds=NODE_S)
        except Exception as error:
            if NO_NODE not in str(error):
                return  # any other trouble is left to Ray
            host, _ = host_and_port(address)
            raise ClusterError(
                f"this machine is no node of the Ray cluster at {address}: run the command on one of its machines, "
                f"or from here `caviar submit EXPERIMENT.py --address http://{host}:8265`"
            ) from None


def reason(error: Exception) -> str:
    """The first line of what Ray says; of different versions both, which it says in several."""
    said = str(error).strip() or type(error).__name__
    match VERSIONS.findall(said):
        case [(their_ray, their_python), (our_ray, our_python)]:
            return (
                f"it runs Ray {their_ray} on Python {their_python}, and this is Ray {our_ray} on Python {our_python}: "
                "use the same versions here and there (constraints.txt names caviar's)"
            )
    return said.splitlines()[0]


def outlives_its_head(address: str) -> bool:
    """Whether a cluster keeps what its head knows in Redis or on a disk: Ray's fault tolerance."""
    try:
        from ray._common.usage import usage_lib
        from ray._raylet import GcsClient  # type: ignore[attr-defined]

        tags = usage_lib.get_extra_usage_tags_to_report(GcsClient(address=address))
    except Exception:  # a Ray that has moved these
        return False
    return tags.get("gcs_storage", "memory") != "memory"


def pending_demands(address: str) -> list[Mapping[str, float]] | None:
    """What a cluster was asked for, each a worker's needs, and has given to nobody yet; None where it is not known."""
    try:
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
        from ray.core.generated import autoscaler_pb2

        reply: Any = autoscaler_pb2.GetClusterResourceStateReply()  # type: ignore[attr-defined]
        reply.ParseFromString(GcsClient(address=address).get_cluster_resource_state())
        asked = list(reply.cluster_resource_state.pending_resource_requests)
    except Exception:  # a Ray that has moved these
        return None
    return [dict(a.request.resources_bundle) for a in asked for _ in range(a.count)]


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of HOST:PORT."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
