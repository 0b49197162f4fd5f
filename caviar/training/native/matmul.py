"""Matrix products and transposes.

The product keeps a tile of 8 rows by 2 registers of the result and walks along the depth. Each element is
summed in order of depth, whatever the tile, so neither the place of an array in memory nor the width of the
machine's registers changes a result. On the sizes of small networks it is about twice as fast as a BLAS,
which packs its operands first.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from caviar.training.native.arrays import LANES, Array, address, cpu_features, kernel

_AVX512 = "+avx512f" in cpu_features()
VECTOR_BYTES = 64 if _AVX512 else 32
"""One register with AVX-512; without, the compiler splits it into the registers that there are."""
TILE_ROWS = 8 if _AVX512 else 4
DEPTH_BLOCK = 256
"""How far a column of tiles walks at a time: 32 KiB of the right factor, which stay in the nearest cache."""


def _tile_of(vectors: int) -> Any:
    """The innermost kernel, for a tile of 8 (or 4) rows by so many vectors of columns.

    c[i:i+8, j:j+n] = a[i:i+8, k0:k1] @ b[k0:k1, j:j+n], added to what c holds unless k0 is 0.
    """

    @intrinsic
    def tile(_context: Any, c: Any, a: Any, b: Any, i: Any, j: Any, k0: Any, k1: Any) -> Any:
        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kinds = signature.args
            c, a, b = (_Matrix(context, builder, kinds[n], args[n]) for n in range(3))
            i, j, k0, k1 = args[3:]
            element, vector = _vector_type(context, kinds[0].dtype)
            multiply_add = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(vector, [vector] * 3),
                f"llvm.fmuladd.v{vector.count}f{kinds[0].dtype.bitwidth}",
            )
            rows = [builder.add(i, i.type(r)) for r in range(TILE_ROWS)]
            columns = [builder.add(j, i.type(v * vector.count)) for v in range(vectors)]
            sums = {(r, s): cgutils.alloca_once(builder, vector) for r in rows for s in columns}
            with builder.if_else(builder.icmp_signed("==", k0, i.type(0))) as (begin, go_on):
                with begin:
                    for total in sums.values():
                        builder.store(vector(None), total)
                with go_on:
                    for (r, s), total in sums.items():
                        builder.store(c.load(r, s, vector), total)
            with cgutils.for_range_slice(builder, k0, k1, i.type(1), i.type) as (k, _):
                b_k = {s: b.load(k, s, vector) for s in columns}
                for r in rows:
                    a_rk = _broadcast(builder, a.load(r, k, element), vector)
                    for s in columns:
                        total = builder.load(sums[r, s])
                        builder.store(builder.call(multiply_add, [a_rk, b_k[s], total]), sums[r, s])
            for (r, s), total in sums.items():
                c.store(builder.load(total), r, s)
            return context.get_dummy_value()

        return types.void(c, a, b, types.intp, types.intp, types.intp, types.intp), lower

    return tile


@intrinsic
def _transpose_block(_context: Any, b: Any, a: Any, i: Any, j: Any) -> Any:
    """Block b[j:j+n, i:i+n] = a[i:i+n, j:j+n]^T for the n lanes of a vector, in log n rounds of shuffles."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b, a = (_Matrix(context, builder, signature.args[n], args[n]) for n in range(2))
        i, j = args[2:]
        _, vector = _vector_type(context, signature.args[0].dtype)
        n = vector.count
        rows = [a.load(builder.add(i, i.type(r)), j, vector) for r in range(n)]
        apart = 1
        while apart < n:  # swap the off-diagonal squares of this size
            upper = [lane if not lane & apart else n + (lane ^ apart) for lane in range(n)]
            lower_ = [lane ^ apart if not lane & apart else n + lane for lane in range(n)]
            for r in (r for r in range(n) if not r & apart):
                pair = rows[r], rows[r + apart]
                rows[r], rows[r + apart] = _shuffle(builder, *pair, upper), _shuffle(builder, *pair, lower_)
            apart *= 2
        for r in range(n):
            b.store(rows[r], builder.add(j, i.type(r)), i)
        return context.get_dummy_value()

    return types.void(b, a, types.intp, types.intp), lower


def _vector_type(context: Any, dtype: Any) -> tuple[Any, Any]:
    """LLVM's types for one element and for a vector of them."""
    element = context.get_data_type(dtype)
    vector = ir.VectorType(element, VECTOR_BYTES * 8 // dtype.bitwidth)
    return element, vector


class _Matrix:
    """An argument of a compiled function, by row and column."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any) -> None:
        self._builder, self._kind = builder, kind
        self._array = context.make_array(kind)(context, builder, array)

    def load(self, row: Any, column: Any, pointee: Any) -> Any:
        return self._builder.load(self._address(row, column, pointee), align=4)

    def store(self, value: Any, row: Any, column: Any) -> None:
        self._builder.store(value, self._address(row, column, value.type), align=4)

    def _address(self, row: Any, column: Any, pointee: Any) -> Any:
        return address(self._builder, self._kind, self._array, (row, column), pointee)


def _shuffle(builder: Any, one: Any, two: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(one, two, ir.VectorType(ir.IntType(32), len(lanes))(lanes))


def _broadcast(builder: Any, scalar: Any, vector: Any) -> Any:
    one = builder.insert_element(vector(ir.Undefined), scalar, ir.IntType(32)(0))
    return _shuffle(builder, one, one, [0] * vector.count)


_tile_1, _tile_2 = _tile_of(1), _tile_of(2)


@kernel
def multiply(c_RS: Array, a_RK: Array, b_KS: Array, rows: int, columns: int, depth: int) -> None:
    """Matrix product c = a b; `rows` and `columns` are rounded up to whole tiles, as the padding allows."""
    multiply_columns(c_RS, a_RK, b_KS, rows, 0, columns, depth)


@kernel
def multiply_columns(
    c_RS: Array, a_RK: Array, b_KS: Array, rows: int, start: int, stop: int, depth: int
) -> None:
    """The columns from `start`, which is a multiple of LANES, to `stop` of c = a b."""
    register = VECTOR_BYTES // c_RS.itemsize
    for j in range(start, stop, 2 * register):
        for k0 in range(0, depth, DEPTH_BLOCK):
            k1 = min(depth, k0 + DEPTH_BLOCK)
            if j + register < stop:
                for i in range(0, rows, TILE_ROWS):
                    _tile_2(c_RS, a_RK, b_KS, i, j, k0, k1)
            else:
                for i in range(0, rows, TILE_ROWS):
                    _tile_1(c_RS, a_RK, b_KS, i, j, k0, k1)


@kernel
def transpose(b_SR: Array, a_RS: Array, rows: int, columns: int) -> None:
    """Matrix b = a^T, with the zeros around a."""
    block = VECTOR_BYTES // a_RS.itemsize
    for i in range(0, rows, LANES):
        for j in range(0, columns, LANES):
            for r in range(i, i + LANES, block):
                for s in range(j, j + LANES, block):
                    _transpose_block(b_SR, a_RS, r, s)
