"""Temporary patches to private Ray APIs, undone on exit.

Each function names the file of Ray 2.60 that it relies on. If another version of Ray has moved an attribute, its patch
does nothing: Ray then prints more, listens on all network interfaces (its token still protects it), uses the token of
the last cluster, refuses a request later, or exits at once on SIGTERM while it starts.
"""

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caviar.backends.ray.placement import ResourceDict

CLUSTER_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@contextmanager
def mute_ray() -> Iterator[None]:
    """Keep Ray from printing about this process's cluster while inside: caviar itself reports workers that die.

    `log_to_driver=False` mutes the workers, but not Ray's own reports on the standard output. Relies on
    `_worker_logs_enabled` in ray/_private/worker.py.
    """
    with _patched("ray._private.worker", "_worker_logs_enabled", False):
        yield


@contextmanager
def bind_to_loopback() -> Iterator[None]:
    """Let a cluster that starts while inside listen on the loopback interface alone, as Ray does by itself on macOS.

    Relies on `ENABLE_RAY_CLUSTER` in ray/_private/ray_constants.py, and on the environment variable that sets it in the
    processes of the cluster.
    """
    before = os.environ.get(CLUSTER_VARIABLE)
    os.environ[CLUSTER_VARIABLE] = "0"
    try:
        with _patched("ray._private.ray_constants", "ENABLE_RAY_CLUSTER", False):
            yield
    finally:
        del os.environ[CLUSTER_VARIABLE]
        if before is not None:
            os.environ[CLUSTER_VARIABLE] = before


@contextmanager
def keep_signal_handlers() -> Iterator[None]:
    """Keep Ray from replacing this process's handler of SIGTERM while inside.

    Relies on `set_sigterm_handler` in ray/_private/utils.py.
    """
    with _patched("ray._private.utils", "set_sigterm_handler", lambda handler: None):
        yield


@contextmanager
def on_session_folder(call: Callable[[Path], object]) -> Iterator[None]:
    """Call a function with the session folder of a cluster that starts while inside, before its processes start.

    Relies on `Node._init_temp` in ray/_private/node.py.
    """
    try:
        from ray._private.node import Node

        create: Any = Node._init_temp
    except (ImportError, AttributeError):
        yield
        return

    def create_and_call(node: Any, *arguments: Any, **options: Any) -> None:
        create(node, *arguments, **options)
        call(Path(node.get_session_dir_path()))

    with _patched("ray._private.node", "Node._init_temp", create_and_call):
        yield


def reload_auth() -> None:
    """Let Ray read mode and token from the environment again: it caches those of the last cluster.

    Relies on `Config` and `AuthenticationTokenLoader` in ray/_raylet.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()


def predict_resources(**options: Any) -> ResourceDict | None:
    """Return the resources that a cluster started on this machine will have; None if this Ray does not tell.

    Relies on `ResourceAndLabelSpec` in ray/_private/resource_and_label_spec.py.

    Args:
        options: `num_cpus`, `num_gpus` and `object_store_memory`, as for `ray.init`.
    """
    try:
        from ray._private.resource_and_label_spec import ResourceAndLabelSpec

        spec = ResourceAndLabelSpec(**options).resolve(is_head=True, node_ip_address="127.0.0.1")
        return dict(spec.to_resource_dict())  # type: ignore[no-untyped-call]
    except Exception:
        return None


@contextmanager
def _patched(module_name: str, attribute: str, value: object) -> Iterator[None]:
    """Set an attribute of a module, or of a class in it, while inside, if both exist."""
    with contextlib.ExitStack() as undo:
        with contextlib.suppress(ImportError, AttributeError):
            owner: Any = importlib.import_module(module_name)
            *path, name = attribute.split(".")
            for part in path:
                owner = getattr(owner, part)
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield
