"""Every operation: its value, its derivatives to third order, its dtypes, and compiled the same.

Elementwise operations are tested from what they state about themselves; the others by examples, which a test
checks to be complete.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import mpmath
import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import DTypeError
from symgraph.expr import topological
from symgraph.op import FUNCTIONS, REGISTRY, Kind, Op
from symgraph.ops.construct import apply
from tests.helpers.engines import assert_same, eager, emitted, interpreted
from tests.helpers.examples import EXAMPLES

Array = np.ndarray[Any, Any]
mp = mpmath.mp

ELEMENTWISE = {name: op for name, op in REGISTRY.items() if op.kind is Kind.ELEMENTWISE}
SMOOTH = {name: op for name, op in ELEMENTWISE.items() if any(op.derivative or ())}
STEPS = {name: op for name, op in ELEMENTWISE.items() if name not in SMOOTH}
ATTRIBUTES: dict[str, tuple[Any, ...]] = {"polygamma": (2,), "astype": (np.dtype("float64"),)}

# What an operation does not say of itself, in mpmath or in Python.
ORACLES: dict[str, Callable[..., Any]] = {
    "positive": lambda x: x,
    "remainder": lambda x, y: x - y * mp.floor(x / y),
    "polygamma": lambda x: mp.polygamma(2, x),
    "where": lambda c, x, y: x if c > 0 else y,
    "astype": lambda x: x,
}
STEP_ORACLES: dict[str, Callable[..., Any]] = {
    "floor_divide": lambda x, y: x // y, "stop_gradient": lambda x: x, "sign": lambda x: (x > 0) - (x < 0),
    "floor": lambda x: x // 1, "ceil": lambda x: -(-x // 1), "round": round, "trunc": int,
    "isnan": lambda x: False, "isinf": lambda x: False, "isfinite": lambda x: True,
    "equal": operator.eq, "not_equal": operator.ne, "less": operator.lt, "less_equal": operator.le,
    "greater": operator.gt, "greater_equal": operator.ge,
    "logical_and": lambda x, y: bool(x) and bool(y), "logical_or": lambda x, y: bool(x) or bool(y),
    "logical_xor": lambda x, y: bool(x) != bool(y), "logical_not": operator.not_,
    "bitwise_and": operator.and_, "bitwise_or": operator.or_, "bitwise_xor": operator.xor,
    "bitwise_left_shift": operator.lshift, "bitwise_right_shift": operator.rshift, "bitwise_invert": operator.invert,
}  # fmt: skip


def oracle(op: Op) -> Callable[..., Any]:
    """Return the function of mpmath that an operation is compared with."""
    if op.name in ORACLES:
        return ORACLES[op.name]
    if isinstance(op.oracle, str):
        found: Callable[..., Any] = getattr(mp, op.oracle)
        return found
    assert op.oracle is not None, f"{op.name} states no oracle, and none is given here"
    stated: Callable[..., Any] = op.oracle
    return lambda *args: stated(mp, *args)


def points(op: Op, count: int, dtype: str = "float64") -> list[Array]:
    """Return random arguments in the domain where an operation is smooth."""
    random = np.random.default_rng(sum(map(ord, op.name)))
    domain = op.domain or ((-1.0, 1.0),) * (op.arity or 0)
    return [random.uniform(low, high, count).astype(dtype) for low, high in domain]


def declare(op: Op, dtype: str = "float64", size: int | str = "n") -> tuple[list[sg.Expr], sg.Expr]:
    """Return placeholders and the operation on them; the condition of where is the sign of a number."""
    attrs = (np.dtype(dtype),) if op.name == "astype" else ATTRIBUTES.get(op.name, ())
    with sg.Graph():
        leaves = [sg.placeholder(f"x{i}", (size,), dtype) for i in range(op.arity or 0)]
    args = [leaves[0] > 0, *leaves[1:]] if op.name == "where" else leaves
    return leaves, apply(op, *args, attrs=attrs)


def partial(y: sg.Expr, xs: Sequence[sg.Expr]) -> sg.Expr:
    """Return the derivative of an elementwise expression by one argument after another."""
    for x in xs:
        (y,) = sg.gradients(y, [x], unconnected="zero")
    return y


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_value(name: str, dtype: str) -> None:
    op = SMOOTH[name]
    values = points(op, 20, dtype)
    leaves, y = declare(op, dtype)
    (found,) = interpreted([y], dict(zip(leaves, values, strict=True)))
    with mp.workdps(30):
        expected = [float(oracle(op)(*[mp.mpf(float(v)) for v in row])) for row in zip(*values, strict=True)]
    assert found.dtype == dtype
    tolerance = 2e-13 if dtype == "float64" else 2e-5
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_to_third_order(name: str) -> None:
    op = SMOOTH[name]
    values = points(op, 2)
    leaves, y = declare(op, size=2)
    feed = dict(zip(leaves, values, strict=True))
    orders = [o for k in (1, 2, 3) for o in itertools.product(range(len(leaves)), repeat=k)]
    found = interpreted([partial(y, [leaves[i] for i in order]) for order in orders], feed)
    with mp.workdps(30):
        expected = {}
        for order, got in zip(orders, found, strict=True):
            counts = tuple(order.count(i) for i in range(len(leaves)))
            if counts not in expected:
                rows = [tuple(mp.mpf(float(v)) for v in row) for row in zip(*values, strict=True)]
                expected[counts] = [float(mp.diff(oracle(op), row, counts)) for row in rows]
            np.testing.assert_allclose(got, expected[counts], rtol=1e-11, atol=1e-11, err_msg=f"by arguments {order}")


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_in_float32(name: str) -> None:
    op = SMOOTH[name]
    values = points(op, 5, "float32")
    results = []
    for dtype in ("float32", "float64"):
        leaves, y = declare(op, dtype)
        wanted = [partial(y, xs) for xs in ([leaves[-1]], [leaves[-1]] * 2)]
        results.append(interpreted(wanted, {x: v.astype(dtype) for x, v in zip(leaves, values, strict=True)}))
    for single, double in zip(*results, strict=True):
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", STEPS)
def test_value_of_a_step(name: str) -> None:
    op = STEPS[name]
    whole = name.startswith("bitwise")
    grid: list[Any] = [-3, -1, 0, 1, 2, 5] if whole else [-2.0, -1.5, -0.5, 0.0, 0.5, 1.0, 1.5, 2.5]
    second = [0, 1, 3] if "shift" in name else [0.5, -1.5, 2.0] if name == "floor_divide" else grid
    rows = list(itertools.product(grid, second) if op.arity == 2 else ((x,) for x in grid))
    arguments = [sg.constant(np.array(column)) for column in zip(*rows, strict=True)]
    found = sg.evaluate(FUNCTIONS[name](*arguments))
    np.testing.assert_array_equal(found, [STEP_ORACLES[name](*row) for row in rows])


def test_predicates_of_special_values() -> None:
    x = sg.constant([np.nan, np.inf, -np.inf, 0.0])
    found = sg.evaluate([sg.isnan(x), sg.isinf(x), sg.isfinite(x)])
    np.testing.assert_array_equal(found, [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("name", [name for name in STEPS if name in FUNCTIONS and not name.startswith("bitwise")])
def test_the_derivative_of_a_step_is_zero(name: str) -> None:
    op = STEPS[name]
    with sg.Graph():
        leaves = [sg.placeholder(f"x{i}", (3,)) for i in range(op.arity or 0)]
    y = sg.sum(sg.astype(FUNCTIONS[name](*leaves), "float64"))
    for gradient in sg.gradients(y, leaves, unconnected="zero"):
        np.testing.assert_array_equal(sg.evaluate(gradient, {x: [0.5, 1.5, 2.0] for x in leaves}), 0)


# Dtypes

DTYPES = ["bool", "int8", "uint8", "int32", "int64", "uint64", "float32", "float64"]
# where and round are not ufuncs; a reciprocal of integers, which NumPy rounds to 0, is a floating-point number here.
NOT_AS_NUMPY = ("where", "stop_gradient", "round", "reciprocal")
UFUNCS = {
    name: getattr(np, op.numpy.removeprefix("numpy:"))
    for name, op in ELEMENTWISE.items()
    if isinstance(op.numpy, str) and op.numpy.startswith("numpy:") and name not in NOT_AS_NUMPY
}


def numpy_dtype(ufunc: Any, dtypes: Sequence[str]) -> np.dtype[Any] | None:
    """Return the dtype of NumPy's result (float32 where it is float16, which symgraph does not have)."""
    try:
        found = ufunc(*[np.zeros(0, dtype) for dtype in dtypes]).dtype
    except TypeError:
        return None
    return np.dtype("float32") if found == np.float16 else found


