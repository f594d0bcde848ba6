"""Print one row for each vector kernel: its largest error found, and its speed beside math.* and NumPy.

Errors are units in the last place against mpmath, over arguments of every exponent in the function's range and over
those near where its range reduction is hard. Times are of a loop over a million elements on one thread: nanoseconds
per element, and how many times as long the same loop takes that calls `math`, and NumPy's function. The three are
measured in turn, and the ratios are medians; so they hold on a machine that others use as well.

    python benchmarks/kernels.py [name ...]
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numba
import numpy as np
from mpmath import mp

from symgraph.compile import kernels

Array = np.ndarray[Any, Any]
_random = np.random.default_rng(0)
ROUNDS = 9


@dataclass(frozen=True)
class Row:
    """One kernel: what to compare it with, where to measure errors and where to measure time."""

    name: str
    exact: Callable[..., Any]
    arguments: Callable[[type[Any]], tuple[Array, ...]]
    timed: tuple[float, float]
    scalar: Callable[..., Any]
    numpy: Callable[..., Any] | None


def _both_signs(x: Array) -> Array:
    return np.concatenate([x, -x])


def _every_exponent(dtype: type[Any], count: int = 3000) -> Array:
    """Return positive numbers with exponents from the least subnormal to the largest."""
    return np.exp2(_random.uniform(math.log2(_least(dtype)), math.log2(_largest(dtype)) - 1e-6, count))


def _least(dtype: type[Any]) -> float:
    return float(np.finfo(dtype).smallest_subnormal)


def _largest(dtype: type[Any]) -> float:
    return float(np.finfo(dtype).max)


def _line(low: float, high: float) -> Callable[[type[Any]], tuple[Array, ...]]:
    def arguments(dtype: type[Any]) -> tuple[Array, ...]:
        inside = _random.uniform(low, high, 5000)
        near = _both_signs(np.exp2(_random.uniform(-60, 0, 1000)))
        return (
            np.concatenate([inside, near[(near >= low) & (near <= high)], _random.uniform(-1, 1, 3000) * min(high, 1)]),
        )

    return arguments


def _exponents(dtype: type[Any]) -> tuple[Array, ...]:
    end = math.log(_largest(dtype))
    start = math.log(_least(dtype))
    halves = (np.arange(int(start / math.log(2)), int(end / math.log(2))) + 0.5) * math.log(2)
    near = _both_signs(np.exp2(_random.uniform(-60, 0, 1000)))
    return (np.concatenate([_random.uniform(start, end, 3000), _random.uniform(-4, 4, 4000), halves, near]),)


def _binary_exponents(dtype: type[Any]) -> tuple[Array, ...]:
    return (_exponents(dtype)[0] / math.log(2),)


def _positive(dtype: type[Any]) -> tuple[Array, ...]:
    return (np.concatenate([_every_exponent(dtype), _random.uniform(0.4, 2.5, 5000)]),)


def _above_minus_1(dtype: type[Any]) -> tuple[Array, ...]:
    below = -np.exp2(_random.uniform(-60, 0, 2000))
    beside = np.exp2(_random.uniform(-24, 0, 2000)) - 1
    return (np.concatenate([*_positive(dtype), below[below > -0.99], beside, _random.uniform(-0.6, 0.6, 2000)]),)


def _whole(dtype: type[Any]) -> tuple[Array, ...]:
    return (np.concatenate([_both_signs(_every_exponent(dtype)), _random.uniform(-4, 4, 5000)]),)


def _angles(dtype: type[Any]) -> tuple[Array, ...]:
    turns = np.exp2(_random.uniform(0, 52, 2000)).astype(np.int64)
    with mpmath.workprec(200):
        near = [float(mpmath.mpf(int(n)) * mp.pi / 2) for n in turns]
    return (
        np.concatenate([_whole(dtype)[0][::2], near, [1e22] + [6381956970095103 * 2.0**797] * (dtype is np.float64)]),
    )


def _unit(dtype: type[Any]) -> tuple[Array, ...]:
    beside = 1 - np.exp2(_random.uniform(-53, 0, 1500))
    return (np.concatenate([_random.uniform(-1, 1, 5000), _both_signs(beside), _random.uniform(0.45, 0.55, 1000)]),)


def _powers(dtype: type[Any]) -> tuple[Array, ...]:
    base = np.concatenate([_every_exponent(dtype, 4000), 1 + np.exp2(_random.uniform(-20, 0, 4000))])
    return base, np.concatenate([_random.uniform(-1, 1, 4000), _random.uniform(-90, 90, 4000)])


def _sides(dtype: type[Any]) -> tuple[Array, ...]:
    one = np.concatenate([_every_exponent(dtype, 4000), _random.uniform(-3, 3, 4000)])
    return one, one * np.exp2(_random.uniform(-6, 0, 8000))


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def _softplus(x: Any) -> Any:
    return mp.log1p(mp.exp(x))


def _signed_root(x: Any) -> Any:
    return mp.sign(x) * mp.cbrt(abs(x))


@numba.njit
def _scalar_sigmoid(x: Any) -> Any:
    small = math.exp(-abs(x))
    return (1.0 if x >= 0 else small) / (1.0 + small)


@numba.njit
def _scalar_softplus(x: Any) -> Any:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@numba.njit
def _scalar_root(x: Any) -> Any:
    return math.copysign(math.pow(abs(x), 1 / 3), x)


def _softplus_of_array(x: Array, out: Array) -> None:
    np.logaddexp(x, x.dtype.type(0), out=out)


ROWS = [
    Row("exp", mp.exp, _exponents, (-5, 5), math.exp, np.exp),
    Row("exp2", lambda x: mp.mpf(2) ** x, _binary_exponents, (-5, 5), np.exp2, np.exp2),
    Row("expm1", mp.expm1, _exponents, (-5, 5), math.expm1, np.expm1),
    Row("log", mp.log, _positive, (0.01, 10), math.log, np.log),
    Row("log2", lambda x: mp.log(x, 2), _positive, (0.01, 10), math.log2, np.log2),
    Row("log10", mp.log10, _positive, (0.01, 10), math.log10, np.log10),
    Row("log1p", mp.log1p, _above_minus_1, (-0.9, 10), math.log1p, np.log1p),
    Row("sigmoid", _sigmoid, _exponents, (-5, 5), _scalar_sigmoid, None),
    Row("softplus", _softplus, _exponents, (-5, 5), _scalar_softplus, _softplus_of_array),
    Row("tanh", mp.tanh, _line(-24, 24), (-5, 5), math.tanh, np.tanh),
    Row("sinh", mp.sinh, _line(-88, 88), (-5, 5), math.sinh, np.sinh),
    Row("cosh", mp.cosh, _line(-88, 88), (-5, 5), math.cosh, np.cosh),
    Row("sin", mp.sin, _angles, (-5, 5), math.sin, np.sin),
    Row("cos", mp.cos, _angles, (-5, 5), math.cos, np.cos),
    Row("tan", mp.tan, _angles, (-5, 5), math.tan, np.tan),
    Row("asin", mp.asin, _unit, (-1, 1), math.asin, np.arcsin),
    Row("acos", mp.acos, _unit, (-1, 1), math.acos, np.arccos),
    Row("atan", mp.atan, _whole, (-5, 5), math.atan, np.arctan),
    Row("erf", mp.erf, _line(-7, 7), (-4, 4), math.erf, None),
    Row("erfc", mp.erfc, _line(-7, 27), (-4, 4), math.erfc, None),
    Row("power", mp.power, _powers, (0.1, 10), math.pow, np.power),
    Row("sqrt", mp.sqrt, _positive, (0.01, 10), math.sqrt, np.sqrt),
    Row("cbrt", _signed_root, _whole, (-5, 5), _scalar_root, np.cbrt),
    Row("hypot", mp.hypot, _sides, (-5, 5), math.hypot, np.hypot),
]


def loop_over(function: Callable[..., Any], arity: int) -> Callable[..., None]:
    """Return the compiled loop that fills an array with a function of one or two arrays."""
    if arity == 1:

        def fill_one(x: Array, out: Array) -> None:
            for i in range(len(x)):
                out[i] = function(x[i])

        one: Callable[..., None] = numba.njit(error_model="numpy", fastmath={"contract"})(fill_one)
        return one

    def fill_two(x: Array, y: Array, out: Array) -> None:
        for i in range(len(x)):
            out[i] = function(x[i], y[i])

    two: Callable[..., None] = numba.njit(error_model="numpy", fastmath={"contract"})(fill_two)
    return two


def largest_error(row: Row, dtype: type[Any], loop: Callable[..., None]) -> float:
    """Return the largest error in units in the last place where the exact value is in range."""
    with np.errstate(all="ignore"):
        arrays = [part.astype(dtype) for part in row.arguments(dtype)]
    keep = np.all(np.isfinite(arrays), axis=0)
    arrays = [array[keep] for array in arrays]
    out = np.empty_like(arrays[0])
    loop(*arrays, out)
    worst = 0.0
    with mpmath.workprec(1300 if row.arguments is _angles else 250):
        for *operands, value in zip(*arrays, out, strict=True):
            true = row.exact(*[mp.mpf(float(x)) for x in operands])
            if abs(true) > _largest(dtype):
                continue
            unit = np.spacing(dtype(max(abs(float(true)), float(np.finfo(dtype).tiny))))
            worst = max(worst, float(abs(mp.mpf(float(value)) - true) / float(unit)))
    return worst


def speeds(row: Row, dtype: type[Any], loop: Callable[..., None], arity: int) -> tuple[float, float, float]:
    """Return nanoseconds per element, and the ratios of math's and NumPy's time to the kernel's."""
    arrays = [_random.uniform(*row.timed, 1_000_000).astype(dtype), _random.uniform(-3, 3, 1_000_000).astype(dtype)]
    arrays, out = arrays[:arity], np.empty(1_000_000, dtype)
    contestants: list[Callable[[], None]] = [lambda: loop(*arrays, out)]
    scalar = loop_over(row.scalar, arity)
    contestants.append(lambda: scalar(*arrays, out))
    if row.numpy is not None:
        function = row.numpy
        contestants.append(lambda: function(*arrays, out=out))
    for run in contestants:
        run()
    times = [[_seconds(run) for run in contestants] for _ in range(ROUNDS)]
    ratios = [statistics.median(t[i] / t[0] for t in times) for i in range(1, len(contestants))]
    return statistics.median(t[0] for t in times) * 1e3, ratios[0], ratios[1] if len(ratios) > 1 else math.nan


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main(names: list[str]) -> None:
    """Print the table."""
    print("| kernel | dtype | largest error, ulp | ns per element | math.* takes | NumPy takes |")
    print("|---|---|---|---|---|---|")
    for row in ROWS:
        if names and row.name not in names:
            continue
        arity = 2 if row.name in ("power", "hypot") else 1
        loop = loop_over(getattr(kernels, row.name), arity)
        for dtype in (np.float64, np.float32):
            error = largest_error(row, dtype, loop)
            nanoseconds, scalar, array = speeds(row, dtype, loop, arity)
            numpy = "" if math.isnan(array) else f"{array:.1f}×"
            print(
                f"| {row.name} | {dtype.__name__} | {error:.2f} | {nanoseconds:.2f} | {scalar:.1f}× | {numpy} |",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
