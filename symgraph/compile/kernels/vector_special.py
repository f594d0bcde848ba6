"""Error functions, roots and quotients as straight-line code that LLVM vectorises.

The error functions: near 0 ``erf(x) / x`` is a polynomial of ``x**2``; ``(1 + 3/2 x) exp(x**2) erfc(x)`` changes
little, and is a polynomial of ``(x - a) / (x + a)`` (M. M. Shepherd and J. G. Laframboise, Mathematics of Computation
36, 1981). Sums and products that are kept with their errors: T. J. Dekker, Numerische Mathematik 18 (1971).
"""

# ruff: noqa: D103  (each kernel is documented as the operation of its name)
from __future__ import annotations

import math
from fractions import Fraction

from symgraph.compile.kernels import vector
from symgraph.compile.kernels.coefficients import (
    CBRT,
    CBRT_STEP,
    ERF,
    ERF_QUARTERS,
    ERFC,
    EXP,
    LOG_ERFC,
    LOG_ERFC_SLOPE,
)
from symgraph.compile.kernels.instructions import has_avx512
from symgraph.compile.kernels.lanes import (
    DOUBLE,
    FLOAT,
    Lane,
    fma,
    magnitude,
    poly,
    rarely,
    reciprocal,
    select,
    table_entry,
    two_product,
    unary,
    with_sign,
)

ROOT_HALF_EXACT = Fraction(math.isqrt(1 << 255), 1 << 128)


_POLE = {"double": 3.5, "float": 2.0}
_VANISHING = {"double": 28.0, "float": 11.0}
"""Where erfc(x) and exp(-x**2) are less than half the least number."""
_REGULAR = {"double": 26.0, "float": 9.0}
"""Up to where they are normal numbers."""


def erf(x: Lane) -> Lane:
    if x.format is FLOAT:
        return _erf_of_float(x)
    size = magnitude(x)
    near = fma(size, poly(size * size, ERF), size)
    # erfc(1 + y) = exp(polynomial(y)), which is small enough for its error to be too
    n, r = vector.reduced_a_little(poly(select(size > 5.95, 5.95, size) - 1.0, LOG_ERFC))
    far = 1.0 - vector.scaled_to_normal(1.0 + fma(r * r, poly(r, EXP), r), n)
    return with_sign(select(size > 1.0, far, near), x)


def _erf_of_float(x: Lane) -> Lane:
    """Return ``1 - exp(x polynomial(x))``: relatively exact near 0 as well, as ``expm1`` is."""
    size = magnitude(x)
    size = select(size > 3.95, 3.95, size)
    log = fma(size, -2 / math.sqrt(math.pi), size * poly(size, LOG_ERFC_SLOPE))
    power, r, _ = vector.split_power(log, vector.LN2_EXACT)
    return with_sign(fma(power, fma(r * r, poly(r, EXP), r), power - 1.0), x)


_QUARTERS = FLOAT.round / 4  # a number added to it is rounded to quarters, which the low bits count
_LAST = 3.874  # in the last quarter; from here on erf is 1 in float32


def erf_by_quarter(x: Lane) -> Lane:
    """Return erf; in float32 where tables stay in registers as the smaller of x and 9/8 plus a quarter's polynomial."""
    if x.format is not FLOAT or not has_avx512():
        return erf(x)
    size = magnitude(x)
    size = select(size > _LAST, _LAST, size)
    shifted = size + _QUARTERS
    h, row = size - (shifted - _QUARTERS), shifted.bits()
    *others, total = (table_entry(row, f"symgraph.erf.{i}", numbers) for i, numbers in enumerate(ERF_QUARTERS))
    for coefficient in reversed(others):
        total = fma(total, h, coefficient)
    return with_sign(select(size > 1.125, 1.125, size) + total, x)


def _erfc_parts(x: Lane, error: Lane | None) -> tuple[Lane, Lane]:
    """Return r and n, for `scaled`, in ``erfc(x + error) = 2**n r`` for x of at least 0."""
    twice, other = x + x, x + _POLE[x.format.name]
    divisor = fma(x, 1.5, 1.0)
    both = reciprocal(divisor * other)
    n, more = _gaussian_parts(x, error)
    inverse, t = both * other, fma(twice, both * divisor, -1.0)
    constant, *others = ERFC[x.format.name]
    rise = t * poly(t, {x.format.name: tuple(others)})
    quotient = (rise + constant) * inverse
    missing = fma(-quotient, divisor, constant) + rise
    rest = fma(-quotient, fma(x, 1.5, 1.0 - divisor), missing) * inverse
    return quotient + fma(quotient, more, fma(rest, more, rest)), n


