"""Padded arrays, and views into them that compiled code can make at no cost.

A matrix is stored with zeros around it, so that its rows and columns are whole vectors. Kernels then need no
special case at an edge. Kernels allocate nothing: they work in arrays that exist already.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

Array = npt.NDArray[Any]

VECTOR_SIZE = 16
"""Numbers in a vector. Rows and columns are padded to a multiple of it."""

_ALIGNMENT_BYTES = 64
"""Bytes of a cache line; arrays start on a multiple, so that speed does not depend on their address."""


def padded_size(count: int) -> int:
    """Return a number of rows or columns rounded up to whole vectors."""
    return -(-count // VECTOR_SIZE) * VECTOR_SIZE


def row_stride(columns: int) -> int:
    """Return the number of elements from one row of a padded matrix to the next.

    With a stride of a multiple of 1 KiB, the rows of a tile would share a few sets of the cache. One more vector
    a row spreads them.
    """
    width = padded_size(columns)
    return width + VECTOR_SIZE if width % 256 == 0 else width


def aligned_zeros(count: int, dtype: npt.DTypeLike) -> Array:
    """Return zeros, (count,) of this dtype, that begin on a cache line."""
    size = np.dtype(dtype).itemsize
    raw = np.zeros(count * size + _ALIGNMENT_BYTES, np.uint8)
    # Faster than raw.ctypes.data
    start = -ctypes.addressof(ctypes.c_char.from_buffer(raw.data)) % _ALIGNMENT_BYTES
    return raw[start : start + count * size].view(dtype)


@intrinsic
def view_1d(_context: Any, flat: Any, start: Any, count: Any) -> Any:
    """Return `count` elements of a flat array from `start` on, as a view that owns nothing."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, start, count = args
        size = count.type(signature.args[0].dtype.bitwidth // 8)
        return _make_view(context, builder, signature, args[0], start, [count], [size])

    return types.Array(flat.dtype, 1, "C")(flat, types.intp, types.intp), lower


@intrinsic
def view_2d(_context: Any, flat: Any, start: Any, rows: Any, columns: Any) -> Any:
    """Return a matrix (rows, columns) in a flat array from `start` on, as a view that owns nothing."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, start, rows, columns = args
        size = columns.type(signature.args[0].dtype.bitwidth // 8)
        shape, strides = [rows, columns], [builder.mul(columns, size), size]
        return _make_view(context, builder, signature, args[0], start, shape, strides)

    return types.Array(flat.dtype, 2, "C")(flat, types.intp, types.intp, types.intp), lower


def _make_view(
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


def element_pointer(builder: Any, kind: Any, array: Any, indices: Sequence[Any], pointee: Any) -> Any:
    """Return LLVM's pointer to an element of an array.

    Args:
        builder: builder of the LLVM code.
        kind: Numba's type of the array.
        array: the array's structure in the LLVM code.
        indices: LLVM integers, one for each dimension.
        pointee: LLVM type to read or write there: an element, or a vector of elements.
    """
    strides = cgutils.unpack_tuple(builder, array.strides, len(indices))
    if kind.layout == "C":
        strides[-1] = strides[-1].type(kind.dtype.bitwidth // 8)  # a constant, which needs no register
    offset = indices[0].type(0)
    for index, stride in zip(indices, strides, strict=True):
        offset = builder.add(offset, builder.mul(index, stride))
    start = builder.bitcast(array.data, ir.IntType(8).as_pointer())
    return builder.bitcast(builder.gep(start, [offset]), pointee.as_pointer())
