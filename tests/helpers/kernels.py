"""What the kernels' tests share: operands of every dtype, hard arguments, and what counts as the same."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np

from symgraph.errors import DTypeError
from symgraph.op import FUNCTIONS, Op

DTYPES = ["float64", "float32", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint8", "bool"]
# NumPy computes these with booleans as int8, round as float16.
NOT_BOOLEAN = {"round", "square", "floor_divide", "remainder", "power", "bitwise_left_shift", "bitwise_right_shift"}
# NumPy leaves the sign of a zero open (maximum), SciPy loses it (erfinv), or the reference does (elu).
ANY_ZERO = {"maximum", "minimum", "clip", "erfinv", "elu", "xlogy"}
# Absolute as well as relative, and at least 4 eps: these cross zero where their terms do not (gelu: its far tail).
TOLERANCE = {"logaddexp": 0.0, "gelu": 1e-13, "lgamma": 1e-13, "digamma": 1e-13, "polygamma": 1e-13}


def table(dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    if dtype.kind == "b":
        return np.array([True, False])
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        special = [0.0, np.inf, np.nan, limits.max, limits.tiny, limits.smallest_subnormal]
        ordinary = [1.0, 0.5, 1.5, 2.5, 3.0, 0.3, 1e-3, 10.0, 20.0, 50.0, 1e10]
        return np.array([sign * x for x in special + ordinary for sign in (1, -1)], dtype)
    bounds = np.iinfo(dtype)
    values = [0, 1, 2, 3, 7, 100, bounds.max, bounds.max - 1, bounds.min, bounds.min + 1]
    return np.array(values + ([-1, -2, -3, -7, -100] if dtype.kind == "i" else []), dtype)


def takes(op: Op, dtype: np.dtype[Any]) -> bool:
    """Tell whether an operand of this dtype reaches the kernel as it is."""
    if dtype.kind == "b" and op.name in NOT_BOOLEAN:
        return False
    operands = [np.ones(1, dtype)] * (op.arity or 0)
    try:
        node = FUNCTIONS[op.name](*([2] if op.attributes else []), *operands)
    except DTypeError:
        return False
    return bool(node.op is op and node.args[0].type.dtype == dtype)


def operands_of(op: Op, dtype: np.dtype[Any]) -> list[np.ndarray[Any, Any]]:
    values = table(dtype)
    grid = [part.ravel() for part in np.meshgrid(*[values] * (op.arity or 0))]
    if op.name == "power" and dtype.kind == "i":
        keep = grid[1] >= 0
    elif op.name == "lgamma":  # SciPy: inf at subnormal numbers, -inf at -inf, against C, PyTorch and mpmath
        keep = ~((grid[0] == -np.inf) | ((grid[0] != 0) & (np.abs(grid[0]) < np.finfo(dtype).tiny)))
    elif op.name == "power" and dtype.kind == "f":  # NumPy's scalars take the square root, which differs there
        keep = ~((grid[1] == 0.5) & ((grid[0] == -np.inf) | (grid[0] == 0)))
    else:
        return grid
    return [part[keep] for part in grid]


def assert_same(op: Op, got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], label: str) -> None:
    assert got.dtype == expected.dtype, label
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(got, expected, label)
        return
    tolerance = max(TOLERANCE.get(op.name, 0.0), 4 * float(np.finfo(expected.dtype).eps))
    absolute = tolerance if op.name in TOLERANCE else float(np.finfo(expected.dtype).smallest_subnormal)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=absolute, err_msg=label)
    if op.name not in ANY_ZERO:
        zero = (got == 0) & (expected == 0)
        np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(expected[zero]), label)


def measure(got: np.ndarray[Any, Any], exact: list[Any]) -> float:
    """Return the largest error in units in the last place, where the exact value is in range."""
    worst = 0.0
    for value, true in zip(got, exact, strict=True):
        rounded = got.dtype.type(float(true))
        if np.isfinite(rounded):
            assert np.isfinite(value), float(true)
            worst = max(worst, float(abs(mpmath.mpf(float(value)) - true) / float(np.spacing(abs(rounded)))))
    return worst


def exact_values(op: Op, x: np.ndarray[Any, Any]) -> list[Any]:
    points = [mpmath.mpf(float(value)) for value in x]
    if op.name == "cbrt":  # mpmath's is complex at negative numbers
        return [mpmath.sign(value) * mpmath.cbrt(abs(value)) for value in points]
    oracle: Any = op.oracle
    return [getattr(mpmath.mp, oracle)(v) if isinstance(oracle, str) else oracle(mpmath.mp, v) for v in points]


_random = np.random.default_rng(0)


def both_signs(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.concatenate([x, -x])


_halves_of_ln2 = (np.arange(-1074, 1024) + 0.5) * math.log(2)
_EXPONENTS = np.concatenate(
    [_random.uniform(-745, 709.7, 300), _random.uniform(-103, 88, 300), _random.uniform(-1, 1, 40), _halves_of_ln2[::7]]
)
_ALL_POSITIVE = np.concatenate(
    [
        np.exp2(_random.uniform(-1074, 1023.9, 300)),
        np.exp2(_random.uniform(-149, 127.9, 300)),
        np.sqrt(2) * np.exp2(np.arange(-100, 100, 7)),
        np.exp2(np.arange(-100, 100, 7)),
        _random.uniform(0.4, 2.5, 300),
    ]
)
_BESIDE_1 = 1 - np.exp2(_random.uniform(-53, 0, 150))
_TURNS = np.exp2(_random.uniform(0, 52, 300)).astype(np.int64)
_ANGLES = np.concatenate(
    [
        _random.uniform(-10, 10, 300),
        both_signs(np.exp2(_random.uniform(-1074, 1023.9, 300))),
        both_signs(np.exp2(_random.uniform(-149, 127.9, 300))),
        [float(mpmath.mpf(int(n)) * mpmath.pi / 2) for n in _TURNS],
        both_signs(np.arange(1, 60) * (math.pi / 4)),
        # The double nearest a multiple of pi/2 (Muller, Elementary Functions, section 11.1), and others known as hard
        [6381956970095103 * 2.0**797, 5.319372648326541e255, 16367173 * 2.0**72, 1e22],
    ]
)
_NEAR_0 = np.exp2(_random.uniform(-1074, 0, 150))
_INVERSE = both_signs(np.concatenate([_BESIDE_1, _NEAR_0, _random.uniform(0.3, 0.7, 100)]))
ADVERSARIAL = {
    **dict.fromkeys(["exp", "expm1", "sigmoid", "softplus", "tanh", "sinh", "cosh"], _EXPONENTS),
    "exp2": _EXPONENTS * 1.44,
    **dict.fromkeys(["log", "log2", "log10", "cbrt"], _ALL_POSITIVE),
    "log1p": np.concatenate([_ALL_POSITIVE, -_BESIDE_1, -_NEAR_0[_NEAR_0 < 0.99]]),
    **dict.fromkeys(["sin", "cos", "tan"], _ANGLES),
    "atan": both_signs(np.concatenate([_ALL_POSITIVE, [math.tan(math.pi / 8), math.tan(3 * math.pi / 8)]])),
    **dict.fromkeys(["asin", "acos"], _INVERSE),
    **dict.fromkeys(["erf", "erfc"], both_signs(np.concatenate([_random.uniform(0, 27, 300), _NEAR_0, _BESIDE_1]))),
}
