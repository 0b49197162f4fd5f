"""Vectors of VECTOR_SIZE numbers as values of compiled code: load, store, arithmetic, comparisons, exponential.

A vector holds neighbours of a padded array (see `arrays`). It fills one register with AVX-512 and several where
registers are shorter. With vectors a kernel decides which numbers stay in registers, and has no loop for
what is left over at an edge. The elements of a vector never mix, so a machine's register width changes no
result.

    total = zero_vector(z_BH)
    for b in range(rows):
        total += load(z_BH, b, h)  # columns h to h + VECTOR_SIZE - 1 of row b
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

from caviar.training.native.arrays import VECTOR_SIZE, element_pointer


class VectorType(types.Type):
    """Numba's type of VECTOR_SIZE numbers of one dtype."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")


class MaskType(types.Type):
    """Numba's type of VECTOR_SIZE booleans."""

    def __init__(self) -> None:
        super().__init__(name="Mask")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        element = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, VECTOR_SIZE))


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.IntType(1), VECTOR_SIZE))


# Between memory and registers


@intrinsic
def load(_context: Any, array: Any, *indices: Any) -> Any:
    """Return the vector that begins at these indices and runs along the last axis."""
    result = VectorType(array.dtype)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = context.make_array(signature.args[0])(context, builder, args[0])
        where = cgutils.unpack_tuple(builder, args[1])
        kind = context.get_value_type(signature.return_type)
        return builder.load(element_pointer(builder, signature.args[0], source, where, kind), align=4)

    return result(array, types.StarArgTuple.from_types(indices)), lower


@intrinsic
def load_converted(_context: Any, like: Any, integers: Any, index: Any) -> Any:
    """Return a vector of an array of unsigned integers, converted to the dtype of the array `like`."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, kind, _ = signature.args
        source = context.make_array(kind)(context, builder, args[1])
        vector = ir.VectorType(ir.IntType(kind.dtype.bitwidth), VECTOR_SIZE)
        loaded = builder.load(element_pointer(builder, kind, source, args[2:], vector), align=2)
        return builder.uitofp(loaded, context.get_value_type(signature.return_type))

    return VectorType(like.dtype)(like, integers, index), lower


@intrinsic
def store(_context: Any, vector: Any, array: Any, *indices: Any) -> Any:
    """Write a vector where `load` would read it."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = context.make_array(signature.args[1])(context, builder, args[1])
        where = cgutils.unpack_tuple(builder, args[2])
        pointer = element_pointer(builder, signature.args[1], target, where, args[0].type)
        builder.store(args[0], pointer, align=4)
        return context.get_dummy_value()

    return types.void(vector, array, types.StarArgTuple.from_types(indices)), lower


@intrinsic
def zero_vector(_context: Any, like: Any) -> Any:
    """Return a vector of zeros in the dtype of an array."""

    def lower(context: Any, _builder: Any, signature: Any, _args: Any) -> Any:
        return context.get_value_type(signature.return_type)(None)

    return VectorType(like.dtype)(like), lower


@intrinsic
def index_vector(_context: Any, like: Any) -> Any:
    """Return the vector 0, 1, 2, ... in the dtype of an array."""

    def lower(context: Any, _builder: Any, signature: Any, _args: Any) -> Any:
        return context.get_value_type(signature.return_type)([float(i) for i in range(VECTOR_SIZE)])

    return VectorType(like.dtype)(like), lower


