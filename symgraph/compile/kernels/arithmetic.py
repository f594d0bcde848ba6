"""Kernels of arithmetic, choice, rounding, predicates and bits, for numbers of every dtype.

Each function computes one element with NumPy, and its decorator says what Numba emits for the same call. Where
Numba's own code for a NumPy function differs from NumPy (Numba 0.68: floor_divide and remainder of infinities and
of the least integer, signed zeros of sign, sign of unsigned integers, shifts by more than the width) the code
stands here.
"""

# ruff: noqa: D103  (each kernel is documented as the operation of its name)
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.compile.kernels import vector_power
from symgraph.compile.kernels.lanes import vectorises
from symgraph.compile.kernels.lowering import Emitter, by_sign, calls, compiles, jitable, kernel, unchanged


@jitable
def wrap_index(index: Any, size: Any) -> Any:
    """Return an index counted from the front.

    Raises:
        IndexError: the index is less than -size or not less than size.
    """
    position = np.int64(index)  # of an unsigned and a signed integer Numba makes a float
    wrapped = position + size if position < 0 else position
    if wrapped < 0 or wrapped >= size:
        # Not one formatted text: Numba takes 1.6 s to compile the formatting of an integer.
        raise IndexError("out of bounds: index and size are", int(position), int(size))
    return wrapped


# Arithmetic
def _signed_floor_divide(x: Any, y: Any) -> Any:
    if y == 0:
        return 0
    return -x if y == -1 else x // y  # the least integer over -1 wraps, where the processor traps


def _signed_remainder(x: Any, y: Any) -> Any:
    return 0 if y == 0 or y == -1 else x % y


def _float_floor_divide(x: Any, y: Any) -> Any:
    """Return the exact quotient rounded down, from C's fmod as NumPy does."""
    if y == 0:
        return x / y
    rest = np.fmod(x, y)
    quotient = (x - rest) / y
    if rest != 0 and (y < 0) != (rest < 0):
        quotient -= 1.0
    if quotient == 0:
        return math.copysign(0.0, x / y)
    down = floor(quotient)
    return down + 1.0 if quotient - down > 0.5 else down


def _float_remainder(x: Any, y: Any) -> Any:
    rest = np.fmod(x, y)
    if rest == 0:
        return math.copysign(rest, y)
    return rest + y if (y < 0) != (rest < 0) and y != 0 else rest


@kernel(
    compiles(_float_floor_divide, widened=False),
    integers=by_sign(compiles(_signed_floor_divide), calls(np.floor_divide)),
)
def floor_divide(x: Any, y: Any) -> Any:
    return np.floor_divide(x, y)


@kernel(
    compiles(_float_remainder, widened=False),
    integers=by_sign(compiles(_signed_remainder), calls(np.remainder)),
)
def remainder(x: Any, y: Any) -> Any:
    return np.remainder(x, y)


def _power_by_squaring(one: Any) -> Emitter:
    def source(base: Any, exponent: Any) -> Any:
        if exponent < 0:
            raise ValueError("Integers to negative integer powers are not allowed.")
        result = one
        while exponent > 0:
            if exponent & one:
                result *= base
            base *= base
            exponent >>= one
        return result

    return compiles(source)


_INTEGER_POWER = by_sign(_power_by_squaring(np.int64(1)), _power_by_squaring(np.uint64(1)))


@kernel(vectorises(vector_power.power, explicit=vector_power.power_by_case), integers=_INTEGER_POWER)
def power(x: Any, y: Any) -> Any:
    return np.power(x, y)


@kernel(calls(math.fabs), integers=calls(np.abs), booleans=unchanged)
def abs(x: Any) -> Any:
    return np.abs(x)


