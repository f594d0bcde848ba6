"""The straight line of ordinary calls: it gives what the general way gives, and leaves to it what is unusual."""

from __future__ import annotations

import gc
import sys
import threading
from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import symgraph as sg

Pair = namedtuple("Pair", "left right")


@pytest.fixture
def graph():
    with sg.Graph() as graph:
        yield graph


def call_straight(f, *args):
    """Call a function once the general way and once more the straight way, which must be open."""
    f(*args)
    computation = f._computation
    run = computation.run

    def refuse(*_):
        raise AssertionError("the call went the general way")

    computation.run = refuse
    try:
        return f(*args)
    finally:
        computation.run = run


def assert_same(got, expected):
    assert type(got) is type(expected)
    if isinstance(expected, dict):
        assert list(got) == list(expected)
        got, expected = list(got.values()), list(expected.values())
    if isinstance(expected, list | tuple):
        assert len(got) == len(expected)
        for g, e in zip(got, expected, strict=True):
            assert_same(g, e)
    elif expected is not None:
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


STRUCTURES = {
    "one": lambda y, s: y,
    "number": lambda y, s: s,
    "list": lambda y, s: [y, s],
    "tuple-of-one": lambda y, s: (y,),
    "nested": lambda y, s: [s, [y], (s, None, {"y": y, 3: s}), []],
    "named": lambda y, s: {"pair": Pair(y, (s, None)), None: Pair(2, [y + 1])},
    "keys-of-any-kind": lambda y, s: OrderedDict([((1, "a"), y), (2.5, s), (True, s + 1)]),
}


@pytest.mark.parametrize("form", STRUCTURES)
def test_results_come_back_in_every_structure(graph, form):
    x = sg.placeholder("x", ("n",))
    outputs = STRUCTURES[form](x * 2, sg.sum(x))
    value = np.array([1.0, 2.5, -1.0])
    expected = sg.function([x], outputs, backend="numpy")(value)
    assert_same(call_straight(sg.function([x], outputs), value), expected)


@pytest.mark.parametrize(
    ("structure", "give"),
    [
        (lambda a, b, c: a, lambda a, b, c: (a,)),
        (lambda a, b, c: [a, b, c], lambda a, b, c: (a, b, c)),
        (lambda a, b, c: {"a": a, "b": [b, c]}, lambda a, b, c: ({"b": (b, c), "a": a},)),
        (lambda a, b, c: [[a], {"b": {"c": c}, (1, 2): b}], lambda a, b, c: ([a], {(1, 2): b, "b": {"c": c}})),
        (lambda a, b, c: (Pair(a, b), [], c, {}), lambda a, b, c: ([a, b], [], c, {})),
    ],
)
def test_arguments_are_given_in_every_structure(graph, structure, give):
    a, b, c = sg.placeholder("a", ("n",)), sg.placeholder("b", ("n",), "float32"), sg.placeholder("c", (), "int64")
    values = np.array([1.0, 2.0]), np.array([3.0, 4.0], "float32"), np.int64(5)
    output = a * 2 if structure(a, b, c) is a else a * 2 + sg.astype(b, "float64") * sg.astype(c, "float64")
    arguments = give(*values)
    expected = sg.function(structure(a, b, c), output, backend="numpy")(*arguments)
    assert_same(call_straight(sg.function(structure(a, b, c), output), *arguments), expected)


def test_results_have_the_types_of_the_outputs(graph):
    x, k, b = sg.placeholder("x"), sg.placeholder("k", (), "int32"), sg.placeholder("b", (), "bool")
    v = sg.placeholder("v", ("n",), "float32")
    f = sg.function([x, k, b, v], [x + 1, k + 1, sg.logical_not(b), sg.sum(v), v.shape[0], v * 2])
    got = call_straight(f, np.float64(1), np.int32(2), np.bool_(True), np.ones(3, "float32"))
    assert [type(result) for result in got[:5]] == [np.float64, np.int32, np.bool_, np.float32, np.int64]
    assert got[:5] == [2.0, 3, False, 3.0, 3]
    assert got[5].dtype == np.float32


def test_a_python_float_is_an_ordinary_number(graph):
    x = sg.placeholder("x")
    got = call_straight(sg.function([x], [x, x * x]), 3.0)
    assert got == [3.0, 9.0]
    assert [type(result) for result in got] == [np.float64, np.float64]


def test_results_alias_neither_arguments_nor_each_other(graph):
    x, unused, c = sg.placeholder("x", (3,)), sg.placeholder("u", (2,)), sg.constant([1.0, 2.0, 3.0])
    doubled = x * 2
    f = sg.function([unused, x], [unused, x, x, doubled, doubled, c, c, sg.sum(x), sg.sum(x)])
    values = np.array([7.0, 8.0]), np.array([0.0, 1.0, 2.0])
    results = call_straight(f, *values)
    expected = [values[0], values[1], values[1], values[1] * 2, values[1] * 2, [1, 2, 3], [1, 2, 3], 3.0, 3.0]
    for result, correct in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, correct)
    held = [*values, *results[:7], *call_straight(f, *values)[:7]]
    for i, left in enumerate(held):
        for right in held[i + 1 :]:
            assert not np.shares_memory(left, right)