def _gaussian_parts(x: Lane, error: Lane | None = None) -> tuple[Lane, Lane]:
    """Return n and r in ``exp(-(x + error)**2) = 2**n (1 + r)``."""
    square, square_error = two_product(x, x)
    if error is not None:
        square_error = fma(x + x, error, square_error)
    n, r = vector.reduced_sum(-square, -square_error)
    return n, fma(r * r, poly(r, EXP), r)


def _on_both_sides(x: Lane, far: Lane) -> Lane:
    """Return erfc(x) from its value at abs(x)."""
    return select(x < 0.0, 2.0 - far, far)


def erfc_of_sum(x: Lane, error: Lane | None) -> Lane:
    """Return erfc(x + error)."""
    size, most = magnitude(x), _VANISHING[x.format.name]
    if error is not None:
        error = select(x < 0.0, -error, error)
    return _on_both_sides(x, vector.scaled(*_erfc_parts(select(size > most, most, size), error)))


def usual_erfc_of_sum(x: Lane, error: Lane | None) -> tuple[Lane, Lane]:
    """Return erfc(x + error) and whether it is right: where erfc(abs(x)) is a normal number."""
    size = magnitude(x)
    if error is not None:
        error = select(x < 0.0, -error, error)
    far, n = _erfc_parts(size, error)
    return _on_both_sides(x, far * vector.power_of_two(n)), size < _REGULAR[x.format.name]


def erfc(x: Lane) -> Lane:
    return erfc_of_sum(x, None)


def erfc_by_case(x: Lane) -> Lane:
    if x.is_wide():
        return erfc(x)
    usual, right = usual_erfc_of_sum(x, None)
    return rarely(~right, usual, erfc, x)


def gaussian(x: Lane) -> Lane:
    size, most = magnitude(x), _VANISHING[x.format.name]
    n, more = _gaussian_parts(select(size > most, most, size))
    return vector.scaled(more + 1.0, n)


def gaussian_by_case(x: Lane) -> Lane:
    if x.is_wide():
        return gaussian(x)
    size = magnitude(x)
    n, more = _gaussian_parts(size)
    usual = (more + 1.0) * vector.power_of_two(n)
    return rarely(~(size < _REGULAR[x.format.name]), usual, gaussian, x)


def cbrt(x: Lane) -> Lane:
    size = magnitude(x)
    return select(x.equals(0.0) | ~(size < math.inf), x, with_sign(_cbrt(*vector.split(size)), x))


# Bits read as an integer are nearly a logarithm: from these numbers a third of it is taken for an inverse cube root
# that is off by less than 3.5 %. In float64 the upper half of the bits.
_INVERSE_ROOT = {"double": 1430186000.0, "float": 1419900000.0}


def _inverse_root_start(x: Lane) -> Lane:
    shift = DOUBLE.round
    if x.format is FLOAT:
        return (_INVERSE_ROOT["float"] - x.bits().converted() * (1 / 3)).truncated().number()
    number = (1 << DOUBLE.fraction) * (DOUBLE.exponent_bias + DOUBLE.fraction)  # the bits of 2**fraction
    upper = ((x.bits() >> 32) | number).number() - 2.0**DOUBLE.fraction
    return (fma(upper, -1 / 3, _INVERSE_ROOT["double"] + shift).bits() << 32).number()


def cbrt_by_case(x: Lane) -> Lane:
    format, size = x.format, magnitude(x)
    r = _inverse_root_start(size)
    # The inverse root's error is 1 - size r**3. Steps of third and, in float64, first order; then one for the root.
    error = fma(-(size * r), r * r, 1.0)
    r = fma(r * error, poly(error, CBRT_STEP), r)
    if format is DOUBLE:
        r = fma(r * fma(-(size * r), r * r, 1.0), 1 / 3, r)
    square = r * r
    root = size * square
    root = fma(fma(-(root * root), root, size), square * (1 / 3), root)
    regular = (size >= format.tiny * 2.0 ** (2 * format.fraction)) & (size < math.inf)
    return rarely(~(regular | x.equals(0.0)), with_sign(root, x), cbrt, x)


def _cbrt(k: Lane, fraction: Lane) -> Lane:
    """Return the cube root of ``2**k fraction``."""
    shifted = fma(k, 1 / 3, k.format.round)
    rest = fma(shifted - k.format.round, -3.0, k)  # -1, 0 or 1
    one = fraction.like(fraction.constant(1.0))
    less, more = rest < 0.0, rest > 0.0
    m = fraction * select(less, 0.5, select(more, 2.0, one))
    # The inverse root, by an iteration of third or fourth order: its error is 1 - m r**3
    r = poly(fraction, CBRT) * select(less, 2 ** (1 / 3), select(more, 0.5 ** (1 / 3), one))
    error = fma(-(m * r), r * r, 1.0)
    correction = fma(error, 14 / 81, 2 / 9) if k.format is DOUBLE else error.like(error.constant(2 / 9))
    r = fma(r * error, fma(error, correction, 1 / 3), r)
    square = r * r
    root = m * square
    root = fma(fma(-(root * root), root, m), square * (1 / 3), root)
    return root * vector.power_of_two(shifted)