def _emit_float_sign(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
    (x,) = values
    minus, zero, one = (context.get_constant(sig.return_type, number) for number in (-1, 0, 1))
    other = builder.select(builder.fcmp_ordered("==", x, zero), zero, x)  # NaN stays
    below = builder.select(builder.fcmp_ordered("<", x, zero), minus, other)
    return builder.select(builder.fcmp_ordered(">", x, zero), one, below)


def _emit_unsigned_sign(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
    positive = builder.icmp_unsigned("!=", values[0], context.get_constant(sig.return_type, 0))
    return builder.zext(positive, values[0].type)


@kernel(_emit_float_sign, integers=by_sign(calls(np.sign), _emit_unsigned_sign))
def sign(x: Any) -> Any:
    return np.sign(x)


def _emit_accumulation(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
    """Add, and leave LLVM free to add in another order: only so does it vectorise a sum."""
    return builder.fadd(*values, flags=("reassoc", "contract"))


@kernel(_emit_accumulation)
def accumulate(total: Any, x: Any) -> Any:
    """Return ``total + x`` of a reduction, whose order is not fixed."""
    return total + x


@kernel(calls(np.square))
def square(x: Any) -> Any:
    return np.square(x)


@kernel(calls(np.reciprocal))
def reciprocal(x: Any) -> Any:
    return np.reciprocal(x)


# Choice and rounding
def _chooses(symbol: str) -> Emitter:
    """Return the emitter of x where it compares so with y or is NaN, of y elsewhere."""

    def emit(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
        x, y = values
        first = builder.or_(builder.fcmp_ordered(symbol, x, y), builder.fcmp_unordered("uno", x, x))
        return builder.select(first, x, y)

    return emit


@kernel(_chooses(">"), integers=calls(np.maximum), booleans=calls(np.maximum))
def maximum(x: Any, y: Any) -> Any:
    return np.maximum(x, y)


@kernel(_chooses("<"), integers=calls(np.minimum), booleans=calls(np.minimum))
def minimum(x: Any, y: Any) -> Any:
    return np.minimum(x, y)


def _emit_clip(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
    pair = sig.return_type(*sig.args[:2])
    raised = calls(maximum)(context, builder, pair, values[:2])
    return calls(minimum)(context, builder, pair, [raised, values[2]])


@kernel(_emit_clip)
def clip(x: Any, low: Any, high: Any) -> Any:
    return np.minimum(np.maximum(x, low), high)


@kernel(calls(np.floor), integers=unchanged, booleans=unchanged)
def floor(x: Any) -> Any:
    return np.floor(x)


@kernel(calls(np.ceil), integers=unchanged, booleans=unchanged)
def ceil(x: Any) -> Any:
    return np.ceil(x)


@kernel(calls(np.rint), integers=unchanged, booleans=unchanged)
def round(x: Any) -> Any:
    return np.round(x)


@kernel(calls(np.trunc), integers=unchanged, booleans=unchanged)
def trunc(x: Any) -> Any:
    return np.trunc(x)


# Predicates, logic and bits
@kernel(calls(np.isnan), predicate=True)
def isnan(x: Any) -> Any:
    return np.isnan(x)


@kernel(calls(np.isinf), predicate=True)
def isinf(x: Any) -> Any:
    return np.isinf(x)


@kernel(calls(np.isfinite), predicate=True)
def isfinite(x: Any) -> Any:
    return np.isfinite(x)


@kernel(calls(np.logical_not), predicate=True)
def logical_not(x: Any) -> Any:
    return np.logical_not(x)


def _emit_left_shift(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
    x, places = values
    inside = builder.icmp_unsigned("<", places, context.get_constant(sig.return_type, sig.return_type.bitwidth))
    return builder.select(inside, builder.shl(x, places), context.get_constant(sig.return_type, 0))


@kernel(_emit_left_shift)
def bitwise_left_shift(x: Any, y: Any) -> Any:
    return np.left_shift(x, y)


def _emit_right_shift(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
    (x, places), dtype = values, sig.return_type
    inside = builder.icmp_unsigned("<", places, context.get_constant(dtype, dtype.bitwidth))
    if not dtype.signed:
        return builder.select(inside, builder.lshr(x, places), context.get_constant(dtype, 0))
    return builder.ashr(x, builder.select(inside, places, context.get_constant(dtype, dtype.bitwidth - 1)))


@kernel(_emit_right_shift)
def bitwise_right_shift(x: Any, y: Any) -> Any:
    return np.right_shift(x, y)


@kernel(calls(np.invert))
def bitwise_invert(x: Any) -> Any:
    return np.invert(x)
