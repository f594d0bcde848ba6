"""Exponentials and logarithms as straight-line code that LLVM vectorises, in float64 and float32.

Method: J.-M. Muller, Elementary Functions, 3rd edition, 2016, chapters 4 and 11: the argument is reduced with a
constant in two parts (W. J. Cody and W. Waite, Software Manual for the Elementary Functions, 1980), a polynomial
computes the function of the rest, and the power of two is put in through the bits.
"""

# ruff: noqa: D103  (each kernel is documented as the operation of its name)
from __future__ import annotations

import math
from fractions import Fraction

from symgraph.compile.kernels.coefficients import EXP, LOG, SINH
from symgraph.compile.kernels.lanes import Lane, fma, magnitude, parts, poly, select, with_sign

LN2_EXACT = Fraction(
    "0.693147180559945309417232121458176568075500134360255254120680009493393621969694715605863326996418687"
)
LN10_EXACT = Fraction(
    "2.302585092994045684017991454684364207601101488628772976033327900967572609677352480235997205089598"
)
LN2 = parts(LN2_EXACT, 40)
LN2_WHOLE = parts(LN2_EXACT, 53)
LOG2_E = parts(1 / LN2_EXACT, 53)
LOG10_E = parts(1 / LN10_EXACT, 53)
LOG10_2 = parts(LN2_EXACT / LN10_EXACT, 40)
LARGEST = {"double": 709.79, "float": 88.73}
LEAST = {"double": -745.2, "float": -104.0}


def power_of_two(shifted: Lane) -> Lane:
    """Return ``2**n`` of an integer n to which `Format.round` was added, in the range of normal numbers."""
    format = shifted.format
    return ((shifted.bits() << format.fraction) + (format.exponent_bias << format.fraction)).number()


def scaled(x: Lane, n: Lane) -> Lane:
    """Return ``x * 2**n`` rounded once for x near 1 and an integer n of up to twice the largest exponent: in two steps.

    Args:
        x: The number.
        n: The integer plus `Format.round`.
    """
    format, bits = n.format, n.bits()
    half = bits >> 1
    first = (x.bits() + (half << format.fraction)).number()
    return first * (((bits - half) << format.fraction) + (format.exponent_bias << format.fraction)).number()


def reduced(x: Lane) -> tuple[Lane, Lane, Lane]:
    """Return n + `Format.round`, r and r's rounding error in ``x = n log(2) + r``, abs(r) at most half of log(2)."""
    high, low = LN2[x.format.name]
    shift = x.format.round
    shifted = fma(x, LOG2_E[x.format.name][0], shift)
    n = shifted - shift
    start = fma(n, -high, x)  # exact
    r = fma(n, -low, start)
    return shifted, r, fma(n, -low, start - r)


def clamped(x: Lane) -> Lane:
    """Return x where exp of it is neither zero nor infinite, the nearest such number elsewhere; NaN stays."""
    most, least = LARGEST[x.format.name], LEAST[x.format.name]
    x = select(x > most, most, x)
    return select(x < least, least, x)


def exp(x: Lane) -> Lane:
    n, r, _ = reduced(clamped(x))
    return scaled(1.0 + fma(r * r, poly(r, EXP), r), n)


def exp_parts(x: Lane, error: Lane) -> tuple[Lane, Lane, Lane]:
    """Return n and numbers p and q in ``exp(x + error) = 2**n (p + q)``; n for `scaled`, p near 1, q its error."""
    n, r, r_error = reduced(clamped(x))
    square, series = r * r, poly(r, EXP)
    error = r_error + error
    more = fma(square, series, fma(error, fma(square, series, r), error))
    rest = r + more
    power = rest + 1.0
    return n, power, (rest - (power - 1.0)) + (more - (rest - r))


def exp_of_negative(x: Lane) -> Lane:
    """Return exp for x <= 0, a quarter of an ulp more accurate: the error of the reduced argument is added."""
    least = LEAST[x.format.name]
    n, r, error = reduced(select(x < least, least, x))
    return scaled(1.0 + (r + fma(r * r, poly(r, EXP), error)), n)


def exp2(x: Lane) -> Lane:
    format = x.format
    most, least = format.exponent_bias + 1.0, -(format.exponent_bias + format.fraction + 1.0)
    x = select(x > most, most, select(x < least, least, x))
    shifted = x + format.round
    fraction = x - (shifted - format.round)  # exact
    high, low = LN2_WHOLE[format.name]
    r = fraction * high
    error = fma(fraction, low, fma(fraction, high, -r))
    return scaled(1.0 + (r + fma(r * r, poly(r, EXP), error)), shifted)


def expm1(x: Lane) -> Lane:
    n, r, error = reduced(select(x > LARGEST[x.format.name], LARGEST[x.format.name], select(x < -40.0, -40.0, x)))
    rest = r + fma(r * r, poly(r, EXP), error)
    # Half the power of two, which does not overflow where the result does not.
    power = power_of_two(n - 1.0)
    result = fma(power, rest, power - 0.5) * 2.0
    return select(magnitude(x) < x.format.negligible, x, result)


