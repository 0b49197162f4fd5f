"""Where compiled kernels are kept, and that they are compiled once.

They lie in a folder that the user can write: NUMBA_CACHE_DIR if it is set, else `caviar` in the user's cache
folder, else a private temporary one. Its name says what the kernels were compiled from and for, so another
version or another kind of machine that shares the home directory has a folder of its own.
"""

import contextlib
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding

from caviar.training.native import arrays

_log = logging.getLogger(__name__)
_SOURCES = (
    "kernels.py",
    "layer_ops.py",
    "softmax.py",
    "layout.py",
    "matmul.py",
    "simd.py",
    "arrays.py",
    "kernel_cache.py",
)


def entry(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, under the rules of `arrays.kernel`, and keep it on disk."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder())  # read while decorating; the user's own functions keep their place
    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})(function)
    finally:
        numba.config.CACHE_DIR = before


@cache
def folder() -> Path:
    """Where this version's kernels for this machine are kept."""
    digest = hashlib.sha256(f"{binding.get_host_cpu_name()} {arrays.cpu_features()}".encode())
    for package in ("numba", "llvmlite", "numpy"):
        digest.update(version(package).encode())
    for name in _SOURCES:
        source = Path(__file__).with_name(name)
        digest.update(source.read_bytes() + str(source.stat().st_mtime_ns).encode())
    name = f"kernels-{digest.hexdigest()[:16]}"
    if numba.config.CACHE_DIR and _is_ours(Path(numba.config.CACHE_DIR) / name):
        return Path(numba.config.CACHE_DIR) / name
    for root in _own_roots():
        if _is_ours(root) and _is_ours(root / name):
            return root / name
    return Path(tempfile.mkdtemp(prefix="caviar-"))


@contextlib.contextmanager
def compiled_once(what: str) -> Iterator[None]:
    """Around the first use of kernels: one process of a machine compiles them, the others wait and load them.

    Args:
        what: names the kernels, such as their dtype.
    """
    done = folder() / f"{what}.compiled"
    if done.exists():
        yield
        return
    with _locked(folder() / f"{what}.lock"):
        first = not done.exists()
        started = time.perf_counter()
        if first:
            _log.info(
                "compiling the native engine for %s (once per machine, some seconds): %s", what, folder()
            )
        yield
        if first:
            done.touch()
            _log.info("compiled the native engine in %.1f s", time.perf_counter() - started)


def _own_roots() -> Iterator[Path]:
    """Folders of caviar's own, best first."""
    with contextlib.suppress(RuntimeError):  # there is no home directory
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "caviar"
    yield Path(tempfile.gettempdir()) / f"caviar-{os.getuid() if hasattr(os, 'getuid') else 'kernels'}"


def _is_ours(path: Path) -> bool:
    """Whether it is, or can be made, a folder that this user alone can write: loading kernels runs code."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            status = path.stat()
    except OSError:
        return False
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held by one process at a time; the system releases it when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # no such locks on Windows: each process compiles, and the last one's files stay
        yield
        return
    with path.open("w") as file:
        with contextlib.suppress(OSError):  # some network disks have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
