"""Connections to a Ray cluster: starting or joining one, noticing its death, explaining why it cannot be reached."""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from caviar.backends.ray.auth import read_token, require_access, require_answer
from caviar.backends.ray.join import (
    explain_connection_error,
    find_running_cluster,
    is_fault_tolerant,
    pending_demands,
    require_node,
    split_address,
)
from caviar.backends.ray.placement import WorkerRequest
from caviar.backends.ray.private_api import (
    bind_to_loopback,
    hold_signals,
    mute_ray,
    on_session_folder,
    predict_resources,
    reload_auth,
    start_lean,
)
from caviar.backends.ray.session_cleanup import (
    PRIVATE,
    keep_session,
    lock_session,
    remove_session,
    remove_stale_sessions,
)
from caviar.errors import ClusterError
from caviar.resources import usable_cores

_log = logging.getLogger(__name__)
QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}
"""Options of `ray.init` that keep Ray from printing."""
LOG_BYTES = 16 * 2**20
"""Size at which Ray rotates a log of a local cluster; it keeps the last two files."""
VITAL_PROCESSES = ("raylet", "gcs_server")
"""Processes without which a cluster is dead."""
PROBE_INTERVAL_S = 1.0
"""Seconds between two probes of a joined cluster, and the timeout of one."""
ANSWER_TIMEOUT_S = 8.0
"""Seconds without an answer after which a joined cluster counts as dead."""
HEAD_RETURN_S = 50.0
"""The same for a fault-tolerant head, which may return; after a minute Ray ends this process."""

_connected = threading.Lock()
"""Held while this module has connected this process to Ray, which can be connected once."""
_connecting = threading.Lock()
"""Held while a thread finds out whether the user has connected this process to Ray: then it gives `_connected` back."""


