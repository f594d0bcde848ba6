"""Kernels of the special functions: error functions and the family of the gamma function.

Formulas: NIST Digital Library of Mathematical Functions (DLMF), sections 5.5, 5.11, 5.15 and 25.11.
Errors against mpmath are at most 2 ulp (erf, erfc), 3 ulp (gelu), 8 ulp (erfinv), and 1e-13 relative to the larger of
1 and the value (lgamma, digamma, polygamma).
"""

# ruff: noqa: D103  (each kernel is documented as the operation of its name)
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.compile.kernels import vector_composed, vector_gamma, vector_special
from symgraph.compile.kernels.arithmetic import abs, floor, power, round
from symgraph.compile.kernels.elementary import log, sqrt, tan
from symgraph.compile.kernels.lanes import vectorises
from symgraph.compile.kernels.lowering import in_double, jitable, kernel

_SQRT_HALF = math.sqrt(0.5)


@jitable
def _polynomial(coefficients: Any, x: Any) -> Any:
    """Return a polynomial's value, the coefficient of the highest power first."""
    total = 0.0
    for coefficient in coefficients:
        total = total * x + coefficient
    return total


@in_double(emitter=vectorises(vector_composed.gelu, explicit=vector_composed.gelu_by_case))
def gelu(x: Any) -> Any:
    return 0.5 * x * erfc(-_SQRT_HALF * x)


@kernel(vectorises(vector_special.erf, explicit=vector_special.erf_by_quarter))
def erf(x: Any) -> Any:
    return np.asarray(x).dtype.type(math.erf(x))


@kernel(vectorises(vector_special.erfc, explicit=vector_special.erfc_by_case))
def erfc(x: Any) -> Any:
    return np.asarray(x).dtype.type(math.erfc(x))


@kernel(vectorises(vector_special.gaussian, explicit=vector_special.gaussian_by_case))
def gaussian(x: Any) -> Any:
    return np.exp(-np.square(x))


@in_double(emitter=vectorises(vector_special.erfinv, in_double=True))
def erfinv(x: Any) -> Any:
    if abs(x) <= 0.85:
        r = 0.180625 - 0.25 * x * x
        return x * (0.5 * _SQRT_HALF * _quotient(vector_special.CENTRAL, r))
    if not abs(x) < 1:
        return x * math.inf if abs(x) == 1 else math.nan
    r = sqrt(-log(0.5 * (1.0 - abs(x))))
    quantile = _quotient(vector_special.MIDDLE, r - 1.6) if r <= 5 else _quotient(vector_special.OUTER, r - 5.0)
    return _SQRT_HALF * (quantile if x > 0 else -quantile)


def _quotient(pair: Sequence[Sequence[float]], x: Any) -> Any:
    """Return a quotient of polynomials whose constants stand first."""
    numerator, divisor = (_polynomial(part[::-1], x) for part in pair)
    return numerator / divisor


@in_double()
def lgamma(x: Any) -> Any:
    if x > 2.5e305 or (x <= 0 and floor(x) == x):
        return math.inf  # overflow, and the poles, where Python's function raises
    return math.lgamma(x)


_DIGAMMA_SERIES = vector_gamma.DIGAMMA[::-1]


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


_ZETA_SERIES = vector_gamma.ZETA


@jitable
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
