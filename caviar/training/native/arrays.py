"""How arrays lie in memory, and the rules under which kernels are compiled.

A matrix is stored with zeros around it, so that rows and columns are whole vectors (`padded`, `stride`) and
no kernel has a special case at an edge. Nothing allocates.
"""

import platform
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

Array = npt.NDArray[Any]

LANES = 16
"""Rows and columns are padded to a multiple of this."""


def cpu_features() -> str:
    """What the compiler may use of this machine, such as "+avx2,-avx512f"; NUMBA_CPU_* may say less."""
    if numba.config.CPU_FEATURES is not None:
        return str(numba.config.CPU_FEATURES)
    return "" if numba.config.CPU_NAME == "generic" else str(binding.get_host_cpu_features().flatten())


def padded(count: int) -> int:
    """Rows or columns rounded up to whole vectors."""
    return -(-count // LANES) * LANES


def stride(columns: int) -> int:
    """Elements from one row of a matrix to the next.

    Where it is a multiple of 1 KiB, the rows of a tile fall into the same few sets of the cache; one more
    vector spreads them.
    """
    width = padded(columns)
    return width + LANES if width % 256 == 0 else width


def aligned(count: int, dtype: npt.DTypeLike) -> Array:
    """Zeros that begin on 64 bytes, so that the speed does not depend on where they happen to lie."""
    size = np.dtype(dtype).itemsize
    raw = np.zeros(count * size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * size].view(dtype)


_RULES = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
"""No Python objects, GIL or checks of divisors; a * b + c may be rounded once.

Nothing else of "fast math": sums keep their order, and NaN stays NaN, as `divergence` needs it.
"""


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that kernels call."""
    return numba.njit(**_RULES)(function)


def formula(function: Callable[..., Any]) -> Any:
    """Compile a function into the place of each call: its vectors stay in registers."""
    return numba.njit(forceinline=True, **_RULES)(function)


@intrinsic
def matrix(_context: Any, flat: Any, start: Any, rows: Any, columns: Any) -> Any:
    """A part of a flat array as a matrix: a view that owns nothing, and so costs nothing."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, start, rows, columns = args
        size = columns.type(signature.args[0].dtype.bitwidth // 8)
        shape, strides = [rows, columns], [builder.mul(columns, size), size]
        return _view(context, builder, signature, args[0], start, shape, strides)

    return types.Array(flat.dtype, 2, "C")(flat, types.intp, types.intp, types.intp), lower


@intrinsic
def part(_context: Any, flat: Any, start: Any, count: Any) -> Any:
    """A part of a flat array, likewise."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, start, count = args
        size = count.type(signature.args[0].dtype.bitwidth // 8)
        return _view(context, builder, signature, args[0], start, [count], [size])

    return types.Array(flat.dtype, 1, "C")(flat, types.intp, types.intp), lower


def _view(
    context: Any, builder: Any, signature: Any, flat: Any, start: Any, shape: list[Any], strides: list[Any]
) -> Any:
    source = context.make_array(signature.args[0])(context, builder, flat)
    view = context.make_array(signature.return_type)(context, builder)
    arrayobj.populate_array(
        view,
        data=builder.gep(source.data, [start]),
        shape=shape,
        strides=strides,
        itemsize=strides[-1],
        meminfo=None,
    )
    return view._getvalue()


def address(builder: Any, kind: Any, array: Any, place: Sequence[Any], pointee: Any) -> Any:
    """Where a place of an array of this kind is: LLVM's pointer to what stands there."""
    steps = cgutils.unpack_tuple(builder, array.strides, len(place))
    if kind.layout == "C":
        steps[-1] = steps[-1].type(kind.dtype.bitwidth // 8)  # a constant, which needs no register
    offset = place[0].type(0)
    for index, step in zip(place, steps, strict=True):
        offset = builder.add(offset, builder.mul(index, step))
    start = builder.bitcast(array.data, ir.IntType(8).as_pointer())
    return builder.bitcast(builder.gep(start, [offset]), pointee.as_pointer())


# Numbers too small to be normal

_X86 = platform.machine().lower() in ("x86_64", "amd64")


def _mxcsr(name: str, builder: Any, place: Any) -> None:
    """x86's register of floating-point modes, of this thread: "st" stores it, "ld" loads it."""
    kind = ir.FunctionType(ir.VoidType(), [place.type])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}mxcsr"), [place])


@intrinsic
def flush_denormals(_context: Any) -> Any:
    """From here on, numbers too small to be normal are 0: arithmetic on them is a hundred times slower.

    Returns what `restore_denormals` wants. On machines other than x86-64 nothing changes.
    """

    def lower(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        word = ir.IntType(32)
        place = cgutils.alloca_once_value(builder, word(0))
        if not _X86:
            return builder.load(place)
        _mxcsr("st", builder, place)
        before = builder.load(place)
        builder.store(builder.or_(before, word(0x8040)), place)  # results and operands
        _mxcsr("ld", builder, place)
        return before

    return types.uint32(), lower


@intrinsic
def restore_denormals(_context: Any, before: Any) -> Any:
    """The modes of floating point are again what `flush_denormals` found."""

    def lower(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if _X86:
            _mxcsr("ld", builder, cgutils.alloca_once_value(builder, args[0]))
        return context.get_dummy_value()

    return types.void(before), lower
