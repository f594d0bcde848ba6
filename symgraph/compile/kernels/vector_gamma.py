"""The family of the gamma function for numbers and for vectors, in float64.

Formulas: NIST Digital Library of Mathematical Functions (DLMF), sections 5.5, 5.11, 5.15 and 25.11. Errors are at most
1e-13, relative to the larger of 1 and the value.
"""

# ruff: noqa: D103  (each kernel is documented as the operation of its name)
from __future__ import annotations

import functools
import math
from collections.abc import Callable

from llvmlite import ir

from symgraph.compile.kernels.instructions import width_of
from symgraph.compile.kernels.lanes import Lane, magnitude, poly, rarely, select, unary
from symgraph.compile.kernels.vector import log_by_case
from symgraph.compile.kernels.vector_trigonometric import tan_by_size

DIGAMMA = (0.0, 1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160)
"""B(2k) / 2k for k = 1 ... 8, after a zero: the terms of DLMF 5.11.2."""

ZETA = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600,
    -3617 / 10670622842880000, 43867 / 5109094217170944000, -174611 / 802857662698291200000,
)  # fmt: skip
"""B(2k) / (2k)! for k = 1 ... 10: the terms of DLMF 25.11.43."""

_LARGE = 10
"""Where the series of digamma begin to hold."""


def lgamma(x: Lane) -> Lane:
    """Call C's function lane by lane; the poles and what overflows are infinite."""
    builder, kind = x.builder, x.value.type
    called = builder.module.globals.get("lgamma")
    if called is None:
        called = ir.Function(builder.module, ir.FunctionType(x.format.type, [x.format.type]), "lgamma")
    width = width_of(kind)
    if width is None:
        return x.like(builder.call(called, [x.value]))
    result = ir.Constant(kind, ir.Undefined)
    for lane in range(width):
        place = ir.Constant(ir.IntType(32), lane)
        value = builder.call(called, [builder.extract_element(x.value, place)])
        result = builder.insert_element(result, value, place)
    return x.like(result)


def digamma(x: Lane) -> Lane:
    below = x <= 0.0
    nearest = unary("roundeven", x)
    # Reflection, DLMF 5.5.4; the period of tan is taken exactly.
    reflected = -math.pi / tan_by_size(math.pi * (x - nearest))
    y = select(below, 1.0 - x, x)
    result = select(below, reflected, 0.0)
    for _ in range(_LARGE):  # recurrence, DLMF 5.5.2
        small = y < float(_LARGE)
        result = result - select(small, 1.0 / y, 0.0)
        y = y + select(small, y.like(y.constant(1.0)), 0.0)
    result = result + (log_by_case(y) - 0.5 / y - poly(1.0 / y / y, {"double": DIGAMMA}))
    at_pole = select(x.equals(0.0), -1.0 / x, math.nan)
    return select(below & x.equals(nearest), at_pole, result)


@functools.cache
def polygamma(order: int) -> Callable[[Lane], Lane]:
    """Return the kernel of a derivative of digamma."""
    s = order + 1
    parity = 1.0 if order % 2 else -1.0  # (-1)**s
    factor = parity * math.prod(map(float, range(2, order + 1)))

    def below(x: Lane) -> Lane:
        """Return it for numbers that are not positive."""
        # The sum over k < 0 as well depends on the distance to the nearest integer alone (reflection, DLMF 5.15.6).
        nearest = unary("roundeven", x)
        offset = x - nearest
        distance = magnitude(offset)
        both_sides = _hurwitz_zeta(s, distance) + parity * _hurwitz_zeta(s, 1.0 - distance)
        both_sides = select(offset < 0.0, parity * both_sides, both_sides)
        result = factor * (both_sides - parity * _hurwitz_zeta(s, 1.0 - x))
        return select(x.equals(nearest), factor * math.inf, result)

    def source(x: Lane) -> Lane:
        outside = x <= 0.0
        usual = factor * _hurwitz_zeta(s, select(outside, 1.0, x))
        return rarely(outside, usual, below, x)

    # A module knows kernels by name.
    source.__name__, below.__name__ = f"polygamma_{order}", f"polygamma_{order}_below"
    return source


def _hurwitz_zeta(s: int, x: Lane) -> Lane:
    """Return the sum of ``(x + k)**-s`` over k = 0, 1, ... for x > 0 and integers s > 1."""
    total = x.like(x.constant(0.0))
    for _ in range(_LARGE + s):
        small = x < float(_LARGE + s)
        total = total + select(small, _inverse_power(x, s - 1) / x, 0.0)
        x = x + select(small, x.like(x.constant(1.0)), 0.0)
    slower = _inverse_power(x, s - 1)
    power = slower / x
    total = total + (slower / (s - 1.0) + 0.5 * power)
    term = s * power / x
    for k, coefficient in enumerate(ZETA):
        total = total + coefficient * term
        term = term * float((s + 2 * k + 1) * (s + 2 * k + 2)) / x / x
    return total


def _inverse_power(x: Lane, exponent: int) -> Lane:
    """Return ``x**-exponent``, by squaring."""
    result: Lane | None = None
    while exponent:
        if exponent % 2:
            result = x if result is None else result * x
        exponent //= 2
        x = x * x
    assert result is not None
    return 1.0 / result
