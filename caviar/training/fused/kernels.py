"""Kernels of a training step, in Triton. Each program works on a tile of one lane, which it looks up in the tables.

A step of all lanes is 2 L + 3 launches, with L hidden layers in the deepest network:

    draw_dropout_bits                                 only if a lane has dropout
    forward_hidden    for each layer from the first   z = x W, batch norm, activation, dropout
    forward_output                                    logits, softmax, loss, and the gradient at the logits
    backward_hidden   for each layer from the last    the gradients at a and z; updates gamma, beta and biases
    update_weights                                    the gradients of all weights, and their update
    next_batch                                        moves each lane to its next mini-batch

Programs of lanes that are idle, or that have fewer layers or smaller ones, return at once. The tiles are the same for
every network and sums run in the order of rows and units, so the bits of a lane depend on no other lane. The formulas
are those of the native engine (`caviar.training.native`): batch norm of Ioffe & Szegedy 2015, the optimizers as in
torch.optim.

Without a GPU, Triton interprets the kernels if the environment variable TRITON_INTERPRET is 1: slowly, for tests.

Shape legend: B rows of a tile of the mini-batch, D inputs of a layer, H its outputs, C classes.
"""

from enum import IntEnum

import torch
import triton
import triton.language as tl

from caviar.training.fused.layout import Field


class Whole(IntEnum):
    """Columns of the lanes' table of whole numbers, int64."""

    MEMORY = 0
    """Address of the lane's flat array."""
    LAYERS = 1
    """Number of hidden layers."""
    START = 2
    """Place of the mini-batch in the epoch's order of rows."""
    ROWS = 3
    """Rows of the mini-batch; 0 if the lane is idle."""
    END = 4
    """Rows that the epoch trains."""
    BATCH_SIZE = 5
    FIRST = 6
    """Place of the running average of gradients."""
    SECOND = 7
    """Place of the running average of squared gradients."""
    OPTIMIZER = 8
    """Number of the optimizer in `recipe.OPTIMIZERS`."""
    IS_TANH = 9
    HAS_NORM = 10
    THRESHOLD = 11
    """Lowest 16-bit number with which a unit is kept; 0 without dropout."""
    SEED = 12
    """Seed of the trial, its 64 bits."""
    EPOCH = 13
    BITS = 14
    """Address of the random bits of dropout."""
    FIRST_WORD = 15
    """Place of the mini-batch's first 64-bit word in the epoch's stream of random bits."""
    WORDS = 16
    """64-bit words of random bits that a full mini-batch takes."""
    IS_SCORED = 17
    """1 if the lane takes part in scoring."""


class Real(IntEnum):
    """Columns of the lanes' table of real numbers, float64."""

    RATE = 0
    L2 = 1
    MOMENTUM = 2
    BETA1 = 3
    BETA2 = 4
    EPSILON = 5
    POWER1 = 6
    """beta1 to the power of the step's number, from 1."""
    POWER2 = 7
    """beta2 to the power of the step's number."""
    NORM_MOMENTUM = 8
    NORM_EPSILON = 9
    KEEP = 10
    """1 - dropout"""
    LOSS = 11
    """Sum of the losses of the epoch's rows so far."""
    SCORED_LOSS = 12
    """Sum of the losses of the rows scored so far."""
    CORRECT = 13
    """Number of rows scored so far whose class has the largest logit."""


def _constants(columns: type[IntEnum]) -> list[tl.constexpr]:
    return [tl.constexpr(int(column)) for column in columns]


(
    _MEMORY, _LAYERS, _START, _ROWS, _END, _BATCH_SIZE, _FIRST, _SECOND, _OPTIMIZER, _IS_TANH, _HAS_NORM,
    _THRESHOLD, _SEED, _EPOCH, _BITS, _FIRST_WORD, _WORDS, _IS_SCORED,
) = _constants(Whole)  # fmt: skip
(
    _RATE, _L2, _MOMENTUM, _BETA1, _BETA2, _EPSILON, _POWER1, _POWER2, _NORM_MOMENTUM, _NORM_EPSILON, _KEEP,
    _LOSS, _SCORED_LOSS, _CORRECT,
) = _constants(Real)  # fmt: skip
(
    _INPUTS, _UNITS, _STRIDE, _WEIGHT, _SCALE, _SHIFT, _RUNNING_MEAN, _RUNNING_VAR, _MEAN, _INVERSE_STD, _Z, _A, _DZ,
) = _constants(Field)  # fmt: skip
_FIELDS, _WHOLES, _REALS = tl.constexpr(len(Field)), tl.constexpr(len(Whole)), tl.constexpr(len(Real))
_SGD_KIND, _MOMENTUM_KIND, _RMSPROP_KIND = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
_NUMBERS = ["order_size", "table_size", "layer", "above", "first_row", "last_row", "lanes"]
"""Arguments for whose values no kernels of their own are compiled."""
_DROPOUT_PURPOSE = tl.constexpr(3)  # Purpose.DROPOUT of caviar.training.random_streams


