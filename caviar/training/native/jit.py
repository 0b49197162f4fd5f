"""Decorators that compile kernels, and the rules under which all kernels are compiled.

Compiled code holds no Python objects and no GIL, and divisors are not checked. A product and a sum may be
rounded once (a fused multiply-add), which is the only freedom taken from "fast math": sums keep their order,
and NaN stays NaN, as `caviar.engine.divergence` needs it.
"""

from collections.abc import Callable
from typing import Any

import numba

from caviar.training.native.kernel_cache import cache_folder

_RULES = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


def jit(function: Callable[..., Any]) -> Any:
    """Compile a function that kernels call."""
    return numba.njit(**_RULES)(function)


def jit_inline(function: Callable[..., Any]) -> Any:
    """Compile a function into each of its callers, so that its vectors stay in registers."""
    return numba.njit(forceinline=True, **_RULES)(function)


def jit_cached(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, and keep the result in `kernel_cache.cache_folder`."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_folder())  # Numba reads it now; the user's functions keep their folder
    try:
        return numba.njit(cache=True, **_RULES)(function)
    finally:
        numba.config.CACHE_DIR = before
