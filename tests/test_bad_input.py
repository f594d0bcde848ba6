"""Bad input: one clear error each, or handled right; nothing half-done."""

from __future__ import annotations

import re

import numpy as np
import pytest

import symgraph as sg


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    return request.param


@pytest.fixture
def graph():
    with sg.Graph() as graph:
        yield graph


def refuses(call, error, message):
    """Check that a call raises just this error, with a one-line reason."""
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error


# At declaration


def test_a_wrong_declaration_shows_the_users_line_and_both_shapes(graph):
    x, y = sg.placeholder("x", ("n", 3)), sg.placeholder("y", ("m", 4))
    with pytest.raises(sg.ShapeError) as caught:
        x + y
    message = str(caught.value)
    assert "add" in message
    assert "(n, 3)" in message
    assert "(m, 4)" in message
    assert re.search(r"test_bad_input\.py:\d+$", message)


def test_nodes_of_two_graphs_do_not_meet(graph):
    x = sg.placeholder("x")
    with sg.Graph():
        y = sg.placeholder("y")
        v = sg.variable(1.0)
    refuses(lambda: x + y, sg.GraphError, "different graphs")
    refuses(lambda: sg.function([x, y], [x * 2, y * 2]), sg.GraphError, "different graphs")
    refuses(lambda: sg.function([x], x, updates={v: 1.0}), sg.GraphError, "different graphs")
    refuses(lambda: sg.function([], v, session=sg.Session(graph)), sg.GraphError, "another graph than the session")


def test_a_function_that_cannot_be_is_refused_when_it_is_made(graph):
    x, y = sg.placeholder("x", ("n",)), sg.placeholder("y")
    v, z = sg.variable([1.0, 2.0], name="v"), sg.variable(1.0, name="z")
    m = sg.placeholder("m", ("m",))
    refusals = [
        (lambda: sg.function([x], [x, sg.sum(x) * y]), sg.DeclarationError, r"inputs lack <placeholder y.*multiply"),
        (lambda: sg.function([x, {"again": x}], x), sg.DeclarationError, r"inputs\[0\] and inputs\[1\]\['again'\]"),
        (lambda: sg.function([x, "y"], x), sg.DeclarationError, r"inputs\[1\] is not a node: 'y'"),
        (lambda: sg.function([x, None], x), sg.DeclarationError, r"inputs\[1\] is not a node: None"),
        (lambda: sg.function([x, sg.constant(1.0)], x), sg.DeclarationError, r"inputs\[1\] is a constant"),
        (lambda: sg.function([x], "x"), sg.DeclarationError, "a node or a number, not 'x'"),
        (lambda: sg.function([y], sg.ones(m.shape) * y), sg.DeclarationError, "the size m of .* is given by no input"),
        (lambda: sg.function([x], x, backend="cuda"), sg.DeclarationError, "'numba' or 'numpy', not 'cuda'"),
        (lambda: sg.function([x], x, name="not a name"), sg.DeclarationError, "an identifier, not 'not a name'"),
        (lambda: sg.function([x], x, updates=[(v, v)]), sg.DeclarationError, "updates is a dict"),
        (lambda: sg.function([x], x, updates={x: x}), sg.DeclarationError, "only a variable can be updated"),
        (lambda: sg.function([x], x, updates={"v": v}), sg.DeclarationError, "only a variable can be updated"),
        (
            lambda: sg.function([x], x, updates={v: z}),
            sg.ShapeError,
            r"update of v has shape \(\), the variable \(2,\)",
        ),
        (
            lambda: sg.function([x], x, updates={v: x}),
            sg.ShapeError,
            r"update of v has shape \(n,\), the variable \(2,\)",
        ),
        (
            lambda: sg.function([x], x, updates={z: z.astype("int64")}),
            sg.DTypeError,
            "of z is int64, the variable float64",
        ),
        (lambda: sg.function([x], x, updates={z: z * y}), sg.DeclarationError, "inputs lack <placeholder y"),
    ]
    for call, error, message in refusals:
        refuses(call, error, message)


