"""Trigonometric functions and their inverses as straight-line code that LLVM vectorises.

The argument is reduced modulo pi as M. H. Payne and R. N. Hanek do (Radian reduction for trigonometric functions, ACM
SIGNUM Newsletter 18, 1983): of 1/pi only those bits are multiplied with the argument that make neither a multiple of
2 nor a number too small to matter. They come from a table by the argument's exponent, so that one way serves small and
huge arguments; where vectors are explicit, moderate arguments are reduced by W. J. Cody and W. Waite's constants, and
only huge ones take that way. Half the remainder's sine series does the rest: sin(x) = ±sin(pi t) with abs(t) at most
1/2.
"""

# ruff: noqa: D103  (each kernel is documented as the operation of its name)
from __future__ import annotations

import math
from fractions import Fraction

from symgraph.compile.kernels.coefficients import ASIN, ATAN, RADIAN_SINE, SINE, TANGENT
from symgraph.compile.kernels.lanes import (
    DOUBLE,
    FLOAT,
    Format,
    Lane,
    fast_two_sum,
    fma,
    magnitude,
    narrowed,
    parts,
    poly,
    rarely,
    reciprocal_to_half,
    select,
    table_entry,
    two_product,
    two_sum,
    unary,
    widened,
    with_sign,
)


def _pi(bits: int) -> int:
    """Return pi times ``2**bits``, by Machin's formula."""

    def inverse_tangent(n: int) -> int:
        term = total = (1 << bits + 32) // n
        k = 1
        while term:
            term //= -n * n
            k += 2
            total += term // k
        return total

    return 16 * inverse_tangent(5) - 4 * inverse_tangent(239) >> 32


_STEP, _BITS = 16, 1280
_INVERSE = (1 << 2 * _BITS) // _pi(_BITS)  # 1/pi with so many bits after the point


def _bits_of_inverse_pi(first: int, width: int, rows: int) -> list[float]:
    """Return numbers below 1: in row i the bits of 1/pi after the point that follow the first 16 i + `first`."""
    skipped = range(first, first + _STEP * rows, _STEP)
    return [((_INVERSE >> _BITS - places - width) % 2**width) / 2**width for places in skipped]


# An argument of float64 needs 192 bits of 1/pi, which stand in rows i, i + 3, i + 6 and i + 9; one of float32 104 bits.
# The rows reach to infinity, for which the table is read as well.
_WIDTHS = {"double": 48, "float": 52}
_TABLES = {
    "double": [("symgraph.inverse_pi", _bits_of_inverse_pi(0, 48, 70), 3 * i) for i in range(4)],
    "float": [(f"symgraph.inverse_pi.{i}", _bits_of_inverse_pi(52 * i, 52, 64), 0) for i in range(2)],
}
PI_EXACT = Fraction(_pi(_BITS), 1 << _BITS)
PI = parts(PI_EXACT, 53)


def _modulo_two(x: Lane) -> Lane:
    return fma(unary("roundeven", x * 0.5), -2.0, x)


def _products(x: Lane, source: Format) -> list[Lane]:
    """Return numbers whose sum is ``x / pi`` but for a multiple of 2, largest first."""
    precision = source.fraction + 1
    first = DOUBLE.exponent_bias + precision  # with this exponent and 16 more, 16 bits of 1/pi give multiples of 2 only
    exponent = (x.bits() >> DOUBLE.fraction) & 0x7FF
    excess = exponent - first
    row = select(excess.negative(), 0, excess) >> 4
    scaled = (x.bits() - (row << (DOUBLE.fraction + 4))).number()
    result: list[Lane] = []
    for i, (name, numbers, offset) in enumerate(_TABLES[source.name]):
        entry = table_entry(row + offset, name, numbers)
        result += two_product(scaled * 2.0 ** (-_WIDTHS[source.name] * i), entry)
    return result


def reduced(x: Lane, source: Format, shift: float) -> tuple[Lane, Lane, Lane]:
    """Return k, t and t's error in ``x / pi + shift = k + t`` with abs(t) at most 1/2; k modulo 2, rounded by addition.

    Args:
        x: The argument in double precision.
        source: The format it came from, which says how many bits it has.
        shift: 0 or 1/2.
    """
    if source is FLOAT:
        high, low, rest, _ = _products(x, source)  # the first is below 2**41
        rests = low + rest
        shifted = (high + shift) + DOUBLE.round
        total = high - ((shifted - DOUBLE.round) - shift)
        t = total + rests
        return shifted, t, rests - (t - total)
    h1, l1, h2, l2, h3, l3, h4, _ = _products(x, source)
    middle, middle_error = two_sum(l1, h2)
    total, total_error = two_sum(_modulo_two(h1), _modulo_two(middle))
    shifted = (total + shift) + DOUBLE.round
    start = total - ((shifted - DOUBLE.round) - shift)
    # What is left is below 2**-26, but where start cancels it decides: it is summed with its errors.
    rest, error1 = two_sum(h3, middle_error)
    rest, error2 = two_sum(rest, l2)
    rest, error3 = two_sum(rest, total_error)
    t, error = two_sum(start, rest)
    return shifted, t, error + (((error1 + error2) + error3) + (l3 + h4))


