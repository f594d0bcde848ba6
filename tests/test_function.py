"""A compiled function: structure of inputs and outputs, updates, what it promises about memory and threads."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from collections import namedtuple

import numpy as np
import pytest

import symgraph as sg

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    return request.param


@pytest.fixture
def graph():
    with sg.Graph() as graph:
        yield graph


def test_results_come_back_in_the_structure_of_the_outputs(backend, graph):
    x = sg.placeholder("x", ("n",))
    pair = namedtuple("pair", "left right")
    f = sg.function([x], {"a": [x + 1, (sg.sum(x), None)], "b": pair(2, np.array([1, 2])), "c": []}, backend=backend)
    got = f([1.0, 2.0])
    assert list(got) == ["a", "b", "c"]
    np.testing.assert_array_equal(got["a"][0], [2.0, 3.0])
    assert got["a"][1] == (3.0, None)
    assert isinstance(got["a"][1], tuple)
    assert isinstance(got["a"][1][0], np.float64)
    assert type(got["b"]) is pair
    assert got["b"].left == 2
    np.testing.assert_array_equal(got["b"].right, [1, 2])
    assert got["c"] == []


@pytest.mark.parametrize(("outputs", "expected"), [(None, None), ([], []), ((), ()), ({}, {}), ([None], [None])])
def test_outputs_may_be_empty(backend, graph, outputs, expected):
    x = sg.placeholder("x")
    got = sg.function([x], outputs, backend=backend)(1.0)
    assert got == expected
    assert type(got) is type(expected)


def test_a_size_is_an_output(backend, graph):
    x = sg.placeholder("x", ("n", 3))
    got = sg.function(x, x.shape, backend=backend)(np.zeros((5, 3)))
    assert got == (5, 3)
    assert all(isinstance(size, np.int64) for size in got)


def test_arguments_by_position_and_by_name_agree(backend, graph):
    x, w, b = sg.placeholder("x", (2,)), sg.placeholder("w", (2,)), sg.placeholder("b")
    f = sg.function([x, {"weight": w, "rest": [b]}], sg.sum(x * w) + b, backend=backend)
    expected = 1.0 * 3 + 2.0 * 4 + 5
    assert f([1, 2], {"weight": [3, 4], "rest": [5]}) == expected
    assert f([1, 2], {"rest": (5,), "weight": [3, 4]}) == expected
    assert f(b=5, x=[1, 2], w=[3, 4]) == expected
    assert f([1, 2], w=[3, 4], b=5) == expected


def test_a_single_node_and_a_dict_are_inputs_too(backend, graph):
    x, y = sg.placeholder("x"), sg.placeholder("y")
    assert sg.function(x, x * 2, backend=backend)(4) == 8.0
    f = sg.function({"left": x, "right": y}, x - y, backend=backend)
    assert f({"right": 1, "left": 4}) == 3.0
    assert f(left=4, right=1) == 3.0
    assert f(x=4, y=1) == 3.0


def test_an_intermediate_node_is_an_input(backend, graph):
    x = sg.placeholder("x", ("n",))
    hidden = sg.exp(x)
    f = sg.function([hidden], sg.sum(hidden * hidden), backend=backend)
    assert f([1.0, 3.0]) == 10.0
    with pytest.raises(sg.ArgumentError, match=r"inputs\[0\]"):
        f(1j)


def test_one_function_serves_every_size(backend, graph):
    x = sg.placeholder("x", ("n", "m"))
    f = sg.function([x], sg.sum(x, axis=0), backend=backend)
    for shape in [(2, 3), (0, 3), (4, 0), (1, 1)]:
        value = np.arange(float(np.prod(shape))).reshape(shape)
        np.testing.assert_array_equal(f(value), value.sum(axis=0))


def test_results_alias_neither_arguments_nor_each_other(backend, graph):
    x = sg.placeholder("x", (3,))
    c = sg.constant([1.0, 2.0, 3.0])
    outputs = [x, x, x + 0, x[::1], sg.exp(x), sg.exp(x), c, c, x.reshape((3, 1)), sg.broadcast_to(x, (2, 3))]
    f = sg.function([x], outputs, backend=backend)
    value = np.array([0.0, 1.0, 2.0])
    results = f(value)
    held = [value, *results, *f(value)]
    for i, left in enumerate(held):
        for right in held[i + 1 :]:
            assert not np.shares_memory(left, right)
    for result in results:
        result[...] = -1
    np.testing.assert_array_equal(value, [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(f(value)[6], [1.0, 2.0, 3.0])


def test_arguments_are_never_written(backend, graph):
    x = sg.placeholder("x", ("n",))
    f = sg.function([x], [x.at[0].set(7.0), x * 2, sg.concat([x, x])], backend=backend)
    value = np.array([1.0, 2.0])
    f(value)
    np.testing.assert_array_equal(value, [1.0, 2.0])


def test_updates_are_computed_from_the_values_before_the_call(backend, graph):
    x = sg.placeholder("x")
    a, b = sg.variable(1.0, name="a"), sg.variable(10.0, name="b")
    session = sg.Session(graph, backend=backend)
    f = sg.function([x], [a + b, a], updates={a: b + x, b: a}, backend=backend, session=session)
    assert f(5.0) == [11.0, 1.0]
    assert (session.value(a), session.value(b)) == (15.0, 1.0)
    assert f(0.0) == [16.0, 15.0]
    assert (session.value(a), session.value(b)) == (1.0, 15.0)


def test_a_variable_written_from_an_argument_does_not_follow_it(backend, graph):
    x, v = sg.placeholder("x", (2,)), sg.variable([0.0, 0.0])
    session = sg.Session(graph, backend=backend)
    f = sg.function([x], v, updates={v: x}, backend=backend, session=session)
    value = np.array([1.0, 2.0])
    f(value)
    value[:] = 9
    f(value)[:] = 8
    np.testing.assert_array_equal(session.value(v), [9.0, 9.0])
    f(np.zeros(2))[:] = 7
    np.testing.assert_array_equal(session.value(v), [0.0, 0.0])


def test_an_update_may_be_a_number_and_an_output_as_well(backend, graph):
    v, w = sg.variable([1.0, 2.0]), sg.variable(3.0)
    session = sg.Session(graph, backend=backend)
    doubled = v * 2
    f = sg.function([], [doubled], updates={v: doubled, w: 0}, backend=backend, session=session)
    (result,) = f()
    result[:] = 5
    np.testing.assert_array_equal(session.value(v), [2.0, 4.0])
    assert session.value(w) == 0.0


def test_a_variable_among_the_inputs_is_given_for_the_call(backend, graph):
    v = sg.variable(2.0, name="v")
    session = sg.Session(graph, backend=backend)
    f = sg.function([v], v * v, backend=backend, session=session)
    assert f(5.0) == f(v=5.0) == 25.0
    assert session.value(v) == 2.0


def test_functions_without_a_session_share_the_graphs_own(backend, graph):
    v = sg.variable(1.0)
    count = sg.function([], None, updates={v: v + 1}, backend=backend)
    read = sg.function([], v, backend=backend)
    count()
    count()
    assert read() == 3.0
    with sg.Session(graph) as session:
        inside = sg.function([], v, backend=backend)
        assert inside.session is session
        assert inside() == 1.0
    assert read.session is not session
    assert sg.function([], sg.constant(1.0), backend=backend).session is None


def test_a_failed_call_changes_nothing(backend, graph):
    x, v = sg.placeholder("x", ("n",)), sg.variable([1.0, 2.0])
    session = sg.Session(graph, backend=backend)
    f = sg.function([x], sg.sum(x), updates={v: v + 1}, backend=backend, session=session)
    with pytest.raises(sg.ArgumentError):
        f("text")
    np.testing.assert_array_equal(session.value(v), [1.0, 2.0])


def test_many_threads_may_call(backend, graph):
    x, v = sg.placeholder("x", ("n",)), sg.variable(0)
    session = sg.Session(graph, backend=backend)
    f = sg.function([x], sg.sum(x), updates={v: v + 1}, backend=backend, session=session)
    results: list[tuple[float, float]] = []

    def work(k):
        results.extend((f(np.full(50, float(k))), 50.0 * k) for _ in range(40))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 240
    assert all(got == expected for got, expected in results)
    assert session.value(v) == 240


def test_a_function_says_what_it_is(graph):
    x, w = sg.placeholder("X", ("n", "d")), sg.placeholder("w", ("d",), "float32")
    f = sg.function([x, [w]], {"y": sg.sum(x)}, name="loss", backend="numpy")
    assert repr(f) == "<function loss(X: float64[n,d], w: float32[d]) -> {'y': float64[]}>"
    assert f.name == f.__name__ == "loss"
    assert f.inputs == [x, [w]]
    assert str(inspect.signature(f)) == "(X, argument_2)"


def test_the_source_of_the_interpreter_lists_the_operations(graph):
    x = sg.placeholder("x", ("n",))
    f = sg.function([x], sg.sum(sg.exp(x) * x), name="loss", backend="numpy")
    assert f.source.splitlines() == [
        "loss(x):",
        "    v0 = exp(x)  # float64[n]",
        "    v1 = multiply(v0, x)  # float64[n]",
        "    v2 = sum(v1, (0,), False)  # float64[]",
        "    return v2",
    ]


def test_the_emitted_source_is_python(graph):
    x = sg.placeholder("x", ("n",))
    f = sg.function([x], sg.sum(x * x), name="loss")
    compile(f.source, "loss", "exec")
    assert "loss" in f.source
    assert "x" in f.loops


def test_formulas_are_made_once_when_they_are_read(graph, monkeypatch):
    shown = []
    monkeypatch.setattr("symgraph.compile.pipeline.show", lambda program: f"{shown.append(program)}")
    x = sg.placeholder("x", ("n",))
    f = sg.function([x], sg.sum(x * x))
    f(np.ones(3))
    assert not shown
    assert f.loops == f.loops == "None"
    assert len(shown) == 1


def test_the_numpy_backend_does_not_import_numba():
    program = (
        "import sys, symgraph as sg\n"
        "x = sg.placeholder('x')\n"
        "assert sg.function([x], x * x, backend='numpy')(3.0) == 9.0\n"
        "assert sg.Session(backend='numpy').run(x, {x: 2.0}) == 2.0\n"
        "print([name for name in ('numba', 'sympy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_trace_and_function_meet(backend):
    def loss(X, parameters, *targets):
        return {"mean": ((X @ parameters["w"] + parameters["b"] - targets[0]) ** 2).mean(), "one": 1}

    inputs, outputs = sg.trace(loss, sg.spec(("n", 3)), {"w": sg.spec(3), "b": sg.spec(name="bias")}, sg.spec("n"))
    f = sg.function(inputs, outputs, backend=backend)
    rng = np.random.default_rng(0)
    X, w, y = rng.normal(size=(4, 3)), rng.normal(size=3), rng.normal(size=4)
    expected = np.mean((X @ w + 0.5 - y) ** 2)
    assert f(X, {"w": w, "b": 0.5}, y)["mean"] == pytest.approx(expected, rel=1e-14)
    assert f(X, parameters_w=w, bias=0.5, targets_0=y)["one"] == 1


def test_trace_of_a_numpy_function(backend):
    inputs, output = sg.trace(np.sin, sg.spec("n", "float32"))
    result = sg.function(inputs, output, backend=backend)(np.array([1.0], "float32"))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, np.sin(np.float32(1.0)), rtol=1e-6)


def test_trace_in_a_graph_may_use_its_nodes(graph):
    w = sg.variable(3.0)
    inputs, output = sg.trace(lambda x: w * x, sg.spec(), graph=graph)
    assert sg.function(inputs, output, backend="numpy")(2.0) == 6.0


def test_trace_of_a_matrix_is_the_sum_of_its_diagonal(graph):
    x = sg.placeholder("x", (3, 3))
    value = np.arange(9.0).reshape(3, 3)
    assert sg.function([x], sg.trace(x), backend="numpy")(value) == np.trace(value)
    assert sg.function([x], sg.trace(x, offset=1), backend="numpy")(value) == np.trace(value, offset=1)