@pytest.mark.parametrize("name", UFUNCS)
def test_dtypes_promote_as_in_numpy(name: str) -> None:
    arity = ELEMENTWISE[name].arity or 0
    for dtypes in itertools.product(DTYPES, repeat=arity):
        expected = numpy_dtype(UFUNCS[name], dtypes)
        nodes = [sg.constant(np.ones(1, dtype)) for dtype in dtypes]
        if expected is None:
            with pytest.raises(DTypeError):
                FUNCTIONS[name](*nodes)
        else:
            node = FUNCTIONS[name](*nodes)
            assert node.dtype == expected, dtypes
            assert sg.evaluate(node).dtype == expected, dtypes


@pytest.mark.parametrize("name", [name for name in UFUNCS if ELEMENTWISE[name].arity == 2])
def test_python_numbers_are_weak(name: str) -> None:
    for dtype, number in itertools.product(DTYPES, (True, 2, 2.5)):
        try:
            expected = UFUNCS[name](np.zeros(0, dtype), number).dtype
        except TypeError:
            continue
        expected = np.dtype("float32") if expected == np.float16 else expected
        assert FUNCTIONS[name](sg.constant(np.ones(1, dtype)), number).dtype == expected, (dtype, number)


REDUCTIONS = (sg.sum, sg.prod, sg.mean, sg.max, sg.min, sg.any, sg.all, sg.argmax, sg.argmin, sg.cumulative_sum)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "int64", "uint64"])
def test_integers_are_computed_as_numpy_does(dtype: str) -> None:
    """Integers wrap, and divide by zero as in NumPy; here as the interpreter, which calls NumPy."""
    bounds = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    x_values = np.array([0, 1, 1, *bounds, bounds[1]], dtype)
    y_values = np.array([1, 0, 1, 1, *bounds[::-1]], dtype)
    with sg.Graph():
        x, y = sg.placeholder("x", ("n",), dtype), sg.placeholder("y", ("n",), dtype)
    outputs = [function(x) for function in REDUCTIONS]
    for name, op in ELEMENTWISE.items():
        if name in FUNCTIONS and (op.arity or 0) <= 2 and name not in ("astype", "polygamma"):
            try:
                # NumPy refuses negative powers of integers.
                node = FUNCTIONS[name](*[x, sg.astype(y > 0, dtype) if name == "power" else y][: op.arity])
            except DTypeError:
                continue
            if node.dtype.kind != "f":
                outputs.append(node)
    outputs += [sg.astype(x, other) for other in DTYPES]
    assert len(outputs) > 35
    check_compiled(outputs, [{x: x_values, y: y_values}])


