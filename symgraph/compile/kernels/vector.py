"""Exponentials and logarithms as straight-line code that LLVM vectorises, in float64 and float32.

Method: J.-M. Muller, Elementary Functions, 3rd edition, 2016, chapters 4 and 11: the argument is reduced with a
constant in two parts (W. J. Cody and W. Waite, Software Manual for the Elementary Functions, 1980), a polynomial
computes the function of the rest, and the power of two is put in through the bits.
"""

# ruff: noqa: D103  (each kernel is documented as the operation of its name)
from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from symgraph.compile.kernels.coefficients import COSH, EXP, LOG, SINH, TANH
from symgraph.compile.kernels.lanes import (
    DOUBLE,
    Coefficients,
    Lane,
    exponent,
    fma,
    magnitude,
    mantissa,
    parts,
    poly,
    rarely,
    rounded,
    select,
    times_power,
    two_sum,
    with_sign,
)

LN2_EXACT = Fraction(
    "0.693147180559945309417232121458176568075500134360255254120680009493393621969694715605863326996418687"
)
LN10_EXACT = Fraction(
    "2.302585092994045684017991454684364207601101488628772976033327900967572609677352480235997205089598"
)
# The rests of these are positive: where a power of two is infinite, so is the logarithm.
LN2 = parts(LN2_EXACT, 37)
LN2_WHOLE = parts(LN2_EXACT, 53)
LOG2_E = parts(1 / LN2_EXACT, 53)
LOG10_E = parts(1 / LN10_EXACT, 53)
LOG10_2 = parts(LN2_EXACT / LN10_EXACT, 37)
_LOG_TO_BASE_2, _LOG_TO_BASE_10 = (
    {name: tuple(c / math.log(base) for c in coefficients) for name, coefficients in LOG.items()} for base in (2, 10)
)
LARGEST = {"double": 709.79, "float": 88.73}
LEAST = {"double": -745.2, "float": -104.0}


def power_of_two(shifted: Lane) -> Lane:
    """Return ``2**n`` of an integer n to which `Format.round` was added, in the range of normal numbers."""
    format = shifted.format
    return ((shifted.bits() << format.fraction) + (format.exponent_bias << format.fraction)).number()


def scaled(x: Lane, n: Lane) -> Lane:
    """Return ``x * 2**n`` rounded once for x near 1 and an integer n of up to twice the largest exponent: in two steps.

    Args:
        x: The number; NaN stays.
        n: The integer plus `Format.round`.
    """
    format = n.format
    if x.is_wide():
        return times_power(x, n - format.round)
    bits = n.bits()
    half = bits >> 1
    first, second = (
        ((part << format.fraction) + (format.exponent_bias << format.fraction)).number() for part in (half, bits - half)
    )
    return (x * first) * second


def scaled_to_normal(x: Lane, n: Lane) -> Lane:
    """Return the same where ``2**n`` is a normal number."""
    return times_power(x, n - n.format.round) if x.is_wide() else x * power_of_two(n)


def reduced(x: Lane, shift: float | None = None) -> tuple[Lane, Lane, Lane]:
    """Return n + shift, r and r's rounding error in ``x = n log(2) + r``, abs(r) at most half of log(2).

    Args:
        x: The number.
        shift: What rounds n when it is added: `Format.round`, if not given, plus a small integer.
    """
    high, low = LN2[x.format.name]
    shift = x.format.round if shift is None else shift
    shifted = fma(x, LOG2_E[x.format.name][0], shift)
    n = shifted - shift
    start = fma(n, -high, x)  # exact
    r = fma(n, -low, start)
    return shifted, r, fma(n, -low, start - r)


def reduced_a_little(x: Lane) -> tuple[Lane, Lane]:
    """Return n + `Format.round` and r of the same; n times the rounding error of log(2) is lost."""
    shift = x.format.round
    shifted = fma(x, LOG2_E[x.format.name][0], shift)
    return shifted, fma(shifted - shift, -LN2_WHOLE[x.format.name][0], x)


def reduced_sum(x: Lane, error: Lane) -> tuple[Lane, Lane]:
    """Return n + `Format.round` and r of ``x + error``."""
    high, low = LN2[x.format.name]
    shift = x.format.round
    shifted = fma(x, LOG2_E[x.format.name][0], shift)
    n = shifted - shift
    return shifted, fma(n, -high, x) + fma(n, -low, error)


