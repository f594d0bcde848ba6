"""Every kernel, as plain Python and compiled: the same numbers as NumPy's, and as accurate as stated."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import mpmath
import numba
import numpy as np
import pytest
import scipy.special

import symgraph.ops.elementwise  # noqa: F401  (registers the operations)
from symgraph.compile import kernels
from symgraph.compile.kernels.lowering import teach
from symgraph.op import REGISTRY, Kind
from tests.helpers.kernels import (
    ADVERSARIAL,
    DTYPES,
    assert_same,
    exact_values,
    measure,
    operands_of,
    table,
    takes,
)

teach()
_wrap_index = kernels.wrap_index
OPERATIONS = [
    op
    for op in REGISTRY.values()
    if op.kind is Kind.ELEMENTWISE and op.scalar is None and op.name not in ("astype", "where")
]


def compile_loop(names: list[str], arity: int, attributes: str = "") -> Callable[..., None]:
    """Return one compiled function that fills ``out_name[i]`` for every named kernel."""
    arguments = ["x", "y", "z"][:arity]
    call = ", ".join(f"{a}[i]" for a in arguments)
    outputs = [f"out_{name}" for name in names]
    source = f"def fill({', '.join(arguments + outputs)}):\n    for i in range(len(x)):\n" + "".join(
        f"        out_{name}[i] = {name}({call}{attributes})\n" for name in names
    )
    namespace = {name: getattr(kernels, name) for name in names}
    exec(source, namespace)
    filled: Callable[..., None] = numba.njit(error_model="numpy", nogil=True)(namespace["fill"])
    return filled


def test_every_operation_has_scalar_code_or_a_kernel() -> None:
    assert len(OPERATIONS) > 50
    assert {op.name for op in OPERATIONS} <= set(kernels.__all__)


@pytest.mark.parametrize("name", DTYPES)
def test_plain_python_compiled_code_and_numpy_agree(name: str) -> None:
    dtype = np.dtype(name)
    chosen = [op for op in OPERATIONS if takes(op, dtype)]
    assert len(chosen) > (40 if dtype.kind == "f" else 8)
    for arity in (1, 2, 3):
        ops = [op for op in chosen if op.arity == arity and not op.attributes]
        # One table for all kernels of a loop; the rows that an operation leaves out are not compared.
        inputs = [part.ravel() for part in np.meshgrid(*[table(dtype)] * arity)]
        loop_ops = [op for op in ops if not (op.name == "power" and dtype.kind == "i")]
        with np.errstate(all="ignore"):
            results = {op: np.empty(len(inputs[0]), op.evaluate(*[p[:1] for p in inputs]).dtype) for op in loop_ops}
            compile_loop([op.name for op in loop_ops], arity)(*inputs, *results.values())
            for op in loop_ops:
                operands = operands_of(op, dtype)
                rows = _rows(inputs, operands)
                expected = op.evaluate(*operands)
                plain = [getattr(kernels, op.name)(*row) for row in zip(*operands, strict=True)]
                assert {type(value) for value in plain} == {expected.dtype.type}, op.name
                assert_same(op, results[op][rows], expected, f"{op.name} compiled")
                assert_same(op, np.array(plain), expected, f"{op.name} plain")


def _rows(inputs: list[np.ndarray[Any, Any]], kept: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return the positions in the full table of the rows that are kept, in order."""
    keys = [tuple(value.tobytes() for value in row) for row in zip(*inputs, strict=True)]
    positions: dict[tuple[bytes, ...], int] = {key: i for i, key in enumerate(keys)}
    return np.array([positions[tuple(value.tobytes() for value in row)] for row in zip(*kept, strict=True)])


@pytest.mark.parametrize("name", ["int64", "int8", "uint64", "uint8"])
def test_integer_power_wraps_as_numpy(name: str) -> None:
    dtype = np.dtype(name)
    base, exponent = operands_of(REGISTRY["power"], dtype)
    out = np.empty_like(base)
    compile_loop(["power"], 2)(base, exponent, out)
    np.testing.assert_array_equal(out, np.power(base, exponent))


def test_negative_powers_of_integers_are_an_error_in_both_modes() -> None:
    base, exponent = np.array([2]), np.array([-1])
    with pytest.raises(ValueError, match="negative integer powers"):
        compile_loop(["power"], 2)(base, exponent, np.empty(1, np.int64))
    with pytest.raises(ValueError, match="negative integer powers"):
        kernels.power(base[0], exponent[0])


@numba.njit
def wrap_compiled(index: int, size: int) -> Any:
    return _wrap_index(index, size)


