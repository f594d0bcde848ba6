"""Every elementwise operation as LLVM code: for one number and for vectors the same bits, and NumPy's numbers."""

from __future__ import annotations

import warnings
from typing import Any

import mpmath
import numba
import numpy as np
import pytest
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

import symgraph as sg
from symgraph.compile.kernels.elements import emit_cast, emit_element
from symgraph.compile.kernels.instructions import any_lane, constant, llvm_type, resized
from symgraph.op import REGISTRY, Kind
from tests.helpers.kernels import ADVERSARIAL, DTYPES, assert_same, exact_values, measure, operands_of, table, takes

Array = np.ndarray[Any, Any]
WIDTHS = (None, 4, 32)
OPERATIONS = [op for op in REGISTRY.values() if op.kind is Kind.ELEMENTWISE and op.name not in ("astype", "where")]


def execute(jobs: list[tuple[Any, list[Array], Array, int | None]]) -> None:
    """Compile and run jobs ``(emit(context, builder, values), operands, result, width)`` in one module."""

    @intrinsic  # type: ignore[untyped-decorator]
    def program(typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            for emit, operands, result, width in jobs:
                count = ir.Constant(ir.IntType(64), len(result) // (width or 1))
                with cgutils.for_range(builder, count) as loop:
                    values = [load(builder, operand, loop.index, width) for operand in operands]
                    store(builder, result, loop.index, emit(context, builder, values))
            return context.get_dummy_value()

        return numba.void(), generate

    @numba.njit(error_model="numpy")
    def call() -> None:
        program()

    call()


def address(builder: Any, array: Array, index: Any, kind: Any) -> Any:
    memory = resized(kind, ir.IntType(8)) if array.dtype == np.bool_ else kind
    start = ir.Constant(ir.IntType(64), array.ctypes.data).inttoptr(memory.as_pointer())
    size = (kind.count if isinstance(kind, ir.VectorType) else 1) * array.itemsize
    number = builder.add(builder.ptrtoint(start, ir.IntType(64)), builder.mul(index, ir.Constant(index.type, size)))
    return builder.inttoptr(number, memory.as_pointer())


def load(builder: Any, array: Array, index: Any, width: int | None) -> Any:
    kind = llvm_type(array.dtype, width)
    value = builder.load(address(builder, array, index, kind), align=array.itemsize)
    return builder.icmp_unsigned("!=", value, constant(value.type, 0)) if array.dtype == np.bool_ else value


def store(builder: Any, array: Array, index: Any, value: Any) -> None:
    place = address(builder, array, index, value.type)
    if array.dtype == np.bool_:
        value = builder.zext(value, resized(value.type, ir.IntType(8)))
    builder.store(value, place, align=array.itemsize)


def whole_vectors(operands: list[Array]) -> list[Array]:
    """Return the operands repeated up to a whole number of vectors of every width."""
    return [np.resize(part, -(-len(part) // 32) * 32) for part in operands]


def assert_bits(got: Array, expected: Array, label: str) -> None:
    """Check that two arrays are the same, NaN for NaN."""
    assert got.dtype == expected.dtype
    differ = got.view(f"u{got.itemsize}") != expected.view(f"u{got.itemsize}")
    if got.dtype.kind == "f":
        differ &= ~(np.isnan(got) & np.isnan(expected))
    assert not differ.any(), f"{label}: {got[differ][:5]} is not {expected[differ][:5]}"


@pytest.mark.parametrize("name", DTYPES)
def test_numbers_and_vectors_have_the_same_bits_and_those_of_numpy(name: str) -> None:
    dtype = np.dtype(name)
    jobs, checks = [], []
    for op in OPERATIONS:
        if not takes(op, dtype):
            continue
        attributes = (2,) if op.attributes else ()
        operands = whole_vectors(operands_of(op, dtype))
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = np.asarray(op.evaluate(*operands, *attributes))

        def emit(
            context: Any, builder: Any, values: Any, operation: str = op.name, attributes: tuple[Any, ...] = attributes
        ) -> Any:
            return emit_element(builder, operation, dtype, values, attributes)

        results = [np.empty_like(expected) for _ in WIDTHS]
        jobs += [(emit, operands, result, width) for result, width in zip(results, WIDTHS, strict=True)]
        checks.append((op, results, expected))
    assert checks
    execute(jobs)
    for op, (number, *vectors), expected in checks:
        for width, vector in zip(WIDTHS[1:], vectors, strict=True):
            assert_bits(vector, number, f"{op.name} in {width} lanes")
        assert_same(op, number, expected, op.name)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_functions_of_vectors_are_accurate_to_2_ulp_where_reductions_are_hard(dtype: type[Any]) -> None:
    jobs, checks = [], []
    for name, hard in ADVERSARIAL.items():
        with np.errstate(all="ignore"):
            x = hard.astype(dtype)
        (x,) = whole_vectors([x[np.isfinite(x)]])
        result = np.empty_like(x)

        def emit(context: Any, builder: Any, values: Any, name: str = name) -> Any:
            return emit_element(builder, name, np.dtype(dtype), values)

        jobs.append((emit, [x], result, 16))
        checks.append((name, x, result))
    execute(jobs)
    for name, x, result in checks:
        part = slice(None, None, 3)
        with mpmath.workprec(1300 if name in ("sin", "cos", "tan") else 300), np.errstate(all="ignore"):
            assert measure(result[part], exact_values(REGISTRY[name], x[part])) <= 2, name


@pytest.mark.parametrize(
    ("name", "dtype", "arguments"),
    [
        ("sinh", np.float64, [0.3592306439020363, 0.359532028746991, 0.3550349218576346]),
        ("tanh", np.float64, [0.1738, 0.2046, 0.21998, 0.2499]),
        ("tanh", np.float32, [0.06222444772720337, 0.20444676280021667, 0.35039591789245605]),
        ("erf", np.float32, [0.054839398711919785, 0.22053709626197815, 0.22337922, 0.4423246681690216, 3.6897402]),
        ("log10", np.float32, [0.7499076128005981, 0.7499293088912964]),
        ("asinh", np.float64, [0.407404379849281, 0.38157927020140203, 1.4807149838668935e-08]),
        ("asinh", np.float32, [0.41519221663475037, 0.41636764931678772]),
        ("acosh", np.float64, [1.030780655261035, 1.0311433710556477, 1.0693318530619624]),
        ("acosh", np.float32, [1.0313550233840942, 1.0829241275787354]),
        ("tan", np.float32, [2.3583321571350098, 8.65432167053222656]),
    ],
)
def test_functions_are_accurate_to_2_ulp_at_the_worst_arguments_found(
    name: str, dtype: type[Any], arguments: list[float]
) -> None:
    (x,) = whole_vectors([np.array(arguments, dtype)])
    result = np.empty_like(x)

    def emit(context: Any, builder: Any, values: Any) -> Any:
        return emit_element(builder, name, np.dtype(dtype), values)

    execute([(emit, [x], result, 32)])
    with mpmath.workprec(300):
        assert measure(result, exact_values(REGISTRY[name], x)) <= 2


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_functions_that_begin_with_an_estimate_have_the_same_bits_in_every_width(dtype: type[Any]) -> None:
    random = np.random.default_rng(0)
    operand = np.concatenate([random.uniform(-5, 5, 2000), np.exp2(random.uniform(-80, 80, 500))])
    (x,) = whole_vectors([operand.astype(dtype)])
    jobs, checks = [], []
    for name in ("tan", "asinh", "acosh", "erf"):

        def emit(context: Any, builder: Any, values: Any, name: str = name) -> Any:
            return emit_element(builder, name, np.dtype(dtype), values)

        results = [np.empty_like(x) for _ in WIDTHS]
        jobs += [(emit, [x], result, width) for result, width in zip(results, WIDTHS, strict=True)]
        checks.append((name, results))
    execute(jobs)
    for name, (number, *vectors) in checks:
        for width, vector in zip(WIDTHS[1:], vectors, strict=True):
            assert_bits(vector, number, f"{name} in {width} lanes")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_powers_of_vectors_are_accurate_to_2_ulp_for_any_exponent(dtype: type[Any]) -> None:
    """The logarithm's error counts as often as the exponent says, and most where the logarithm is small."""
    random = np.random.default_rng(0)
    beside = 1 + random.choice([-0.5, 1.0], 300) * np.exp2(random.uniform(-20, 0, 300))
    middle, far = random.uniform(0.7, 1.5, 300), np.exp2(random.uniform(-125, 125, 100))
    base = np.concatenate([beside, middle, far]).astype(dtype)
    largest = np.log2(float(np.finfo(dtype).max)) - 3
    with np.errstate(all="ignore"):
        x, y = whole_vectors([base, (random.uniform(-1, 1, 700) * largest / np.log2(base.astype(float))).astype(dtype)])
    x, y = np.where(np.isfinite(y), x, 1).astype(dtype), np.where(np.isfinite(y), y, 1).astype(dtype)

    def emit(context: Any, builder: Any, values: Any) -> Any:
        return emit_element(builder, "power", np.dtype(dtype), values)

    results = [np.empty_like(x) for _ in WIDTHS]
    execute([(emit, [x, y], result, width) for result, width in zip(results, WIDTHS, strict=True)])
    for result in results[1:]:
        assert_bits(result, results[0], "power")
    with mpmath.workprec(200):
        exact = [mpmath.power(mpmath.mpf(float(a)), mpmath.mpf(float(b))) for a, b in zip(x, y, strict=True)]
    assert measure(results[0], exact) <= 2


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_exponentials_of_negative_squares_are_accurate_to_2_ulp(dtype: type[Any]) -> None:
    """The square's rounding error counts: without it the result is off by up to 370 ulp."""
    limits = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 28.0, 1e300, -1e300])
    random = np.random.default_rng(0)
    far = 27.2 if dtype is np.float64 else 10.1
    with np.errstate(all="ignore"):
        operands = [limits, random.uniform(-far, far, 600), np.exp2(random.uniform(-1074, 0, 60))]
        (x,) = whole_vectors([np.concatenate(operands).astype(dtype)])

    def emit(context: Any, builder: Any, values: Any) -> Any:
        return emit_element(builder, "gaussian", np.dtype(dtype), values)

    results = [np.empty_like(x) for _ in WIDTHS]
    execute([(emit, [x], result, width) for result, width in zip(results, WIDTHS, strict=True)])
    for result in results[1:]:
        assert_bits(result, results[0], "gaussian")
    np.testing.assert_array_equal(results[0][: len(limits)], [1, 1, 0, 0, np.nan, 0, 0, 0])
    finite = np.isfinite(x)
    with mpmath.workprec(200):
        assert measure(results[0][finite], [mpmath.exp(-(mpmath.mpf(float(v)) ** 2)) for v in x[finite]]) <= 2


def test_the_derivative_of_erf_is_accurate_far_out() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    derivative = sg.function([x], sg.grad(sg.sum(sg.erf(x)), x), options=sg.Options(cache=False))
    points = np.linspace(-26, 26, 101)
    with mpmath.workdps(40):
        exact = [float(mpmath.exp(-(mpmath.mpf(float(v)) ** 2)) * 2 / mpmath.sqrt(mpmath.pi)) for v in points]
    np.testing.assert_allclose(derivative(points), exact, rtol=1e-15)


@pytest.mark.parametrize("name", ["sin", "cos", "tan", "power", "log", "log2", "log10", "log1p", "cbrt", "remainder"])
def test_a_lane_does_not_depend_on_its_neighbours(name: str) -> None:
    """Unusual arguments are computed apart: those beside them must not notice."""
    op, dtype = REGISTRY[name], np.dtype("float64")
    usual = [np.linspace(0.3, 9.0, 32), np.linspace(3.0, 0.5, 32)][: op.arity]
    mixed = [x.copy() for x in usual]
    mixed[0][::4] = [1e300, 0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -1e22]

    def emit(context: Any, builder: Any, values: Any) -> Any:
        return emit_element(builder, name, dtype, values)

    alone, beside = np.empty(32), np.empty(32)
    execute([(emit, usual, alone, 32), (emit, mixed, beside, 32)])
    others = np.arange(32) % 4 != 0
    assert_bits(beside[others], alone[others], name)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(beside, op.evaluate(*mixed), rtol=1e-15)


def test_nan_of_every_kind_stays_nan() -> None:
    """The bits that processors carry along in NaN must not become those of a number."""
    bits = np.array([0x7FF8000000000001, 0x7FF80000000FFFFF, 0xFFF8000000000000, 0x7FFFFFFFFFFFFFFF], np.uint64)
    (x,) = whole_vectors([bits.view(np.float64)])
    jobs, results = [], {}
    for op in OPERATIONS:
        if not takes(op, x.dtype) or op.attributes:
            continue
        with np.errstate(all="ignore"):
            if op.evaluate(*[x[:1]] * (op.arity or 0)).dtype != x.dtype:
                continue

        def emit(context: Any, builder: Any, values: Any, name: str = op.name) -> Any:
            return emit_element(builder, name, x.dtype, values)

        results[op.name] = np.zeros_like(x)
        jobs.append((emit, [x] * (op.arity or 0), results[op.name], 4))
    execute(jobs)
    for name, result in results.items():
        assert np.isnan(result).all(), name


def test_where_chooses_lane_by_lane_in_every_dtype() -> None:
    jobs, checks = [], []
    condition = np.resize([True, False, False], 64)
    for name in DTYPES:
        x = np.resize(table(np.dtype(name)), 64)
        y = x[::-1].copy()
        for width in WIDTHS:
            result = np.empty_like(x)

            def emit(context: Any, builder: Any, values: Any, dtype: np.dtype[Any] = x.dtype) -> Any:
                return emit_element(builder, "where", dtype, values)

            jobs.append((emit, [condition, x, y], result, width))
            checks.append((result, np.where(condition, x, y)))
    execute(jobs)
    for result, expected in checks:
        assert_bits(result, expected, "where")


def test_casts_between_all_dtypes_are_those_of_numpy() -> None:
    jobs, checks = [], []
    for before in map(np.dtype, DTYPES):
        for after in map(np.dtype, DTYPES):
            x = np.resize(table(before), 64)
            if before.kind == "f" and after.kind in "iu":  # beyond the range any number will do
                x = np.resize(np.array([0, 1, -1, 2.9, -2.9, 100.5, -0.0], before), 64)
                x = np.abs(x) if after.kind == "u" else x
            with np.errstate(all="ignore"):
                expected = x.astype(after)
            for width in WIDTHS:
                result = np.empty_like(expected)

                def emit(context: Any, builder: Any, values: Any, pair: Any = (before, after)) -> Any:
                    return emit_cast(builder, values[0], *pair)

                jobs.append((emit, [x], result, width))
                checks.append((result, expected, f"{before} to {after} in {width}"))
    execute(jobs)
    for result, expected, label in checks:
        assert_bits(result, expected, label)


def test_a_negative_power_of_an_integer_is_an_error_in_any_lane() -> None:
    x, y = np.full(32, 2), np.arange(32)
    y[17] = -1

    def emit(context: Any, builder: Any, values: Any) -> Any:
        def fail(builder: Any, wrong: Any) -> None:
            with builder.if_then(any_lane(builder, wrong)):
                context.call_conv.return_user_exc(builder, ValueError, ("negative power",))

        return emit_element(builder, "power", x.dtype, values, fail=fail)

    for width in WIDTHS:
        with pytest.raises(ValueError, match="negative power"):
            execute([(emit, [x, y], np.empty_like(x), width)])


@pytest.mark.parametrize("operation", ["lgamma", "digamma", "floor_divide", "power"])
def test_operations_can_stand_in_a_function_of_their_own(operation: str) -> None:
    x = np.linspace(0.5, 30, 32)
    operands = [x, x[::-1].copy()][: REGISTRY[operation].arity]

    def emit(context: Any, builder: Any, values: Any) -> Any:
        kinds = [value.type for value in values]
        name = f"{operation}_of_{len(str(kinds[0]))}"
        function = ir.Function(builder.module, ir.FunctionType(kinds[0], kinds), name)
        inner = ir.IRBuilder(function.append_basic_block())
        inner.ret(emit_element(inner, operation, x.dtype, list(function.args)))
        return builder.call(function, values)

    results = [np.empty_like(x) for _ in WIDTHS]
    execute([(emit, operands, result, width) for result, width in zip(results, WIDTHS, strict=True)])
    for result in results:
        np.testing.assert_allclose(result, REGISTRY[operation].evaluate(*operands), rtol=1e-12)


def test_sums_that_may_be_reordered_say_so() -> None:
    module = ir.Module()
    kind = llvm_type(np.dtype("float64"), 4)
    function = ir.Function(module, ir.FunctionType(kind, [kind, kind]), "sum")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(emit_element(builder, "accumulate", np.dtype("float64"), list(function.args)))
    assert "fadd reassoc contract <4 x double>" in str(module)