def split_power(x: Lane, unit: Fraction) -> tuple[Lane, Lane, Lane]:
    """Return ``2**n``, a normal number, r and its error in ``x = n unit + r``.

    Where the unit is a power of two times log(2), the error is nothing in float32: log(2) is nearly a number there.
    """
    format = x.format
    high = rounded(float(unit), format.type)
    shift = format.round + format.exponent_bias  # so that the bits of 2**n are those of n, shifted
    shifted = fma(x, float(1 / unit), shift)
    n = shifted - shift
    return (shifted.bits() << format.fraction).number(), fma(n, -high, x), n * float(Fraction(high) - unit)


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
    n, r, r_error = reduced(x)
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
    x = select(x > most, most, x)
    x = select(x < least, least, x)
    shifted = x + format.round
    fraction = x - (shifted - format.round)  # exact
    high, low = LN2_WHOLE[format.name]
    r = fraction * high
    return scaled(1.0 + fma(fraction, high, fma(r * r, poly(r, EXP), fraction * low)), shifted)


def expm1(x: Lane) -> Lane:
    n, r, error = reduced(select(x > LARGEST[x.format.name], LARGEST[x.format.name], select(x < -40.0, -40.0, x)))
    rest = r + fma(r * r, poly(r, EXP), error)
    # Half the power of two, which does not overflow where the result does not.
    power = power_of_two(n - 1.0)
    result = fma(power, rest, power - 0.5) * 2.0
    return select(magnitude(x) < x.format.negligible, x, result)


def split(x: Lane) -> tuple[Lane, Lane]:
    """Return k and m in ``x = 2**k m`` with m between 3/4 and 3/2, for positive finite x."""
    if x.is_wide():
        return split_wide(x)
    more = x.format.fraction + 2.0
    subnormal = x < x.format.tiny
    k, m = split_normal(select(subnormal, x * 2.0**more, x))
    return k - select(subnormal, k.like(k.constant(more)), 0.0), m


def split_normal(x: Lane) -> tuple[Lane, Lane]:
    """Return the same for positive normal numbers, and anything for others."""
    if x.is_wide():
        return split_wide(x)
    format = x.format
    one = format.exponent_bias << format.fraction
    least = one - (1 << (format.fraction - 1))  # the bits of 3/4
    biased = x.bits() + (one - least)
    number = (1 << format.fraction) * (format.exponent_bias + format.fraction)  # the bits of 2**fraction
    k = ((biased >> format.fraction) | number).number() - (2.0**format.fraction + format.exponent_bias)
    return k, ((biased & ((1 << format.fraction) - 1)) + least).number()


def split_wide(x: Lane) -> tuple[Lane, Lane]:
    """Return the same; of 0 and infinity an infinite k and 1, of negative numbers NaN."""
    k, m = exponent(x), mantissa(x)
    return select(m < 1.0, k + 1.0, k), m


def log_rest(f: Lane) -> Lane:
    """Return ``log(1 + f) - f`` for f between -1/4 and 1/2."""
    return f * f * poly(f, LOG)


def at_limits(x: Lane, result: Lane) -> Lane:
    """Return a logarithm's result, or its value at zero, infinity, negative numbers and NaN."""
    result = select(x < math.inf, result, x)
    result = select(x.equals(0.0), -math.inf, result)
    return select(x < 0.0, math.nan, result)


def unless_regular(x: Lane, usual: Lane, source: Callable[..., Lane]) -> Lane:
    """Return a logarithm, but where x is not a positive normal number that of a kernel."""
    if x.is_wide():
        return usual
    return rarely(~((x >= x.format.tiny) & (x < math.inf)), usual, source, x)


def _log(k: Lane, m: Lane) -> Lane:
    """Return ``log(2**k m)``."""
    high, low = LN2[m.format.name]
    f = m - 1.0
    return fma(k, high, fma(k, low, log_rest(f)) + f)


def log(x: Lane) -> Lane:
    return at_limits(x, _log(*split(x)))


def log_by_case(x: Lane) -> Lane:
    return unless_regular(x, _log(*split_normal(x)), log)


def _scaled_log_rest(f: Lane, table: Coefficients, more: Lane) -> Lane:
    """Return ``log(1 + f) - f`` to another base, plus a number; the square's term by itself, which rounds less."""
    constant, *others = table[f.format.name]
    square = f * f
    return fma(square, f * poly(f, {f.format.name: tuple(others)}), fma(square, constant, more))