@contextmanager
def ray_environment(address: str) -> Iterator[None]:
    """Set Ray's environment variables while inside: quiet, and with access control; a local cluster gets a new token.

    Variables that the user has set keep their values.
    """
    settings = {
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_AUTH_MODE": "token" if address == "local" or read_token() is not None else "disabled",
        "RAY_ROTATION_MAX_BYTES": str(LOG_BYTES),
        "RAY_ROTATION_BACKUP_COUNT": "1",
    }
    if address == "local" and read_token() is None:
        settings["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def import_ray() -> Any:
    """Return the `ray` module; call it inside `ray_environment`.

    Raises:
        ClusterError: Ray is not installed.
    """
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ClusterError(f"Ray cannot be imported ({error}): install it with `pip install ray`") from error
    return ray


@contextmanager
def connect(address: str, request: WorkerRequest, data_bytes: int) -> Iterator["Session"]:
    """Connect this process to Ray while inside: to a new local cluster or to the cluster at the address.

    If the user has connected this process to Ray already, that connection is used and stays open.

    Args:
        address: "local", "auto" or HOST:PORT.
        request: the workers that a local cluster must have room for.
        data_bytes: size of the data that its object store must hold, in bytes.

    Raises:
        ClusterError: Ray is missing, there is no such cluster, it refuses access, it has too little room, or another
            study of this process uses Ray.
    """
    with ExitStack() as settings, ExitStack() as alone:
        with _connecting:
            if not _connected.acquire(blocking=False):
                raise ClusterError(
                    "another study is running in this process, which Ray connects to one cluster at a time: wait for "
                    "its end, run this study in a process of its own, or call ray.init() before both to share a cluster"
                )
            alone.callback(_connected.release)
            settings.enter_context(ray_environment(address))
            ray = import_ray()
            is_shared = ray.is_initialized()
            if is_shared:
                alone.close()  # several studies can share the user's connection
        if is_shared:
            yield _joined_session(ray)
            return
        settings.enter_context(mute_ray())
        session = _start(ray, request, data_bytes) if address == "local" else _join(ray, address)
        try:
            yield session
        finally:
            ray.shutdown(wait_for_processes=True)
            session.clean_up()
            settings.close()
            reload_auth()


@dataclass
class Session:
    """A connection to a cluster, and what is needed to watch the cluster and to clean up after it."""

    ray: Any
    folder: Path | None = None
    """Session folder of a local cluster, with its sockets and logs; None for a joined cluster."""
    node: Any = None
    """Ray's object for the processes of a local cluster (ray/_private/node.py)."""
    lock: IO[str] | None = None
    """Open lock file of a local cluster; it shows other drivers that this one is alive."""
    endpoints: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Addresses of a joined cluster's head and of this machine's raylet, which must answer."""
    head_timeout_s: float = ANSWER_TIMEOUT_S
    """Seconds without an answer of the head after which the cluster counts as dead."""
    keep_logs: bool = False
    """True once something went wrong that Ray's logs may explain."""
    _probe_at: float = 0.0

    def require_alive(self, *, now: bool = False) -> None:
        """Require that the cluster is alive. Ray notices a death later, and then ends this process.

        The processes of a local cluster are watched. A joined cluster is probed now and then; while it does not answer
        this call waits, because any request to it would hang.

        Args:
            now: probe even if the last probe was recent, because a request follows.

        Raises:
            ClusterError: the cluster has died.
        """
        dead = (
            [kind for kind, _ in self.node.dead_processes() if kind in VITAL_PROCESSES] if self.node else []
        )
        if dead:
            raise self._death(f"its {' and '.join(dead)} ended unexpectedly, perhaps out of memory")
        if not self.endpoints or (not now and time.monotonic() < self._probe_at):
            return
        began = time.monotonic()
        while silent := [name for name, address in self.endpoints.items() if not _answers(address)]:
            timeout_s = self.head_timeout_s if silent == ["head"] else ANSWER_TIMEOUT_S
            if time.monotonic() - began > timeout_s:
                raise self._death(f"its {' and '.join(silent)} did not answer for {timeout_s:g} s")
            time.sleep(PROBE_INTERVAL_S / 2)
        self._probe_at = time.monotonic() + PROBE_INTERVAL_S

    def node_of(self, actor: Any) -> str | None:
        """Return Ray's ID of the machine that runs an actor; None if the actor was never placed."""
        state = self.ray._private.state.actors(actor._actor_id.hex())  # the public API needs a dashboard
        return state.get("Address", {}).get("NodeID") or None

    def host_of(self, node_id: str) -> str:
        """Return host name and address of a machine."""
        for node in self.ray.nodes():
            if node["NodeID"] == node_id:
                return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        return "a machine that has left the cluster"

    def pending_demands(self) -> list[Mapping[str, float]] | None:
        """Return the resources that the cluster was asked for and has not given yet; None if unknown."""
        return pending_demands(self.ray.get_runtime_context().gcs_address)

    def claim(self, folder: Path) -> None:
        """Take the folder of a local cluster as its own: make it private, and lock it against other drivers."""
        self.folder, self.lock = folder, lock_session(folder)

    def clean_up(self) -> None:
        """Remove the session folder of a local cluster that has ended, unless its logs are worth reading."""
        if self.folder is None:
            return
        if self.keep_logs:
            _log.warning("something went wrong in Ray; its logs are in %s", self.folder / "logs")
            keep_session(self.folder)
        else:
            remove_session(self.folder)
        if self.lock is not None:
            self.lock.close()

    def _death(self, how: str) -> ClusterError:
        self.keep_logs = True
        return ClusterError(f"the Ray cluster died: {how}")


def _start(ray: Any, request: WorkerRequest, data_bytes: int) -> Session:
    """Start a cluster on this machine."""
    options = _local_options(request, data_bytes)
    reload_auth()
    session = Session(ray)
    try:
        with hold_signals(), bind_to_loopback(), start_lean(), on_session_folder(session.claim):
            context = ray.init(address="local", include_dashboard=False, **options, **QUIET)
    except BaseException as error:  # KeyboardInterrupt too: starting takes seconds
        ray.shutdown()
        session.keep_logs = isinstance(error, Exception)
        session.clean_up()
        if not isinstance(error, Exception):
            raise
        raise ClusterError(
            f"cannot start a Ray cluster on this machine: {explain_connection_error(error)}"
        ) from error
    session.node = ray._private.worker._global_node
    folder = Path(context.address_info["session_dir"])
    if session.folder is None:
        session.claim(folder)
    folder.chmod(PRIVATE)  # again: Ray opens it to all users while it starts
    remove_stale_sessions(folder.parent)
    return session


def _local_options(request: WorkerRequest, data_bytes: int) -> dict[str, Any]:
    """Return the options of a local cluster. Refuse a request it has no room for now: starting it takes seconds."""
    cores = usable_cores()
    workers = request.workers if request.resources is None else None  # else the cluster gets all cores
    if workers is not None and workers > cores:
        raise ClusterError(
            f"{workers} workers asked for, but this machine has {cores} cores: use --workers {cores}"
        )
    options = {
        "num_cpus": cores if workers is None else max(workers, 1),
        # None for all that Ray finds, because it refuses to be given more
        "num_gpus": 0 if request.gpus == 0 else None,
        "object_store_memory": 100 * 2**20 + 2 * data_bytes,
    }
    resources = predict_resources(**{**options, "num_cpus": cores})
    if resources is not None:
        request.require_room([resources])
    return options


def _join(ray: Any, address: str) -> Session:
    """Join a cluster that is running."""
    if address == "auto":
        address = find_running_cluster()
    require_answer(address)
    require_access(address)
    reload_auth()
    require_node(address)
    try:
        with hold_signals():
            ray.init(address=address, **QUIET)
    except BaseException as error:
        ray.shutdown()
        if not isinstance(error, Exception):  # Ctrl-C
            raise
        raise ClusterError(
            f"cannot join the Ray cluster at {address}: {explain_connection_error(error)}"
        ) from error
    return _joined_session(ray)


def _joined_session(ray: Any) -> Session:
    """Return the session of a joined cluster."""
    context = ray.get_runtime_context()
    endpoints = {"head": split_address(context.gcs_address)}
    for node in ray.nodes():
        if node["NodeID"] == context.get_node_id():
            endpoints["raylet"] = node["NodeManagerAddress"], node["NodeManagerPort"]
    head_timeout_s = HEAD_RETURN_S if is_fault_tolerant(context.gcs_address) else ANSWER_TIMEOUT_S
    return Session(ray, endpoints=endpoints, head_timeout_s=head_timeout_s)


def _answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=PROBE_INTERVAL_S).close()
    except OSError:
        return False
    return True