def split(x: Lane) -> tuple[Lane, Lane]:
    """Return k and m in ``x = 2**k m`` with m between sqrt(1/2) and sqrt(2), for positive finite x."""
    format = x.format
    subnormal = x < format.tiny
    bits = select(subnormal, x * 2.0 ** (format.fraction + 2), x).bits()
    one = format.exponent_bias << format.fraction
    root = one - (1 << format.fraction) + int((math.sqrt(2.0) - 1.0) * 2**format.fraction)
    biased = bits + (one - root)
    number = (1 << format.fraction) * (format.exponent_bias + format.fraction)  # the bits of 2**fraction
    offset = x.like(x.constant(2.0**format.fraction + format.exponent_bias))
    k = ((biased >> format.fraction) | number).number() - select(subnormal, offset + format.fraction + 2, offset)
    return k, ((biased & ((1 << format.fraction) - 1)) + root).number()


def log_rest(f: Lane, error: Lane | float) -> Lane:
    """Return ``log(1 + f + error) - f`` for f between sqrt(1/2) - 1 and sqrt(2) - 1 and a small error."""
    s = f / (f + 2.0)
    z = s * s
    half_square = f * 0.5 * f
    # log(1 + f) = 2 atanh(s) = f - f**2 / 2 + s (f**2 / 2 + z poly(z))
    return fma(s, fma(z, poly(z, LOG), half_square), error) - half_square


def at_limits(x: Lane, result: Lane) -> Lane:
    """Return a logarithm's result, or its value at zero, infinity, negative numbers and NaN."""
    result = select(x < math.inf, result, x)
    result = select(x.equals(0.0), -math.inf, result)
    return select(x < 0.0, math.nan, result)


def log(x: Lane) -> Lane:
    k, m = split(x)
    high, low = LN2[x.format.name]
    f = m - 1.0
    return at_limits(x, fma(k, high, fma(k, low, log_rest(f, 0.0)) + f))


def log2(x: Lane) -> Lane:
    k, m = split(x)
    high, low = LOG2_E[x.format.name]
    f = m - 1.0
    rest = log_rest(f, 0.0)
    log = f + rest
    # The product with the part that was rounded away counts where k is zero.
    return at_limits(x, fma(log, high, k) + fma(log, low, (rest - (log - f)) * high))


def log10(x: Lane) -> Lane:
    k, m = split(x)
    high, low = LOG10_E[x.format.name]
    two_high, two_low = LOG10_2[x.format.name]
    f = m - 1.0
    rest = log_rest(f, 0.0)
    log = f + rest
    rest = fma(log, low, fma(k, two_low, (rest - (log - f)) * high))
    return at_limits(x, fma(k, two_high, fma(log, high, rest)))


def log1p(x: Lane) -> Lane:
    total = x + 1.0
    back = total - x
    error = (x - (total - back)) + (1.0 - back)
    k, m = split(total)
    high, low = LN2[x.format.name]
    f = m - 1.0
    error = error * 0.25 * power_of_two((x.format.round + 2.0) - k)  # 2**-1024 is not a normal number
    result = at_limits(total, fma(k, high, fma(k, low, log_rest(f, fma(-f, error, error))) + f))
    return select(magnitude(x) < x.format.negligible, x, result)


def sigmoid(x: Lane) -> Lane:
    small = exp_of_negative(-magnitude(x))
    total = small + 1.0
    inverse = 1.0 / total
    quotient = select(x < 0.0, small, 1.0) * inverse
    # The rounding errors of the sum and of the inverse; without this the result would be off by 2.1 ulp.
    error = fma(inverse, (total - 1.0) - small, fma(-total, inverse, 1.0))
    return fma(quotient, error, quotient)


def softplus(x: Lane) -> Lane:
    small = exp_of_negative(-magnitude(x))
    # log(1 + small) as log1p has it, with the few cases that occur: 1 + small is between 1 and 2.
    halved = small > math.sqrt(2.0) - 1.0
    less = small - 1.0
    f = select(halved, less * 0.5, small)
    error = select(halved, (small - (less + 1.0)) * 0.5, 0.0)
    high, low = LN2[x.format.name]
    rest = log_rest(f, error) + select(halved, f.like(f.constant(low)), 0.0)
    return select(x < 0.0, 0.0, x) + (select(halved, f.like(f.constant(high)), 0.0) + (f + rest))


def tanh(x: Lane) -> Lane:
    grown = expm1(2.0 * magnitude(x))
    far = grown > 3.0
    quotient = select(far, -2.0, grown) / (grown + 2.0)
    return with_sign(select(far, 1.0 + quotient, quotient), x)


def _half_exp(x: Lane) -> Lane:
    """Return ``exp(x) / 2`` for x >= 0, which does not overflow where sinh and cosh do not."""
    most = LARGEST[x.format.name] + 1.0
    n, r, error = reduced(select(x > most, most, x))
    return scaled(1.0 + (r + fma(r * r, poly(r, EXP), error)), n - 1.0)


def cosh(x: Lane) -> Lane:
    half = _half_exp(magnitude(x))
    return half + 0.25 / half


def sinh(x: Lane) -> Lane:
    size = magnitude(x)
    half = _half_exp(size)
    square = x * x
    near = fma(size * square, poly(square, SINH), size)
    return with_sign(select(size < 1.0, near, half - 0.25 / half), x)
