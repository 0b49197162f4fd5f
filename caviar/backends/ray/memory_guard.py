"""Guard of a worker: a small process that enforces the worker's memory limit and kills what the worker leaves behind.

Neither the worker nor Ray can do this. A worker may be killed at any moment, and none of its threads runs while C code
holds the interpreter. Ray counts memory without enforcing it, its memory monitor kills workers only when the machine is
nearly full, and child processes with a session of their own outlive their worker and even the cluster.

A process belongs to a worker if it is a descendant, is in the worker's process group, or has the worker's key in its
environment. The limit applies to the resident memory (RSS) of the worker and its descendants. If that exceeds it, their
proportional memory (PSS) decides, which divides a shared page among the processes that share it.

The guard runs this file as a program, with the standard library alone (some 8 MB), in a session of its own. It reads
Linux's /proc itself: psutil finds children by reading every process of the machine, which takes 50 ms with 2,000
processes, against 0.1 ms here, ten times a second and worker. On other systems there is no guard and no memory limit.
"""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

KEY_VARIABLE = "CAVIAR_WORKER"
"""Environment variable with the key of the worker that a process belongs to."""
GIB = 2**30
Process = tuple[int, str]
"""Process ID and start time, because the system reuses IDs."""


def start_guard(
    limit_bytes: int, *, interval_s: float | None = None, orphan_timeout_s: float = 5.0
) -> str | None:
    """Start a guard of this process.

    Args:
        limit_bytes: memory limit of this process and its descendants together, in bytes; 0 for no limit.
        interval_s: seconds between checks; by default 0.1 with a memory limit and 0.5 without.
        orphan_timeout_s: seconds that this process may outlive its raylet. A worker ends within a second, unless it
            waits for children that hold its streams.

    Returns:
        Path of the note that the guard writes if it kills this process for its memory; None if there is no guard.
    """
    if not Path("/proc/self/task").is_dir():
        return None
    with suppress(PermissionError):  # it leads a session, and so a process group, already
        os.setpgid(0, 0)
    if interval_s is None:
        interval_s = 0.1 if limit_bytes else 0.5
    key = secrets.token_hex(16)
    note = str(Path(tempfile.gettempdir(), f"caviar-{key}"))
    numbers = (os.getpid(), os.getppid(), limit_bytes, interval_s, orphan_timeout_s)
    command = [sys.executable, "-I", "-S", __file__, *map(str, numbers), key, note]
    closed = subprocess.DEVNULL  # a worker that ends waits for all processes that could write to its streams
    subprocess.run(command, check=True, stdin=closed, stdout=closed, stderr=closed)
    os.environ[KEY_VARIABLE] = key
    return note


def read_note(note: str | None) -> str | None:
    """Return why a guard killed its worker, and delete the note; None if it did not. Run it on the worker's machine."""
    if note is None:
        return None
    try:
        reason = Path(note).read_text()
        Path(note).unlink()
    except OSError:
        return None
    return reason


def watch(
    pid: int, raylet: int, limit_bytes: int, interval_s: float, orphan_timeout_s: float, key: str, note: str
) -> None:
    """Watch a worker until it ends, then kill every process that belonged to it (arguments: see `start_guard`)."""
    worker = pid, _start_time(pid)
    family = {worker}
    raylet_seen_at = time.monotonic()
    while _is_alive(worker):  # it may have ended before the guard began
        if _parent(pid) == str(raylet):
            raylet_seen_at = time.monotonic()
        found = set(_family(pid))
        family = found if _is_alive(worker) else family  # a worker that is ending has lost its children
        if limit_bytes and (used := _memory(family, limit_bytes)) > limit_bytes:
            Path(note).write_text(
                f"its worker used {used / GIB:.2f} GiB, and its limit is {limit_bytes / GIB:.2f} GiB"
            )
            _kill(worker)
        elif time.monotonic() - raylet_seen_at > orphan_timeout_s:
            _kill(worker)
        time.sleep(interval_s)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for member in family | set(_with_key(key)):
        for process in _family(member[0]) if _is_alive(member) else ():
            _kill(process)


def _family(pid: int) -> Iterator[Process]:
    """Yield a process and all its descendants."""
    yield pid, _start_time(pid)
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            for child in _read(f"/proc/{pid}/task/{thread}/children").split():
                yield from _family(int(child))


def _with_key(key: str) -> Iterator[Process]:
    """Yield the processes with the worker's key in their environment."""
    variable = f"{KEY_VARIABLE}={key}".encode()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                if variable in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                    yield int(entry), _start_time(int(entry))


def _memory(family: set[Process], limit_bytes: int) -> int:
    """Return the memory of a family in bytes.

    The sum of the resident sets is read quickly and is never too low. If it exceeds the limit, the sum of the
    proportional sets counts. If a process ends while these are read, its part of the shared pages is counted twice: the
    sum is then unknown and returned as 0.
    """
    owners = [process for process in family if process[1] and not _is_vforked(process[0])]
    resident = sum(_pages(pid)[1] for pid, _ in owners) * os.sysconf("SC_PAGE_SIZE")
    if resident <= limit_bytes:
        return resident
    rollups = [_read(f"/proc/{pid}/smaps_rollup") for pid, _ in owners]
    if not all(_has_memory(process) for process in owners):
        return 0
    pss_kb = [
        line.split()[1] for rollup in rollups for line in rollup.splitlines() if line.startswith("Pss:")
    ]
    return sum(map(int, pss_kb)) * 1024 if pss_kb else resident


def _is_vforked(pid: int) -> bool:
    """Return whether a process still runs in its parent's memory, as after vfork until its own program starts."""
    return _pages(pid) == _pages(_parent(pid))


def _has_memory(process: Process) -> bool:
    """Return True if a process still has its memory; one that is ending gives it up first."""
    return _is_alive(process) and _pages(process[0])[0] > 0


def _pages(pid: int | str) -> list[int]:
    """Return the pages of a process: its address space, its resident set, and parts of them."""
    return [int(pages) for pages in _read(f"/proc/{pid}/statm", "0 0").split()]


def _is_alive(process: Process) -> bool:
    return process[1] != "" and _start_time(process[0]) == process[1]


def _start_time(pid: int) -> str:
    """Return when a process was started; an empty text if it has ended."""
    status = _status(pid)
    return status[19] if status and status[0] not in "ZX" else ""


def _parent(pid: int) -> str:
    return "".join(_status(pid)[1:2])


def _status(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _kill(process: Process) -> None:
    if _is_alive(process):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process[0], signal.SIGKILL)


def _read(path: str, default: str = "") -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return default


if __name__ == "__main__":
    pid, raylet, limit_bytes = map(int, sys.argv[1:4])
    interval_s, orphan_timeout_s = map(float, sys.argv[4:6])
    if os.fork() == 0:  # the guard is no child of the worker, because Ray kills a worker's children first
        os.setsid()
        watch(pid, raylet, limit_bytes, interval_s, orphan_timeout_s, *sys.argv[6:])
