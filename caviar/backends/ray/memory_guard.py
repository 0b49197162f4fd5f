"""A small process beside each worker: it stops one that takes too much memory, and ends what a dead one leaves behind.

A worker can do neither itself: it may be killed at any moment, and while C code runs, no thread of it does. Nor can
Ray: it counts memory without holding anybody to it, its memory monitor picks its victims when the machine is nearly
full, and processes that have a session of their own outlive their worker, as all of them may outlive the cluster.

What belongs to a worker are its descendants, its process group, and whatever has its mark in the environment that it
was started with: a process has to shed all three to be overlooked. Memory is the resident set of the worker and its
descendants; where that is too much, their proportional set, in which shared pages count by shares.

The guard is a program of its own, this file, with nothing but the standard library (some 8 MB), in a session of its
own. It needs Linux's /proc; elsewhere there is no guard, no memory limit, and no clean-up but Ray's own.
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

MARK = "CAVIAR_WORKER"
"""The environment variable that says whose a process is."""
LOOK_S = 0.1
"""So often the guard looks where memory is limited ..."""
LOOK_SELDOM_S = 0.5
"""... and where it is not."""
ORPHAN_S = 5.0
"""A worker whose Ray has gone should end within a second; one that takes longer, as it may when its children hold on to
its streams, is ended."""
GIB = 2**30
Process = tuple[int, str]
"""A process id and when it was started: ids are used again."""


def start_guard(limit_bytes: int) -> str | None:
    """Have this process guarded from now on.

    Args:
        limit_bytes: of memory, for it and its descendants; 0 for any.

    Returns:
        Where the guard will say that it stopped the worker for its memory; None where there can be no guard.
    """
    if not Path("/proc/self/task").is_dir():
        return None
    with suppress(PermissionError):  # it leads a session, and so a group, already
        os.setpgid(0, 0)
    mark = secrets.token_hex(16)
    note = str(Path(tempfile.gettempdir(), f"caviar-{mark}"))
    told = [str(number) for number in (os.getpid(), os.getppid(), limit_bytes)]
    command = [sys.executable, "-I", "-S", __file__, *told, mark, note]
    nowhere = subprocess.DEVNULL  # a worker that ends waits until nobody can write to its streams any more
    subprocess.run(command, check=True, stdin=nowhere, stdout=nowhere, stderr=nowhere)
    os.environ[MARK] = mark
    return note


def read_note(note: str | None) -> str | None:
    """What a guard said of a worker's memory, once, on the worker's machine; None if that was not why it ended."""
    if note is None:
        return None
    try:
        said = Path(note).read_text()
        Path(note).unlink()
    except OSError:
        return None
    return said


def watch(pid: int, parent: int, limit_bytes: int, mark: str, note: str) -> None:
    """Until the worker has ended; then end what belonged to it."""
    worker = (pid, _started(pid))
    family = {worker}
    cared_for = time.monotonic()
    while worker[1] and _started(pid) == worker[1]:  # it may have ended before the guard began
        if _parent(pid) == str(parent):
            cared_for = time.monotonic()
        family = {(member, _started(member)) for member in _with_descendants(pid)}
        if limit_bytes and (used := _memory(family, limit_bytes)) > limit_bytes:
            Path(note).write_text(f"its worker took {used / GIB:.2f} GiB of {limit_bytes / GIB:.2f} GiB")
            _kill(worker)
        elif time.monotonic() - cared_for > ORPHAN_S:
            _kill(worker)
        time.sleep(LOOK_S if limit_bytes else LOOK_SELDOM_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for member in family | set(_marked(mark)):
        for descendant in _with_descendants(member[0]) if _started(member[0]) == member[1] else ():
            _kill((descendant, _started(descendant)))


def _with_descendants(pid: int) -> Iterator[int]:
    """A process, its children, theirs ..."""
    yield pid
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
                    yield from _with_descendants(int(child))


def _marked(mark: str) -> Iterator[Process]:
    """Processes with the mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                if wanted in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                    yield int(entry), _started(int(entry))


def _memory(family: set[Process], limit_bytes: int) -> int:
    """Bytes: the resident sets, which are quickly read and never too little; or else the proportional ones.

    Where a process ends meanwhile, its share of what was counted already is counted again as its relatives': then it
    is not known, and nothing is said to be used.
    """
    owners = [process for process in family if process[1] and not _borrows(process[0])]
    resident = sum(_pages(pid)[1] for pid, _ in owners) * os.sysconf("SC_PAGE_SIZE")
    if resident <= limit_bytes:
        return resident
    rollups = [_read(f"/proc/{pid}/smaps_rollup") for pid, _ in owners]
    if not all(_has_memory(process) for process in owners):
        return 0
    pss = [line.split()[1] for rollup in rollups for line in rollup.splitlines() if line.startswith("Pss:")]
    return sum(map(int, pss)) * 1024 if pss else resident


def _borrows(pid: int) -> bool:
    """Whether a process uses its parent's memory, as one that was made by vfork does until its program begins."""
    return _pages(pid) == _pages(_parent(pid))


def _has_memory(process: Process) -> bool:
    """Not so when it has ended, nor when it is about to."""
    return _started(process[0]) == process[1] and _pages(process[0])[0] > 0


def _pages(pid: int | str) -> list[int]:
    """Of its address space, of its resident set, and of parts of them."""
    return [int(pages) for pages in _read(f"/proc/{pid}/statm", "0 0").split()]


def _started(pid: int) -> str:
    """When a process was started; nothing where it has ended."""
    fields = _status(pid)
    return fields[19] if fields and fields[0] not in "ZX" else ""


def _parent(pid: int) -> str:
    return "".join(_status(pid)[1:2])


def _status(pid: int) -> list[str]:
    """What /proc says of a process, from its state on."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _kill(process: Process) -> None:
    if process[1] and _started(process[0]) == process[1]:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process[0], signal.SIGKILL)


def _read(path: str, otherwise: str = "") -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return otherwise


if __name__ == "__main__":
    if os.fork() == 0:  # so that it is no child of the worker, whose children Ray kills first
        os.setsid()
        watch(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