def unusual_arrays():
    base = np.arange(12.0)
    locked = base[:4].copy()
    locked.flags.writeable = False
    return {
        "list": [1.0, 2.0, 3.0],
        "strided": base[::3],
        "reversed": base[::-1],
        "read-only": locked,
        "float32": base.astype("float32"),
        "integers": np.arange(4),
        "big-endian": base.astype(">f8"),
        "unaligned": np.frombuffer(b"\0" + base.tobytes(), "float64", 5, offset=1),
        "subclass": base.view(np.recarray),
        "empty": np.empty(0),
    }


@pytest.mark.parametrize("kind", unusual_arrays())
def test_unusual_arguments_go_the_general_way(graph, kind):
    x = sg.placeholder("x", ("n",))
    f = sg.function([x], [sg.sum(x), x + 1])
    f(np.ones(2))
    value = unusual_arrays()[kind]
    expected = np.asarray(value, "float64")
    total, more = f(value)
    assert total == pytest.approx(expected.sum(), rel=1e-15)
    np.testing.assert_array_equal(more, expected + 1)


WRONG = {
    "more precise": lambda x, w, rate: (x, w.astype("longdouble"), rate),
    "complex": lambda x, w, rate: (x * 1j, w, rate),
    "rank": lambda x, w, rate: (x[0], w, rate),
    "fixed size": lambda x, w, rate: (np.ones((2, 5)), w, rate),
    "one size twice": lambda x, w, rate: (x, np.ones(7), rate),
    "too small": lambda x, w, rate: (np.ones((0, 3)), np.ones(0), rate),
    "array for a number": lambda x, w, rate: (x, w, w),
    "None": lambda x, w, rate: (x, w, None),
    "out of bounds": lambda x, w, rate: (x, w, np.int64(9)),
    "too many": lambda x, w, rate: (x, w, rate, rate),
    "too few": lambda x, w, rate: (x, w),
    "text": lambda x, w, rate: ("text", w, rate),
}


@pytest.mark.parametrize("what", WRONG)
def test_errors_are_those_of_the_general_way(graph, what):
    x, w, k = sg.placeholder("x", ("n", 3)), sg.placeholder("w", ("n",)), sg.placeholder("k", (), "int64")
    good = np.ones((2, 3)), np.ones(2), np.int64(1)
    outputs = [sg.sum(x[1:], axis=0), w[k]]
    fresh, used = sg.function([x, w, k], outputs), sg.function([x, w, k], outputs)
    call_straight(used, *good)
    with pytest.raises((sg.CallError, IndexError)) as expected:
        fresh(*WRONG[what](*good))
    with pytest.raises(type(expected.value)) as got:
        used(*WRONG[what](*good))
    assert str(got.value) == str(expected.value)
    assert used(*good)[1] == 1.0


def test_errors_keep_no_array(graph):
    x, k, v = sg.placeholder("x", ("n", "n")), sg.placeholder("k", (), "int64"), sg.variable(np.ones(3))
    outputs = [sg.cholesky(x), x[k], v + 1]
    f = sg.function([x, k], outputs)
    identity = np.eye(3)
    call_straight(f, identity, np.int64(0))
    for value, error in [(identity, IndexError), (-identity, np.linalg.LinAlgError)]:
        held = [value, *f.session.values.read([v])]
        before = [sys.getrefcount(array) for array in held]
        for _ in range(3):
            with pytest.raises(error):
                f(value, np.int64(9))
        gc.collect()
        assert [sys.getrefcount(array) for array in held] == before


@pytest.mark.parametrize(
    "wrong",
    [{"w": 1.0}, {"w": 1.0, "b": 2.0, "c": 3.0}, {"w": 1.0, "c": 2.0}, [1.0, 2.0], None, {"w": 1.0, "b": [1.0]}],
)
def test_wrong_structures_are_refused_as_before(graph, wrong):
    w, b = sg.placeholder("w"), sg.placeholder("b")
    fresh, used = sg.function([{"w": w, "b": b}], w + b), sg.function([{"w": w, "b": b}], w + b)
    assert call_straight(used, {"b": 1.0, "w": 2.0}) == 3.0
    with pytest.raises(sg.CallError) as expected:
        fresh(wrong)
    with pytest.raises(sg.CallError) as got:
        used(wrong)
    assert str(got.value) == str(expected.value)


def test_arguments_by_name_follow_arguments_by_position(graph):
    x, y = sg.placeholder("x"), sg.placeholder("y")
    f = sg.function([x, y], x - y)
    assert call_straight(f, 5.0, 2.0) == f(5.0, y=2.0) == f(y=2.0, x=5.0) == 3.0
    with pytest.raises(sg.ArgumentError, match="given twice"):
        f(5.0, 2.0, x=1.0)


