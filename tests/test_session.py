"""A session: values of variables, fetches and feeds, programs kept between runs."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import symgraph as sg
from symgraph.runtime.session import _REMEMBERED_PROGRAMS, default_session


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    return request.param


@pytest.fixture
def graph():
    with sg.Graph() as graph:
        yield graph


@pytest.fixture
def counted(monkeypatch):
    """Count the programs that are built."""
    built = []
    build = sg.Session._build

    def build_and_count(self, *args):
        built.append(args)
        return build(self, *args)

    monkeypatch.setattr(sg.Session, "_build", build_and_count)
    return built


def test_fetches_come_back_in_their_structure(backend, graph):
    x, w = sg.placeholder("x", (2,)), sg.variable([1.0, 2.0], name="w")
    y = x * w
    session = sg.Session(graph, backend=backend)
    got = session.run({"y": [y, (y, "w")], "x": "x", "none": []}, {"x": [3.0, 4.0]})
    np.testing.assert_array_equal(got["y"][0], [3.0, 8.0])
    assert isinstance(got["y"][1], tuple)
    np.testing.assert_array_equal(got["y"][1][1], [1.0, 2.0])
    np.testing.assert_array_equal(got["x"], [3.0, 4.0])
    assert got["none"] == []
    assert isinstance(session.run(sg.sum(y), {x: [3.0, 4.0]}), np.float64)


def test_any_node_may_be_fed_and_only_what_is_needed_runs(backend, graph):
    x = sg.placeholder("x", ("n",))
    hidden = sg.exp(x)
    session = sg.Session(graph, backend=backend)
    assert session.run(sg.sum(hidden), {hidden: [1.0, 2.0]}) == 3.0
    np.testing.assert_array_equal(session.run([hidden, hidden + 1], {hidden: [1.0]})[1], [2.0])
    other = sg.placeholder("other", ("m",))
    assert session.run(sg.sum(x), {x: [1.0], other: [1.0, 2.0]}) == 1.0


def test_each_node_runs_once_and_unneeded_ones_never(graph):
    calls = []

    def seen(name, value):
        calls.append(name)
        return value

    def forward(name):
        def run(x):
            return seen(name, np.asarray(x))

        return run

    operations = {
        name: sg.custom_op(f"counted_{name}", forward(name), type_rule=lambda x: x) for name in ("shared", "unneeded")
    }
    x = sg.placeholder("x", (2,))
    shared, unneeded = operations["shared"](x), operations["unneeded"](x)
    session = sg.Session(graph, backend="numpy")
    session.run([shared + 1, shared * 2, [shared]], {x: [1.0, 2.0]})
    assert calls == ["shared"]
    session.run(unneeded + shared, {x: [1.0, 2.0], shared: [0.0, 0.0]})
    assert calls == ["shared", "unneeded"]


def test_a_fed_variable_holds_for_that_run_only(backend, graph):
    v = sg.variable(2.0, name="v")
    session = sg.Session(graph, backend=backend)
    assert session.run(v * v, {v: 5.0}) == 25.0
    assert session.run(v * v) == 4.0
    assert session.run([v, v * 1], {"v": 3.0}) == [3.0, 3.0]


def test_values_are_copies_and_sessions_are_separate(backend, graph):
    v = sg.variable([1.0, 2.0], name="v")
    first, second = sg.Session(graph, backend=backend), sg.Session(graph, backend=backend)
    given = np.array([3.0, 4.0])
    first.assign("v", given)
    given[:] = 0
    first.value(v)[:] = 0
    first.run(v)[:] = 0
    first["v"][:] = 0
    np.testing.assert_array_equal(first[v], [3.0, 4.0])
    np.testing.assert_array_equal(second[v], [1.0, 2.0])


def test_variables_declared_after_the_session_opened_are_found(backend, graph):
    session = sg.Session(graph, backend=backend)
    late = sg.variable(7, name="late")
    assert session.run(late + 1) == 8
    assert isinstance(session.value("late"), np.int64)


def test_assign_checks_the_value(graph):
    v = sg.variable([1.0, 2.0], name="v")
    session = sg.Session(graph, backend="numpy")
    with pytest.raises(sg.SizeError, match=r"v axis 0: expected 2, got 3"):
        session.assign(v, [1.0, 2.0, 3.0])
    with pytest.raises(sg.ArgumentError, match="complex128"):
        session.assign(v, [1j, 2j])
    for wrong in ("w", sg.placeholder("x"), 3):
        with pytest.raises(sg.ArgumentError, match="is not a variable"):
            session.assign(wrong, 1.0)
        with pytest.raises(sg.ArgumentError, match="is not a variable"):
            session.value(wrong)
    np.testing.assert_array_equal(session.value(v), [1.0, 2.0])


def test_programs_are_kept_between_runs(counted, graph):
    x, y = sg.placeholder("x"), sg.placeholder("y")
    session = sg.Session(graph, backend="numpy")
    for k in range(3):
        assert session.run([x + y, x], {x: k, y: 1}) == [k + 1, k]
    assert session.run([x + y, x], {y: 1, "x": 5}) == [6, 5]
    assert len(counted) == 1
    session.run(x, {x: 1})
    assert len(counted) == 2


def test_only_so_many_programs_are_kept(counted, graph):
    x = sg.placeholder("x")
    session = sg.Session(graph, backend="numpy")
    for k in range(1, _REMEMBERED_PROGRAMS + 6):
        session.run(x + k, {x: 1.0})
        session.run(x, {x: 1.0})
    assert len(session._runs) == _REMEMBERED_PROGRAMS
    built = len(counted)
    assert built == _REMEMBERED_PROGRAMS + 6
    session.run(x, {x: 1.0})
    assert len(counted) == built


def test_a_callable_takes_the_feeds_in_order(backend, counted, graph):
    x, y = sg.placeholder("x"), sg.placeholder("y")
    session = sg.Session(graph, backend=backend)
    subtract = session.make_callable({"d": x - y}, [y, "x"])
    assert subtract(1.0, 5.0) == {"d": 4.0}
    assert subtract(5.0, 1.0) == {"d": -4.0}
    assert len(counted) == 1
    with pytest.raises(sg.ArgumentError, match="2 values are expected, got 1"):
        subtract(1.0)
    with pytest.raises(sg.ArgumentError, match="y: expected a float64 number"):
        subtract("a", 1.0)


def test_the_open_session_is_the_default_one_and_closes(graph):
    v = sg.variable(1.0)
    own = default_session(graph)
    other = sg.Graph()
    with sg.Session(graph) as outer, sg.Session(other), sg.Session(graph) as inner:
        assert default_session(graph) is inner
        inner.close()
        assert outer.value(v) == 1.0
    assert default_session(graph) is own
    with pytest.raises(sg.CallError, match="closed"):
        outer.run(v)
    with pytest.raises(sg.CallError, match="closed"):
        outer.value(v)
    with pytest.raises(sg.CallError, match="closed"):
        outer.assign(v, 2.0)
    with pytest.raises(sg.CallError, match="closed"), outer:
        pass


def test_an_open_session_declares_into_its_graph():
    graph = sg.Graph()
    with sg.Session(graph, backend="numpy") as session:
        x = sg.placeholder("x")
        assert session.run(x, {x: 2.0}) == 2.0
    assert list(graph.placeholders) == ["x"]
    assert sg.default_graph() is not graph


def test_a_callable_of_a_closed_session_is_refused(graph):
    x = sg.placeholder("x")
    with sg.Session(graph, backend="numpy") as session:
        double = session.make_callable(x * 2, [x])
        assert double(1.0) == 2.0
    with pytest.raises(sg.CallError, match="closed"):
        double(1.0)


def test_a_graph_and_its_own_session_are_freed_together():
    graph = sg.Graph()
    with graph:
        v = sg.variable(np.zeros(10))
        f = sg.function([], v + 1, updates={v: v * 2}, backend="numpy")
    f()
    freed = weakref.ref(graph)
    del graph, v, f
    gc.collect()
    assert freed() is None


def test_updates_from_many_threads_are_not_lost(backend, graph):
    v = sg.variable(0, name="v")
    step = sg.train.TrainOperation("count", {v: v + 1})
    session = sg.Session(graph, backend=backend)
    threads = [threading.Thread(target=lambda: [session.run([step, v]) for _ in range(50)]) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert session.value(v) == 250


def test_what_cannot_be_run_is_refused_with_its_reason(backend, graph):
    x, w = sg.placeholder("x", ("n",)), sg.placeholder("w", ("n",))
    v = sg.variable(0.0, name="v")
    y = sg.sum(x * w)
    session = sg.Session(graph, backend=backend)
    with sg.Graph():
        foreign = sg.placeholder("foreign")
    refusals = [
        (
            lambda: session.run(y, {x: [1.0]}),
            sg.ArgumentError,
            r"no value is fed for <placeholder w.*sum.*declared at .*test_session.py:\d+",
        ),
        (lambda: session.run(x), sg.ArgumentError, r"no value is fed for <placeholder x"),
        (lambda: session.run("q"), sg.ArgumentError, "no node of the graph is named 'q'"),
        (lambda: session.run(v, {"q": 1.0}), sg.ArgumentError, "no node of the graph is named 'q'"),
        (lambda: session.run(None), sg.ArgumentError, "not None"),
        (lambda: session.run([v, 3.0]), sg.ArgumentError, "not 3.0"),
        (lambda: session.run(v, {3: 1.0}), sg.ArgumentError, "not 3"),
        (lambda: session.run(x, {x: [1.0], "x": [2.0]}), sg.ArgumentError, "fed twice"),
        (lambda: session.run(v, {sg.constant(2.0): 1.0}), sg.ArgumentError, "is a constant"),
        (lambda: session.run(foreign), sg.GraphError, "another graph"),
        (lambda: session.run(v, {foreign: 1.0}), sg.GraphError, "another graph"),
        (
            lambda: session.run(y, {x: [1.0], w: [1.0, 2.0]}),
            sg.SizeError,
            r"w axis 0: expected n = 1 \(n = x axis 0\), got 2",
        ),
        (lambda: session.run(y, {x: [1.0], w: None}), sg.ArgumentError, "w: expected a float64 array"),
        (lambda: sg.Session(graph, backend="cuda"), sg.DeclarationError, "'numba' or 'numpy', not 'cuda'"),
        (lambda: sg.Session(3), sg.DeclarationError, "a graph is expected, not 3"),
    ]
    for call, error, message in refusals:
        with pytest.raises(error, match=message):
            call()


def test_two_operations_may_not_update_one_variable_differently(graph):
    v = sg.variable(0.0, name="v")
    up, down = sg.train.TrainOperation("up", {v: v + 1}), sg.train.TrainOperation("down", {v: v - 1})
    session = sg.Session(graph, backend="numpy")
    with pytest.raises(sg.ArgumentError, match=r"v.*is updated twice.*<down of v>"):
        session.run([up, down])
    assert session.run([up, up, v]) == [None, None, 0.0]
    assert session.value(v) == 1.0