@triton.jit
def _memory_of(whole: tl.tensor, REAL: tl.constexpr) -> tl.tensor:
    """Return the address of a lane's flat array as a pointer."""
    return tl.load(whole + _MEMORY).to(tl.pointer_type(REAL))


@triton.jit
def _field(table: tl.tensor, layer: tl.tensor, FIELD: tl.constexpr) -> tl.tensor:
    """Return a number of a lane's table of layers."""
    return tl.load(table + layer * _FIELDS + FIELD)


@triton.jit
def _sqrt(x: tl.tensor) -> tl.tensor:
    """Return the root, rounded as IEEE asks; Triton's other root is approximate in float32."""
    if x.dtype == tl.float64:
        return tl.sqrt(x)
    else:
        return tl.sqrt_rn(x)


@triton.jit
def _tanh(y: tl.tensor) -> tl.tensor:
    """Return tanh(y): by its series near 0, where the other formula would cancel."""
    s = y * y
    series = y * (
        1.0
        + s
        * (
            -0.3333333333333333
            + s
            * (
                0.13333333333333333
                + s * (-0.05396825396825397 + s * (0.021869488536155203 + s * -0.008863235529902197))
            )
        )
    )
    return tl.where(s < 0.01, series, 1.0 - 2.0 / (tl.exp(2.0 * y) + 1.0))


@triton.jit
def _load_rows(
    x: tl.tensor,
    order: tl.tensor,
    table: tl.tensor,
    memory: tl.tensor,
    layer: tl.tensor,
    start: tl.tensor,
    rows_B: tl.tensor,
    is_row_B: tl.tensor,
    columns_D: tl.tensor,
    inputs: tl.tensor,
    SCORES: tl.constexpr,
) -> tl.tensor:
    """Return a tile x_BD of a layer's input, with zeros outside.

    The first layer reads rows of the split, in training in the order of the epoch; other layers read the activations
    of the layer below.
    """
    is_number_BD = is_row_B[:, None] & (columns_D < inputs)[None, :]
    if layer == 0:
        if SCORES:
            places_B = start + rows_B
        else:
            places_B = tl.load(order + start + rows_B, mask=is_row_B, other=0).to(tl.int64)
        numbers = x + places_B[:, None] * inputs + columns_D[None, :]
    else:
        stride = _field(table, layer - 1, _STRIDE)
        numbers = memory + _field(table, layer - 1, _A) + rows_B[:, None] * stride + columns_D[None, :]
    return tl.load(numbers, mask=is_number_BD, other=0.0)