def _log2(k: Lane, m: Lane) -> Lane:
    """Return the same to base 2; k and f may cancel, and their sum is exact then."""
    high, low = LOG2_E[m.format.name]
    f = m - 1.0
    return (k + f) + fma(f, high - 1.0, _scaled_log_rest(f, _LOG_TO_BASE_2, f * low))


def log2(x: Lane) -> Lane:
    return at_limits(x, _log2(*split(x)))


def log2_by_case(x: Lane) -> Lane:
    return unless_regular(x, _log2(*split_normal(x)), log2)


def _log10(k: Lane, m: Lane) -> Lane:
    """Return the same to base 10; what may cancel is exact as there."""
    name = m.format.name
    (high, low), (two_high, two_low) = LOG10_E[name], LOG10_2[name]
    f = m - 1.0
    rest = fma(f, poly(f, {name: (low, *_LOG_TO_BASE_10[name])}), k * two_low)
    return fma(k, two_high, f * 0.5) + fma(f, high - 0.5, rest)


def log10(x: Lane) -> Lane:
    return at_limits(x, _log10(*split(x)))


def log10_by_case(x: Lane) -> Lane:
    return unless_regular(x, _log10(*split_normal(x)), log10)


def _log1p(x: Lane, k: Lane, f: Lane, error: Lane) -> Lane:
    """Return ``log(2**k (1 + f + error))``, and x where it is x."""
    high, low = LN2[x.format.name]
    result = fma(k, high, fma(k, low, log_rest(f) + fma(-f, error, error)) + f)
    return select(magnitude(x) < x.format.negligible, x, result)


def log1p(x: Lane) -> Lane:
    total, error = two_sum(x, x.like(x.constant(1.0)))
    k, m = split(total)
    error = error * 0.25 * power_of_two((x.format.round + 2.0) - k)  # 2**-1024 is not a normal number
    return at_limits(total, _log1p(x, k, m - 1.0, error))


def log1p_by_case(x: Lane) -> Lane:
    format = x.format
    total, error = two_sum(x, x.like(x.constant(1.0)))
    k, m = split_normal(total)
    usual = _log1p(x, k, m - 1.0, error * power_of_two(format.round - k))
    return rarely(~((x > -1.0) & (x < 2.0 ** (format.exponent_bias - 3))), usual, log1p, x)


def tanh(x: Lane) -> Lane:
    size, most = magnitude(x), (x.format.fraction + 4) * math.log(2) / 2
    power, r, error = split_power(select(size > most, most, size), LN2_EXACT / 2)
    square, series = r * r, poly(r, TANH)
    near = r + fma(square, series, error) if x.format is DOUBLE else fma(square, series, r)
    # h / (1 + h) with h = expm1(2 x) / 2; where h is small, h - h tanh(x) is the same and is rounded less
    h = fma(power, near, fma(power, 0.5, -0.5))
    result = h / (h + 1.0)
    return with_sign(select(h < 0.45, fma(-h, result, h), result), x)


def _hyperbolic(size: Lane, accurate: bool) -> tuple[Lane, Lane, Lane, Lane]:
    """Return p + q, p - q, c and s in ``exp(±size) / 4``, which is ``p (1 + c + s)`` and ``q (1 + c - s)``.

    Args:
        size: The argument.
        accurate: Whether s counts: then its rounding errors are made good.
    """
    format, most = size.format, LARGEST[size.format.name] + 0.9
    exponent = format.exponent_bias - 2  # of a quarter
    n, r, error = reduced(select(size > most, most, size), format.round + exponent)
    up = n.bits() << format.fraction
    # The least power is not a normal number where the other is the largest: it is too small to matter.
    other = up.like(up.constant(2 * exponent << format.fraction)) - up
    down = select(other.negative(), 0, other).number()
    square, up = r * r, up.number()
    cubic, series = r * square, poly(square, SINH)
    odd = r + fma(cubic, series, error) if accurate else fma(cubic, series, r)
    return up + down, up - down, square * poly(square, COSH), odd


def cosh(x: Lane) -> Lane:
    total, difference, even, odd = _hyperbolic(magnitude(x), False)
    return (total + fma(total, even, difference * odd)) * 2.0


def sinh(x: Lane) -> Lane:
    size = magnitude(x)
    total, difference, even, odd = _hyperbolic(size, True)
    result = with_sign((difference + fma(difference, even, total * odd)) * 2.0, x)
    return select(size < x.format.negligible, x, result)
