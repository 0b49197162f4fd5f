"""Vectors of numbers as values of compiled code: load, store, arithmetic, comparisons, exponentials.

A vector is LANES neighbours of a padded array (see `memory`): a register with AVX-512, several where
registers are shorter. With them a kernel says which numbers stay in registers from one pass to the next, and
has no loop for what is left over. Lanes never mix, so the width of a machine's registers changes no result.

    total = zeros(z_BH)
    for b in range(rows):
        total += load(z_BH, b, h)  # LANES columns from h on
"""

import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import literal_unroll, types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, overload, register_model, type_callable

from caviar.training.native.arrays import LANES, address


class VectorType(types.Type):
    """Numba's type of LANES numbers of one dtype."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")


class MaskType(types.Type):
    """Numba's type of LANES truths."""

    def __init__(self) -> None:
        super().__init__(name="Mask")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        element = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, LANES))


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.IntType(1), LANES))


# Between memory and registers


@intrinsic
def load(_context: Any, array: Any, *place: Any) -> Any:
    """LANES neighbours in a row, from this place on."""
    result = VectorType(array.dtype)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = context.make_array(signature.args[0])(context, builder, args[0])
        where = cgutils.unpack_tuple(builder, args[1])
        kind = context.get_value_type(signature.return_type)
        return builder.load(address(builder, signature.args[0], source, where, kind), align=4)

    return result(array, types.StarArgTuple.from_types(place)), lower


@intrinsic
def load_as(_context: Any, array: Any, numbers: Any, place: Any) -> Any:
    """LANES neighbours of an array of unsigned integers, as floats of the first array's dtype."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, kind, _ = signature.args
        source = context.make_array(kind)(context, builder, args[1])
        whole = ir.VectorType(ir.IntType(kind.dtype.bitwidth), LANES)
        loaded = builder.load(address(builder, kind, source, args[2:], whole), align=2)
        return builder.uitofp(loaded, context.get_value_type(signature.return_type))

    return VectorType(array.dtype)(array, numbers, place), lower


@intrinsic
def store(_context: Any, vector: Any, array: Any, *place: Any) -> Any:
    """Puts a vector there."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = context.make_array(signature.args[1])(context, builder, args[1])
        where = cgutils.unpack_tuple(builder, args[2])
        builder.store(args[0], address(builder, signature.args[1], target, where, args[0].type), align=4)
        return context.get_dummy_value()

    return types.void(vector, array, types.StarArgTuple.from_types(place)), lower


@intrinsic
def zeros(_context: Any, array: Any) -> Any:
    """Zeros of the array's dtype."""

    def lower(context: Any, _builder: Any, signature: Any, _args: Any) -> Any:
        return context.get_value_type(signature.return_type)(None)

    return VectorType(array.dtype)(array), lower


@intrinsic
def numbers(_context: Any, array: Any) -> Any:
    """The lanes' numbers 0, 1, 2 ... in the array's dtype."""

    def lower(context: Any, _builder: Any, signature: Any, _args: Any) -> Any:
        return context.get_value_type(signature.return_type)([float(lane) for lane in range(LANES)])

    return VectorType(array.dtype)(array), lower


