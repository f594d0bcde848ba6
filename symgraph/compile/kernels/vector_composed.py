"""Activations and inverse hyperbolic functions as straight-line code that LLVM vectorises.

They are made of the exponential and the logarithm. Where a sum goes into a logarithm, its rounding error goes too.
"""

# ruff: noqa: D103  (each kernel is documented as the operation of its name)
from __future__ import annotations

import math
from collections.abc import Callable

from symgraph.compile.kernels import vector, vector_special
from symgraph.compile.kernels.coefficients import ATANH, LOG
from symgraph.compile.kernels.lanes import (
    FORMATS,
    Lane,
    fast_two_sum,
    fma,
    magnitude,
    parts,
    poly,
    rarely,
    root_and_inverse,
    root_and_inverse_to_half,
    select,
    two_product,
    with_sign,
)

_ROOT_HALF = parts(vector_special.ROOT_HALF_EXACT, 53)


def _sigmoid_parts(x: Lane) -> tuple[Lane, Lane]:
    """Return numbers q and e: sigmoid(x) is ``q + q e``."""
    small = vector.exp_of_negative(-magnitude(x))
    total = small + 1.0
    inverse = 1.0 / total
    # The rounding errors of the sum and of the inverse; without this the result would be off by 2.1 ulp.
    error = fma(inverse, (total - 1.0) - small, fma(-total, inverse, 1.0))
    return select(x < 0.0, small, 1.0) * inverse, error


def sigmoid(x: Lane) -> Lane:
    quotient, error = _sigmoid_parts(x)
    return fma(quotient, error, quotient)


def silu(x: Lane) -> Lane:
    quotient, error = _sigmoid_parts(x)
    product = x * quotient
    return select(product < math.inf, fma(product, error, product), product)


def _log1p_exp(x: Lane) -> tuple[Lane, Lane]:
    """Return ``log(1 + exp(-abs(x)))`` as a sum of two numbers."""
    small = vector.exp_of_negative(-magnitude(x))
    # As log1p has it, with the few cases that occur: 1 + small is between 1 and 2.
    halved = small > 0.5
    less = small - 1.0
    f = select(halved, less * 0.5, small)
    error = select(halved, (small - (less + 1.0)) * 0.5, 0.0)
    high, low = vector.LN2[x.format.name]
    rest = (vector.log_rest(f) + fma(-f, error, error)) + select(halved, f.like(f.constant(low)), 0.0)
    return select(halved, f.like(f.constant(high)), 0.0), f + rest


def softplus(x: Lane) -> Lane:
    high, low = _log1p_exp(x)
    return select(x < 0.0, 0.0, x) + (high + low)


def logaddexp(x: Lane, y: Lane) -> Lane:
    high, low = _log1p_exp(x - y)
    result = select(x > y, x, y) + (high + low)
    return select(x.equals(y), x + math.log(2.0), result)  # also the same infinity, whose difference is NaN


def xlogy(x: Lane, y: Lane) -> Lane:
    return select(x.equals(0.0) & ~y.is_nan(), 0.0, x * vector.log(y))


def elu(x: Lane, alpha: Lane) -> Lane:
    return select(x > 0.0, x, alpha * vector.expm1(x))


def _over_root_2(x: Lane) -> tuple[Lane, Lane]:
    """Return ``-x / sqrt(2)`` and its rounding error."""
    high, low = _ROOT_HALF[x.format.name]
    argument, error = two_product(x, -high)
    return argument, fma(x, -low, error)


def gelu(x: Lane) -> Lane:
    argument, error = _over_root_2(x)
    return (x * 0.5) * vector_special.erfc_of_sum(argument, select(magnitude(x) < 100.0, error, 0.0))


def gelu_by_case(x: Lane) -> Lane:
    if x.is_wide():
        return gelu(x)
    usual, right = vector_special.usual_erfc_of_sum(*_over_root_2(x))
    return rarely(~right, (x * 0.5) * usual, gelu, x)


def _log_of_sum(total: Lane, error: Lane, far: Lane) -> Lane:
    """Return ``log(total + error)`` of a normal number; where it is far ``log(2 total)``."""
    k, m = vector.split_normal(total)
    high, low = vector.LN2[total.format.name]
    f = m - 1.0
    error = select(far, 0.0, error * vector.power_of_two(total.format.round - k))
    k = k + select(far, k.like(k.constant(1.0)), 0.0)
    return fma(k, high, fma(k, low, vector.log_rest(f + error) + error) + f)


