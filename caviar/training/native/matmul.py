"""Matrix products and transposes.

A product keeps a tile of the result in registers, 8 rows by 2 registers, and walks along the depth: the dimension
that is summed over. Each element is summed in order of depth, whatever the tile, so neither an array's address nor
the width of the machine's registers changes a result. On the sizes of small networks this is about twice as
fast as a BLAS, which copies its operands first.

Shape legend: R rows and S columns of a product, K depth.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from caviar.training.native.arrays import VECTOR_SIZE, Array, element_pointer
from caviar.training.native.jit import jit
from caviar.training.native.kernel_cache import cpu_features
from caviar.training.native.simd import broadcast

_HAS_AVX512 = "+avx512f" in cpu_features()
REGISTER_BYTES = 64 if _HAS_AVX512 else 32
"""Bytes of a register. On machines with shorter ones the compiler splits it."""
TILE_ROWS = 8 if _HAS_AVX512 else 4
DEPTH_BLOCK = 256
"""Steps along the depth before the next tile: 32 KiB of the right factor, which stay in the nearest cache."""


def _make_tile_product(registers: int) -> Any:
    """Return the innermost kernel, for a tile of TILE_ROWS rows by this many registers of columns.

    c[i:i+8, j:j+n] = a[i:i+8, k0:k1] @ b[k0:k1, j:j+n], added to what c holds unless k0 is 0.
    """

    @intrinsic
    def tile_product(_context: Any, c: Any, a: Any, b: Any, i: Any, j: Any, k0: Any, k1: Any) -> Any:
        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kinds = signature.args
            c, a, b = (_Matrix(context, builder, kinds[n], args[n]) for n in range(3))
            i, j, k0, k1 = args[3:]
            element, register = _register_type(context, kinds[0].dtype)
            multiply_add = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(register, [register] * 3),
                f"llvm.fmuladd.v{register.count}f{kinds[0].dtype.bitwidth}",
            )
            rows = [builder.add(i, i.type(r)) for r in range(TILE_ROWS)]
            columns = [builder.add(j, i.type(v * register.count)) for v in range(registers)]
            sums = {(r, s): cgutils.alloca_once(builder, register) for r in rows for s in columns}
            with builder.if_else(builder.icmp_signed("==", k0, i.type(0))) as (first_block, later_block):
                with first_block:
                    for total in sums.values():
                        builder.store(register(None), total)
                with later_block:
                    for (r, s), total in sums.items():
                        builder.store(c.load(r, s, register), total)
            with cgutils.for_range_slice(builder, k0, k1, i.type(1), i.type) as (k, _):
                b_k = {s: b.load(k, s, register) for s in columns}
                for r in rows:
                    a_rk = broadcast(builder, a.load(r, k, element), register)
                    for s in columns:
                        total = builder.load(sums[r, s])
                        builder.store(builder.call(multiply_add, [a_rk, b_k[s], total]), sums[r, s])
            for (r, s), total in sums.items():
                c.store(builder.load(total), r, s)
            return context.get_dummy_value()

        return types.void(c, a, b, types.intp, types.intp, types.intp, types.intp), lower

    return tile_product


_tile_product_1, _tile_product_2 = _make_tile_product(1), _make_tile_product(2)


@intrinsic
def _transpose_block(_context: Any, b: Any, a: Any, i: Any, j: Any) -> Any:
    """Set b[j:j+n, i:i+n] = a[i:i+n, j:j+n]^T for the n numbers of a register, in log n rounds of shuffles."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b, a = (_Matrix(context, builder, signature.args[n], args[n]) for n in range(2))
        i, j = args[2:]
        _, register = _register_type(context, signature.args[0].dtype)
        n = register.count
        rows = [a.load(builder.add(i, i.type(r)), j, register) for r in range(n)]
        size = 1
        while size < n:  # swap the off-diagonal squares of this size
            upper = [index if not index & size else n + (index ^ size) for index in range(n)]
            lower_ = [index ^ size if not index & size else n + index for index in range(n)]
            for r in (r for r in range(n) if not r & size):
                pair = rows[r], rows[r + size]
                rows[r], rows[r + size] = _shuffle(builder, *pair, upper), _shuffle(builder, *pair, lower_)
            size *= 2
        for r in range(n):
            b.store(rows[r], builder.add(j, i.type(r)), i)
        return context.get_dummy_value()

    return types.void(b, a, types.intp, types.intp), lower