def test_what_cannot_be_traced_is_refused():
    def two(x, y):
        return x + y

    refusals = [
        (lambda: sg.trace(two, sg.spec()), "missing a required argument: 'y'"),
        (lambda: sg.trace(two, sg.spec(), sg.spec(), sg.spec()), "too many positional arguments"),
        (lambda: sg.trace(two, sg.spec(), (3,)), r"specs\[1\]\[0\] of two is not made by sg.spec: 3"),
        (lambda: sg.trace(lambda x: None, sg.spec()), "is a return missing"),
        (lambda: sg.trace(lambda x: [x, "text"], sg.spec()), r"the result\[1\].*'text'"),
        (lambda: sg.trace(two, sg.spec(), sg.spec(), offset=1), "unknown offset"),
    ]
    for call, message in refusals:
        refuses(call, sg.DeclarationError, message)
    refuses(lambda: sg.spec(-1), sg.ShapeError, "negative")
    refuses(lambda: sg.spec((), "complex128"), sg.DTypeError, "complex128")


# At the call: which arguments


@pytest.fixture
def add(backend, graph):
    x, y = sg.placeholder("x"), sg.placeholder("y")
    return sg.function([x, {"right": y}], x + y, name="add", backend=backend)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, r"^add\(x, y\): missing arguments x, y$"),
        ((1,), {}, r"missing argument y$"),
        ((1,), {"z": 2}, r"unknown argument z \(the arguments are x, y\)"),
        ((1, {"right": 2}), {"x": 1}, r"argument x is given twice"),
        ((1, {"right": 2}), {"y": 1}, r"argument y is given twice"),
        ((1, {"right": 2}, 3), {}, r"takes 2 arguments by position, got 3"),
        ((1, {"left": 2}), {}, r"argument 2 is a dict with the key 'right': missing the key 'right'"),
        ((1, {"right": 2, "left": 2}), {}, r"argument 2 is a dict with the key 'right': unknown the key 'left'"),
        ((1, 2), {}, r"argument 2 is a dict with the key 'right', got int"),
    ],
)
def test_wrong_arguments_are_named(add, args, kwargs, message):
    refuses(lambda: add(*args, **kwargs), sg.ArgumentError, message)


def test_a_list_argument_has_as_many_items_as_declared(backend, graph):
    x, y = sg.placeholder("x"), sg.placeholder("y")
    f = sg.function([[x, y]], x - y, backend=backend)
    assert f((3, 1)) == 2.0
    refuses(lambda: f([1, 2, 3]), sg.ArgumentError, "argument 1 is a list of 2 items, got 3 items")
    refuses(lambda: f(1), sg.ArgumentError, "argument 1 is a list of 2 items, got int")


# At the call: ranks and sizes


def test_wrong_ranks_and_sizes_name_the_argument_and_the_dimension(backend, graph):
    w, X = sg.placeholder("w", ("d",)), sg.placeholder("X", ("n", "d"))
    fixed, longer = sg.placeholder("fixed", (2,)), sg.placeholder("longer", ("n+1",))
    loss = sg.function([w, X, fixed, longer], sg.sum(X @ w), name="loss", backend=backend)
    good = [np.ones(3), np.ones((5, 3)), np.ones(2), np.ones(6)]
    assert loss(*good) == 15.0
    wrong = [
        (1, np.ones((5, 4)), r"^loss\(w, X, fixed, longer\): X axis 1: expected d = 3 \(d = w axis 0\), got 4$"),
        (1, np.ones(5), r"X: expected 2 axes \(n, d\), got shape \(5,\)$"),
        (0, 1.0, r"w: expected 1 axis \(d,\), got shape \(\)$"),
        (2, np.ones(3), r"fixed axis 0: expected 2, got 3$"),
        (3, np.ones(5), r"longer axis 0: expected n\+1 = 6 \(n = X axis 0\), got 5$"),
        (3, np.ones((6, 1)), r"longer: expected 1 axis \(n\+1,\), got shape \(6, 1\)$"),
    ]
    for position, value, message in wrong:
        arguments = good.copy()
        arguments[position] = value
        refuses(lambda arguments=arguments: loss(*arguments), sg.SizeError, message)
    number = sg.placeholder("number")
    refuses(
        lambda: sg.function([number], number, backend=backend)([1.0]), sg.SizeError, r"expected 0 axes \(a number\)"
    )


