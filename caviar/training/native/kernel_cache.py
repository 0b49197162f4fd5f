"""Folder in which compiled kernels are kept, and the lock that lets one process of a machine compile them.

The folder is inside NUMBA_CACHE_DIR if that is set, else where `private_folder` finds a place. Its name is a digest of
the kernels' source and of the processor. Another version of caviar, or another kind of machine that shares the home
directory, has a folder of its own.
"""

import contextlib
import hashlib
import logging
import time
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numba
from llvmlite import binding

from caviar.storage.user_cache import locked, private_folder

_log = logging.getLogger(__name__)


def cpu_features() -> str:
    """Return the processor features that kernels may use, such as "+avx2,-avx512f".

    The environment variables NUMBA_CPU_NAME and NUMBA_CPU_FEATURES may restrict them.
    """
    if numba.config.CPU_FEATURES is not None:
        return str(numba.config.CPU_FEATURES)
    return "" if numba.config.CPU_NAME == "generic" else str(binding.get_host_cpu_features().flatten())


@cache
def cache_folder() -> Path:
    """Return the folder for this version's kernels on this kind of machine; create it if need be."""
    return private_folder(f"kernels-{_digest()}", numba.config.CACHE_DIR)


@contextlib.contextmanager
def compile_once(name: str) -> Iterator[None]:
    """Hold a lock while kernels are first used: one process of a machine compiles them, the others load them.

    Args:
        name: name of the kernels, such as their dtype.
    """
    done = cache_folder() / f"{name}.compiled"
    if done.exists():
        yield
        return
    with locked(cache_folder() / f"{name}.lock"):
        first = not done.exists()
        started = time.perf_counter()
        if first:
            _log.info(
                "compiling the native engine for %s (once per machine, some seconds): %s",
                name,
                cache_folder(),
            )
        yield
        if first:
            done.touch()
            _log.info("compiled the native engine in %.1f s", time.perf_counter() - started)


def _digest() -> str:
    """Return a digest of all that compiled code depends on: processor, libraries, source."""
    digest = hashlib.sha256(f"{binding.get_host_cpu_name()} {cpu_features()}".encode())
    for package in ("numba", "llvmlite", "numpy"):
        digest.update(version(package).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes() + str(source.stat().st_mtime_ns).encode())
    return digest.hexdigest()[:16]
