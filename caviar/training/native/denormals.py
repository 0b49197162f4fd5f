"""Switches that make the processor treat denormal numbers as zero.

Denormal numbers are too small for the usual floating-point format. Arithmetic on them is about a hundred times
slower, and networks produce them when weights decay. On machines other than x86-64 nothing changes.
"""

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
_FLUSH_BITS = 0x8040
"""Bits of the MXCSR register: flush results to zero (0x8000), read operands as zero (0x0040)."""


@intrinsic
def flush_denormals(_context: Any) -> Any:
    """Treat denormal numbers as zero in this thread; return the mode to hand to `restore_denormals`."""

    def lower(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        word = ir.IntType(32)
        place = cgutils.alloca_once_value(builder, word(0))
        if not _IS_X86:
            return builder.load(place)
        _call_mxcsr("st", builder, place)
        before = builder.load(place)
        builder.store(builder.or_(before, word(_FLUSH_BITS)), place)
        _call_mxcsr("ld", builder, place)
        return before

    return types.uint32(), lower


@intrinsic
def restore_denormals(_context: Any, before: Any) -> Any:
    """Restore the floating-point mode that `flush_denormals` returned."""

    def lower(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if _IS_X86:
            _call_mxcsr("ld", builder, cgutils.alloca_once_value(builder, args[0]))
        return context.get_dummy_value()

    return types.void(before), lower


def _call_mxcsr(direction: str, builder: Any, place: Any) -> None:
    """Store ("st") or load ("ld") MXCSR, x86's register of floating-point modes, which each thread has."""
    kind = ir.FunctionType(ir.VoidType(), [place.type])
    name = f"llvm.x86.sse.{direction}mxcsr"
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [place])