def _register_type(context: Any, dtype: Any) -> tuple[Any, Any]:
    """Return LLVM's types of one element and of a register of them."""
    element = context.get_data_type(dtype)
    return element, ir.VectorType(element, REGISTER_BYTES * 8 // dtype.bitwidth)


class _Matrix:
    """A matrix argument of a compiled function, read and written by row and column."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any) -> None:
        self._builder, self._kind = builder, kind
        self._array = context.make_array(kind)(context, builder, array)

    def load(self, row: Any, column: Any, pointee: Any) -> Any:
        return self._builder.load(self._pointer(row, column, pointee), align=4)

    def store(self, value: Any, row: Any, column: Any) -> None:
        self._builder.store(value, self._pointer(row, column, value.type), align=4)

    def _pointer(self, row: Any, column: Any, pointee: Any) -> Any:
        return element_pointer(self._builder, self._kind, self._array, (row, column), pointee)


def _shuffle(builder: Any, one: Any, two: Any, indices: list[int]) -> Any:
    return builder.shuffle_vector(one, two, ir.VectorType(ir.IntType(32), len(indices))(indices))


@jit
def matmul(c_RS: Array, a_RK: Array, b_KS: Array, rows: int, columns: int, depth: int) -> None:
    """Set c = a b; rows and columns are rounded up to whole tiles, for which the padding has room.

    Args:
        c_RS: product.
        a_RK: left factor, of the dtype of c. It may be a transposed view.
        b_KS: right factor, of the dtype of c.
        rows: R, without padding.
        columns: S, without padding.
        depth: K, without padding.
    """
    matmul_columns(c_RS, a_RK, b_KS, rows, 0, columns, depth)


@jit
def matmul_columns(
    c_RS: Array, a_RK: Array, b_KS: Array, rows: int, start: int, stop: int, depth: int
) -> None:
    """Set some columns of c = a b, as `matmul`.

    Args:
        c_RS: product.
        a_RK: left factor.
        b_KS: right factor.
        rows: R, without padding.
        start: first column, a multiple of VECTOR_SIZE.
        stop: column after the last.
        depth: K, without padding.
    """
    register = REGISTER_BYTES // c_RS.itemsize
    for j in range(start, stop, 2 * register):
        for k0 in range(0, depth, DEPTH_BLOCK):
            k1 = min(depth, k0 + DEPTH_BLOCK)
            if j + register < stop:
                for i in range(0, rows, TILE_ROWS):
                    _tile_product_2(c_RS, a_RK, b_KS, i, j, k0, k1)
            else:
                for i in range(0, rows, TILE_ROWS):
                    _tile_product_1(c_RS, a_RK, b_KS, i, j, k0, k1)


@jit
def transpose(b_SR: Array, a_RS: Array, rows: int, columns: int) -> None:
    """Set b = a^T, with the padding of a.

    Args:
        b_SR: transposed matrix.
        a_RS: matrix to transpose, of the dtype of b.
        rows: R, without padding.
        columns: S, without padding.
    """
    block = REGISTER_BYTES // a_RS.itemsize
    for i in range(0, rows, VECTOR_SIZE):
        for j in range(0, columns, VECTOR_SIZE):
            for r in range(i, i + VECTOR_SIZE, block):
                for s in range(j, j + VECTOR_SIZE, block):
                    _transpose_block(b_SR, a_RS, r, s)
