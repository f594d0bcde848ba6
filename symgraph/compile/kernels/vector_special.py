"""Error functions, powers and roots as straight-line code that LLVM vectorises.

The error functions: a series near 0; beyond it ``(1 + 2 x) exp(x**2) erfc(x)`` is almost constant and a polynomial of
``(x - 5/2) / (x + 5/2)`` (M. M. Shepherd and J. G. Laframboise, Mathematics of Computation 36, 1981). The power is
``exp(y log(x))`` with the logarithm as a sum of two numbers (J.-M. Muller, Elementary Functions, section 11.4 on). Sums
and products that are kept with their errors: T. J. Dekker, Numerische Mathematik 18 (1971).
"""

# ruff: noqa: D103  (each kernel is documented as the operation of its name)
from __future__ import annotations

import math
from fractions import Fraction

from symgraph.compile.kernels import vector
from symgraph.compile.kernels.coefficients import CBRT, ERF, ERFC, LOG_TAIL
from symgraph.compile.kernels.lanes import (
    FLOAT,
    Coefficients,
    Format,
    Lane,
    fast_two_sum,
    fma,
    magnitude,
    narrowed,
    parts,
    poly,
    select,
    two_product,
    unary,
    widened,
    with_sign,
)
from symgraph.compile.kernels.vector_trigonometric import PI_EXACT

_LN2 = parts(vector.LN2_EXACT, 40, 53)["double"]
_TWO_THIRDS = parts(Fraction(2, 3), 53)["double"]
_TWO_OVER_ROOT_PI = parts(Fraction(2 << 128, math.isqrt(int(PI_EXACT * (1 << 256)))), 53)["double"]
_NEAR, _MIDDLE = 0.5, 0.65


def _coefficients(table: Coefficients, source: Format) -> Coefficients:
    """Return the coefficients to evaluate in double precision for an argument of this format."""
    return {"double": table[source.name]}


def _near_erf(x: Lane, source: Format) -> Lane:
    high, low = _TWO_OVER_ROOT_PI
    square = x * x
    return fma(x, high, fma(x, low, x * square * poly(square, _coefficients(ERF, source))))


def _far_erfc(x: Lane, source: Format) -> Lane:
    """Return erfc for x of at least `_NEAR`."""
    x = select(x > 28.0, 28.0, x)
    t = (x - 2.5) / (x + 2.5)
    constant, *others = ERFC[source.name]
    rest = t * poly(t, {"double": tuple(others)})
    scale, scale_error = fast_two_sum(t.like(t.constant(constant)), rest)
    square, square_error = two_product(x, x)
    n, power, power_error = vector.exp_parts(-square, -square_error)
    divisor, divisor_error = fast_two_sum(2.0 * x, 1.0)
    inverse = 1.0 / divisor
    if source is FLOAT:
        return vector.scaled(power * scale * inverse, n)
    product, product_error = two_product(power, scale)
    quotient = product * inverse
    product_error = fma(power, scale_error, fma(power_error, scale, product_error))
    rest = fma(-quotient, divisor, product) + fma(-quotient, divisor_error, product_error)
    return vector.scaled(fma(rest, inverse, quotient), n)


def erf(x: Lane) -> Lane:
    argument = widened(x)
    size = magnitude(argument)
    result = select(size < _MIDDLE, _near_erf(size, x.format), 1.0 - _far_erfc(size, x.format))
    return narrowed(with_sign(result, argument), x.format)


def erfc(x: Lane) -> Lane:
    argument = widened(x)
    size = magnitude(argument)
    far = _far_erfc(size, x.format)
    far = select(argument < 0.0, 2.0 - far, far)
    return narrowed(select(size < _NEAR, 1.0 - _near_erf(argument, x.format), far), x.format)


def _log_parts(x: Lane) -> tuple[Lane, Lane]:
    """Return the logarithm of a positive finite number as a sum of two, to 2**-65 of it."""
    k, m = vector.split(x)
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
    total, error1 = fast_two_sum(k * _LN2[0], 2.0 * s)
    total, error2 = fast_two_sum(total, cube)
    return total, (error1 + error2) + fma(k, _LN2[1], fma(s_error, 2.0, cube_error))


def power(x: Lane, y: Lane) -> Lane:
    format = x.format
    base, exponent = widened(x), widened(y)
    size = magnitude(base)
    largest = 1.7976931348623157e308
    exponent = select(exponent > largest, largest, select(exponent < -largest, -largest, exponent))
    if format is FLOAT:
        result = vector.exp(exponent * vector.log(size))
    else:
        log, log_error = _log_parts(size)
        log = select(size.equals(0.0), -math.inf, select(size < math.inf, log, size))
        product, product_error = two_product(exponent, log)
        product_error = fma(exponent, log_error, product_error)
        n, value, error = vector.exp_parts(product, select(magnitude(product) < 800.0, product_error, 0.0))
        result = vector.scaled(value + error, n)
    integer = unary("roundeven", exponent).equals(exponent)
    half = exponent * 0.5
    odd = integer & unary("roundeven", half).differs(half)
    result = select(base.bits().negative() & odd, -result, result)
    result = select(integer | (base >= 0.0) | size.equals(math.inf) | base.is_nan(), result, math.nan)
    return narrowed(select(base.equals(1.0) | exponent.equals(0.0), 1.0, result), format)


def cbrt(x: Lane) -> Lane:
    size = magnitude(x)
    k, fraction = vector.split(size)
    shifted = fma(k, 1 / 3, x.format.round)
    third = shifted - x.format.round
    rest = fma(third, -3.0, k)  # -1, 0 or 1
    m = select(rest < 0.0, fraction * 0.5, select(rest > 0.0, fraction * 2.0, fraction))
    one = m.like(m.constant(1.0))
    factor = select(rest < 0.0, 0.5 ** (1 / 3), select(rest > 0.0, 2 ** (1 / 3), one))
    start = poly(fraction, CBRT) * factor
    cube = start * start * start
    # Halley's iteration: three times as many digits
    root = start + start * ((m - cube) / (cube + cube + m))
    result = root * vector.power_of_two(shifted)
    result = with_sign(result, x)
    keep = x.equals(0.0) | x.is_nan() | size.equals(math.inf)
    return select(keep, x, result)


def hypot(x: Lane, y: Lane) -> Lane:
    format = x.format
    x, y = magnitude(widened(x)), magnitude(widened(y))
    larger, smaller = select(x > y, x, y), select(x > y, y, x)
    if format is FLOAT:
        result = unary("sqrt", fma(x, x, y * y))
    else:
        huge, tiny = larger > 2.0**500, larger < 2.0**-450
        scale = select(huge, 2.0**-600, select(tiny, 2.0**600, x.like(x.constant(1.0))))
        back = select(huge, 2.0**600, select(tiny, 2.0**-600, x.like(x.constant(1.0))))
        larger, smaller = larger * scale, smaller * scale
        result = unary("sqrt", fma(larger, larger, smaller * smaller)) * back
    return narrowed(select(x.equals(math.inf) | y.equals(math.inf), math.inf, result), format)