@triton.jit
def _product(
    x: tl.tensor,
    order: tl.tensor,
    table: tl.tensor,
    memory: tl.tensor,
    layer: tl.tensor,
    start: tl.tensor,
    rows_B: tl.tensor,
    is_row_B: tl.tensor,
    units_H: tl.tensor,
    REAL: tl.constexpr,
    SCORES: tl.constexpr,
    ROW_TILE: tl.constexpr,
    UNIT_TILE: tl.constexpr,
    INPUT_TILE: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """Return a tile z_BH = x W of a layer."""
    inputs = _field(table, layer, _INPUTS)
    units, stride = _field(table, layer, _UNITS), _field(table, layer, _STRIDE)
    weight = memory + _field(table, layer, _WEIGHT)
    z_BH = tl.zeros((ROW_TILE, UNIT_TILE), REAL)
    for first in range(0, inputs, INPUT_TILE):
        columns_D = first + tl.arange(0, INPUT_TILE)
        x_BD = _load_rows(x, order, table, memory, layer, start, rows_B, is_row_B, columns_D, inputs, SCORES)
        w_DH = tl.load(
            weight + columns_D[:, None] * stride + units_H[None, :],
            mask=(columns_D < inputs)[:, None] & (units_H < units)[None, :],
            other=0.0,
        )
        z_BH = tl.dot(x_BD, w_DH, z_BH, input_precision=PRECISION, out_dtype=REAL)
    return z_BH


@triton.jit
def _layer_bits(whole: tl.tensor, table: tl.tensor, layer: tl.tensor, rows: tl.tensor) -> tl.tensor:
    """Return the first of the random bits of a layer in this mini-batch, as a pointer to 16-bit numbers."""
    words = tl.load(whole + _FIRST_WORD) % 4
    for below in range(0, layer):
        words += (rows * _field(table, below, _UNITS) + 3) // 4
    return tl.load(whole + _BITS).to(tl.pointer_type(tl.uint16)) + 4 * words


@triton.jit
def _kept(
    whole: tl.tensor,
    bits: tl.tensor,
    rows_B: tl.tensor,
    units_H: tl.tensor,
    units: tl.tensor,
    is_number_BH: tl.tensor,
) -> tl.tensor:
    """Return a tile of dropout's mask: True for a unit that is kept."""
    numbers_BH = tl.load(bits + rows_B[:, None] * units + units_H[None, :], mask=is_number_BH, other=0)
    return numbers_BH.to(tl.int32) >= tl.load(whole + _THRESHOLD).to(tl.int32)


@triton.jit
def _update(
    whole: tl.tensor,
    real: tl.tensor,
    memory: tl.tensor,
    places: tl.tensor,
    is_number: tl.tensor,
    gradient: tl.tensor,
    REAL: tl.constexpr,
) -> None:
    """Take a step of the lane's optimizer for the parameters at some places (formulas: `native.optimizers`)."""
    w = tl.load(memory + places, mask=is_number, other=0.0)
    kind = tl.load(whole + _OPTIMIZER)
    rate_64 = tl.load(real + _RATE)
    rate = rate_64.to(REAL)
    if kind == _SGD_KIND:
        w = w - rate * gradient
    elif kind == _MOMENTUM_KIND:
        firsts = memory + tl.load(whole + _FIRST) + places
        m = tl.load(real + _MOMENTUM).to(REAL) * tl.load(firsts, mask=is_number, other=0.0) + gradient
        tl.store(firsts, m, mask=is_number)
        w = w - rate * m
    else:
        beta2, epsilon = tl.load(real + _BETA2), tl.load(real + _EPSILON).to(REAL)
        seconds = memory + tl.load(whole + _SECOND) + places
        v = beta2.to(REAL) * tl.load(seconds, mask=is_number, other=0.0)
        v = v + (1 - beta2).to(REAL) * gradient * gradient
        tl.store(seconds, v, mask=is_number)
        if kind == _RMSPROP_KIND:
            w = w - rate * gradient / (_sqrt(v) + epsilon)
        else:
            firsts = memory + tl.load(whole + _FIRST) + places
            m = tl.load(firsts, mask=is_number, other=0.0)
            m = m + (1 - tl.load(real + _BETA1)).to(REAL) * (gradient - m)
            tl.store(firsts, m, mask=is_number)
            corrected = (rate_64 / (1 - tl.load(real + _POWER1))).to(REAL)
            correction = (1 / _sqrt(1 - tl.load(real + _POWER2))).to(REAL)
            w = w - corrected * m / (_sqrt(v) * correction + epsilon)
    tl.store(memory + places, w, mask=is_number)


@triton.jit
def _cross_entropy(z_BC: tl.tensor, y_B: tl.tensor, classes_C: tl.tensor, classes: tl.tensor) -> tl.tuple:
    """Return the probabilities p_BC, the loss of each row in nats, and the first class of the largest logit.

    -log p_y = log sum_c exp(z_c - max z) - (z_y - max z).
    """
    z_BC = tl.where((classes_C < classes)[None, :], z_BC, float("-inf"))
    largest_B = tl.max(z_BC, axis=1)
    distance_BC = z_BC - largest_B[:, None]
    e_BC = tl.exp(distance_BC)
    total_B = tl.sum(e_BC, axis=1)
    is_class_BC = classes_C[None, :] == y_B[:, None]
    loss_B = tl.log(total_B) - tl.sum(tl.where(is_class_BC, distance_BC, 0.0), axis=1)
    is_largest_BC = (z_BC >= largest_B[:, None]) | (z_BC != z_BC)
    found_B = tl.min(tl.where(is_largest_BC, classes_C[None, :], classes), axis=1)
    return e_BC / total_B[:, None], loss_B, found_B


@triton.jit
def draw_dropout_bits(wholes: tl.tensor, BLOCKS: tl.constexpr) -> None:
    """Write the random bits of a mini-batch: the words of `random_streams.DropoutStream`, from a whole block on.

    Philox 4x64 with ten rounds (Salmon et al. 2011): the key is (seed, purpose), the counter (block, 0, 0, epoch), and
    a block is four words. NumPy counts the blocks from 1.
    """
    whole = wholes + tl.program_id(0) * _WHOLES
    threshold, words = tl.load(whole + _THRESHOLD), tl.load(whole + _WORDS)
    first = tl.program_id(1) * BLOCKS
    if (threshold == 0) | (tl.load(whole + _ROWS) == 0) | (first * 4 >= words + 3):
        return
    blocks = first + tl.arange(0, BLOCKS)
    zero = tl.zeros((BLOCKS,), tl.uint64)
    c0 = (tl.load(whole + _FIRST_WORD) // 4 + blocks + 1).to(tl.uint64)
    c1, c2, c3 = zero, zero, zero + tl.load(whole + _EPOCH).to(tl.uint64)
    k0 = zero + tl.load(whole + _SEED).to(tl.uint64, bitcast=True)
    k1 = zero + _DROPOUT_PURPOSE
    m0, m1 = zero + 0xD2E7470EE14C6C93, zero + 0xCA5A826395121157
    for _ in range(10):
        high0, low0 = tl.umulhi(m0, c0), m0 * c0
        high1, low1 = tl.umulhi(m1, c2), m1 * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + 0x9E3779B97F4A7C15, k1 + 0xBB67AE8584CAA73B
    bits = tl.load(whole + _BITS).to(tl.pointer_type(tl.uint64)) + 4 * blocks
    is_wanted = 4 * blocks < words + 3
    tl.store(bits, c0, mask=is_wanted)
    tl.store(bits + 1, c1, mask=is_wanted)
    tl.store(bits + 2, c2, mask=is_wanted)
    tl.store(bits + 3, c3, mask=is_wanted)


@triton.jit(do_not_specialize=_NUMBERS)
def forward_hidden(
    x: tl.tensor,
    orders: tl.tensor,
    wholes: tl.tensor,
    reals: tl.tensor,
    tables: tl.tensor,
    order_size: tl.tensor,
    table_size: tl.tensor,
    layer: tl.tensor,
    first_row: tl.tensor,
    last_row: tl.tensor,
    REAL: tl.constexpr,
    SCORES: tl.constexpr,
    ROW_TILE: tl.constexpr,
    UNIT_TILE: tl.constexpr,
    INPUT_TILE: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """Compute a tile of units of a hidden layer: z, batch norm, activation and dropout.

    Args:
        x: rows of the split, (N, D).
        orders: order of the rows in each lane's epoch, (lanes, N) int32.
        wholes: table of `Whole`.
        reals: table of `Real`.
        tables: table of layers of each lane.
        order_size: N of the train split.
        table_size: layers in the table of a lane.
        layer: number of the layer, from 0.
        first_row: first row of the split to score.
        last_row: row after the last one to score.
        REAL: dtype of the numbers.
        SCORES: True for scoring rows `first_row` to `last_row`, False for training a mini-batch.
        ROW_TILE: rows of a tile.
        UNIT_TILE: units of a tile.
        INPUT_TILE: inputs of a tile.
        PRECISION: precision of products, as in `tl.dot`.
    """
    lane = tl.program_id(0)
    whole, real = wholes + lane * _WHOLES, reals + lane * _REALS
    table, order = tables + lane * table_size * _FIELDS, orders + lane * order_size
    if SCORES:
        start, rows = first_row, (last_row - first_row) * tl.load(whole + _IS_SCORED)
    else:
        start, rows = tl.load(whole + _START), tl.load(whole + _ROWS)
    units = _field(table, layer, _UNITS)
    first_unit = tl.program_id(1) * UNIT_TILE
    if (rows == 0) | (layer >= tl.load(whole + _LAYERS)) | (first_unit >= units):
        return
    memory = _memory_of(whole, REAL)
    units_H = first_unit + tl.arange(0, UNIT_TILE)
    is_unit_H = units_H < units
    stride = _field(table, layer, _STRIDE)
    z, a = memory + _field(table, layer, _Z), memory + _field(table, layer, _A)
    total_H = tl.zeros((UNIT_TILE,), REAL)
    for first in range(0, rows, ROW_TILE):
        rows_B = first + tl.arange(0, ROW_TILE)
        is_row_B = rows_B < rows
        z_BH = _product(
            x, order, table, memory, layer, start, rows_B, is_row_B, units_H,
            REAL, SCORES, ROW_TILE, UNIT_TILE, INPUT_TILE, PRECISION,
        )  # fmt: skip
        total_H += tl.sum(z_BH, axis=0)
        tl.store(
            z + rows_B[:, None] * stride + units_H[None, :], z_BH, mask=is_row_B[:, None] & is_unit_H[None, :]
        )
    tl.debug_barrier()  # the tiles of z may be read by other threads than wrote them
    mean_H, inverse_H = tl.zeros((UNIT_TILE,), REAL), tl.full((UNIT_TILE,), 1.0, REAL)
    scale_H = inverse_H
    if tl.load(whole + _HAS_NORM) != 0:
        epsilon = tl.load(real + _NORM_EPSILON).to(REAL)
        running_means = memory + _field(table, layer, _RUNNING_MEAN) + units_H
        running_vars = memory + _field(table, layer, _RUNNING_VAR) + units_H
        running_mean_H = tl.load(running_means, mask=is_unit_H, other=0.0)
        running_var_H = tl.load(running_vars, mask=is_unit_H, other=1.0)
        scale_H = tl.load(memory + _field(table, layer, _SCALE) + units_H, mask=is_unit_H, other=0.0)
        if SCORES:
            mean_H, inverse_H = running_mean_H, 1 / _sqrt(running_var_H + epsilon)
        else:
            count = rows.to(REAL)
            mean_H = total_H / count
            squares_H = tl.zeros((UNIT_TILE,), REAL)
            for first in range(0, rows, ROW_TILE):
                rows_B = first + tl.arange(0, ROW_TILE)
                is_number_BH = (rows_B < rows)[:, None] & is_unit_H[None, :]
                z_BH = tl.load(z + rows_B[:, None] * stride + units_H[None, :], mask=is_number_BH, other=0.0)
                difference_BH = tl.where(is_number_BH, z_BH - mean_H[None, :], 0.0)
                squares_H += tl.sum(difference_BH * difference_BH, axis=0)
            inverse_H = 1 / _sqrt(squares_H / count + epsilon)
            share = tl.load(real + _NORM_MOMENTUM).to(REAL)
            mean_of_both_H = running_mean_H + share * (mean_H - running_mean_H)
            tl.store(running_means, mean_of_both_H, mask=is_unit_H)
            var_of_both_H = running_var_H + share * (squares_H / (count - 1) - running_var_H)
            tl.store(running_vars, var_of_both_H, mask=is_unit_H)
            tl.store(memory + _field(table, layer, _MEAN) + units_H, mean_H, mask=is_unit_H)
            tl.store(memory + _field(table, layer, _INVERSE_STD) + units_H, inverse_H, mask=is_unit_H)
    shift_H = tl.load(memory + _field(table, layer, _SHIFT) + units_H, mask=is_unit_H, other=0.0)
    is_tanh, has_dropout = tl.load(whole + _IS_TANH), tl.load(whole + _THRESHOLD) > 0
    for first in range(0, rows, ROW_TILE):
        rows_B = first + tl.arange(0, ROW_TILE)
        is_number_BH = (rows_B < rows)[:, None] & is_unit_H[None, :]
        z_BH = tl.load(z + rows_B[:, None] * stride + units_H[None, :], mask=is_number_BH, other=0.0)
        y_BH = scale_H[None, :] * ((z_BH - mean_H[None, :]) * inverse_H[None, :]) + shift_H[None, :]
        if is_tanh != 0:
            a_BH = _tanh(y_BH)
        else:
            a_BH = tl.where(y_BH < 0, 0.0, y_BH)
        if not SCORES:
            if has_dropout:
                bits = _layer_bits(whole, table, layer, rows)
                kept_BH = _kept(whole, bits, rows_B, units_H, units, is_number_BH)
                a_BH = tl.where(kept_BH, a_BH / tl.load(real + _KEEP).to(REAL), 0.0)
        tl.store(a + rows_B[:, None] * stride + units_H[None, :], a_BH, mask=is_number_BH)


@triton.jit(do_not_specialize=_NUMBERS)
def forward_output(
    x: tl.tensor,
    y: tl.tensor,
    orders: tl.tensor,
    wholes: tl.tensor,
    reals: tl.tensor,
    tables: tl.tensor,
    order_size: tl.tensor,
    table_size: tl.tensor,
    first_row: tl.tensor,
    last_row: tl.tensor,
    REAL: tl.constexpr,
    SCORES: tl.constexpr,
    ROW_TILE: tl.constexpr,
    CLASS_TILE: tl.constexpr,
    INPUT_TILE: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """Compute the softmax of a lane, add up its loss, and in training compute the gradient at the logits.

    Args:
        x: rows of the split, (N, D).
        y: classes of the split, (N,) int64.
        orders: order of the rows in each lane's epoch, (lanes, N) int32.
        wholes: table of `Whole`.
        reals: table of `Real`.
        tables: table of layers of each lane.
        order_size: N of the train split.
        table_size: layers in the table of a lane.
        first_row: first row of the split to score.
        last_row: row after the last one to score.
        REAL: dtype of the numbers.
        SCORES: True for scoring rows `first_row` to `last_row`, False for training a mini-batch.
        ROW_TILE: rows of a tile.
        CLASS_TILE: C, rounded up to a power of 2.
        INPUT_TILE: inputs of a tile.
        PRECISION: precision of products, as in `tl.dot`.
    """
    lane = tl.program_id(0)
    whole, real = wholes + lane * _WHOLES, reals + lane * _REALS
    table, order = tables + lane * table_size * _FIELDS, orders + lane * order_size
    if SCORES:
        start, rows = first_row, (last_row - first_row) * tl.load(whole + _IS_SCORED)
    else:
        start, rows = tl.load(whole + _START), tl.load(whole + _ROWS)
    if rows == 0:
        return
    memory, layer = _memory_of(whole, REAL), tl.load(whole + _LAYERS)
    classes, stride = _field(table, layer, _UNITS), _field(table, layer, _STRIDE)
    classes_C = tl.arange(0, CLASS_TILE)
    bias_C = tl.load(memory + _field(table, layer, _SHIFT) + classes_C, mask=classes_C < classes, other=0.0)
    loss, correct = tl.zeros((), tl.float64), tl.zeros((), tl.float64)
    for first in range(0, rows, ROW_TILE):
        rows_B = first + tl.arange(0, ROW_TILE)
        is_row_B = rows_B < rows
        z_BC = _product(
            x, order, table, memory, layer, start, rows_B, is_row_B, classes_C,
            REAL, SCORES, ROW_TILE, CLASS_TILE, INPUT_TILE, PRECISION,
        )  # fmt: skip
        if SCORES:
            places_B = start + rows_B
        else:
            places_B = tl.load(order + start + rows_B, mask=is_row_B, other=0).to(tl.int64)
        y_B = tl.load(y + places_B, mask=is_row_B, other=0)
        p_BC, loss_B, found_B = _cross_entropy(z_BC + bias_C[None, :], y_B, classes_C, classes)
        loss += tl.sum(tl.where(is_row_B, loss_B, 0.0).to(tl.float64), axis=0)
        if SCORES:
            correct += tl.sum((is_row_B & (found_B == y_B)).to(tl.float64), axis=0)
        else:
            dz_BC = (p_BC - (classes_C[None, :] == y_B[:, None]).to(REAL)) / rows.to(REAL)
            tl.store(
                memory + _field(table, layer, _DZ) + rows_B[:, None] * stride + classes_C[None, :],
                dz_BC,
                mask=is_row_B[:, None] & (classes_C < classes)[None, :],
            )
    if SCORES:
        tl.store(real + _SCORED_LOSS, tl.load(real + _SCORED_LOSS) + loss)
        tl.store(real + _CORRECT, tl.load(real + _CORRECT) + correct)
    else:
        tl.store(real + _LOSS, tl.load(real + _LOSS) + loss)


@triton.jit(do_not_specialize=_NUMBERS)
def backward_hidden(
    wholes: tl.tensor,
    reals: tl.tensor,
    tables: tl.tensor,
    table_size: tl.tensor,
    above: tl.tensor,
    REAL: tl.constexpr,
    ROW_TILE: tl.constexpr,
    UNIT_TILE: tl.constexpr,
    INPUT_TILE: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """Compute the gradient at z for a tile of units of a hidden layer; update gamma and beta, or the bias.

    Args:
        wholes: table of `Whole`.
        reals: table of `Real`.
        tables: table of layers of each lane.
        table_size: layers in the table of a lane.
        above: hidden layers above this one, which is the lane's last for 0.
        REAL: dtype of the numbers.
        ROW_TILE: rows of a tile.
        UNIT_TILE: units of a tile.
        INPUT_TILE: units of the layer above in a tile.
        PRECISION: precision of products, as in `tl.dot`.
    """
    lane = tl.program_id(0)
    whole, real, table = wholes + lane * _WHOLES, reals + lane * _REALS, tables + lane * table_size * _FIELDS
    rows, layer = tl.load(whole + _ROWS), tl.load(whole + _LAYERS) - 1 - above
    if (rows == 0) | (layer < 0):
        return
    units, first_unit = _field(table, layer, _UNITS), tl.program_id(1) * UNIT_TILE
    if first_unit >= units:
        return
    memory = _memory_of(whole, REAL)
    units_H = first_unit + tl.arange(0, UNIT_TILE)
    is_unit_H = units_H < units
    stride = _field(table, layer, _STRIDE)
    z, dz = memory + _field(table, layer, _Z), memory + _field(table, layer, _DZ)
    next_units, next_stride = _field(table, layer + 1, _UNITS), _field(table, layer + 1, _STRIDE)
    next_weight, next_dz = (
        memory + _field(table, layer + 1, _WEIGHT),
        memory + _field(table, layer + 1, _DZ),
    )
    has_norm, is_tanh = tl.load(whole + _HAS_NORM) != 0, tl.load(whole + _IS_TANH) != 0
    has_dropout = tl.load(whole + _THRESHOLD) > 0
    mean_H, inverse_H = tl.zeros((UNIT_TILE,), REAL), tl.full((UNIT_TILE,), 1.0, REAL)
    scale_H = inverse_H
    if has_norm:
        mean_H = tl.load(memory + _field(table, layer, _MEAN) + units_H, mask=is_unit_H, other=0.0)
        inverse_H = tl.load(memory + _field(table, layer, _INVERSE_STD) + units_H, mask=is_unit_H, other=0.0)
        scale_H = tl.load(memory + _field(table, layer, _SCALE) + units_H, mask=is_unit_H, other=0.0)
    shifts = _field(table, layer, _SHIFT) + units_H
    shift_H = tl.load(memory + shifts, mask=is_unit_H, other=0.0)
    dshift_H, dscale_H = tl.zeros((UNIT_TILE,), REAL), tl.zeros((UNIT_TILE,), REAL)
    for first in range(0, rows, ROW_TILE):
        rows_B = first + tl.arange(0, ROW_TILE)
        is_row_B = rows_B < rows
        is_number_BH = is_row_B[:, None] & is_unit_H[None, :]
        dy_BH = tl.zeros((ROW_TILE, UNIT_TILE), REAL)  # da at first
        for first_next in range(0, next_units, INPUT_TILE):
            next_D = first_next + tl.arange(0, INPUT_TILE)
            is_next_D = next_D < next_units
            dz_BD = tl.load(
                next_dz + rows_B[:, None] * next_stride + next_D[None, :],
                mask=is_row_B[:, None] & is_next_D[None, :],
                other=0.0,
            )
            w_HD = tl.load(
                next_weight + units_H[:, None] * next_stride + next_D[None, :],
                mask=is_unit_H[:, None] & is_next_D[None, :],
                other=0.0,
            )
            dy_BH = tl.dot(dz_BD, tl.trans(w_HD), dy_BH, input_precision=PRECISION, out_dtype=REAL)
        z_BH = tl.load(z + rows_B[:, None] * stride + units_H[None, :], mask=is_number_BH, other=0.0)
        normal_BH = (z_BH - mean_H[None, :]) * inverse_H[None, :]
        y_BH = scale_H[None, :] * normal_BH + shift_H[None, :]
        if has_dropout:
            bits = _layer_bits(whole, table, layer, rows)
            kept_BH = _kept(whole, bits, rows_B, units_H, units, is_number_BH)
            dy_BH = tl.where(kept_BH, dy_BH / tl.load(real + _KEEP).to(REAL), 0.0)
        if is_tanh:
            t_BH = _tanh(y_BH)
            dy_BH = dy_BH * (1.0 - t_BH * t_BH)
        else:
            dy_BH = tl.where(y_BH > 0, dy_BH, 0.0)
        dy_BH = tl.where(is_number_BH, dy_BH, 0.0)
        dshift_H += tl.sum(dy_BH, axis=0)
        dscale_H += tl.sum(dy_BH * normal_BH, axis=0)
        tl.store(dz + rows_B[:, None] * stride + units_H[None, :], dy_BH, mask=is_number_BH)
    if has_norm:
        tl.debug_barrier()  # the tiles of dz may be read by other threads than wrote them
        count = rows.to(REAL)
        for first in range(0, rows, ROW_TILE):
            rows_B = first + tl.arange(0, ROW_TILE)
            is_number_BH = (rows_B < rows)[:, None] & is_unit_H[None, :]
            numbers = rows_B[:, None] * stride + units_H[None, :]
            z_BH = tl.load(z + numbers, mask=is_number_BH, other=0.0)
            dy_BH = tl.load(dz + numbers, mask=is_number_BH, other=0.0)
            normal_BH = (z_BH - mean_H[None, :]) * inverse_H[None, :]
            noise_BH = (dshift_H[None, :] + normal_BH * dscale_H[None, :]) / count
            dz_BH = (scale_H * inverse_H)[None, :] * (dy_BH - noise_BH)
            tl.store(dz + numbers, dz_BH, mask=is_number_BH)
        _update(whole, real, memory, _field(table, layer, _SCALE) + units_H, is_unit_H, dscale_H, REAL)
    _update(whole, real, memory, shifts, is_unit_H, dshift_H, REAL)


@triton.jit(do_not_specialize=_NUMBERS)
def update_weights(
    x: tl.tensor,
    orders: tl.tensor,
    wholes: tl.tensor,
    reals: tl.tensor,
    tables: tl.tensor,
    order_size: tl.tensor,
    table_size: tl.tensor,
    REAL: tl.constexpr,
    ROW_TILE: tl.constexpr,
    UNIT_TILE: tl.constexpr,
    INPUT_TILE: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """Compute the gradient of a tile of weights, and update them; and the biases of the output layer.

    Args:
        x: rows of the train split, (N, D).
        orders: order of the rows in each lane's epoch, (lanes, N) int32.
        wholes: table of `Whole`.
        reals: table of `Real`.
        tables: table of layers of each lane.
        order_size: N.
        table_size: layers in the table of a lane.
        REAL: dtype of the numbers.
        ROW_TILE: rows of a tile.
        UNIT_TILE: units of a tile.
        INPUT_TILE: inputs of a tile.
        PRECISION: precision of products, as in `tl.dot`.
    """
    lane = tl.program_id(0)
    whole, real = wholes + lane * _WHOLES, reals + lane * _REALS
    table, order = tables + lane * table_size * _FIELDS, orders + lane * order_size
    rows = tl.load(whole + _ROWS)
    if rows == 0:
        return
    layers, layer, tile = tl.load(whole + _LAYERS), tl.zeros((), tl.int64), tl.program_id(1).to(tl.int64)
    across = (_field(table, layer, _UNITS) + UNIT_TILE - 1) // UNIT_TILE
    tiles = (_field(table, layer, _INPUTS) + INPUT_TILE - 1) // INPUT_TILE * across
    while (layer < layers) & (tile >= tiles):
        tile -= tiles
        layer += 1
        across = (_field(table, layer, _UNITS) + UNIT_TILE - 1) // UNIT_TILE
        tiles = (_field(table, layer, _INPUTS) + INPUT_TILE - 1) // INPUT_TILE * across
    if tile >= tiles:
        return
    memory, start = _memory_of(whole, REAL), tl.load(whole + _START)
    inputs, units = _field(table, layer, _INPUTS), _field(table, layer, _UNITS)
    stride = _field(table, layer, _STRIDE)
    inputs_D = tile // across * INPUT_TILE + tl.arange(0, INPUT_TILE)
    units_H = tile % across * UNIT_TILE + tl.arange(0, UNIT_TILE)
    is_unit_H = units_H < units
    dw_DH, dbias_H = tl.zeros((INPUT_TILE, UNIT_TILE), REAL), tl.zeros((UNIT_TILE,), REAL)
    for first in range(0, rows, ROW_TILE):
        rows_B = first + tl.arange(0, ROW_TILE)
        is_row_B = rows_B < rows
        x_BD = _load_rows(x, order, table, memory, layer, start, rows_B, is_row_B, inputs_D, inputs, False)
        dz_BH = tl.load(
            memory + _field(table, layer, _DZ) + rows_B[:, None] * stride + units_H[None, :],
            mask=is_row_B[:, None] & is_unit_H[None, :],
            other=0.0,
        )
        dw_DH = tl.dot(tl.trans(x_BD), dz_BH, dw_DH, input_precision=PRECISION, out_dtype=REAL)
        dbias_H += tl.sum(dz_BH, axis=0)
    places_DH = _field(table, layer, _WEIGHT) + inputs_D[:, None] * stride + units_H[None, :]
    is_weight_DH = (inputs_D < inputs)[:, None] & is_unit_H[None, :]
    l2 = tl.load(real + _L2).to(REAL)
    if l2 > 0:
        dw_DH += l2 * tl.load(memory + places_DH, mask=is_weight_DH, other=0.0)
    _update(whole, real, memory, places_DH, is_weight_DH, dw_DH, REAL)
    if (layer == layers) & (tile < across):
        _update(whole, real, memory, _field(table, layer, _SHIFT) + units_H, is_unit_H, dbias_H, REAL)


@triton.jit(do_not_specialize=_NUMBERS)
def next_batch(wholes: tl.tensor, reals: tl.tensor, lanes: tl.tensor, LANES: tl.constexpr) -> None:
    """Move each lane to its next mini-batch; a lane whose epoch has ended is idle then.

    Args:
        wholes: table of `Whole`.
        reals: table of `Real`.
        lanes: number of lanes.
        LANES: lanes of a program.
    """
    lane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    whole, real, is_lane = wholes + lane * _WHOLES, reals + lane * _REALS, lane < lanes
    rows = tl.load(whole + _ROWS, mask=is_lane, other=0)
    is_busy = is_lane & (rows > 0)
    start = tl.load(whole + _START, mask=is_busy, other=0) + rows
    left = tl.load(whole + _END, mask=is_busy, other=0) - start
    size = tl.load(whole + _BATCH_SIZE, mask=is_busy, other=0)
    tl.store(whole + _START, start, mask=is_busy)
    tl.store(whole + _ROWS, tl.minimum(left, size), mask=is_busy)
    words = tl.load(whole + _FIRST_WORD, mask=is_busy, other=0) + tl.load(
        whole + _WORDS, mask=is_busy, other=0
    )
    tl.store(whole + _FIRST_WORD, words, mask=is_busy)
    power1 = tl.load(real + _POWER1, mask=is_busy, other=0.0) * tl.load(
        real + _BETA1, mask=is_busy, other=0.0
    )
    tl.store(real + _POWER1, power1, mask=is_busy)
    power2 = tl.load(real + _POWER2, mask=is_busy, other=0.0) * tl.load(
        real + _BETA2, mask=is_busy, other=0.0
    )
    tl.store(real + _POWER2, power2, mask=is_busy)


DTYPES = {torch.float32: tl.float32, torch.float64: tl.float64}
"""Triton's dtypes of the networks, by torch's."""


def are_interpreted() -> bool:
    """Return True if Triton interprets the kernels, on a CPU."""
    return not isinstance(forward_hidden, triton.JITFunction)