def test_a_size_computed_from_a_name_determines_it(backend, graph):
    x = sg.placeholder("x", ("2*n",))
    f = sg.function([x], x.shape[0] // 2 * sg.ones(("n",)), backend=backend)
    np.testing.assert_array_equal(f(np.zeros(6)), [3.0, 3.0, 3.0])
    refuses(lambda: f(np.zeros(5)), sg.SizeError, r"x axis 0: size 5 cannot be 2\*n")


def test_what_an_operation_requires_of_sizes_is_checked_before_anything_runs(backend, graph):
    x, v = sg.placeholder("x", ("n",)), sg.variable(0.0)
    session = sg.Session(graph, backend=backend)
    f = sg.function([x], sg.reshape(x, (-1, 2)), updates={v: v + 1}, backend=backend, session=session)
    assert f(np.zeros(4)).shape == (2, 2)
    refuses(lambda: f(np.zeros(5)), sg.SizeError, "n = 5")
    assert session.value(v) == 1.0


# At the call: kinds of arrays


class Wrapped:
    """An array of another library."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array


def unaligned(values):
    memory = np.zeros(8 * len(values) + 1, "uint8")
    array = memory[1:].view("float64")
    array[:] = values
    assert not array.flags.aligned
    return array


def read_only(values):
    array = np.array(values)
    array.flags.writeable = False
    return array


ACCEPTED = {
    "non-contiguous": lambda: np.array([1.0, 9.0, 2.0, 9.0, 3.0])[::2],
    "reversed": lambda: np.array([3.0, 2.0, 1.0])[::-1],
    "read-only": lambda: read_only([1.0, 2.0, 3.0]),
    "big-endian": lambda: np.array([1.0, 2.0, 3.0], ">f8"),
    "big-endian integers": lambda: np.array([1, 2, 3], ">i2"),
    "unaligned": lambda: unaligned([1.0, 2.0, 3.0]),
    "broadcast": lambda: np.broadcast_to(np.array([1.0, 2.0, 3.0]), (3,)),
    "float32": lambda: np.array([1, 2, 3], "float32"),
    "float16": lambda: np.array([1, 2, 3], "float16"),
    "integers": lambda: np.array([1, 2, 3]),
    "unsigned": lambda: np.array([1, 2, 3], "uint64"),
    "list": lambda: [1.0, 2, 3],
    "tuple": lambda: (1, 2, 3),
    "list of scalars": lambda: [np.float32(1), np.array(2.0), 3],
    "subclass": lambda: np.array([1.0, 2.0, 3.0]).view(np.recarray),
    "other library": lambda: Wrapped(np.array([1.0, 2.0, 3.0])),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_every_array_that_can_be_taken_exactly_is(backend, graph, kind):
    x = sg.placeholder("x", ("n",))
    value = ACCEPTED[kind]()
    before = np.array(np.asarray(value))
    doubled, same = sg.function([x], [x * 2, x], backend=backend)(value)
    np.testing.assert_array_equal(doubled, [2.0, 4.0, 6.0])
    np.testing.assert_array_equal(same, [1.0, 2.0, 3.0])
    assert same.dtype == np.dtype("float64")
    assert same.flags.writeable
    same[:] = 0
    np.testing.assert_array_equal(np.asarray(value), before)
    assert not np.shares_memory(same, np.asarray(value))


@pytest.mark.parametrize("order", ["F", "sliced", "transposed"])
def test_matrices_in_any_layout(backend, graph, order):
    X = sg.placeholder("X", ("n", "m"))
    plain = np.arange(12.0).reshape(3, 4)
    layouts = {
        "F": np.asfortranarray(plain),
        "sliced": np.repeat(np.repeat(plain, 2, 0), 3, 1)[::2, ::3],
        "transposed": np.ascontiguousarray(plain.T).T,
    }
    f = sg.function([X], [sg.sum(X, axis=0), X.reshape((-1,))], backend=backend)
    total, flat = f(layouts[order])
    np.testing.assert_array_equal(total, plain.sum(0))
    np.testing.assert_array_equal(flat, np.arange(12.0))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_arrays_without_elements(backend, graph, shape):
    X = sg.placeholder("X", ("n", "m"))
    f = sg.function([X], [sg.sum(X), sg.sum(X, axis=0), X + 1, X.T], backend=backend)
    total, columns, more, transposed = f(np.zeros(shape))
    assert total == 0.0
    np.testing.assert_array_equal(columns, np.zeros(shape[1]))
    assert more.shape == shape
    assert transposed.shape == shape[::-1]
    x = sg.placeholder("x", ("n",), "int32")
    empty = sg.function([x], x, backend=backend)([])
    assert empty.shape == (0,)
    assert empty.dtype == np.int32


EXACT = [
    ("int32", np.array([1, -2]), [1, -2]),
    ("int32", [True, False], [1, 0]),
    ("uint8", [0, 255], [0, 255]),
    ("uint64", np.array([0, 2**64 - 1], ">u8"), [0, 2**64 - 1]),
    ("int64", np.array([1, 2], "longlong"), [1, 2]),
    ("int64", np.array([0, 5], "uint64"), [0, 5]),
    ("bool", [True, False], [True, False]),
    ("float32", [0.1, 2], np.array([0.1, 2], "float32")),
    ("float32", np.array([1, 2**24]), [1.0, 2.0**24]),
    ("float64", np.array([2**53, 2**60]), [2.0**53, 2.0**60]),
    ("float32", [np.inf, -np.inf], [np.inf, -np.inf]),
]


@pytest.mark.parametrize(("dtype", "value", "expected"), EXACT)
def test_numbers_that_fit_are_converted(backend, graph, dtype, value, expected):
    x = sg.placeholder("x", (2,), dtype)
    got = sg.function([x], x, backend=backend)(value)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, np.array(expected, dtype))


REFUSED = {
    "float64 for float32": ("float32", np.array([0.1, 0.2]), r"more precise.*astype\('float32'\)"),
    "long double": ("float64", np.array([1, 2], np.longdouble), "more precise"),
    "complex": ("float64", np.array([1j, 2]), "dtype complex128"),
    "complex list": ("float64", [1j, 2], "dtype complex128"),
    "float for integer": ("int64", np.array([1.0, 2.0]), "int64 array of shape .*, got float64"),
    "float list for integer": ("int64", [1.0, 2.5], "got float64"),
    "integer for bool": ("bool", [0, 1], "got int64"),
    "float for bool": ("bool", [0.0, 1.0], "got float64"),
    "negative for unsigned": ("uint8", [1, -1], "numbers that uint8 cannot represent"),
    "negative for uint64": ("uint64", np.array([1, -1]), "numbers that uint64 cannot represent"),
    "too large": ("int8", [1, 128], "numbers that int8 cannot represent"),
    "too large unsigned": ("int64", np.array([1, 2**63], "uint64"), "numbers that int64 cannot represent"),
    "inexact integer": ("float64", np.array([1, 2**53 + 1]), "numbers that float64 cannot represent"),
    "inexact greatest integer": ("float64", np.array([1, 2**63 - 1]), "numbers that float64 cannot represent"),
    "inexact for float32": ("float32", [1, 2**24 + 1], "numbers that float32 cannot represent"),
    "overflow to infinity": ("float32", [1e300, 1.0], "numbers that float32 cannot represent"),
    "object": ("float64", np.array([1.0, None]), "an array of objects"),
    "huge integers": ("float64", [10**30, 1], "an array of objects"),
    "text": ("float64", ["1", "2"], "dtype <U1"),
    "dates": ("int64", np.array(["2020-01-01", "2020-01-02"], "datetime64[D]"), "dtype datetime64"),
    "ragged": ("float64", [[1.0], [1.0, 2.0]], "a ragged list: its items differ in shape"),
    "masked": ("float64", np.ma.masked_array([1.0, 2.0], [True, False]), "a masked array; fill it first"),
    "none": ("float64", None, "got None"),
    "a set": ("float64", {1.0, 2.0}, "got set"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_whatever_would_lose_meaning_is_refused(backend, graph, kind):
    dtype, value, message = REFUSED[kind]
    x, v = sg.placeholder("x", (2,), dtype), sg.variable(0.0, name="v")
    session = sg.Session(graph, backend=backend)
    f = sg.function([x], x, updates={v: v + 1}, backend=backend, session=session, name="f")
    refuses(lambda: f(value), sg.ArgumentError, r"^f\(x\): x: expected .*" + message)
    assert session.value(v) == 0.0


def test_a_node_is_no_value(backend, graph):
    x = sg.placeholder("x")
    refuses(lambda: sg.function([x], x, backend=backend)(x), sg.ArgumentError, "the node <placeholder x.* no value")


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float64", 2), ("float64", True), ("float64", np.int8(2)), ("float64", np.array(2.0, ">f8")),
        ("float64", np.float32(2)), ("int64", np.longlong(3)),
        ("float32", 0.1), ("int32", 7), ("int32", np.int64(7)), ("bool", True), ("bool", np.bool_(False)),
    ],
)  # fmt: skip
def test_scalars_are_converted(backend, graph, dtype, value):
    x = sg.placeholder("x", (), dtype)
    got = sg.function([x], x, backend=backend)(value)
    assert type(got) is np.dtype(dtype).type
    assert got == np.dtype(dtype).type(value)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("float32", np.float64(0.1)), ("int64", 1.0), ("int8", 300), ("bool", 1), ("float64", 10**400), ("float64", 1j)],
)
def test_scalars_that_do_not_fit_are_refused(backend, graph, dtype, value):
    x = sg.placeholder("x", (), dtype)
    refuses(lambda: sg.function([x], x, backend=backend)(value), sg.ArgumentError, f"x: expected an? {dtype} number")


# At the call: numbers that are computed, not refused


def test_nan_and_infinity_are_computed(backend, graph):
    x = sg.placeholder("x", (4,))
    value = np.array([np.nan, np.inf, -np.inf, -0.0])
    outputs = [x * 2, sg.exp(x), 1 / x, sg.sum(x), sg.max(x)]
    got = sg.function([x], outputs, backend=backend)(value)
    with np.errstate(all="ignore"):
        expected = [value * 2, np.exp(value), 1 / value, value.sum(), value.max()]
    for left, right in zip(got, expected, strict=True):
        np.testing.assert_array_equal(left, right)
        np.testing.assert_array_equal(np.signbit(left), np.signbit(right))


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint64"])
def test_integers_overflow_as_in_numpy(backend, graph, dtype):
    limits = np.iinfo(dtype)
    x = sg.placeholder("x", (3,), dtype)
    value = np.array([limits.min, limits.max, 3], dtype)
    got = sg.function([x], [x + 1, x * x, x - 5, sg.sum(x)], backend=backend)(value)
    one, five = np.array(1, dtype), np.array(5, dtype)
    with np.errstate(all="ignore"):
        expected = [value + one, value * value, value - five, value.sum()]
    for left, right in zip(got, expected, strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def test_no_array_has_fewer_than_no_elements(backend, graph):
    x, n = sg.placeholder("x", ("n",)), sg.dim("n")
    for made in (sg.zeros(n - 3) + 1.0, sg.arange(n - 3), sg.ones((2, n - 3)), sg.eye(n - 3)):
        f = sg.function([x], [sg.sum(x), sg.sum(made)], backend=backend)
        refuses(lambda f=f: f(np.ones(2)), sg.SizeError, r"\(.*n-3.*\) has a negative size \(n = 2\)")
        assert f(np.ones(3)) == [3, 0]


# In the middle of a call

FAILURES = {
    "an index": (
        lambda x, k, a, b: sg.take(x, k),
        IndexError,
        "gather of shapes (n,) and (m,): index 7 is out of bounds",
    ),
    "an index in a loop": (
        lambda x, k, a, b: sg.sum(sg.exp(x[k]) + b[:, 0]),
        IndexError,
        "(n,) and (m,): index 7 is out",
    ),
    "a place": (lambda x, k, a, b: x.at[k].add(b[:, 0]), IndexError, "index 7 is out of bounds"),
    "a factor": (
        lambda x, k, a, b: sg.cholesky(a),
        np.linalg.LinAlgError,
        "cholesky of shape (m, m): Matrix is not pos",
    ),
    "a system": (
        lambda x, k, a, b: sg.solve(0 * a, b),
        np.linalg.LinAlgError,
        "solve of shapes (m, m) and (m, 2): Sing",
    ),
    "a power": (lambda x, k, a, b: k ** -(k * k), ValueError, "power of shapes (m,) and (m,): Integers to negative"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_fails_in_a_call_is_named_with_its_shapes_and_line(name, backend, graph):
    x, k = sg.placeholder("x", ("n",)), sg.placeholder("k", ("m",), "int64")
    a, b = sg.placeholder("a", ("m", "m")), sg.placeholder("b", ("m", 2))
    declare, error, message = FAILURES[name]
    taken = np.ones(5), np.array([0, 7, 1]), -np.eye(3), np.ones((3, 2))
    good = sg.sum(x[k - k]) + sg.sum(sg.cholesky(a @ a)) + sg.sum(k ** (k * k))
    f = sg.function([x, k, a, b], [good, declare(x, k, a, b)], backend=backend)
    with pytest.raises(error, match=re.escape(message)) as caught:
        f(*taken)
    assert type(caught.value) is error
    assert str(caught.value).endswith(f"test_bad_input.py:{declare.__code__.co_firstlineno}")


def test_the_same_machine_code_names_the_line_of_its_own_graph():
    def first(x):
        return sg.cholesky(x)

    def second(x):
        return sg.cholesky(x)

    for declare in (first, second, first):
        with sg.Graph():
            x = sg.placeholder("x", ("n", "n"))
        with pytest.raises(np.linalg.LinAlgError) as caught:
            sg.function([x], declare(x))(-np.eye(2))
        assert str(caught.value).endswith(f":{declare.__code__.co_firstlineno + 1}")