@pytest.mark.parametrize("kernel", [kernels.wrap_index, wrap_compiled], ids=["plain", "compiled"])
def test_unsigned_indices_stay_integers(kernel: Callable[[Any, int], Any]) -> None:
    assert np.asarray(kernel(np.uint64(2), 3)).dtype == np.int64


@pytest.mark.parametrize("kernel", [kernels.wrap_index, wrap_compiled], ids=["plain", "compiled"])
def test_indices_wrap_and_errors_name_index_and_size(kernel: Callable[[int, int], int]) -> None:
    assert [kernel(i, 3) for i in (-3, -1, 0, 2)] == [0, 2, 0, 2]
    for index in (3, -4):
        with pytest.raises(IndexError, match=rf"{index}, 3"):
            kernel(index, 3)


_random = np.random.default_rng(0)
_POSITIVE = np.concatenate([np.exp(_random.uniform(-700, 700, 40)), [5e-324, 1e-310]])
_MIDDLE = _random.uniform(-25, 25, 40)
_UNIT = np.concatenate(
    [_random.uniform(-1, 1, 40), 1 - np.exp(_random.uniform(-36, 0, 20)), np.exp(_random.uniform(-700, 0, 20))]
)
_LINE = np.concatenate([_POSITIVE, -_POSITIVE, _MIDDLE])
_GAMMA = np.concatenate([_random.uniform(-20, 30, 60), _random.uniform(-1000, -100, 10), [0.5, 1.4616, 1e-9, -1e-9]])
RANGES = {
    **dict.fromkeys(["exp", "exp2", "expm1", "sinh", "cosh", "sigmoid", "softplus", "silu"], 25 * _MIDDLE),
    **dict.fromkeys(["log", "log2", "log10", "sqrt"], _POSITIVE),
    **dict.fromkeys(["sin", "cos", "tan", "atan", "asinh", "cbrt", "tanh"], _LINE),
    **dict.fromkeys(["asin", "acos", "atanh", "erf", "erfc", "erfinv"], _UNIT),
    "log1p": np.concatenate([_POSITIVE, _UNIT]),
    "acosh": 1 + _POSITIVE,
}
LIMIT_IN_ULP = {"erfinv": 8, "silu": 2.1}


@pytest.mark.parametrize("name", ["float64", "float32"])
def test_elementary_functions_are_accurate_to_a_few_ulp(name: str) -> None:
    loop = compile_loop(list(RANGES), 1)
    groups: dict[int, list[str]] = {}
    for kernel, values in RANGES.items():
        groups.setdefault(id(values), []).append(kernel)
    with mpmath.workprec(300), np.errstate(all="ignore"):
        for names in groups.values():
            x = RANGES[names[0]].astype(name)
            results = {kernel: np.empty_like(x) for kernel in RANGES}
            loop(x, *results.values())
            for kernel in names:
                inside = np.isfinite(x) & ((np.abs(x) < 1) | (kernel not in ("atanh", "erfinv")))
                exact = exact_values(REGISTRY[kernel], x[inside])
                plain = np.array([getattr(kernels, kernel)(value) for value in x[inside]])
                limit = LIMIT_IN_ULP.get(kernel, 2) if name == "float64" else 2
                assert measure(results[kernel][inside], exact) <= limit, f"{kernel} compiled"
                assert measure(plain, exact) <= max(limit, 4), f"{kernel} plain"


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ADVERSARIAL)
def test_vector_kernels_are_accurate_to_2_ulp_where_reductions_are_hard(name: str, dtype: type[Any]) -> None:
    with np.errstate(all="ignore"):
        x = ADVERSARIAL[name].astype(dtype)
    x = x[np.isfinite(x)]
    out = np.empty_like(x)
    compile_loop([name], 1)(x, out)
    with mpmath.workprec(1300 if name in ("sin", "cos", "tan") else 300), np.errstate(all="ignore"):
        assert measure(out, exact_values(REGISTRY[name], x)) <= 2


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_powers_and_hypotenuses_are_accurate_to_2_ulp(dtype: type[Any]) -> None:
    random = np.random.default_rng(0)
    reach = np.log2(float(np.finfo(dtype).max)) - 1
    base = np.concatenate([np.exp2(random.uniform(-reach, reach, 400)), 1 + np.exp2(random.uniform(-22, 0, 200))])
    exponent = np.concatenate([random.uniform(-1, 1, 400), random.uniform(-80, 80, 200)])
    for name, exact in (("power", mpmath.power), ("hypot", mpmath.hypot)):
        x = base.astype(dtype)
        y = (exponent if name == "power" else base * np.exp2(8 * _MIDDLE[0] / 25)).astype(dtype)
        out = np.empty_like(x)
        compile_loop([name], 2)(x, y, out)
        with mpmath.workprec(200), np.errstate(all="ignore"):
            values = [exact(mpmath.mpf(float(a)), mpmath.mpf(float(b))) for a, b in zip(x, y, strict=True)]
            assert measure(out, values) <= 2, name


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_powers_at_their_limits_are_those_of_numpy(dtype: type[Any]) -> None:
    with np.errstate(all="ignore"):
        values = np.concatenate([table(np.dtype(dtype)), np.array([2.0**53 + 2, -1e5 - 1, 4, -4, 1 / 3], dtype)])
        x, y = (part.ravel() for part in np.meshgrid(values, values))
        out = np.empty_like(x)
        compile_loop(["power"], 2)(x, y, out)
        expected = np.power(x, y)
    np.testing.assert_allclose(out, expected, rtol=4 * float(np.finfo(dtype).eps))
    np.testing.assert_array_equal(np.signbit(out[expected == 0]), np.signbit(expected[expected == 0]))


