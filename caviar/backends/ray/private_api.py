"""What is changed in Ray itself, in its inner rooms, for a connection that caviar makes; and changed back.

A Ray that has moved these goes without: then it says more, listens on more interfaces, or refuses later.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from caviar.backends.ray.placement import ResourceDict


@contextmanager
def silenced(ray: Any) -> Iterator[None]:
    """While inside, Ray prints nothing about this process's cluster: of workers that die caviar tells itself.

    `log_to_driver=False` keeps the lines of workers away, but not Ray's own reports, which go to the standard output.
    """
    worker = ray._private.worker
    usual = getattr(worker, "_worker_logs_enabled", None)
    worker._worker_logs_enabled = False
    try:
        yield
    finally:
        if usual is None:
            del worker._worker_logs_enabled
        else:
            worker._worker_logs_enabled = usual


@contextmanager
def on_loopback() -> Iterator[None]:
    """While inside, a cluster that starts listens on the loopback interface alone, as Ray does by itself on macOS."""
    from ray._private import ray_constants

    usual = ray_constants.ENABLE_RAY_CLUSTER
    asked = os.environ.get(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR)
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"  # for its processes
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = usual
        os.environ.pop(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR)
        if asked is not None:
            os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = asked


def reread_access() -> None:
    """Let Ray read mode and token from the environment again: it has kept those of the cluster before."""
    with contextlib.suppress(ImportError):
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()


def offer_of(**asked: Any) -> ResourceDict | None:
    """What a cluster will have that starts on this machine; None where Ray does not say.

    Args:
        asked: what `ray.init` will be asked for: num_cpus, num_gpus, object_store_memory.
    """
    try:
        from ray._private.resource_and_label_spec import ResourceAndLabelSpec

        offered = ResourceAndLabelSpec(**asked).resolve(is_head=True, node_ip_address="127.0.0.1")
        return dict(offered.to_resource_dict())  # type: ignore[no-untyped-call]
    except Exception:  # a Ray that has moved these
        return None
