"""Starting a Ray cluster or joining one, noticing that it has died, and clear words when it cannot be."""

import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from caviar.backends.ray import session_cleanup
from caviar.backends.ray.auth import require_access, require_answer, token
from caviar.backends.ray.join import (
    host_and_port,
    outlives_its_head,
    pending_demands,
    reason,
    require_node,
    running_cluster,
)
from caviar.backends.ray.placement import WorkerRequest
from caviar.backends.ray.private_api import offer_of, on_loopback, reread_access, silenced
from caviar.errors import ClusterError

_log = logging.getLogger(__name__)
LOG_BYTES = 16 * 2**20
"""What a worker of our own cluster prints goes to a file, of which only the last two pieces of this size are kept."""
VITAL = ("raylet", "gcs_server")
"""The processes without which a cluster is none."""
PROBE_S = 1.0
"""So often it is tried whether a cluster that was joined still answers."""
SILENCE_S = 8.0
"""A cluster that has not answered for so long has died ..."""
RETURN_S = 50.0
"""... but a head that keeps its memory elsewhere may return: Ray ends this process if it has not within a minute."""


@contextmanager
def environment(address: str) -> Iterator[None]:
    """While inside, Ray is quiet and its access control decided: a cluster of our own asks for a token of its own.

    What the user has set stays as it is, and what Ray reads as it starts is taken away again afterwards.
    """
    settings = {
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_AUTH_MODE": "token" if address == "local" or token() is not None else "disabled",
        "RAY_ROTATION_MAX_BYTES": str(LOG_BYTES),
        "RAY_ROTATION_BACKUP_COUNT": "1",
    }
    if address == "local" and token() is None:
        settings["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    ours = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def import_ray() -> Any:
    """Ray, inside its `environment`.

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
def connect(address: str, wanted: WorkerRequest, data_bytes: int) -> Iterator["Session"]:
    """While inside, this process is connected to a local cluster of its own, or to the one at the address.

    A Ray that this process is connected to already is used, and left as it is.

    Args:
        address: "local", "auto" or HOST:PORT.
        wanted: the workers that a local cluster must have room for.
        data_bytes: of the rows that its object store must hold.

    Raises:
        ClusterError: no Ray, no such cluster, no access, or not enough room.
    """
    with ExitStack() as settings:
        settings.enter_context(environment(address))
        ray = import_ray()
        if ray.is_initialized():
            yield _joined(ray)
            return
        settings.enter_context(silenced(ray))
        session = _connect(ray, address, wanted, data_bytes)
        try:
            yield session
        finally:
            ray.shutdown(wait_for_processes=True)
            session.clear()
            settings.close()
            reread_access()


@dataclass
class Session:
    """A connection to a cluster, and what a cluster of our own must be watched for and leaves behind."""

    ray: Any
    folder: Path | None = None
    """Where a cluster of our own keeps its sockets and logs; None for any other."""
    node: Any = None
    """The processes of a cluster of our own, as Ray keeps them."""
    mark: IO[str] | None = None
    """What tells, by being held, that the driver of a cluster of our own is alive."""
    vital: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Where the vital processes of a cluster that was joined answer."""
    head_silence_s: float = SILENCE_S
    """How long its head may not."""
    keep_logs: bool = False
    """Something went wrong of which its logs may tell."""
    _probe_at: float = 0.0

    def require_alive(self, *, now: bool = False) -> None:
        """Notice that the cluster has died before Ray does: when Ray is sure of it, it ends this process itself.

        Of our own cluster the processes are watched. One that was joined is asked now and then; where it does not
        answer it is waited for, since whatever asks it for something would hang.

        Args:
            now: it is about to be asked for something: try now.

        Raises:
            ClusterError: it has died.
        """
        dead = [kind for kind, _ in self.node.dead_processes() if kind in VITAL] if self.node else []
        if dead:
            raise self._death(f"its {' and '.join(dead)} ended unexpectedly (out of memory, perhaps)")
        if not self.vital or (not now and time.monotonic() < self._probe_at):
            return
        began = time.monotonic()
        while silent := [name for name, address in self.vital.items() if not _answers(address)]:
            limit_s = self.head_silence_s if silent == ["head"] else SILENCE_S
            if time.monotonic() - began > limit_s:
                raise self._death(f"its {' and '.join(silent)} did not answer for {limit_s:g} s")
            time.sleep(PROBE_S / 2)
        self._probe_at = time.monotonic() + PROBE_S

    def node_of(self, actor: Any) -> str | None:
        """Ray's name of the machine that an actor was started on; None where it was started on none."""
        told = self.ray._private.state.actors(actor._actor_id.hex())  # public only where there is a dashboard
        return told.get("Address", {}).get("NodeID") or None

    def host_of(self, node_id: str) -> str:
        """Host name and address of a machine."""
        for node in self.ray.nodes():
            if node["NodeID"] == node_id:
                return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        return "a machine that has gone"

    def pending_demands(self) -> list[Mapping[str, float]] | None:
        """What the cluster was asked for and has given to nobody yet; None where it does not say."""
        return pending_demands(self.ray.get_runtime_context().gcs_address)

    def _death(self, how: str) -> ClusterError:
        self.keep_logs = True
        return ClusterError(
            f"the Ray cluster died: {how}; what was recorded is safe: `caviar resume` the run"
        )

    def clear(self) -> None:
        """Remove the folder, once the cluster is gone; but not its logs where somebody will want to read them."""
        if self.folder is None:
            return
        if self.keep_logs:
            _log.warning("something went wrong in Ray; its logs are in %s", self.folder / "logs")
            session_cleanup.keep(self.folder)
        else:
            session_cleanup.remove(self.folder)
        if self.mark is not None:
            self.mark.close()


def _connect(ray: Any, address: str, wanted: WorkerRequest, data_bytes: int) -> Session:
    """Start or join a cluster."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        asked = _asked_of_this_machine(wanted, data_bytes)
        reread_access()
        with on_loopback():
            try:
                context = ray.init(address="local", include_dashboard=False, **asked, **quiet)
            except Exception as error:
                ray.shutdown()
                raise ClusterError(f"cannot start a Ray cluster on this machine: {reason(error)}") from error
        folder = Path(context.address_info["session_dir"])
        session_cleanup.clear_of_the_dead(folder.parent)
        return Session(ray, folder, ray._private.worker._global_node, mark=session_cleanup.mark(folder))
    if address == "auto":
        address = running_cluster()
    require_answer(address)
    require_access(address)
    reread_access()
    require_node(address)
    try:
        ray.init(address=address, **quiet)
    except Exception as error:
        raise ClusterError(f"cannot join the Ray cluster at {address}: {reason(error)}") from error
    return _joined(ray)


def _asked_of_this_machine(wanted: WorkerRequest, data_bytes: int) -> dict[str, Any]:
    """What a cluster of our own is started with, if the workers will have room in it: starting it takes seconds."""
    cores = _cores()
    workers = wanted.workers if wanted.resources is None else None  # else as many as they take
    if workers is not None and workers > cores:
        raise ClusterError(
            f"{workers} workers asked for, but this machine has {cores} cores: use --workers {cores}"
        )
    asked = {
        "num_cpus": cores if workers is None else max(workers, 1),
        "num_gpus": 0 if wanted.gpus == 0 else None,  # as many as Ray finds: one cannot ask for more
        "object_store_memory": 100 * 2**20 + 2 * data_bytes,
    }
    offer = offer_of(**asked)
    if offer is not None:
        wanted.require_room([offer])
    return asked


def _joined(ray: Any) -> Session:
    """The connection to a cluster that is not our own: its head, and the raylet of this machine, are vital."""
    context = ray.get_runtime_context()
    vital = {"head": host_and_port(context.gcs_address)}
    for node in ray.nodes():
        if node["NodeID"] == context.get_node_id():
            vital["raylet"] = node["NodeManagerAddress"], node["NodeManagerPort"]
    patience_s = RETURN_S if outlives_its_head(context.gcs_address) else SILENCE_S
    return Session(ray, vital=vital, head_silence_s=patience_s)


def _answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=PROBE_S).close()
    except OSError:
        return False
    return True


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