# Above and below which powers of two a hypotenuse is computed of numbers scaled by which others.
_SCALES = {"double": ((500, -600), (-450, 600)), "float": ((60, -70), (-50, 98))}


def hypot(x: Lane, y: Lane) -> Lane:
    x, y = magnitude(x), magnitude(y)
    larger, smaller = select(x > y, x, y), select(x > y, y, x)
    one = x.like(x.constant(1.0))
    (most, down), (least, up) = _SCALES[x.format.name]
    huge, tiny = larger > 2.0**most, larger < 2.0**least
    scale = select(huge, 2.0**down, select(tiny, 2.0**up, one))
    back = select(huge, 2.0**-down, select(tiny, 2.0**-up, one))
    larger, smaller = larger * scale, smaller * scale
    result = unary("sqrt", fma(larger, larger, smaller * smaller)) * back
    return select(x.equals(math.inf) | y.equals(math.inf), math.inf, result)


# Quotients of polynomials for the quantile of the normal distribution, the constant first (M. J. Wichura, Algorithm AS
# 241, Applied Statistics 37, 1988, PPND16)
CENTRAL = (
    (
        3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
        4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3,
    ),
    (
        1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
        2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3,
    ),
)  # fmt: skip
MIDDLE = (
    (
        1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
        1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4,
    ),
    (
        1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
        1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9,
    ),
)  # fmt: skip
OUTER = (
    (
        6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
        2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7,
    ),
    (
        1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
        7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15,
    ),
)  # fmt: skip


def erfinv(x: Lane) -> Lane:
    """Return the inverse error function, in double precision."""
    size = magnitude(x)
    near = size <= 0.85
    square = fma(x * 0.25, -x, 0.180625)
    central = (x * math.sqrt(0.125)) * (_polynomial(square, CENTRAL[0]) / _polynomial(square, CENTRAL[1]))
    r = unary("sqrt", -vector.log((1.0 - size) * 0.5))
    outer = r > 5.0
    middle = r - select(outer, 5.0, r.like(r.constant(1.6)))
    numerator, divisor = (
        select(outer, _polynomial(middle, far), _polynomial(middle, near))
        for far, near in zip(OUTER, MIDDLE, strict=True)
    )
    result = with_sign((numerator / divisor) * math.sqrt(0.5), x)
    result = select(size < 1.0, result, select(size.equals(1.0), x * math.inf, math.nan))
    return select(near, central, result)


def _polynomial(x: Lane, coefficients: tuple[float, ...]) -> Lane:
    return poly(x, {"double": coefficients})


def floor_division(operation: str, x: Lane, y: Lane) -> Lane:
    """Return ``floor_divide`` or ``remainder`` as NumPy computes them.

    The rounded quotient is the true one or, where that is just below an integer, this integer: what it leaves of x is
    exact. That holds for quotients that have a fraction.
    """
    size, divisor = magnitude(x), magnitude(y)
    quotient = size / divisor
    rest = fma(-unary("trunc", quotient), divisor, size)
    rest = with_sign(select(rest < 0.0, rest + divisor, rest), x)
    unusual = ~((quotient < 2.0**x.format.fraction) & (divisor < math.inf))
    opposite = (rest.bits() ^ y.bits()).negative() & rest.differs(0.0)
    if operation == "remainder":
        result = select(opposite, rest + y, rest)
        usual = select(rest.equals(0.0), with_sign(rest, y), result)
        return rarely(unusual, usual, _remainder_of_any, x, y)
    result = (x - rest) / y
    result = select(opposite, result - 1.0, result)
    down = unary("floor", result)
    down = select(result - down > 0.5, down + 1.0, down)
    usual = select(result.equals(0.0), with_sign(result, x / y), down)
    return rarely(unusual, usual, _floor_divide_any, x, y)


def _fmod(x: Lane, y: Lane) -> Lane:
    return x.like(x.builder.frem(x.value, y.value))


def _remainder_of_any(x: Lane, y: Lane) -> Lane:
    rest = _fmod(x, y)
    opposite = (rest.bits() ^ y.bits()).negative() & y.differs(0.0)
    return select(rest.equals(0.0), with_sign(rest, y), select(opposite, rest + y, rest))


def _floor_divide_any(x: Lane, y: Lane) -> Lane:
    rest = _fmod(x, y)
    quotient = (x - rest) / y
    opposite = (rest.bits() ^ y.bits()).negative() & rest.differs(0.0)
    quotient = select(opposite, quotient - 1.0, quotient)
    down = unary("floor", quotient)
    down = select(quotient - down > 0.5, down + 1.0, down)
    result = select(quotient.equals(0.0), with_sign(quotient, x / y), down)
    return select(y.equals(0.0), x / y, result)
