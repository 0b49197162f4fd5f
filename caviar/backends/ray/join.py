"""Facts about a cluster to join, in part from private Ray APIs.

If a version of Ray has moved one of these APIs, the fact is unknown: Ray then reports the problem itself, later and in
its own words.
"""

import contextlib
import os
import re
from collections.abc import Mapping
from typing import Any

from caviar.errors import ClusterError

NODE_TIMEOUT_S = 5
"""Seconds to wait for a node of the cluster on this machine, which may be starting."""
NO_NODE = "No node info found"
"""Ray's message if there is none."""
VERSIONS = re.compile(r"^ +Ray: (\S+)\n +Python: (\S+)$", re.MULTILINE)
"""Lines of Ray's message about different versions: first those of the cluster, then those of this process."""


def find_running_cluster() -> str:
    """Return the address of the cluster that RAY_ADDRESS names or that runs on this machine.

    Raises:
        ClusterError: there is none, or there are several.
    """
    from ray._private import services

    named = os.environ.get("RAY_ADDRESS")
    found = {named} if named else services.find_gcs_addresses()  # type: ignore[no-untyped-call]
    if not found:
        raise ClusterError(
            "no Ray cluster runs on this machine: use --address local, or `ray start --head` first"
        )
    if len(found) > 1:
        raise ClusterError(
            f"several Ray clusters run on this machine: choose one with --address: {', '.join(found)}"
        )
    return str(next(iter(found)))


def require_node(address: str) -> None:
    """Require that this machine is a node of the cluster. Ray itself would wait a minute for it to become one.

    Raises:
        ClusterError: it is not.
    """
    # Another version of Ray may have moved these
    with contextlib.suppress(ImportError, AttributeError, TypeError):
        from ray._private import services
        from ray._raylet import GcsClient  # type: ignore[attr-defined]

        try:
            services.get_node_to_connect_for_driver(
                GcsClient(address=address), timeout_seconds=NODE_TIMEOUT_S
            )
        except Exception as error:
            if NO_NODE not in str(error):
                return  # Ray reports other problems itself
            host, _ = split_address(address)
            raise ClusterError(
                f"this machine is no node of the Ray cluster at {address}: run the command on one of its machines, "
                f"or from here `caviar submit EXPERIMENT.py --address http://{host}:8265`"
            ) from None


def explain_connection_error(error: Exception) -> str:
    """Return the first line of Ray's message, or both versions where Ray says in several lines that they differ."""
    message = str(error).strip() or type(error).__name__
    match VERSIONS.findall(message):
        case [(their_ray, their_python), (our_ray, our_python)]:
            return (
                f"it runs Ray {their_ray} on Python {their_python}, and this is Ray {our_ray} on Python {our_python}: "
                "use the same versions here and there (constraints.txt names caviar's)"
            )
    return message.splitlines()[0]


def is_fault_tolerant(address: str) -> bool:
    """Return whether the head stores its state in Redis or on a disk, so that it can return after a crash."""
    try:
        from ray._common.usage import usage_lib
        from ray._raylet import GcsClient  # type: ignore[attr-defined]

        tags = usage_lib.get_extra_usage_tags_to_report(GcsClient(address=address))
    except Exception:  # a Ray that has moved these
        return False
    return tags.get("gcs_storage", "memory") != "memory"


def pending_demands(address: str) -> list[Mapping[str, float]] | None:
    """Return the resources that a cluster was asked for and has not given yet, one entry a worker; None if unknown."""
    try:
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
        from ray.core.generated import autoscaler_pb2

        reply: Any = autoscaler_pb2.GetClusterResourceStateReply()  # type: ignore[attr-defined]
        reply.ParseFromString(GcsClient(address=address).get_cluster_resource_state())
        requests = list(reply.cluster_resource_state.pending_resource_requests)
    except Exception:  # a Ray that has moved these
        return None
    return [dict(each.request.resources_bundle) for each in requests for _ in range(each.count)]


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
