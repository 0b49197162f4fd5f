"""The order of an epoch's rows, compiled: the very numbers of `random_streams.epoch_order`, in a tenth of its time.

For a small network, NumPy's permutation takes as long as several steps: it makes a generator, and calls it
through a pointer for each number.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from caviar.training.native.arrays import kernel
from caviar.training.native.kernel_cache import entry
from caviar.training.random_streams import Purpose

_ORDER = int(Purpose.ORDER)
_FACTORS = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_WEYL = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


@entry
def shuffle(order: npt.NDArray[np.int64], seed: int, epoch: int) -> None:
    """Fills `order` with a permutation of its places (Fisher & Yates, as NumPy draws it).

    A place is drawn as so many bits as the last one needs, again while it lies behind the last one; of the
    stream's 64-bit words, the lower half comes first.
    """
    for row in range(len(order)):
        order[row] = row
    words, used, block, mask = _philox(seed, epoch, 1), 0, 1, 1
    while mask < len(order) - 1:
        mask = 2 * mask + 1
    for last in range(len(order) - 1, 0, -1):
        while mask // 2 >= last:
            mask //= 2
        place = last + 1
        while place > last:
            if used == 8:
                block += 1
                words, used = _philox(seed, epoch, block), 0
            place = int(words[used // 2] >> np.uint64(used % 2 * 32)) & mask
            used += 1
        order[last], order[place] = order[place], order[last]


@kernel
def _philox(seed: int, epoch: int, block: int) -> Any:
    """Four 64-bit words of the stream: ten rounds of Philox 4x64 (Salmon et al., SC'11)."""
    a, b, c, d = np.uint64(block), np.uint64(0), np.uint64(0), np.uint64(epoch)
    key, key_ = np.uint64(seed), np.uint64(_ORDER)
    for _ in range(10):
        high_a, high_c = _high_product(_FACTORS[0], a), _high_product(_FACTORS[1], c)
        a, b, c, d = high_c ^ b ^ key, _FACTORS[1] * c, high_a ^ d ^ key_, _FACTORS[0] * a
        key, key_ = key + _WEYL[0], key_ + _WEYL[1]
    return a, b, c, d


@intrinsic
def _high_product(_context: Any, a: Any, b: Any) -> Any:
    """The upper 64 bits of a product."""

    def lower(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        a, b = (builder.zext(value, wide) for value in args)
        return builder.trunc(builder.lshr(builder.mul(a, b), wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), lower