# Kinks

INF = np.inf
KINKS: dict[str, tuple[Callable[..., sg.Expr], Sequence[Any], Sequence[Any]]] = {
    "relu": (sg.relu, [0.0], [0.0]),
    "leaky_relu": (lambda x: sg.leaky_relu(x, 0.25), [0.0], [0.25]),
    "elu": (lambda x: sg.elu(x, 2.0), [0.0], [2.0]),
    "abs": (sg.abs, [0.0], [0.0]),
    "sqrt": (sg.sqrt, [0.0], [INF]),
    "cbrt": (sg.cbrt, [0.0], [INF]),
    "maximum": (sg.maximum, [1.0, 1.0], [0.5, 0.5]),
    "minimum": (sg.minimum, [1.0, 1.0], [0.5, 0.5]),
    "maximum with itself": (lambda x: sg.maximum(x, x), [1.0], [1.0]),
    "hypot": (sg.hypot, [0.0, 0.0], [0.0, 0.0]),
    "clip at its lower end": (lambda x: sg.clip(x, 0, 1), [0.0], [1.0]),
    "clip at its upper end": (lambda x: sg.clip(x, 0, 1), [1.0], [1.0]),
    "clip outside": (lambda x: sg.clip(x, 0, 1), [1.5], [0.0]),
    "power(0, 0)": (sg.power, [0.0, 0.0], [0.0, 0.0]),
    "power(0, 1)": (sg.power, [0.0, 1.0], [1.0, 0.0]),
    "power(0, 2)": (sg.power, [0.0, 2.0], [0.0, 0.0]),
    "x**0": (lambda x: x**0 + 0 * x, [0.0], [0.0]),
    "x**2 at a negative number": (lambda x: x**2, [-3.0], [-6.0]),
    "xlogy(0, 0)": (sg.xlogy, [0.0, 0.0], [0.0, 0.0]),
    "max of ties": (sg.max, [[2.0, 1.0, 2.0, 2.0]], [[1 / 3, 0, 1 / 3, 1 / 3]]),
    "min of ties": (sg.min, [[1.0, 1.0, 2.0]], [[0.5, 0.5, 0]]),
    "max of rows of ties": (
        lambda x: sg.sum(sg.max(x, axis=1)),
        [[[2.0, 2.0], [1.0, 3.0]]],
        [[[0.5, 0.5], [0.0, 1.0]]],
    ),
    "vector_norm": (sg.vector_norm, [[0.0, 0.0]], [[0.0, 0.0]]),
    "prod with one zero": (sg.prod, [[2.0, 0.0, 3.0]], [[0.0, 6.0, 0.0]]),
    "prod with two zeros": (sg.prod, [[0.0, 0.0, 3.0]], [[0.0, 0.0, 0.0]]),
}