@intrinsic
def lane(_context: Any, vector: Any, number: Any) -> Any:
    """One number of a vector."""

    def lower(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.extract_element(*args)

    return vector.dtype(vector, number), lower


def _spread(context: Any, builder: Any, value: Any, kind: Any, vector: VectorType) -> Any:
    """A number in every lane; a vector as it is."""
    if isinstance(kind, VectorType):
        return value
    number = context.cast(builder, value, kind, vector.dtype)
    wide = context.get_value_type(vector)
    one = builder.insert_element(wide(ir.Undefined), number, ir.IntType(32)(0))
    same = ir.VectorType(ir.IntType(32), LANES)(None)
    return builder.shuffle_vector(one, wide(ir.Undefined), same)


# Arithmetic: of vectors, or of a vector and a number


def _operator(
    operation: Any, result: Callable[[VectorType], Any], instruction: Callable[..., Any], arity: int = 2
) -> None:
    """Teach the compiler an operator or function; numbers go into every lane first."""

    @type_callable(operation)
    def _type_of(_context: Any) -> Any:
        def typed(*kinds: Any) -> Any:
            vector = next((kind for kind in kinds if isinstance(kind, VectorType)), None)
            return vector and result(vector)

        return (lambda a: typed(a)) if arity == 1 else (lambda a, b: typed(a, b))

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = next(kind for kind in signature.args if isinstance(kind, VectorType))
        pairs = zip(args, signature.args, strict=True)
        return instruction(builder, *(_spread(context, builder, *pair, vector) for pair in pairs))

    for kinds in itertools.product((VectorType, types.Number), repeat=arity):
        if VectorType in kinds:
            lower_builtin(operation, *kinds)(lower)


def _compare(sign: str) -> Callable[..., Any]:
    """LLVM's instruction; NaN is less, equal and greater than nothing."""
    return lambda builder, a, b: builder.fcmp_ordered(sign, a, b)


def _call(name: str) -> Callable[..., Any]:
    """LLVM's function of that name."""

    def instruction(builder: Any, a: Any) -> Any:
        suffix = f"v{LANES}{a.type.element.intrinsic_name}"
        kind = ir.FunctionType(a.type, [a.type])
        called = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.{suffix}")
        return builder.call(called, [a])

    return instruction


def _same(vector: VectorType) -> Any:
    return vector


_ONCE = ("contract",)  # a * b + c may be rounded once
for _add in (operator.add, operator.iadd):
    _operator(_add, _same, lambda builder, a, b: builder.fadd(a, b, flags=_ONCE))
_operator(operator.sub, _same, lambda builder, a, b: builder.fsub(a, b, flags=_ONCE))
_operator(operator.mul, _same, lambda builder, a, b: builder.fmul(a, b, flags=_ONCE))
_operator(operator.truediv, _same, lambda builder, a, b: builder.fdiv(a, b))
_operator(operator.neg, _same, lambda builder, a: builder.fneg(a), arity=1)
_operator(operator.lt, lambda _: MaskType(), _compare("<"))
_operator(operator.le, lambda _: MaskType(), _compare("<="))
_operator(operator.gt, lambda _: MaskType(), _compare(">"))
_operator(operator.eq, lambda _: MaskType(), _compare("=="))
_operator(math.sqrt, _same, _call("sqrt"), arity=1)
_operator(abs, _same, _call("fabs"), arity=1)


@intrinsic
def where(_context: Any, mask: Any, yes: Any, no: Any) -> Any:
    """Lane by lane one or the other; one of the two may be a number."""
    vector = yes if isinstance(yes, VectorType) else no

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pairs = zip(args[1:], signature.args[1:], strict=True)
        return builder.select(args[0], *(_spread(context, builder, *pair, vector) for pair in pairs))

    return vector(mask, yes, no), lower


# The exponential


_EXPONENT = {32: (127, 23), 64: (1023, 52)}
"""Of floats of so many bits: what is added to the exponent, and how many lower bits the digits take."""


@intrinsic
def _two_to(_context: Any, shifted: Any) -> Any:
    """2^n for whole numbers n in the lowest bits of `shifted`: they move into the place of the exponent."""

    def lower(_context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = signature.args[0].dtype.bitwidth
        whole = ir.VectorType(ir.IntType(bits), LANES)
        bias, digits = (whole([number] * LANES) for number in _EXPONENT[bits])
        exponent = builder.add(builder.bitcast(args[0], whole), bias)
        return builder.bitcast(builder.shl(exponent, digits), args[0].type)

    return shifted(shifted), lower


def exponential(x: Any) -> Any:
    """The exponential of x <= 0 in the precision of x; 0 where that would be denormal, NaN for NaN.

    A polynomial: e^x = 2^n e^r with n = round(x / ln 2). Adding 1.5 * 2^23 (float64: 2^52) rounds a number
    and leaves n in its lowest bits.
    """
    raise NotImplementedError("compiled code alone has vectors")


@overload(exponential, strict=False)
def _exponential(x: Any) -> Any:
    if x.dtype == types.float32:
        return _exponential_in(np.float32, digits=23, least=-87.3, terms=7)
    return _exponential_in(np.float64, digits=52, least=-708.3, terms=13)


def _exponential_in(real: Any, digits: int, least: float, terms: int) -> Any:
    rounder, per_ln2 = real(1.5 * 2.0**digits), real(1 / math.log(2))
    ln2_high, ln2_low = real(0.693359375), real(-2.12194440054690583e-4)  # n ln2_high is exact
    lowest = real(least)
    taylor = tuple(real(1 / math.factorial(power)) for power in range(terms, 1, -1))

    def compute(x: Any) -> Any:
        shifted = x * per_ln2 + rounder
        n = shifted - rounder
        r = (x - n * ln2_high) - n * ln2_low
        p = r * taylor[0] + taylor[1]
        for coefficient in literal_unroll(taylor[2:]):
            p = p * r + coefficient
        e_r = (p * r) * r + r + 1
        return where(x < lowest, 0, e_r * _two_to(shifted))

    return compute