@pytest.mark.parametrize("arity", [1, 2])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_loop_over_a_vector_kernel_calls_nothing_per_element(dtype: type[Any], arity: int) -> None:
    for name in ADVERSARIAL if arity == 1 else ("power", "hypot"):
        loop: Any = compile_loop([name], arity)
        loop(*[np.ones(3, dtype)] * (arity + 1))
        llvm = loop.inspect_llvm(loop.signatures[0])
        lanes = re.findall(r"<(?:vscale x )?(\d+) x (?:double|float)>", llvm)
        assert lanes, f"{name} is not vectorised"
        assert name not in re.findall(r"call \w+ @(?:llvm\.)?(\w+)", llvm), name


def exact_gamma(name: str, x: float) -> Any:
    return mpmath.re(mpmath.loggamma(x)) if name == "lgamma" else mpmath.digamma(x)


@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_gamma_family_is_accurate_on_the_whole_line(name: str) -> None:
    out = np.empty_like(_GAMMA)
    compile_loop([name], 1)(_GAMMA, out)
    for value, compiled in zip(_GAMMA, out, strict=True):
        exact = exact_gamma(name, float(value))
        for got in (compiled, getattr(kernels, name)(value)):
            assert abs(got - exact) <= 1e-13 * max(1, abs(exact)), value


@pytest.mark.parametrize("order", range(1, 7))
def test_polygamma_is_accurate_on_the_whole_line(order: int) -> None:
    for value in _GAMMA:
        exact = mpmath.polygamma(order, mpmath.mpf(float(value)))
        scale = abs(exact) if value > 0 else max(1, abs(exact))
        assert abs(kernels.polygamma(value, order) - exact) <= 1e-13 * scale, value


def test_polygamma_compiles_with_its_order() -> None:
    for dtype in (np.float64, np.float32):
        x: Any = _GAMMA.astype(dtype)
        out = np.empty_like(x)
        compile_loop(["polygamma"], 1, ", 3")(x, out)
        with np.errstate(all="ignore"):
            plain = np.array([kernels.polygamma(value, 3) for value in x])
            np.testing.assert_allclose(out, plain, rtol=1e-14 if dtype is np.float64 else 1e-7)
            assert type(kernels.polygamma(x[0], 3)) is dtype


@pytest.mark.parametrize("x", [0.0, -0.0, -1.0, -2.0, -1e20, math.inf, math.nan])
def test_poles_and_limits_are_those_of_scipy(x: float) -> None:
    value = np.float64(x)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(kernels.lgamma(value), scipy.special.gammaln(value))
        np.testing.assert_array_equal(kernels.digamma(value), scipy.special.digamma(value))
        for order in (1, 2):
            np.testing.assert_array_equal(kernels.polygamma(value, order), scipy.special.polygamma(order, value))


def test_the_left_tail_of_gelu_keeps_relative_accuracy() -> None:
    for x in np.linspace(-35, -1, 35):
        exact = x * mpmath.ncdf(x)
        assert abs(kernels.gelu(x) - exact) <= abs(exact) * np.finfo(float).eps * (4 + x * x)


def test_many_calls_in_one_function_share_one_copy_of_the_kernel() -> None:
    source = "def chain(x):\n" + "    x = sin(x) + 1.0\n" * 100 + "    return x\n"
    namespace = {"sin": kernels.sin}
    exec(source, namespace)
    chain: Any = numba.njit(namespace["chain"])
    expected = 0.3
    for _ in range(100):
        expected = math.sin(expected) + 1.0
    assert chain(0.3) == pytest.approx(expected, rel=1e-13)
    calls = chain.inspect_llvm(chain.signatures[0]).count("@symgraph.sin.f64(")
    assert 40 < calls < 100  # the first are inlined