@pytest.mark.parametrize("name", KINKS)
def test_kinks(name: str) -> None:
    function, values, expected = KINKS[name]
    with sg.Graph():
        leaves = [sg.placeholder(f"x{i}", np.shape(value)) for i, value in enumerate(values)]
    feed = dict(zip(leaves, map(np.asarray, values), strict=True))
    gradients = sg.gradients(function(*leaves), leaves)
    for engine in (interpreted, emitted):
        for found, want in zip(engine(gradients, feed), expected, strict=True):
            np.testing.assert_array_equal(found, want, err_msg=engine.__name__)


# Examples


def test_every_operation_and_function_has_an_example() -> None:
    with sg.Graph():
        outputs = [e.on_nodes(*e.declare(f"{name} ")[:-1]) for name, e in EXAMPLES.items()]
    examples = {node.op.name for node in topological(outputs)}
    assert sorted(REGISTRY.keys() - examples - ELEMENTWISE.keys()) == []
    elementwise = {n for n in FUNCTIONS if n in ELEMENTWISE}
    together = {"zeros": "zeros and ones", "ones": "zeros and ones"} | dict.fromkeys(
        ("zeros_like", "ones_like", "full_like", "empty_like"), "like"
    )
    assert sorted(n for n in FUNCTIONS if together.get(n, n) not in EXAMPLES and n not in elementwise) == []


def sizes_from(least: int) -> list[int]:
    return [n for n in (0, 1, 2, 3, 7) if n >= least]


@pytest.mark.parametrize("name", EXAMPLES)
def test_value_of_an_example(name: str) -> None:
    example = EXAMPLES[name]
    with sg.Graph():
        leaves = example.declare()
    y = example.on_nodes(*leaves[:-1])
    for n in sizes_from(example.least):
        feed = dict(zip(leaves, example.draw(n), strict=True))
        with np.errstate(all="ignore"):
            expected = np.asarray(example.on_arrays(*list(feed.values())[:-1]))
        assert_same(interpreted([y], feed)[0], expected.astype(y.dtype), 1e-12, 1e-12, f"n = {n}")
        assert_same(eager([y], feed)[0], expected.astype(y.dtype), 1e-12, 1e-12, f"eager, n = {n}")


def slope(function: Callable[[Sequence[Array]], float], at: Sequence[Array], along: Sequence[Array]) -> float:
    """Return the derivative of a function along a direction, by central differences of fourth order."""
    step = 2e-3

    def moved(t: float) -> float:
        return function([x + t * step * v for x, v in zip(at, along, strict=True)])

    return (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * step)


def directions(values: Iterable[Any], seed: int) -> list[Array]:
    random = np.random.default_rng(seed)
    return [random.uniform(-1, 1, np.shape(value)) for value in values]


def inner(gradients: Sequence[sg.Expr], vectors: Sequence[Array]) -> sg.Expr:
    """Return the sum of products of nodes with fixed arrays."""
    return sum((sg.sum(g * v) for g, v in zip(gradients, vectors, strict=True)), sg.constant(0.0))


SMOOTH_EXAMPLES = [name for name, example in EXAMPLES.items() if example.smooth]


@pytest.mark.parametrize("name", SMOOTH_EXAMPLES)
def test_derivatives_of_an_example_to_third_order(name: str) -> None:
    example = EXAMPLES[name]
    n = max(3, example.least)
    *values, sizes = example.draw(n)
    *leaves, sizes_leaf = declare_fixed(values, sizes)
    y = example.on_nodes(*leaves)
    weights = np.random.default_rng(5).uniform(0.5, 1.5, np.shape(example.on_arrays(*values)))

    def value_by_numpy(at: Sequence[Array]) -> float:
        return float(np.sum(weights * example.on_arrays(*at)))

    total, function = sg.sum(y * weights), value_by_numpy
    for order in (1, 2, 3):
        gradients = sg.gradients(total, leaves, unconnected="zero")
        along = directions(values, order)
        total = inner(gradients, along)
        (found,) = interpreted([total], dict(zip([*leaves, sizes_leaf], [*values, sizes], strict=True)))
        expected = slope(function, values, along)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7, err_msg=f"order {order}")

        def function(at: Sequence[Array], total: sg.Expr = total) -> float:
            return float(interpreted([total], dict(zip([*leaves, sizes_leaf], [*at, sizes], strict=True)))[0])