def sine_parts(t: Lane, error: Lane) -> tuple[Lane, Lane]:
    """Return ``sin(pi (t + error))`` as a rounded number and its error."""
    high, low = PI["double"]
    square = t * t
    product, product_error = two_product(t, high)
    slope = fma(square, -4.0 * high, high)  # near enough to pi cos(pi t), for a small error
    # The cubic term apart: its coefficient is then not rounded once more, as the sum of the others with it is.
    cubic, *others = SINE["double"]
    cube = t * square
    tail = fma(cube * square, poly(square, {"double": tuple(others)}), fma(t, low, fma(error, slope, product_error)))
    rest = fma(cube, cubic, tail)
    total = product + rest
    return total, rest - (total - product)


def sine_in_single(t: Lane) -> Lane:
    """Return ``sin(pi t)`` in double precision with the accuracy that float32 needs."""
    square = t * t
    return t * fma(square, poly(square, {"double": SINE["float"]}), PI["double"][0])


def flipped(x: Lane, shifted: Lane) -> Lane:
    """Return x with its sign changed where the integer in the low bits is odd."""
    sign: Lane = shifted.bits() << (x.format.bits.width - 1)
    return (x.bits() ^ sign).number()


def _wave(x: Lane, shift: float) -> Lane:
    argument = widened(x)
    k, t, error = reduced(argument, x.format, shift)
    if x.format is FLOAT:
        return flipped(sine_in_single(t), k)
    return flipped(sine_parts(t, error)[0], k)


def at_limits(x: Lane, result: Lane) -> Lane:
    """Return the result, or NaN at infinity and NaN."""
    return select(magnitude(x) < math.inf, result, math.nan)


def sin(x: Lane) -> Lane:
    return at_limits(x, select(magnitude(x) < 2.0**-27, x, narrowed(_wave(x, 0.0), x.format)))


def cos(x: Lane) -> Lane:
    return at_limits(x, narrowed(_wave(x, 0.5), x.format))


def tan(x: Lane) -> Lane:
    argument = widened(x)
    _, t, error = reduced(argument, x.format, 0.0)
    # cos(pi t) = sin(pi (1/2 - t)) for t of either sign
    size = magnitude(t)
    complement = 0.5 - size
    if x.format is FLOAT:
        complement = complement - with_sign(error, error * t)
        result = sine_in_single(t) / sine_in_single(complement)
    else:
        high, low = sine_parts(t, error)
        error = with_sign(error, error * t)
        below, below_low = sine_parts(complement, ((0.5 - complement) - size) - error)
        inverse = 1.0 / below
        quotient = high * inverse
        rest = fma(-quotient, below, high) + fma(-quotient, below_low, low)
        result = fma(rest, inverse, quotient)
    return at_limits(x, select(magnitude(x) < 2.0**-27, x, narrowed(result, x.format)))


# pi so that a multiple k of the first part, taken from a number near it, leaves no error, and the product of k with the
# second has none; k has up to 20 bits in float64 and 12 in float32, and a half may follow. The second is positive: -0
# less a multiple of 0 stays -0.
_RADIANS = {"double": parts(PI_EXACT, 53, 32)["double"], "float": parts(PI_EXACT, 49, 24)["float"]}
_INVERSE_PI = parts(1 / PI_EXACT, 53)
_FAR = {"double": 3.0e6, "float": 12000.0}


def _radians(x: Lane, multiple: Lane, period: float) -> tuple[Lane, Lane]:
    """Return ``x - multiple * period * pi`` and by how much that is too large, for a number nearby (Cody and Waite).

    The last bit of the second product is below all of the first difference, so that nothing is lost of what the second
    subtraction rounds off (Dekker).
    """
    first, second, third = (part * period for part in _RADIANS[x.format.name])
    near = fma(multiple, -first, x)
    r = fma(multiple, -second, near)
    return r, fma(multiple, third, fma(multiple, second, r - near))


def _near_sine(x: Lane, shift: float) -> Lane:
    """Return ``sin(x + shift pi)`` for x below `_FAR`."""
    turns = x * _INVERSE_PI[x.format.name][0]
    shifted = (turns + shift if shift else turns) + x.format.round
    multiple = shifted - x.format.round
    r, excess = _radians(x, multiple - shift if shift else multiple, 1.0)
    square = r * r
    cube = r * square
    # The cubic term apart, as in `sine_parts`, and with the error of the cube: it is up to two thirds of the result
    cubic, *others = RADIAN_SINE[x.format.name]
    lost = fma(r, fma(r, r, -square), fma(r, square, -cube))
    tail = fma(cube * square, poly(square, {x.format.name: tuple(others)}), excess * fma(square, 0.5, -1.0))
    return flipped(r + fma(cube, cubic, fma(lost, cubic, tail)), shifted)