def _log_of_moderate_sum(total: Lane, error: Lane) -> Lane:
    """Return ``log(total + error)`` of a number from 1/2 to the root of the largest."""
    format = total.format
    one = format.exponent_bias << format.fraction
    # The bits of 2**k less those of 1: total is between 3/4 and 3/2 of 2**k.
    exponent = (total.bits() - (one - (1 << (format.fraction - 1)))) & -(1 << format.fraction)
    inverse = (exponent.like(exponent.constant(one)) - exponent).number()
    f, error = fma(total, inverse, -1.0), error * inverse
    high, low = vector.LN2[format.name]
    k, unit = exponent.converted(), 0.5**format.fraction
    near = f + error
    return fma(k, high * unit, fma(k, low * unit, fma(near * near, poly(near, LOG), error)) + f)


_ALMOST_INFINITE = 2.0**30  # its square may be added to, and 1 is nothing beside it
_FAR = {name: 2.0 ** (format.exponent_bias // 2 - 3) for name, format in FORMATS.items()}  # its square is finite


Root = Callable[[Lane], tuple[Lane, Lane]]
"""Returns a number's root and half of the inverse root."""


def _asinh_sum(size: Lane, root_and_inverse: Root) -> tuple[Lane, Lane]:
    """Return ``size + sqrt(size**2 + 1)`` and its error, which is the size where the sum is 1."""
    square = fma(size, size, 1.0)
    root, half = root_and_inverse(square)
    missing = fma(-root, root, square) + fma(size, size, 1.0 - square)
    total, error = fast_two_sum(root, size)
    return total, fma(missing, half, error)


def _acosh_sum(x: Lane, root_and_inverse: Root) -> tuple[Lane, Lane]:
    """Return ``x + sqrt(x**2 - 1)`` and its error."""
    square = fma(x, x, -1.0)
    root, half = root_and_inverse(square)
    total, error = fast_two_sum(x, root)
    return total, fma(fma(-root, root, square), half, error)


def asinh(x: Lane) -> Lane:
    size = magnitude(x)
    far = size > _ALMOST_INFINITE
    total, error = _asinh_sum(size, root_and_inverse)
    result = _log_of_sum(select(far, size, total), error, far)
    return with_sign(select(size < math.inf, result, size), x)


def asinh_by_size(x: Lane) -> Lane:
    size = magnitude(x)
    usual = with_sign(_log_of_moderate_sum(*_asinh_sum(size, root_and_inverse_to_half)), x)
    return rarely(size >= _FAR[x.format.name], usual, asinh, x)


def acosh(x: Lane) -> Lane:
    far = x > _ALMOST_INFINITE
    total, error = _acosh_sum(x, root_and_inverse)
    result = _log_of_sum(select(far, x, total), error, far)
    return select(x >= 1.0, select(x < math.inf, result, x), math.nan)


def acosh_by_size(x: Lane) -> Lane:
    usual = select(x >= 1.0, _log_of_moderate_sum(*_acosh_sum(x, root_and_inverse_to_half)), math.nan)
    return rarely(x >= _FAR[x.format.name], usual, acosh, x)


def atanh(x: Lane) -> Lane:
    """Return ``k log(2) / 2 + atanh(y)`` by the addition theorem: with ``2**k`` near (1 + x) / (1 - x) y is small."""
    format, size = x.format, magnitude(x)
    above, below = size + 1.0, 1.0 - size
    # Bits read as an integer are nearly a logarithm.
    rounded = (above.bits() - below.bits()) + (1 << (format.fraction - 1))
    exponent = rounded & -(1 << format.fraction)
    power = (exponent + (format.exponent_bias << format.fraction)).number()
    # The difference 1 - x is exact from 1/2 on, where 1 + 2**k need not be.
    large, less, more = size >= 0.5, 1.0 - power, power + 1.0
    numerator = select(large, fma(-power, below, above), fma(size, more, less))
    y = numerator / select(large, fma(power, below, above), fma(size, less, more))
    square = y * y
    high, low = vector.LN2[format.name]
    unit = 0.5 ** (format.fraction + 1)
    k = exponent.converted()
    result = fma(k, high * unit, y + fma(k, low * unit, (y * square) * poly(square, ATANH)))
    result = select(size < 1.0, result, select(size.equals(1.0), math.inf, size.like(size.constant(math.nan))))
    return with_sign(result, x)
