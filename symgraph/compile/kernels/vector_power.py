"""Powers as straight-line code that LLVM vectorises.

The power is ``exp(y log(x))`` with the logarithm as a sum of two numbers (J.-M. Muller, Elementary Functions, section
11.4 on). In single precision x is first brought near a power of two by a factor from a table (P. T. P. Tang, ACM
Transactions on Mathematical Software 16, 1990).
"""

# ruff: noqa: D103  (each kernel is documented as the operation of its name)
from __future__ import annotations

import math
import struct
from fractions import Fraction

from symgraph.compile.kernels import vector
from symgraph.compile.kernels.coefficients import EXP, LOG_TAIL, POWER_EXP, POWER_LOG
from symgraph.compile.kernels.lanes import (
    FLOAT,
    Lane,
    fast_two_sum,
    fma,
    magnitude,
    narrowed,
    parts,
    poly,
    rarely,
    select,
    table_entry,
    two_product,
    unary,
    widened,
)

_LN2 = parts(vector.LN2_EXACT, 53)["double"]
_TWO_THIRDS = parts(Fraction(2, 3), 53)["double"]

# In single precision the numbers from _START to twice that fall into 32 rows, 1 into the middle of one. The factor of a
# row times its numbers is near 1, and what is left over 1 is exact: the factors have few bits.
_ROWS = 32
_ROW = 1 << (FLOAT.fraction - 5)
_START = (FLOAT.exponent_bias << FLOAT.fraction) - 8 * _ROW - _ROW // 2


def _number(bits: int) -> float:
    return float(struct.unpack("f", struct.pack("I", bits))[0])


_FACTORS = [round(64 / _number(_START + row * _ROW + _ROW // 2)) / 64 for row in range(_ROWS)]
# The logarithms of their inverses as a sum: an exponent plus the first is exact.
_LOGS_HIGH = [round(-math.log2(factor) * 2.0**17) / 2.0**17 for factor in _FACTORS]
_TABLES = {
    "symgraph.power.factor": _FACTORS,
    "symgraph.power.log": _LOGS_HIGH,
    "symgraph.power.log_rest": [-math.log2(f) - high for f, high in zip(_FACTORS, _LOGS_HIGH, strict=True)],
}


def _log_parts(k: Lane, m: Lane) -> tuple[Lane, Lane]:
    """Return the logarithm of ``2**k m`` as a sum of two, to 2**-65 of it, m between 3/4 and 3/2."""
    f = m - 1.0
    divisor, divisor_error = f + 2.0, f - ((f + 2.0) - 2.0)
    inverse = 1.0 / divisor
    s = f * inverse
    s_error = (fma(-s, divisor, f) - s * divisor_error) * inverse
    # log(m) = 2 s + s**3 (2/3 + z (2/5 + ...)) with z = s**2
    z, z_error = two_product(s, s)
    z_error = fma(2.0 * s, s_error, z_error)
    tail = z * poly(z, LOG_TAIL)
    series, series_error = fast_two_sum(tail.like(tail.constant(_TWO_THIRDS[0])), tail)
    series_error = series_error + _TWO_THIRDS[1]
    cubic, cubic_error = two_product(z, series)
    cubic_error = cubic_error + fma(z, series_error, z_error * series)
    cube, cube_error = two_product(s, cubic)
    cube_error = cube_error + fma(s, cubic_error, s_error * cubic)
    start, start_error = two_product(k, _LN2[0])
    total, error1 = fast_two_sum(start, 2.0 * s)
    total, error2 = fast_two_sum(total, cube)
    return total, (error1 + error2) + fma(k, _LN2[1], start_error + fma(s_error, 2.0, cube_error))


def power(x: Lane, y: Lane) -> Lane:
    format = x.format
    base, exponent = widened(x), widened(y)
    size = magnitude(base)
    largest = 1.7976931348623157e308
    exponent = select(exponent > largest, largest, select(exponent < -largest, -largest, exponent))
    if format is FLOAT:
        result = vector.exp(exponent * vector.log(size))
    else:
        log, log_error = _log_parts(*vector.split(size))
        log = select(size.equals(0.0), -math.inf, select(size < math.inf, log, size))
        product, product_error = two_product(exponent, log)
        product_error = fma(exponent, log_error, product_error)
        n, value, error = vector.exp_parts(
            vector.clamped(product), select(magnitude(product) < 800.0, product_error, 0.0)
        )
        result = vector.scaled(value + error, n)
    integer = unary("roundeven", exponent).equals(exponent)
    half = exponent * 0.5
    odd = integer & unary("roundeven", half).differs(half)
    result = select(base.bits().negative() & odd, -result, result)
    result = select(integer | (base >= 0.0) | size.equals(math.inf) | base.is_nan(), result, math.nan)
    return narrowed(select(base.equals(1.0) | exponent.equals(0.0), 1.0, result), format)


def power_by_case(x: Lane, y: Lane) -> Lane:
    """Return the power; only where x is a positive normal number and the power another one, without a call."""
    usual, right = _power_of_float(x, y) if x.format is FLOAT else _power_of_double(x, y)
    return rarely(~((x >= x.format.tiny) & (x < math.inf) & right), usual, power, x, y)


def _power_of_double(x: Lane, y: Lane) -> tuple[Lane, Lane]:
    """Return the power of a positive normal number, and whether it is one."""
    log, log_error = _log_parts(*vector.split_normal(x))
    product, error = two_product(y, log)
    n, r, reduction_error = vector.reduced(product)
    r, error = fast_two_sum(r, fma(y, log_error, error) + reduction_error)
    usual = vector.scaled_to_normal(1.0 + (r + fma(r * r, poly(r, EXP), error)), n)
    return usual, magnitude(product) < 708.0


def _power_of_float(x: Lane, y: Lane) -> tuple[Lane, Lane]:
    """Return the same, by logarithm and exponential to base 2."""
    offset = x.bits() - _START
    exponent, row = offset & -(1 << x.format.fraction), (offset >> (x.format.fraction - 5)) & (_ROWS - 1)
    factor, log_high, log_low = (table_entry(row, name, numbers) for name, numbers in _TABLES.items())
    f = fma((x.bits() - exponent).number(), factor, -1.0)  # exact
    # log(1 + f) begins with f - f**2 / 2
    half = f * -0.5
    start = fma(half, f, f)
    start_error = fma(half, f, f - start)
    high, low = vector.LOG2_E["float"]
    near, near_error = two_product(start, high)
    near_error = fma(start_error, high, fma(start, low, near_error))
    far = fma(exponent.converted(), 0.5**x.format.fraction, log_high)
    log, log_error = fast_two_sum(far, near)
    log_error = log_error + (fma(f * f, f * poly(f, POWER_LOG), near_error) + log_low)
    product, error = two_product(y, log)
    scale, r, _ = vector.split_power(product, Fraction(1))
    r = r + fma(y, log_error, error)
    return fma(r, poly(r, POWER_EXP), 1.0) * scale, magnitude(product) < 126.0