@intrinsic
def extract_element(_context: Any, vector: Any, index: Any) -> Any:
    """Return one number of a vector."""

    def lower(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.extract_element(*args)

    return vector.dtype(vector, index), lower


def broadcast(builder: Any, scalar: Any, vector: Any) -> Any:
    """Return LLVM code for a vector, of this LLVM type, with the same number in every element."""
    first = builder.insert_element(vector(ir.Undefined), scalar, ir.IntType(32)(0))
    same = ir.VectorType(ir.IntType(32), vector.count)(None)
    return builder.shuffle_vector(first, vector(ir.Undefined), same)


def _to_vector(context: Any, builder: Any, value: Any, kind: Any, vector: VectorType) -> Any:
    """Return a number as a vector, and a vector as it is."""
    if isinstance(kind, VectorType):
        return value
    number = context.cast(builder, value, kind, vector.dtype)
    return broadcast(builder, number, context.get_value_type(vector))


# Arithmetic between vectors, or between a vector and a number


def _register_operator(
    operation: Any, result: Callable[[VectorType], Any], instruction: Callable[..., Any], arity: int = 2
) -> None:
    """Teach Numba an operator or a function on vectors; numbers become vectors first."""

    @type_callable(operation)
    def _type_of(_context: Any) -> Any:
        def typed(*kinds: Any) -> Any:
            vector = next((kind for kind in kinds if isinstance(kind, VectorType)), None)
            return vector and result(vector)

        return (lambda a: typed(a)) if arity == 1 else (lambda a, b: typed(a, b))

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = next(kind for kind in signature.args if isinstance(kind, VectorType))
        pairs = zip(args, signature.args, strict=True)
        return instruction(builder, *(_to_vector(context, builder, *pair, vector) for pair in pairs))

    for kinds in itertools.product((VectorType, types.Number), repeat=arity):
        if VectorType in kinds:
            lower_builtin(operation, *kinds)(lower)


def _comparison(sign: str) -> Callable[..., Any]:
    """Return LLVM's instruction for a comparison, which is false wherever an operand is NaN."""
    return lambda builder, a, b: builder.fcmp_ordered(sign, a, b)


def _llvm_function(name: str) -> Callable[..., Any]:
    """Return the call of LLVM's function of one argument of this name."""

    def instruction(builder: Any, a: Any) -> Any:
        suffix = f"v{VECTOR_SIZE}{a.type.element.intrinsic_name}"
        kind = ir.FunctionType(a.type, [a.type])
        called = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.{suffix}")
        return builder.call(called, [a])

    return instruction


def _vector(vector: VectorType) -> Any:
    return vector


def _mask(_vector: VectorType) -> Any:
    return MaskType()


_CONTRACT = ("contract",)
"""LLVM may round a * b + c once."""

for _add in (operator.add, operator.iadd):
    _register_operator(_add, _vector, lambda builder, a, b: builder.fadd(a, b, flags=_CONTRACT))
_register_operator(operator.sub, _vector, lambda builder, a, b: builder.fsub(a, b, flags=_CONTRACT))
_register_operator(operator.mul, _vector, lambda builder, a, b: builder.fmul(a, b, flags=_CONTRACT))
_register_operator(operator.truediv, _vector, lambda builder, a, b: builder.fdiv(a, b))
_register_operator(operator.neg, _vector, lambda builder, a: builder.fneg(a), arity=1)
_register_operator(operator.lt, _mask, _comparison("<"))
_register_operator(operator.le, _mask, _comparison("<="))
_register_operator(operator.gt, _mask, _comparison(">"))
_register_operator(operator.eq, _mask, _comparison("=="))
_register_operator(math.sqrt, _vector, _llvm_function("sqrt"), arity=1)
_register_operator(abs, _vector, _llvm_function("fabs"), arity=1)


@intrinsic
def where(_context: Any, mask: Any, yes: Any, no: Any) -> Any:
    """Return, element by element, `yes` where the mask is true and `no` elsewhere; one of them may be a number."""
    vector = yes if isinstance(yes, VectorType) else no

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pairs = zip(args[1:], signature.args[1:], strict=True)
        return builder.select(args[0], *(_to_vector(context, builder, *pair, vector) for pair in pairs))

    return vector(mask, yes, no), lower


# The exponential

_FLOAT_FORMAT = {32: (127, 23), 64: (1023, 52)}
"""IEEE 754: bias of the exponent and bits of the fraction, by the bits of a float."""


@intrinsic
def _power_of_two(_context: Any, shifted: Any) -> Any:
    """Return 2^n for integers n in the lowest bits of `shifted`, by moving them into the exponent."""

    def lower(_context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = signature.args[0].dtype.bitwidth
        integers = ir.VectorType(ir.IntType(bits), VECTOR_SIZE)
        bias, fraction_bits = (integers([number] * VECTOR_SIZE) for number in _FLOAT_FORMAT[bits])
        exponent = builder.add(builder.bitcast(args[0], integers), bias)
        return builder.bitcast(builder.shl(exponent, fraction_bits), args[0].type)

    return shifted(shifted), lower


def exp_nonpositive(x: Any) -> Any:
    """Return e^x for a vector x <= 0, to two units in the last place.

    The result is 0 where e^x would be a denormal number, and NaN for NaN.

    With n = round(x / ln 2) and r = x - n ln 2, e^x = 2^n e^r; e^r is its Taylor polynomial (coefficients 1/k!).
    Adding 1.5 * 2^23 (float64: 1.5 * 2^52) rounds x / ln 2 and leaves n in the lowest bits. ln 2 is split into
    355/512, whose product with n is exact, and the rest, -2.121944400546905827679e-4 (W. J. Cody and W. Waite,
    Software Manual for the Elementary Functions, 1980, chapter 6).
    """
    raise NotImplementedError("only compiled code has vectors")


@overload(exp_nonpositive, strict=False)
def _exp_nonpositive(x: Any) -> Any:
    if x.dtype == types.float32:
        return _make_exp(np.float32, fraction_bits=23, lowest=-87.3, degree=7)
    return _make_exp(np.float64, fraction_bits=52, lowest=-708.3, degree=13)


def _make_exp(real: Any, fraction_bits: int, lowest: float, degree: int) -> Any:
    """Return the exponential in one precision.

    Args:
        real: np.float32 or np.float64.
        fraction_bits: bits of the fraction in that format.
        lowest: result is 0 below this x.
        degree: degree of the polynomial.
    """
    rounder, per_ln2 = real(1.5 * 2.0**fraction_bits), real(1 / math.log(2))
    ln2_high, ln2_low = real(355 / 512), real(-2.12194440054690583e-4)
    smallest = real(lowest)
    taylor = tuple(real(1 / math.factorial(power)) for power in range(degree, 1, -1))

    def compute(x: Any) -> Any:
        shifted = x * per_ln2 + rounder
        n = shifted - rounder
        r = (x - n * ln2_high) - n * ln2_low
        p = r * taylor[0] + taylor[1]
        for coefficient in literal_unroll(taylor[2:]):
            p = p * r + coefficient
        e_r = (p * r) * r + r + 1
        return where(x < smallest, 0, e_r * _power_of_two(shifted))

    return compute
