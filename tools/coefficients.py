"""Derive the polynomials of the vector kernels: prints the tables of symgraph/compile/kernels/coefficients.py.

Each polynomial is the best weighted approximation of its function on an interval, found by Remez's exchange in 60
digits: alternately solve for the polynomial whose weighted error takes equal values of alternating sign at n + 2
points, and move the points to where the error is largest (J.-M. Muller, Elementary Functions, 3rd edition, 2016,
section 3.6). The weight makes the error relative to the kernel's result. Coefficients are then rounded to the format.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from mpmath import mp, mpf

mp.dps = 60
Real = Any
Curve = Callable[[Real], Real]
DTYPES: dict[str, type[np.floating[Any]]] = {"double": np.float64, "float": np.float32}


def fit(curve: Curve, weight: Curve, low: Real, high: Real, powers: list[int]) -> tuple[list[Real], Real]:
    """Return the coefficients of the powers of x that minimise the largest weighted error, and that error."""
    count = len(powers) + 1
    points = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * (i + 0.5) / count) for i in range(count)]
    grid = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * i / (20 * count)) for i in range(20 * count + 1)]
    table = [(x, curve(x), weight(x)) for x in grid]
    coefficients: list[Real] = []
    worst = mpf(0)
    for _ in range(8):
        rows = mp.matrix([[x**p for p in powers] + [(-1) ** i / weight(x)] for i, x in enumerate(points)])
        solution = mp.lu_solve(rows, mp.matrix([curve(x) for x in points]))
        coefficients = list(solution)[:-1]
        errors = [w * (y - sum(c * x**p for c, p in zip(coefficients, powers, strict=True))) for x, y, w in table]
        worst = max(abs(e) for e in errors)
        points = _alternation(grid, errors, count) or points
        if worst <= abs(solution[count - 1]) * 1.02:
            break
    return coefficients, worst


def _alternation(grid: list[Real], errors: list[Real], count: int) -> list[Real] | None:
    """Return the place of the largest error of each stretch of one sign, or None where there are too few."""
    peaks: list[tuple[Real, Real]] = []
    for x, error in zip(grid, errors, strict=True):
        if peaks and (peaks[-1][1] > 0) == (error > 0):
            if abs(error) > abs(peaks[-1][1]):
                peaks[-1] = (x, error)
        else:
            peaks.append((x, error))
    while len(peaks) > count:
        peaks.pop(0 if abs(peaks[0][1]) < abs(peaks[-1][1]) else -1)
    return [x for x, _ in peaks] if len(peaks) == count else None


def polynomial(curve: Curve, weight: Curve, low: float, high: float, degree: int, dtype: type[Any]) -> list[float]:
    """Return the rounded coefficients, the constant first, and report the error to stderr."""
    coefficients, worst = fit(curve, weight, mpf(low), mpf(high), list(range(degree + 1)))
    sys.stderr.write(f"degree {degree}: 2**{float(mp.log(worst, 2)):.1f}\n")
    return [float(dtype(float(c))) for c in coefficients]


Table = tuple[str, Curve, Curve, float, float, dict[str, int]]


def _log_tail(f: Real) -> Real:
    """Return (log(1 + f) - f) / f**2."""
    return (mp.log1p(f) - f) / f**2 if abs(f) > 1e-5 else mp.fsum((-f) ** n / -(n + 2) for n in range(12))


def _atanh_tail(z: Real) -> Real:
    """Return (2 atanh(s) - 2 s) / s**3 for z = s**2."""
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) - 2 * s) / s**3 if z > 1e-9 else mp.fsum(2 * z**n / (2 * n + 3) for n in range(12))


def _atanh_far_tail(z: Real) -> Real:
    """Return what follows 2/3 in the same, divided by z."""
    return mp.fsum(2 * z**n / (2 * n + 5) for n in range(40))


def _exp_tail(r: Real) -> Real:
    """Return (exp(r) - 1 - r) / r**2."""
    return (mp.expm1(r) - r) / r**2 if abs(r) > 1e-5 else mp.fsum(r**n / mp.factorial(n + 2) for n in range(12))


def _binary_log_tail(f: Real) -> Real:
    """Return (log2(1 + f) - (f - f**2 / 2) / log(2)) / f**3."""
    return ((mp.log1p(f) - f + f**2 / 2) / f**3 if abs(f) > 1e-12 else 1 / mpf(3) - f / 4) / mp.log(2)


def _binary_exp_slope(r: Real) -> Real:
    """Return (2**r - 1) / r."""
    return mp.expm1(r * mp.log(2)) / r if r else mp.log(2)


def _sine_tail(u: Real) -> Real:
    """Return (sin(pi t) / t - pi) / t**2 for u = t**2."""
    return mp.fsum((-1) ** n * mp.pi ** (2 * n + 1) * u ** (n - 1) / mp.factorial(2 * n + 1) for n in range(1, 26))


def _radian_sine_tail(u: Real) -> Real:
    """Return (sin(x) - x) / x**3 for u = x**2."""
    return mp.fsum((-1) ** n * u ** (n - 1) / mp.factorial(2 * n + 1) for n in range(1, 26))


def _tangent_tail(u: Real) -> Real:
    """Return (tan(x) - x) / x**3 for u = x**2."""
    x = mp.sqrt(u)
    if u > 1e-6:
        return (mp.tan(x) - x) / x**3
    return mp.mpf(1) / 3 + u * 2 / 15 + u**2 * 17 / 315 + u**3 * 62 / 2835 + u**4 * 1382 / 155925


def _cosh_tail(u: Real) -> Real:
    """Return (cosh(x) - 1) / x**2 for u = x**2."""
    return mp.fsum(u**n / mp.factorial(2 * n + 2) for n in range(25))


def _inverse_root_step(e: Real) -> Real:
    """Return ((1 - e)**(-1/3) - 1) / e."""
    return (1 / mp.cbrt(1 - e) - 1) / e if abs(e) > 1e-9 else mpf(1) / 3


def _log_erfc(y: Real) -> Real:
    """Return log(erfc(1 + y))."""
    return mp.log(mp.erfc(1 + y))


def _log_erfc_slope(x: Real) -> Real:
    """Return log(erfc(x)) / x without its value at 0, which the kernel adds as a float32."""
    start = float(np.float32(2 / math.sqrt(math.pi)))
    return mp.log(mp.erfc(x)) / x + start if x > 0 else start - 2 / mp.sqrt(mp.pi)


def _erf_change(x: Real) -> Real:
    """Return how much erf(x) changes with that, relatively."""
    return x * mp.erfc(x) / mp.erf(x) if x > 0 else mp.sqrt(mp.pi) / 2


def _erf_rest(u: Real) -> Real:
    """Return erf(x) / x - 1 for u = x**2."""
    c = 2 / mp.sqrt(mp.pi)
    return mp.fsum(c * (-u) ** n / (mp.factorial(n) * (2 * n + 1)) for n in range(40)) - 1


def _scaled_erfc(pole: Real) -> Curve:
    """Return the function (1 + 3/2 x) exp(x**2) erfc(x) of t = (x - pole) / (x + pole)."""

    def curve(t: Real) -> Real:
        x = pole * (1 + t) / (1 - t)
        return (1 + 3 * x / 2) * mp.exp(x * x) * mp.erfc(x)

    return curve


def _sinh_tail(u: Real) -> Real:
    """Return (sinh(x) - x) / x**3 for u = x**2."""
    return mp.fsum(u**n / mp.factorial(2 * n + 3) for n in range(25))


def _tanh_tail(r: Real) -> Real:
    """Return (expm1(2 r) / 2 - r) / r**2."""
    return (mp.expm1(2 * r) / 2 - r) / r**2 if abs(r) > 1e-20 else 1 + 2 * r / 3


def _atan_tail(u: Real) -> Real:
    """Return (atan(x) - x) / x**3 for u = x**2."""
    x = mp.sqrt(u)
    return (
        (mp.atan(x) - x) / x**3 if u > 1e-6 else mp.fsum((-1) ** n * u ** (n - 1) / (2 * n + 1) for n in range(1, 12))
    )


def _asin_tail(u: Real) -> Real:
    """Return (asin(x) - x) / x**3 for u = x**2."""
    x = mp.sqrt(u)
    if u > 1e-6:
        return (mp.asin(x) - x) / x**3
    return mp.fsum(mp.binomial(2 * n, n) * u ** (n - 1) / (mpf(4) ** n * (2 * n + 1)) for n in range(1, 12))


TABLES: list[Table] = [
    ("EXP", _exp_tail, lambda r: abs(r) + mpf("1e-2"), -0.3470, 0.3470, {"double": 9, "float": 4}),
    ("LOG", _log_tail, lambda f: abs(f) + mpf("1e-3"), -0.2501, 0.5001, {"double": 19, "float": 8}),
    ("LOG_TAIL", _atanh_far_tail, lambda z: z * z / 2 + mpf("1e-6"), 0, 0.04001, {"double": 8}),
    ("SINE", _sine_tail, lambda u: u / 2 + mpf("1e-3"), 0, 0.2501, {"double": 7, "float": 4}),
    ("RADIAN_SINE", _radian_sine_tail, lambda u: u / 2 + mpf("1e-3"), 0, 2.475, {"double": 7, "float": 3}),
    ("TANGENT", _tangent_tail, lambda u: u + mpf("1e-3"), 0, 0.6185, {"double": 13, "float": 6}),
    ("ERF", _erf_rest, lambda u: 1 / (1 + _erf_rest(u)), 0, 1.0001, {"double": 11}),
    ("LOG_ERFC", _log_erfc, lambda y: mp.erfc(1 + y), 0, 4.95, {"double": 18}),
    ("LOG_ERFC_SLOPE", _log_erfc_slope, _erf_change, 0, 3.95, {"float": 8}),
    ("ERFC", _scaled_erfc(mpf("3.5")), lambda t: mpf(1), -1, 0.773, {"double": 22}),
    ("ERFC", _scaled_erfc(mpf(2)), lambda t: mpf(1), -1, 0.67, {"float": 9}),
    ("SINH", _sinh_tail, lambda u: u / 2 + mpf("1e-3"), 0, 0.1205, {"double": 4, "float": 2}),
    ("COSH", _cosh_tail, lambda u: u / 2 + mpf("1e-3"), 0, 0.1205, {"double": 4, "float": 2}),
    ("TANH", _tanh_tail, lambda r: abs(r) + mpf("1e-3"), -0.1734, 0.1734, {"double": 9, "float": 4}),
    ("ATANH", lambda z: _atanh_tail(z) / 2, lambda z: z + mpf("1e-4"), 0, 0.0405, {"double": 6, "float": 2}),
    ("ATAN", _atan_tail, lambda u: u + mpf("1e-3"), 0, 0.1717, {"double": 10, "float": 4}),
    ("ASIN", _asin_tail, lambda u: u + mpf("1e-3"), 0, 0.2501, {"double": 11, "float": 5}),
    ("CBRT", lambda m: 1 / mp.cbrt(m), mp.cbrt, 0.749, 1.501, {"double": 5, "float": 3}),
    ("CBRT_STEP", _inverse_root_step, lambda e: abs(e) + mpf("1e-3"), -0.104, 0.105, {"double": 2, "float": 2}),
    ("POWER_LOG", _binary_log_tail, lambda f: f * f + mpf("1e-6"), -0.0228, 0.0228, {"float": 2}),
    ("POWER_EXP", _binary_exp_slope, lambda r: abs(r) + mpf("1e-3"), -0.535, 0.535, {"float": 5}),
]
# Evaluated in double precision, for float32: the rounding of the coefficients must not show.
IN_DOUBLE = {"SINE"}


QUARTERS, DEGREE_OF_QUARTERS = 16, 5


def _erf_of_quarter(i: int) -> list[float]:
    """Return the polynomial of x - i/4 that is erf(x) less the smaller of x and 9/8, up to 1/8 from there.

    Near 0 it is relatively exact; at the end of the last quarter erf(x) is 1 in float32.
    """
    powers, middle, most, radius = list(range(DEGREE_OF_QUARTERS + 1)), mpf(i) / 4, mpf(9) / 8, mpf(1) / 8
    if i == 0:
        slope, worst = fit(lambda x: _erf_rest(x * x), lambda x: mpf(1), mpf(0), radius, powers[:-1])
        coefficients = [mpf(0), *slope]
    else:
        more = mpf("2.2e-8") if i == QUARTERS - 1 else mpf(0)

        def curve(h: Real) -> Real:
            return mp.erf(middle + h) + more - (middle + h if middle < most else most)

        coefficients, worst = fit(curve, lambda h: 1 / mp.erf(middle + h), -radius, radius, powers)
    sys.stderr.write(f"quarter {i}: 2**{float(mp.log(worst, 2)):.1f}\n")
    return [float(np.float32(float(c))) for c in coefficients]


def main(names: list[str]) -> None:
    """Print the named tables, or all."""
    last = ""
    for name, curve, weight, low, high, degrees in TABLES:
        if names and name not in names:
            continue
        if name != last:
            sys.stdout.write(f"{name} = {{\n" if not last else f"}}\n{name} = {{\n")
            last = name
        for kind, degree in degrees.items():
            numbers = polynomial(curve, weight, low, high, degree, np.float64 if name in IN_DOUBLE else DTYPES[kind])
            sys.stdout.write(f'    "{kind}": (\n' + "".join(f"        {c!r},\n" for c in numbers) + "    ),\n")
    if last:
        sys.stdout.write("}\n")
    if not names or "ERF_QUARTERS" in names:
        sys.stdout.write("ERF_QUARTERS = (\n")
        for numbers in zip(*map(_erf_of_quarter, range(QUARTERS)), strict=True):
            sys.stdout.write("    (\n" + "".join(f"        {c!r},\n" for c in numbers) + "    ),\n")
        sys.stdout.write(")\n")


if __name__ == "__main__":
    main(sys.argv[1:])