@pytest.mark.parametrize(
    "size", ["n", "type", "code", "general", "call", "ndarray", "float64", "x", "x_1", "r0", "len"]
)
def test_sizes_may_have_any_name(graph, size):
    x, y = sg.placeholder("x", (size, "m")), sg.placeholder("y", (f"2*{size}+1",))
    value = np.ones((2, 3)), np.arange(5.0)
    f = sg.function([x, y], [sg.sum(x[1:]), sg.sum(y), x.shape[0]])
    assert call_straight(f, *value) == [3.0, 10.0, 2]
    with pytest.raises(sg.SizeError, match="y axis 0"):
        f(value[0], np.ones(4))


@pytest.mark.parametrize("label", ["code", "general", "dict", "float64_dtype", "lambda", "not a name", "r0", "n"])
def test_arguments_may_have_any_name(graph, label):
    x, y = sg.placeholder(label, ("n",)), sg.placeholder("y")
    assert call_straight(sg.function([{"k": [x]}, y], sg.sum(x) + y), {"k": [np.ones(3)]}, 1.0) == 4.0


def test_a_size_that_is_no_axis_by_itself_is_solved_in_general(graph):
    x = sg.placeholder("x", ("2*n",))
    f = sg.function([x], sg.sum(x) / x.shape[0])
    for count in (2, 4, 4, 6):
        assert f(np.ones(count)) == 1.0
    with pytest.raises(sg.SizeError, match="x axis 0"):
        f(np.ones(3))


def test_constants_of_the_program_come_along(graph):
    x, table = sg.placeholder("x", ("n",), "int64"), sg.constant(np.arange(100.0) ** 2)
    np.testing.assert_array_equal(call_straight(sg.function(x, table[x]), np.array([3, -1])), [9.0, 99.0**2])


def test_variables_are_read_and_written_at_every_call(graph):
    x, v = sg.placeholder("x", (2,)), sg.variable([1.0, 2.0], name="v")
    session = sg.Session(graph)
    read = sg.function([x], [x * v, v], session=session)
    step = sg.function([x], sg.sum(v), updates={v: v + x}, session=session)
    one = np.ones(2)
    for k in range(4):
        product, value = read(one)
        np.testing.assert_array_equal(product, [1.0 + k, 2.0 + k])
        value[:] = -1
        assert step(one) == 3.0 + 2 * k
    session.assign(v, [0.0, 0.0])
    np.testing.assert_array_equal(read(one)[0], [0.0, 0.0])


def test_many_threads_may_call(graph):
    x = sg.placeholder("x", ("n",))
    f = sg.function([x], [sg.sum(x), x * 2])
    wrong = []

    def work(k):
        value = np.full(k + 1, float(k))
        for _ in range(200):
            total, doubled = f(value)
            if total != k * (k + 1) or not np.array_equal(doubled, value * 2):
                wrong.append((k, total, doubled))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_first_call_may_fail(graph):
    x = sg.placeholder("x", ("n",))
    f = sg.function(x, sg.sum(x))
    with pytest.raises(sg.ArgumentError):
        f("text")
    assert call_straight(f, np.ones(3)) == 3.0


# Sessions


def test_a_session_remembers_what_is_fetched_in_each_structure(graph):
    x, y = sg.placeholder("x", ("n",)), sg.placeholder("y", ("n",))
    session = sg.Session(graph)
    value = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    difference = y - x
    for _ in range(3):
        assert_same(session.run(difference, {x: value[0], y: value[1]}), value[1] - value[0])
        assert_same(session.run([difference], {"x": value[0], y: value[1]}), [value[1] - value[0]])
        assert_same(session.run({"d": (difference, "x")}, {y: value[1], x: value[0]})["d"][1], value[0])
        assert_same(session.run((difference,), {x: value[1], y: value[0]}), (value[0] - value[1],))
    assert session.run(difference, {x: [1.0], y: [1]}) == [0.0]


def test_a_callable_of_a_closed_session_refuses(graph):
    x = sg.placeholder("x")
    session = sg.Session(graph)
    square = session.make_callable(x * x, [x])
    assert [square(3.0), square(3.0)] == [9.0, 9.0]
    assert [session.run(x * x, {x: 3.0}), session.run(x * x, {x: 3.0})] == [9.0, 9.0]
    session.close()
    with pytest.raises(sg.CallError, match="closed"):
        square(3.0)
    with pytest.raises(sg.CallError, match="closed"):
        session.run(x * x, {x: 3.0})


def test_feeds_are_a_dict(graph):
    x = sg.placeholder("x")
    with pytest.raises(sg.ArgumentError, match="feed_dict is a dict"):
        sg.Session(graph, backend="numpy").run(x, [(x, 1.0)])
