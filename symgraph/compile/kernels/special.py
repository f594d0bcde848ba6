"""Kernels of the special functions: error functions and the family of the gamma function.

Formulas: NIST Digital Library of Mathematical Functions (DLMF), sections 5.5, 5.11, 5.15 and 25.11; for the
inverse error function M. J. Wichura, Algorithm AS 241, Applied Statistics 37 (1988) 477-484.
Errors against mpmath are at most 2 ulp (erf, erfc), 8 ulp (erfinv), ``x**2`` ulp (gelu, whose argument of erfc is
rounded), and 1e-13 relative to the larger of 1 and the value (lgamma, digamma, polygamma).
"""

# ruff: noqa: D103  (each kernel is documented as the operation of its name)
from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.extending import register_jitable

from symgraph.compile.kernels import vector_composed, vector_special
from symgraph.compile.kernels.arithmetic import abs, floor, power, round
from symgraph.compile.kernels.elementary import log, sqrt, tan
from symgraph.compile.kernels.lanes import vectorises
from symgraph.compile.kernels.lowering import in_double, kernel

_SQRT_HALF = math.sqrt(0.5)


@register_jitable
def _polynomial(coefficients: Any, x: Any) -> Any:
    """Return a polynomial's value, the coefficient of the highest power first."""
    total = 0.0
    for coefficient in coefficients:
        total = total * x + coefficient
    return total


@in_double(emitter=vectorises(vector_composed.gelu))
def gelu(x: Any) -> Any:
    return 0.5 * x * erfc(-_SQRT_HALF * x)


@kernel(vectorises(vector_special.erf))
def erf(x: Any) -> Any:
    return np.asarray(x).dtype.type(math.erf(x))


@kernel(vectorises(vector_special.erfc))
def erfc(x: Any) -> Any:
    return np.asarray(x).dtype.type(math.erfc(x))


# Quotients of polynomials for the quantile of the normal distribution (Wichura 1988, PPND16)
_CENTRAL = (
    (
        2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
        1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
        5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0,
    ),
)  # fmt: skip
_MIDDLE = (
    (
        7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
        3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
        6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0,
    ),
)  # fmt: skip
_FAR = (
    (
        2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
        2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0,
    ),
    (
        2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
        1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0,
    ),
)  # fmt: skip


@in_double(emitter=vectorises(vector_special.erfinv, in_double=True))
def erfinv(x: Any) -> Any:
    if abs(x) <= 0.85:
        r = 0.180625 - 0.25 * x * x
        return x * (0.5 * _SQRT_HALF * _polynomial(_CENTRAL[0], r) / _polynomial(_CENTRAL[1], r))
    if not abs(x) < 1:
        return x * math.inf if abs(x) == 1 else math.nan
    r = sqrt(-log(0.5 * (1.0 - abs(x))))
    if r <= 5:
        quantile = _polynomial(_MIDDLE[0], r - 1.6) / _polynomial(_MIDDLE[1], r - 1.6)
    else:
        quantile = _polynomial(_FAR[0], r - 5.0) / _polynomial(_FAR[1], r - 5.0)
    return _SQRT_HALF * (quantile if x > 0 else -quantile)


@in_double()
def lgamma(x: Any) -> Any:
    if x > 2.5e305 or (x <= 0 and floor(x) == x):
        return math.inf  # overflow, and the poles, where Python's function raises
    return math.lgamma(x)


# B(2k) / 2k for k = 8 ... 1: the terms of DLMF 5.11.2
_DIGAMMA_SERIES = (-3617 / 8160, 1 / 12, -691 / 32760, 1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12, 0.0)


@in_double()
def digamma(x: Any) -> Any:
    result = 0.0
    if x <= 0:
        if floor(x) == x:
            return -1.0 / x if x == 0 else math.nan
        result = -math.pi / tan(math.pi * (x - round(x)))  # reflection, DLMF 5.5.4; the period of tan is taken exactly
        x = 1.0 - x
    while x < 10:  # recurrence, DLMF 5.5.2
        result -= 1.0 / x
        x += 1.0
    return result + (log(x) - 0.5 / x - _polynomial(_DIGAMMA_SERIES, 1.0 / x / x))


# B(2k) / (2k)! for k = 1 ... 10: the terms of DLMF 25.11.43
_ZETA_SERIES = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600,
    -3617 / 10670622842880000, 43867 / 5109094217170944000, -174611 / 802857662698291200000,
)  # fmt: skip


@register_jitable
def _hurwitz_zeta(s: Any, x: Any) -> Any:
    """Return the sum of ``(x + k)**-s`` over k = 0, 1, ... for x > 0 and integers s > 1."""
    total = 0.0
    while x < 10 + s:
        total += power(x, -s)
        x += 1.0
    term = s * power(x, -s) / x
    tail = power(x, 1.0 - s) / (s - 1.0) + 0.5 * power(x, -s)
    for k in range(10):
        tail += _ZETA_SERIES[k] * term
        term *= (s + 2 * k + 1) * (s + 2 * k + 2) / x / x
    return total + tail


@in_double(attributes=1)
def polygamma(x: Any, order: Any) -> Any:
    s = order + 1.0
    parity = 1.0 if order % 2 else -1.0  # (-1)**s
    factor = parity
    for k in range(2, order + 1):
        factor *= k
    if x > 0 or x != x:
        return factor * _hurwitz_zeta(s, x)
    if floor(x) == x:
        return factor * math.inf
    # The sum over k < 0 as well depends on the distance to the nearest integer alone (reflection, DLMF 5.15.6).
    offset = x - round(x)
    distance = abs(offset)
    both_sides = _hurwitz_zeta(s, distance) + parity * _hurwitz_zeta(s, 1.0 - distance)
    if offset < 0:
        both_sides *= parity
    return factor * (both_sides - parity * _hurwitz_zeta(s, 1.0 - x))