def sin_by_size(x: Lane) -> Lane:
    size = magnitude(x)
    usual = select(size < x.format.negligible, x, _near_sine(x, 0.0))
    return rarely(size >= _FAR[x.format.name], usual, sin, x)


def cos_by_size(x: Lane) -> Lane:
    return rarely(magnitude(x) >= _FAR[x.format.name], _near_sine(x, 0.5), cos, x)


def tan_by_size(x: Lane) -> Lane:
    shifted = fma(x, 2 * _INVERSE_PI[x.format.name][0], x.format.round)
    r, excess = _radians(x, shifted - x.format.round, 0.5)
    square = r * r
    # A zero keeps its sign like this: the excess of -0 is +0.
    rest = fma(r * square, poly(square, TANGENT), fma(-excess, square, -excess))
    tangent = r + rest
    # Beside an odd multiple of pi/2: -1 / (r + rest)
    inverse = -reciprocal_to_half(tangent)
    inverse = fma(inverse, fma(rest, inverse, fma(r, inverse, 1.0)), inverse)
    odd = (shifted.bits() << (x.format.bits.width - 1)).negative()
    return rarely(magnitude(x) >= _FAR[x.format.name] / 2, select(odd, inverse, tangent), tan, x)


def atan(x: Lane) -> Lane:
    size = magnitude(x)
    middle, far = size > math.tan(math.pi / 8), size > math.tan(3 * math.pi / 8)
    # atan(x) = pi/4 + atan((x - 1) / (x + 1)) = pi/2 - atan(1 / x)
    numerator = select(far, -1.0, select(middle, size - 1.0, size))
    divisor = select(far, size, select(middle, size + 1.0, 1.0))
    t = numerator / divisor
    square = t * t
    high, low = PI[x.format.name]
    base = select(far, high / 2, select(middle, t.like(t.constant(high / 4)), 0.0))
    base_low = select(far, low / 2, select(middle, t.like(t.constant(low / 4)), 0.0))
    total, error = fast_two_sum(base, t)
    return with_sign(total + (error + fma(t * square, poly(square, ATAN), base_low)), x)


def atan2(y: Lane, x: Lane) -> Lane:
    height, width = magnitude(y), magnitude(x)
    steep = height > width
    larger, smaller = select(steep, height, width), select(steep, width, height)
    scale = select(larger > 2.0 ** (x.format.exponent_bias - 3), 2.0**-60, x.like(x.constant(1.0)))  # against overflow
    larger, smaller = larger * scale, smaller * scale
    both = smaller.equals(math.inf)
    larger, smaller = select(both, 1.0, larger), select(both, 1.0, smaller)
    middle = smaller > larger * math.tan(math.pi / 8)
    divisor = select(middle, smaller + larger, larger)
    t = select(middle, smaller - larger, smaller) / select(larger.equals(0.0), 1.0, divisor)
    square = t * t
    # The angle is a multiple of pi/4 plus or minus atan(t).
    negative = x.bits().negative()
    eighths = select(middle, t.like(t.constant(1.0)), 0.0)
    eighths = select(steep, 2.0 - eighths, eighths)
    eighths = select(negative, 4.0 - eighths, eighths)
    t = select(steep ^ negative, -t, t)
    high, low = PI[x.format.name]
    base, base_low = two_product(eighths, high / 4)
    total, error = fast_two_sum(base, t)
    rest = fma(t * square, poly(square, ATAN), fma(eighths, low / 4, base_low))
    return select(x.is_nan() | y.is_nan(), math.nan, with_sign(total + (error + rest), y))


def _asin_parts(size: Lane) -> tuple[Lane, Lane, Lane]:
    """Return whether size is above 1/2, and s and r: asin(size) is s + r, above 1/2 it is pi/2 - 2 (s + r)."""
    far = size > 0.5
    z = select(far, (1.0 - size) * 0.5, size * size)
    s = select(far, unary("sqrt", z), size)
    return far, s, s * z * poly(z, ASIN)


def asin(x: Lane) -> Lane:
    far, s, rest = _asin_parts(magnitude(x))
    high, low = PI[x.format.name]
    total, error = fast_two_sum(s.like(s.constant(high / 2)), s * -2.0)
    result = select(far, total + fma(rest, -2.0, error + low / 2), s + rest)
    return with_sign(result, x)


def acos(x: Lane) -> Lane:
    far, s, rest = _asin_parts(magnitude(x))
    negative = x < 0.0
    high, low = PI[x.format.name]
    # Near 1: 2 asin(root); near -1: pi - 2 asin(root); between: pi/2 - asin(x)
    base = select(far, select(negative, s.like(s.constant(high)), 0.0), high / 2)
    base_low = select(far, select(negative, s.like(s.constant(low)), 0.0), low / 2)
    factor = select(far, s.like(s.constant(2.0)), 1.0)
    factor = select(far ^ negative, factor, -factor)
    total, error = fast_two_sum(base, factor * s)
    return total + fma(factor, rest, error + base_low)
