"""Temporary patches to private Ray APIs, undone on exit.

Each function names the file of Ray 2.60 that it relies on. If another version of Ray has moved an attribute, its patch
does nothing: Ray then prints more, listens on all network interfaces (its token still protects it), uses the token of
the last cluster, refuses a request later, starts more slowly, or exits at once on SIGTERM while it starts.
"""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caviar.backends.ray import late_agent
from caviar.backends.ray.placement import ResourceDict

CLUSTER_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LEAN_VERSION = "2.60."
"""Start of the versions of Ray that `start_lean` knows."""
AGENT_DELAY_S = 5.0
"""Seconds after which the agent for runtime environments starts; the raylet waits for it for half a minute."""


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
def hold_signals() -> Iterator[None]:
    """Hold back the signals that this process handles while Ray starts inside, and handle them at the end.

    An exception of a handler would leave a half connected process, which crashes when it ends; or Ray would catch it,
    report it and continue. Keeps Ray from replacing the handlers too; relies on `set_sigterm_handler` in
    ray/_private/utils.py.
    """
    in_main = threading.current_thread() is threading.main_thread()  # no other thread can set handlers
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in HELD_SIGNALS if in_main}
    held: list[int] = []
    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, lambda number, _: held.append(number))
    try:
        with _patched("ray._private.utils", "set_sigterm_handler", lambda handler: None):
            yield
    finally:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)
    for number in held:
        handlers[number](number, None)


@contextmanager
def start_lean() -> Iterator[None]:
    """Start only the processes that a study needs of a cluster that starts while inside.

    The autoscaler, the log monitor and the dashboard are left out, and the raylet does not wait for its agents: they
    would take most of the seconds until Ray is up. Relies on `Node.start_monitor`, `Node.start_log_monitor`,
    `Node.start_api_server` and `Node.start_raylet` in ray/_private/node.py, on `start_ray_process` in
    ray/_private/services.py, on `get_dashboard_dependency_error` in ray/_private/utils.py, and on the files in which
    agents write their ports, `persist_port` in ray/_raylet. Does nothing for other versions of Ray than 2.60.
    """
    import ray

    if not ray.__version__.startswith(LEAN_VERSION) or sys.platform == "win32":
        yield
        return
    from ray._private import services
    from ray._private.node import Node

    make_raylet: Any = Node.start_raylet
    make_process: Any = services.start_ray_process

    def start_raylet(node: Any, *arguments: Any, **options: Any) -> None:
        with late_agent.reserve(node.node_ip_address, 0) as kept:
            port = kept.getsockname()[1]
            _write_agent_ports(node.get_session_dir_path(), node.node_id, port)
            node._ray_params.runtime_env_agent_port = port
            make_raylet(node, *arguments, **options)

    def start_process(command: list[str], *arguments: Any, **options: Any) -> Any:
        return make_process(_with_late_agents(command), *arguments, **options)

    def leave_out(node: Any, **options: Any) -> None:
        pass

    with contextlib.ExitStack() as patches:
        for name in ("monitor", "log_monitor", "api_server"):
            patches.enter_context(_patched("ray._private.node", f"Node.start_{name}", leave_out))
        patches.enter_context(_patched("ray._private.node", "Node.start_raylet", start_raylet))
        patches.enter_context(_patched("ray._private.services", "start_ray_process", start_process))
        patches.enter_context(
            _patched("ray._private.utils", "get_dashboard_dependency_error", lambda: None)  # it imports much
        )
        yield


def _write_agent_ports(session_folder: str, node_id: str, port: int) -> None:
    """Write the ports of a raylet's agents, for which it waits: -1 for those of the agent that is left out."""
    from ray import _raylet

    names: Any = _raylet
    left_out = (
        names.METRICS_AGENT_PORT_NAME,
        names.METRICS_EXPORT_PORT_NAME,
        names.DASHBOARD_AGENT_LISTEN_PORT_NAME,
    )
    for name in left_out:
        names.persist_port(session_folder, node_id, name, -1)
    names.persist_port(session_folder, node_id, names.RUNTIME_ENV_AGENT_PORT_NAME, port)


def _with_late_agents(command: list[str]) -> list[str]:
    """Return the command of a Ray process; the agents of a raylet are started by `late_agent`."""
    options = dict(word.partition("=")[::2] for word in command)
    address, port = options.get("--node_ip_address"), options.get("--runtime_env_agent_port")
    if address is None or port is None:
        return command
    program = subprocess.list2cmdline([sys.executable, "-I", "-S", late_agent.__file__])
    prefixes = {
        "--runtime_env_agent_command=": f"{program} {AGENT_DELAY_S} {address} {port} ",
        "--dashboard_agent_command=": f"{program} inf {address} 0 ",
    }
    for option, prefix in prefixes.items():
        command = [
            word.replace(option, option + prefix, 1) if word.startswith(option) else word for word in command
        ]
    return command


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