def declare_fixed(values: Sequence[Array], sizes: Array) -> list[sg.Expr]:
    with sg.Graph():
        return [sg.placeholder(f"x{i}", v.shape) for i, v in enumerate([*values, sizes])]


# Compiled


def chunks(names: Sequence[str], size: int) -> list[list[str]]:
    return [list(names[i : i + size]) for i in range(0, len(names), size)]


def second_order(y: sg.Expr, leaves: Sequence[sg.Expr]) -> list[sg.Expr]:
    """Return a node, its gradients, and the gradients of a combination of these."""
    gradients = sg.gradients(y, leaves, unconnected="zero")
    return [y, *gradients, *sg.gradients(sum(sg.sum(g * g) for g in gradients), leaves, unconnected="zero")]


@pytest.mark.parametrize("names", chunks(list(ELEMENTWISE), 8), ids=lambda names: f"{names[0]} to {names[-1]}")
def test_elementwise_operations_compiled(names: list[str]) -> None:
    outputs, feeds = [], {n: {} for n in (0, 1, 2, 3, 7)}
    with sg.Graph():
        for name in names:
            op = ELEMENTWISE[name]
            kind = "int64" if name.startswith("bitwise") else "float64"
            leaves = [sg.placeholder(f"{name}{i}", ("n",), kind) for i in range(op.arity or 0)]
            args = [sg.astype(x, "bool") if name.startswith("logical") else x for x in leaves]
            y = apply(op, *([args[0] > 0, *args[1:]] if name == "where" else args), attrs=ATTRIBUTES.get(name, ()))
            outputs += second_order(y, leaves) if name in SMOOTH else [y]
            for n, feed in feeds.items():
                feed |= {
                    x: np.abs(v * 2).astype(kind) if kind == "int64" else v
                    for x, v in zip(leaves, points(op, n), strict=True)
                }
    check_compiled(outputs, list(feeds.values()))


@pytest.mark.parametrize("name", SMOOTH)
def test_elementwise_operations_emitted_in_float32(name: str) -> None:
    leaves, y = declare(SMOOTH[name], "float32")
    outputs = second_order(y, leaves)
    for n in (0, 1, 7):
        feed = dict(zip(leaves, points(SMOOTH[name], n, "float32"), strict=True))
        for got, want in zip(emitted(outputs, feed), interpreted(outputs, feed), strict=True):
            assert_same(got, want, 2e-4, 2e-4)


def check_compiled(outputs: Sequence[sg.Expr], feeds: Sequence[dict[sg.Expr, Array]]) -> None:
    """Check machine code, and the emitted module as plain Python, against the interpreter."""
    function = sg.function(list(feeds[0]), list(outputs))
    for feed in feeds:
        expected = interpreted(outputs, feed)
        for found in (function(*feed.values()), emitted(outputs, feed)):
            for i, (got, want) in enumerate(zip(found, expected, strict=True)):
                assert_same(got, want, 1e-11, 1e-12, f"output {i}: {outputs[i]!r}")


LINALG = {"cholesky", "cholesky_pullback", "solve", "solve a vector", "inv", "det", "slogdet"} | {
    n for n in EXAMPLES if "triangular" in n
}
GROUPS = [
    group
    for least in sorted({example.least for example in EXAMPLES.values()})
    for kind, size in ((False, 8), (True, 3))
    for group in chunks([n for n, e in EXAMPLES.items() if e.least == least and (n in LINALG) == kind], size)
]


@pytest.mark.parametrize("names", GROUPS, ids=lambda names: f"{names[0]} to {names[-1]}")
def test_examples_compiled(names: list[str]) -> None:
    least = EXAMPLES[names[0]].least
    outputs, feeds = [], {n: {} for n in sizes_from(least)}
    with sg.Graph():
        for name in names:
            example = EXAMPLES[name]
            leaves = example.declare(name)
            y = example.on_nodes(*leaves[:-1])
            outputs += second_order(y, leaves[:-1]) if example.smooth else [y]
            for n, feed in feeds.items():
                feed |= dict(zip(leaves, example.draw(n), strict=True))
    check_compiled(outputs, list(feeds.values()))


@pytest.mark.parametrize("options", [None, sg.Options(cache=False)], ids=["interpreted", "compiled"])
def test_elu_keeps_the_sign_of_zero(options: sg.Options | None) -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    f = sg.function([x], sg.elu(x), **({"options": options} if options else {"backend": "numpy"}))
    np.testing.assert_array_equal(np.signbit(f(np.array([-0.0, 0.0] * 8))), [True, False] * 8)
