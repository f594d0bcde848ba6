"""Print one row for each vector kernel: its largest error found, and its speed beside math.*, NumPy and JAX.

Errors are units in the last place against mpmath, over arguments of every exponent in the function's range and over
those near where its range reduction is hard. Times are of a loop over a million elements on one thread: nanoseconds
per element, and how many times as long a Numba loop takes that calls `math`, NumPy's function, and JAX's. They are
measured in turn, back and forth, and the least time of each counts; so they hold on a machine that others use as well.

    python benchmarks/kernels.py [--table] [name ...]

With `--table` the rows are written to docs/vector-functions.md.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath
import numba
import numpy as np
from llvmlite import ir
from mpmath import mp
from numba.core import cgutils
from numba.extending import intrinsic

import symgraph.ops.elementwise  # noqa: F401  (registers the operations)
from symgraph.compile import kernels  # noqa: F401  (registers their code)
from symgraph.compile.kernels.elements import emit_element
from symgraph.compile.kernels.instructions import llvm_type

Array = np.ndarray[Any, Any]
_random = np.random.default_rng(0)
COUNT, ROUNDS = 1_000_000, 21
LANES = {"float64": 32, "float32": 64}
TABLE = Path(__file__).parent.parent / "docs" / "vector-functions.md"


@dataclass(frozen=True)
class Row:
    """One kernel: what to compare it with, where to measure errors and where to measure time."""

    name: str
    exact: Callable[..., Any]
    arguments: Callable[[type[Any]], tuple[Array, ...]]
    timed: tuple[float, float]
    scalar: Callable[..., Any]
    numpy: Callable[..., Any] | None
    jax: str
    arity: int = 1


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


def _logaddexp(x: Any, y: Any) -> Any:
    return mp.log(mp.exp(x) + mp.exp(y))


def _silu(x: Any) -> Any:
    return x / (1 + mp.exp(-x))


def _gelu(x: Any) -> Any:
    return x * mp.erfc(-x / mp.sqrt(2)) / 2


def _elu(x: Any, alpha: Any) -> Any:
    return x if x > 0 else alpha * mp.expm1(x)


@numba.njit
def _scalar_logaddexp(x: Any, y: Any) -> Any:
    return max(x, y) + math.log1p(math.exp(-abs(x - y)))


@numba.njit
def _scalar_silu(x: Any) -> Any:
    return x * _scalar_sigmoid(x)


@numba.njit
def _scalar_gelu(x: Any) -> Any:
    return 0.5 * x * math.erfc(-x * math.sqrt(0.5))


@numba.njit
def _scalar_elu(x: Any, alpha: Any) -> Any:
    return x if x > 0 else alpha * math.expm1(x)


def _above_1(dtype: type[Any]) -> tuple[Array, ...]:
    return (1 + np.concatenate([np.exp2(_random.uniform(-50, 100, 4000)), _random.uniform(0, 4, 4000)]),)


def _pairs(dtype: type[Any]) -> tuple[Array, ...]:
    return _random.uniform(0.1, 30, 6000), _random.uniform(0.1, 30, 6000)


def _points(dtype: type[Any]) -> tuple[Array, ...]:
    return _random.uniform(-3, 3, 8000), _both_signs(np.exp2(_random.uniform(-20, 20, 4000)))


ROWS = [
    Row("exp", mp.exp, _exponents, (-5, 5), math.exp, np.exp, "exp"),
    Row("exp2", lambda x: mp.mpf(2) ** x, _binary_exponents, (-5, 5), np.exp2, np.exp2, "exp2"),
    Row("expm1", mp.expm1, _exponents, (-5, 5), math.expm1, np.expm1, "expm1"),
    Row("log", mp.log, _positive, (0.01, 10), math.log, np.log, "log"),
    Row("log2", lambda x: mp.log(x, 2), _positive, (0.01, 10), math.log2, np.log2, "log2"),
    Row("log10", mp.log10, _positive, (0.01, 10), math.log10, np.log10, "log10"),
    Row("log1p", mp.log1p, _above_minus_1, (-0.9, 10), math.log1p, np.log1p, "log1p"),
    Row("tanh", mp.tanh, _line(-24, 24), (-5, 5), math.tanh, np.tanh, "tanh"),
    Row("sinh", mp.sinh, _line(-88, 88), (-5, 5), math.sinh, np.sinh, "sinh"),
    Row("cosh", mp.cosh, _line(-88, 88), (-5, 5), math.cosh, np.cosh, "cosh"),
    Row("asinh", mp.asinh, _whole, (-5, 5), math.asinh, np.arcsinh, "arcsinh"),
    Row("acosh", mp.acosh, _above_1, (1, 9), math.acosh, np.arccosh, "arccosh"),
    Row("atanh", mp.atanh, _unit, (-1, 1), math.atanh, np.arctanh, "arctanh"),
    Row("sin", mp.sin, _angles, (-5, 5), math.sin, np.sin, "sin"),
    Row("cos", mp.cos, _angles, (-5, 5), math.cos, np.cos, "cos"),
    Row("tan", mp.tan, _angles, (-5, 5), math.tan, np.tan, "tan"),
    Row("asin", mp.asin, _unit, (-1, 1), math.asin, np.arcsin, "arcsin"),
    Row("acos", mp.acos, _unit, (-1, 1), math.acos, np.arccos, "arccos"),
    Row("atan", mp.atan, _whole, (-5, 5), math.atan, np.arctan, "arctan"),
    Row("atan2", mp.atan2, _points, (-5, 5), math.atan2, np.arctan2, "arctan2", 2),
    Row("erf", mp.erf, _line(-7, 7), (-4, 4), math.erf, None, "erf"),
    Row("erfc", mp.erfc, _line(-7, 27), (-4, 4), math.erfc, None, "erfc"),
    Row("power", mp.power, _powers, (0.1, 10), math.pow, np.power, "power", 2),
    Row("sqrt", mp.sqrt, _positive, (0.01, 10), math.sqrt, np.sqrt, "sqrt"),
    Row("cbrt", _signed_root, _whole, (-5, 5), _scalar_root, np.cbrt, "cbrt"),
    Row("hypot", mp.hypot, _sides, (-5, 5), math.hypot, np.hypot, "hypot", 2),
    Row("sigmoid", _sigmoid, _exponents, (-5, 5), _scalar_sigmoid, None, "sigmoid"),
    Row("softplus", _softplus, _exponents, (-5, 5), _scalar_softplus, _softplus_of_array, "softplus"),
    Row("logaddexp", _logaddexp, _pairs, (-5, 5), _scalar_logaddexp, np.logaddexp, "logaddexp", 2),
    Row("silu", _silu, _line(-80, 80), (-5, 5), _scalar_silu, None, "silu"),
    Row("elu", _elu, _points, (-5, 5), _scalar_elu, None, "", 2),
    Row("gelu", _gelu, _line(-12, 12), (-5, 5), _scalar_gelu, None, ""),
]


def numba_loop(function: Callable[..., Any], arity: int) -> Callable[..., None]:
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


def vector_loop(name: str, dtype: np.dtype[Any], arity: int, lanes: int) -> Callable[..., None]:
    """Return the compiled loop over explicit vectors of so many lanes, which must divide the arrays' length."""
    index = ir.IntType(64)
    kind, width = llvm_type(dtype, lanes), ir.Constant(index, lanes)

    @intrinsic  # type: ignore[untyped-decorator]
    def program(typing_context: Any, addresses: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            def place(i: int, start: Any) -> Any:
                number = builder.extract_value(arguments[0], i)
                element = builder.gep(builder.inttoptr(number, llvm_type(dtype).as_pointer()), [start])
                return builder.bitcast(element, kind.as_pointer())

            with cgutils.for_range(builder, builder.udiv(arguments[1], width)) as loop:
                start = builder.mul(loop.index, width)
                values = [builder.load(place(i, start), align=dtype.itemsize) for i in range(arity)]
                result = emit_element(builder, name, dtype, values)
                builder.store(result, place(arity, start), align=dtype.itemsize)
            return context.get_dummy_value()

        return numba.void(addresses, count), generate

    @numba.njit(error_model="numpy")
    def call(addresses: tuple[int, ...], count: int) -> None:
        program(addresses, count)

    return lambda *arrays: call(tuple(array.ctypes.data for array in arrays), len(arrays[0]))


def largest_error(row: Row, dtype: type[Any]) -> float:
    """Return the largest error in units in the last place where the exact value is in range."""
    with np.errstate(all="ignore"):
        arrays = [part.astype(dtype) for part in row.arguments(dtype)]
    inside = np.abs(arrays[0]) < 1 if row.name == "atanh" else True
    keep = np.all(np.isfinite(arrays), axis=0) & inside
    lanes = LANES[np.dtype(dtype).name]
    whole = -(-int(keep.sum()) // lanes) * lanes
    arrays = [np.resize(array[keep], whole) for array in arrays]
    out = np.empty_like(arrays[0])
    vector_loop(row.name, np.dtype(dtype), row.arity, lanes)(*arrays, out)
    worst = 0.0
    with mpmath.workprec(1300 if row.arguments is _angles else 250):
        for *operands, value in zip(*arrays, out, strict=True):
            true = row.exact(*[mp.mpf(float(x)) for x in operands])
            if abs(true) > _largest(dtype):
                continue
            unit = np.spacing(dtype(max(abs(float(true)), float(np.finfo(dtype).tiny))))
            worst = max(worst, float(abs(mp.mpf(float(value)) - true) / float(unit)))
    return worst


def speeds(row: Row, dtype: type[Any]) -> tuple[float, dict[str, float]]:
    """Return nanoseconds per element, and the ratios of the others' times to the kernel's."""
    low, high = row.timed
    operands = [
        _apart(_random.uniform(*limits, COUNT).astype(dtype), i)
        for i, limits in zip(range(row.arity), ((low, high), (-3.0, 3.0)), strict=False)
    ]
    out = _apart(np.zeros(COUNT, dtype), 2)
    vector, scalar = (
        vector_loop(row.name, np.dtype(dtype), row.arity, LANES[np.dtype(dtype).name]),
        numba_loop(row.scalar, row.arity),
    )
    # A tenth for the slowest, so that it is not interrupted more often than the others.
    tenth = [x[: COUNT // 10] for x in operands]
    contestants: dict[str, Callable[[], Any]] = {
        "kernel": lambda: vector(*operands, out),
        "math": lambda: scalar(*tenth, out),
    }
    if row.numpy is not None:
        function = row.numpy
        contestants["NumPy"] = lambda: function(*operands, out=out)
    jax = _in_jax(row, operands)
    if jax is not None:
        contestants["JAX"] = jax
    for run in contestants.values():
        run()
    # Back and forth: who runs after a slow one finds less in the caches.
    names = list(contestants)
    orders = (names[:: 1 - 2 * (i % 2)] for i in range(ROUNDS))
    times = [{name: _seconds(contestants[name]) for name in order} for order in orders]
    least = {name: min(t[name] for t in times) for name in contestants}
    least["math"] *= 10
    return least["kernel"] * 1e9 / COUNT, {name: least[name] / least["kernel"] for name in contestants}


def _apart(array: Array, number: int) -> Array:
    """Return a copy that starts elsewhere in its page than others do: processors confuse addresses that end alike."""
    memory = np.empty(array.nbytes + 8192, np.uint8)
    start = -memory.ctypes.data % 4096 + 1088 * number
    moved = memory[start : start + array.nbytes].view(array.dtype)
    moved[:] = array
    return moved


def _in_jax(row: Row, operands: list[Array]) -> Callable[[], Any] | None:
    """Return JAX's function of the operands, or None where it has none or is not installed."""
    try:
        import jax
    except ImportError:
        return None
    jax.config.update("jax_enable_x64", True)
    homes = (jax.numpy, jax.nn, jax.scipy.special)
    function = next((getattr(home, row.jax) for home in homes if row.jax and hasattr(home, row.jax)), None)
    if function is None:
        return None
    compiled, arrays = jax.jit(function), [jax.numpy.asarray(x) for x in operands]
    return lambda: compiled(*arrays).block_until_ready()


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


_HEAD = """\
| function | dtype | largest error, ulp | ns per element | math.* takes | NumPy takes | JAX takes |
|---|---|---|---|---|---|---|"""


def _line_of(row: Row, dtype: type[Any]) -> str:
    error = largest_error(row, dtype)
    nanoseconds, ratios = speeds(row, dtype)
    others = [f"{ratios[name]:.2f}×" if name in ratios else "" for name in ("math", "NumPy", "JAX")]
    cells = [row.name, np.dtype(dtype).name, f"{error:.2f}", f"{nanoseconds:.2f}", *others]
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str]) -> None:
    """Print the table."""
    if hasattr(os, "sched_setaffinity"):  # one thread for all
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    names = [name for name in arguments if name != "--table"]
    print(_HEAD)
    lines = []
    for row in ROWS:
        if not names or row.name in names:
            for dtype in (np.float64, np.float32):
                lines.append(_line_of(row, dtype))
                print(lines[-1], flush=True)
    if "--table" in arguments:
        text = "\n".join([_HEAD, *lines])
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(f"{_TITLE}\n{text}\n", encoding="utf-8")


_TITLE = """\
# Vector functions

Written by `python benchmarks/kernels.py --table`. Errors are the largest found, in units in the last place, against
mpmath. Times are of a loop over a million elements on one thread, and how many times as long a Numba loop takes that
calls `math`, NumPy's function, and JAX's.
"""


if __name__ == "__main__":
    main(sys.argv[1:])
