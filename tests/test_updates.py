"""Variables are updated in place where nobody can tell, and change together or not at all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.compile import native, pipeline
from symgraph.compile.emit import emit
from symgraph.compile.inplace import place_updates
from symgraph.compile.loops import Affine, Allocate, Axis, Buffer, Free, Let, Literal, Load, Loop, Name, Program, Store
from symgraph.compile.show import listing, show
from symgraph.dims import dim
from symgraph.interpret import sizes_from
from symgraph.runtime.values import Values
from tests.helpers.random_graphs import Feed, RandomGraph, feed_for, fits, sizes_around

DOUBLE = np.dtype("float64")
Updates = Mapping[sg.Expr, Any]
EXHAUSTIVE = os.environ.get("SYMGRAPH_EXHAUSTIVE") == "1"
THREADS = (1, 2, 5)
SIZES = (0, 1, 15, 16, 17, 31, 33, 1000)


@pytest.fixture
def graph():
    with sg.Graph() as graph:
        yield graph


def variable(name: str, *shape: int, dtype: str = "float64") -> sg.Expr:
    source = np.random.default_rng(len(name))
    return sg.variable(source.normal(size=shape).astype(dtype), name=name)


def placed(f: sg.Function) -> set[str]:
    """Return the names of the variables that a function updates in place."""
    computation = f._computation
    return {computation._program_inputs[i].attrs[0] for i in computation.program.in_place.values()}


# What each of these updates, and which of them in place.


def descent(x: sg.Expr) -> tuple[Any, Updates]:
    w = variable("w", 7)
    loss = sg.mean((x @ w - 1) ** 2) + 0.1 * sg.sum(w * w)
    return loss, {w: w - 0.1 * sg.grad(loss, w)}


def adam(x: sg.Expr) -> tuple[Any, Updates]:
    w = variable("w", 7)
    loss = sg.mean((x @ w - 1) ** 2)
    return loss, sg.train.Adam(0.1).minimize(loss).updates


def norm(x: sg.Expr) -> tuple[Any, Updates]:
    v, W = variable("v", 19), variable("W", 19, 7)
    return None, {v: v / sg.sqrt(v @ v), W: W - sg.mean(W, axis=0) + sg.sum(x, axis=0)}


def rows(x: sg.Expr) -> tuple[Any, Updates]:
    W = variable("W", 33, 7)
    return None, {W: W / sg.sum(W * W, axis=1, keepdims=True)}


def softmax(x: sg.Expr) -> tuple[Any, Updates]:
    W = variable("W", 33, 40, dtype="float32")
    return None, {W: sg.softmax(W, axis=1)}


def one_from_the_other(x: sg.Expr) -> tuple[Any, Updates]:
    a, b = variable("a", 33), variable("bb", 33)
    return sg.sum(a * b), {a: b * 2, b: a * 3}


def each_from_both(x: sg.Expr) -> tuple[Any, Updates]:
    a, b = variable("a", 33), variable("bb", 33)
    return None, {a: a + b, b: a - b}


def read_again(x: sg.Expr) -> tuple[Any, Updates]:
    w, c = variable("w", 7), variable("c", 40, 7)
    return [sg.sum(sg.exp(x * w)), c @ w], {w: w * 0.5}


def new_value_used(x: sg.Expr) -> tuple[Any, Updates]:
    w = variable("w", 7)
    new = sg.tanh(w + 1)
    return [x @ new, sg.max(new)], {w: new}


def old_value_fetched(x: sg.Expr) -> tuple[Any, Updates]:
    w, c = variable("w", 7), variable("c", 7)
    return [w, sg.sum(w), c], {w: w + 1, c: w}


def behind_what_may_fail(x: sg.Expr) -> tuple[Any, Updates]:
    w = variable("w", 7)
    return [sg.cholesky(x.T @ x + 50 * sg.eye(7)), sg.cumulative_sum(x, axis=0)], {w: w + 1}


def shifted(x: sg.Expr) -> tuple[Any, Updates]:
    v = variable("v", 33)
    return None, {v: sg.concat([v[1:] - v[:-1], v[:1]])}


def reversed_(x: sg.Expr) -> tuple[Any, Updates]:
    v, u = variable("v", 33), variable("uu", 33)
    return None, {v: v[::-1] * 2, u: u + v}


def read_after_the_new_value(x: sg.Expr) -> tuple[Any, Updates]:
    W = variable("W", 33, 40)
    new = W / sg.sum(W * W, axis=1, keepdims=True)
    return sg.sum(W * sg.max(new, axis=1, keepdims=True)), {W: new}


def transposed(x: sg.Expr) -> tuple[Any, Updates]:
    W = variable("W", 17, 17)
    return None, {W: W + W.T}


def read_through_a_view(x: sg.Expr) -> tuple[Any, Updates]:
    W = variable("W", 12, 12)
    return None, {W: W + sg.sum(sg.reshape(W, (2, 72))[:, :1]) + sg.reshape(sg.reshape(W, (6, 24)) * 2, (12, 12))}


def multiplied(x: sg.Expr) -> tuple[Any, Updates]:
    A, v = variable("A", 33, 33), variable("vv", 33)
    return None, {v: A @ v, A: A * 0.5}


def gathered(x: sg.Expr) -> tuple[Any, Updates]:
    w, places = variable("w", 7), sg.variable([6, 0, 1, 2, 3, 4, 5], name="places")
    return None, {w: w + sg.square(w)[places]}


def scattered(x: sg.Expr) -> tuple[Any, Updates]:
    w, places = variable("w", 7), sg.variable([6, 0, 1, 2, 3, 4, 5], name="places")
    return None, {w: w.at[places].add(1.0)}


def integer_powers(x: sg.Expr) -> tuple[Any, Updates]:
    w = sg.variable(np.arange(1, 8), name="w")
    return None, {w: w ** (w % 3)}


def fetched_as_well(x: sg.Expr) -> tuple[Any, Updates]:
    w = variable("w", 7)
    return w + 1, {w: w + 1}


def only_given_values(x: sg.Expr) -> tuple[Any, Updates]:
    a, b, c = variable("a", 7), variable("bb", 7), variable("ccc", 7)
    return None, {a: b, b: a, c: c - 1}


def not_read(x: sg.Expr) -> tuple[Any, Updates]:
    w = variable("w", 7)
    return None, {w: sg.mean(x, axis=0)}


CASES: dict[Callable[[sg.Expr], tuple[Any, Updates]], set[str]] = {
    descent: {"w"},
    adam: {"w", "w/adam_mean", "w/adam_square"},
    norm: {"v", "W"},
    rows: {"W"},
    softmax: {"W"},
    one_from_the_other: {"a", "bb"},
    each_from_both: {"a", "bb"},
    read_again: {"w"},
    read_through_a_view: {"W"},
    new_value_used: {"w"},
    old_value_fetched: {"w"},
    behind_what_may_fail: {"w"},
    shifted: set(),
    reversed_: {"uu"},
    read_after_the_new_value: set(),
    transposed: set(),
    multiplied: {"A"},
    gathered: set(),
    scattered: set(),
    integer_powers: set(),
    fetched_as_well: set(),
    only_given_values: {"ccc"},
    not_read: set(),
}


def made(case: Callable[[sg.Expr], tuple[Any, Updates]], **how: Any) -> sg.Function:
    """Return the function of a case, in a graph of its own."""
    with sg.Graph() as graph:
        x = sg.placeholder("x", ("n", 7))
        outputs, updates = case(x)
        return sg.function([x], outputs, updates=updates, session=sg.Session(graph), **how)


def state(f: sg.Function) -> list[np.ndarray]:
    return [f.session.value(v) for v in f.session.graph.variables.values()]


def leaves(outputs: Any) -> list[Any]:
    return outputs if isinstance(outputs, list) else [] if outputs is None else [outputs]


@pytest.mark.parametrize("case", CASES)
def test_what_is_updated_in_place(case):
    assert placed(made(case)) == CASES[case]


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_updates_are_those_of_the_interpreter(case, fuse):
    reference = made(case, backend="numpy")
    functions = [made(case, options=sg.Options(threads=threads, fuse=fuse)) for threads in THREADS]
    for rows in (40, 1, 300):
        x = np.random.default_rng(rows).normal(size=(rows, 7))
        expected = [*leaves(reference(x)), *state(reference)]
        first, *others = [[*leaves(f(x)), *state(f)] for f in functions]
        for got, want in zip(first, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-5 if got.dtype == np.float32 else 1e-11, atol=1e-13)
        for other in others:
            for got, want in zip(other, first, strict=True):
                assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 31, 33, 1000])
def test_optimisers_at_sizes_around_the_lanes(graph, size):
    kinds = [sg.train.GradientDescent(0.1), sg.train.Momentum(0.1, 0.9, nesterov=True), sg.train.Adam(0.01)]
    g, updates = sg.placeholder("g", (size,)), {}
    for number, kind in enumerate(kinds):
        updates |= kind.apply_gradients([(g, variable("w" * (number + 1), size))]).updates
    options = [{"options": sg.Options(threads=threads)} for threads in THREADS]
    sessions = [sg.Session(graph) for _ in range(4)]
    reference, *functions = [
        sg.function([g], None, updates=updates, session=session, **how)
        for session, how in zip(sessions, [{"backend": "numpy"}, *options], strict=True)
    ]
    assert placed(functions[0]) == {v.attrs[0] for v in updates if v.ndim and size != 1}  # which needs no loop
    for step in range(4):
        gradient = np.random.default_rng(step).normal(size=size)
        for f in (reference, *functions):
            f(gradient)
        first = state(functions[0])
        for got, want in zip(first, state(reference), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-15)
        for other in functions[1:]:
            assert [value.tobytes() for value in state(other)] == [value.tobytes() for value in first]


def test_many_chunks_write_what_is_theirs(graph):
    size = 1_500_007
    g, w = sg.placeholder("g", (size,)), variable("w", size)
    updates = sg.train.Adam(0.01).apply_gradients([(g, w)]).updates
    gradient = np.random.default_rng(1).normal(size=size)
    found = []
    for threads in THREADS:
        session = sg.Session(graph)
        f = sg.function([g], None, updates=updates, session=session, options=sg.Options(threads=threads))
        for _ in range(3):
            f(gradient)
        found.append([value.tobytes() for value in state(f)])
    assert found[1:] == found[:1] * 2
    reference = sg.function([g], None, updates=updates, session=sg.Session(graph), backend="numpy")
    for _ in range(3):
        reference(gradient)
    np.testing.assert_allclose(session.value(w), reference.session.value(w), rtol=1e-13, atol=1e-15)


# Random programs


def news_of(graph: RandomGraph, outputs: list[sg.Expr]) -> dict[sg.Expr, sg.Expr]:
    """Return for each leaf with axes, where there is one, a node of its type as its new value."""
    news: dict[sg.Expr, sg.Expr] = {}
    for leaf in graph.leaves:
        made = [graph.pair(leaf) for _ in range(3)] if leaf.ndim else []
        fitting = [node for node in [*made, *graph.nodes, *outputs] if node is not None and node.type == leaf.type]
        new = graph.pick(fitting)
        if leaf.ndim and new not in graph.leaves and new not in news.values():
            news[leaf] = new
    return news


def run_plain(made: Program, feed: Feed) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the results of a program that runs as plain Python, or its error, and its arguments afterwards."""
    given = {leaf: np.array(value) for leaf, value in feed.items()}
    sizes = sizes_from(given)
    values = [value if value.ndim else value[()] for value in given.values()]
    constants = [np.array(value) for _, value in made.constants]
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            results = native.load_plain(emit(made)).kernel(*values, *constants, *[sizes[name] for name in made.sizes])
    except IndexError as error:
        results = str(error)
    return results, {leaf.attrs[0]: value for leaf, value in given.items()}


def as_bytes(results: Any) -> Any:
    return results if isinstance(results, str) else [np.asarray(result).tobytes() for result in results]


@pytest.mark.parametrize("fuse", [True, False])
def test_random_programs_compute_the_same_in_place(fuse):
    """Not one bit differs, at any size; what fails has changed nothing."""
    placed_ones = 0
    for seed in range(3000 if EXHAUSTIVE else 80):
        with sg.Graph():
            graph = RandomGraph(random.Random(seed), smooth=False)
            graph.grow(2 + seed % 9)
            outputs = graph.outputs()
            news = news_of(graph, outputs)
        wanted = [node for node in dict.fromkeys([*news.values(), *outputs]) if node not in graph.leaves]
        updates = [(wanted.index(new), graph.leaves.index(leaf)) for leaf, new in news.items()]
        options = sg.Options(fuse=fuse)
        plain, in_place = (pipeline.plan(graph.leaves, wanted, options, "f", pairs) for pairs in ([], updates))
        if not any(result in in_place.arguments for result in in_place.results):
            continue
        placed_ones += 1
        for number, sizes in enumerate([*graph.trials, {"n": 5, "m": 3, "k": 3}]):
            if fits(wanted, sizes, 2000):
                feed = feed_for(graph.leaves, sizes, number)
                expected, before = run_plain(plain, feed)
                results, after = run_plain(in_place, feed)
                assert as_bytes(results) == as_bytes(expected), (seed, sizes)
                failed = isinstance(results, str)
                changed = set() if failed else {r.name for r in in_place.results if r in in_place.arguments}
                for name in before.keys() - changed:
                    assert after[name].tobytes() == before[name].tobytes(), (seed, sizes, name)
    assert placed_ones > 20


@pytest.mark.parametrize("seed", range(300 if EXHAUSTIVE else 4))
def test_random_programs_compute_the_same_in_place_as_machine_code(seed, monkeypatch):
    monkeypatch.setattr("symgraph.compile.machine.cost.CHUNK", 2000)
    for number in range(100 * seed, 100 * seed + 100):
        with sg.Graph():
            graph = RandomGraph(random.Random(number), smooth=False)
            graph.grow(6)
            outputs = graph.outputs()
            news = news_of(graph, outputs)
        wanted = [node for node in dict.fromkeys([*news.values(), *outputs]) if node not in graph.leaves]
        updates = [(wanted.index(new), graph.leaves.index(leaf)) for leaf, new in news.items()]
        options = sg.Options(cache=False, threads=3)
        in_place = pipeline.build(graph.leaves, wanted, options, "f", updates)
        if len(in_place.in_place) > 1:
            break
    plain = pipeline.build(graph.leaves, wanted, options, "f")
    checked = 0
    for sizes in sizes_around((8, 16, 32, 64, 256), graph.least, 30_001):
        if fits(wanted, sizes, 60_000):
            feed = feed_for(graph.leaves, sizes, checked)
            found = []
            for made in (plain, in_place):
                values = [np.array(value)[()] for value in feed.values()]
                known = sizes_from({leaf: np.asarray(value) for leaf, value in feed.items()})
                try:
                    found.append(as_bytes(made.run(values, known, list)))
                except IndexError as error:
                    found += [str(error), as_bytes(values) == as_bytes(list(feed.values()))]
            assert found[0] == found[1] or found[1:] == [True, found[0], True], sizes
            checked += 1
    assert checked > 3


# What a program does in place


def test_the_program_shows_what_is_written_over(graph):
    x, w = sg.placeholder("x", ("n", 3)), variable("w", 3)
    f = sg.function([x], sg.sum(w), updates={w: w - 0.5 * sg.sum(x, axis=0)}, options=sg.Options(threads=1))
    assert f.loops.splitlines()[-3:] == [
        "  for i1 < 3:",
        "    w[i1] = w[i1] - 0.5 * b1[i1]",
        "  free b1",
    ]
    assert "-> t1, w[3]" in f.loops
    assert f.memory().results.formula == "8"
    assert f.memory().inputs.formula == "24*n+24"


def test_a_formula_is_not_shown_where_what_it_reads_is_written_already():
    w, y = (Buffer(name, DOUBLE, (3,), role) for name, role in [("w", "argument"), ("y", "result")])
    axis = Axis("i", 3)

    def let(name: str, operation: str, sign: str, *operands: Any) -> Let:
        return Let(name, DOUBLE, operation, f"{{0}} {sign} {{1}}", operands)

    one, (a, b, c) = Literal(1.0, DOUBLE), (Name(name, DOUBLE) for name in "abc")
    element = (Affine(axis),)
    body = (
        let("a", "add", "+", Load(w, element), one),
        let("b", "multiply", "*", a, one),
        let("c", "subtract", "-", b, one),
        Store(w, element, one),
        Store(y, element, c),
    )
    shown = show(Program("f", (w,), (), (), (Loop(axis, body),), (w, y)))
    assert shown.splitlines()[2:] == ["    a = w[i] + 1", "    w[i] = 1", "    y[i] = a * 1 - 1"]


@pytest.mark.parametrize(("size", "moves"), [(40, True), (41, False), (dim("n"), False)])
def test_a_loop_moves_unless_it_keeps_more_scratch_than_it_saves(size, moves):
    """Scratch b, which the update reads, is freed before c is made, for which there may be no memory."""
    w, new = (Buffer(name, DOUBLE, (40,), role) for name, role in [("w", "argument"), ("new", "result")])
    b, c = (Buffer(name, DOUBLE, shape, "scratch") for name, shape in [("b", (size,)), ("c", (dim("n"),))])
    i, k = Axis("i", 40), Axis("k", dim("n"))
    update = Loop(
        i,
        (
            Let("t", DOUBLE, "add", "{0} + {1}", (Load(w, (Affine(i),)), Load(b, (Affine(i),)))),
            Store(new, (Affine(i),), Name("t", DOUBLE)),
        ),
    )
    fill = [Loop(k, (Store(buffer, (Affine(k),), Literal(1.0, DOUBLE)),)) for buffer in (b, c)]
    body = (Allocate(b), fill[0], update, Free(b), Allocate(c), fill[1], Free(c))
    made = place_updates(Program("f", (w,), ("n",), (), body, (new,)), [(0, 0)])
    assert made.results == ((w,) if moves else (new,))
    order = [0, 1, 4, 2, 3, 5, 6] if moves else range(7)
    expected = listing(replace(made, body=tuple(body[i] for i in order)))
    assert listing(made) == (expected.replace("new", "w") if moves else expected)


def address(session: sg.Session, node: sg.Expr) -> int:
    return session.values.read([node])[0].ctypes.data


def test_a_steady_loop_keeps_its_arrays(graph):
    g, w = sg.placeholder("g", (1000,)), variable("w", 1000)
    step = sg.train.Adam(0.1).apply_gradients([(g, w)])
    arrays = [v for v in graph.variables.values() if v.ndim]
    session = sg.Session(graph)
    places = [address(session, v) for v in arrays]
    for k in range(4):
        session.run([step, w], {g: np.ones(1000) if k % 2 else [1.0] * 1000})
        assert [address(session, v) for v in arrays] == places


@pytest.mark.parametrize("name", ["done", "changed", "starmap", "read", "variables", "w_before", "r0"])
def test_variables_may_have_any_name(graph, name):
    w, other = sg.variable(np.ones(5), name="w"), sg.variable(np.ones(5), name=name)
    count = sg.variable(0, name="count")
    f = sg.function([], [w, other, sg.sum(w)], updates={w: w * 2, other: other * 3, count: count + 1})
    for k in range(3):
        old_w, old_other, total = f()
        assert (old_w[0], old_other[0], total) == (2**k, 3**k, 5 * 2**k)
    assert f.session.value(count) == 3


def test_arrays_that_were_handed_out_do_not_change(graph):
    w, b = variable("w", 50), variable("bb", 50)
    session = sg.Session(graph)
    step = sg.function([], [w, w * 1, b], updates={w: w + 1, b: w}, session=session)
    held, copies = [], []
    for _ in range(4):
        held += [*step(), session.value(w), session.run(w), *session.values.read([w, b])]
        copies += [array.copy() for array in held[len(copies) :]]
    for array, copy in zip(held, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    np.testing.assert_allclose(held[-2], held[0] + 4, rtol=1e-15)
    np.testing.assert_allclose(held[-1], held[0] + 3, rtol=1e-15)


def test_a_value_given_as_an_argument_is_not_written_over(graph):
    w, x = variable("w", 50), sg.placeholder("x", (50,))
    session = sg.Session(graph)
    f = sg.function([x], sg.sum(x), updates={w: w * 2}, session=session)
    given = np.ones(50)
    run = sg.train.TrainOperation("double", {w: w * 2})
    for _ in range(3):
        f(session.values.read([w])[0])
        session.run([run, w], {w: given})
    np.testing.assert_array_equal(given, np.ones(50))
    np.testing.assert_array_equal(session.value(w), given * 2)


# All together or not at all

FAILURES = {
    "index": (lambda x, k, w: x[k], np.int64(99), IndexError),
    "index in a loop": (lambda x, k, w: sg.sum(x[k + sg.arange(30)] * w[:30]), np.int64(99), IndexError),
    "matrix": (lambda x, k, w: sg.cholesky(sg.reshape(x[:16], (4, 4)) - 9 * k * sg.eye(4)), np.int64(1), ValueError),
    "power": (lambda x, k, w: (sg.arange(40) + 1) ** k, np.int64(-1), ValueError),
    "what the update itself reads": (lambda x, k, w: None, np.int64(99), IndexError),
}


@pytest.mark.parametrize("straight", [False, True])
@pytest.mark.parametrize("failure", FAILURES)
def test_after_a_failure_all_variables_are_as_they_were(graph, failure, straight):
    output, wrong, error = FAILURES[failure]
    x, k = sg.placeholder("x", ("n",)), sg.placeholder("k", (), "int64")
    w, b, count = variable("w", 40), variable("bb", 1000), sg.variable(0, name="count")
    read = x[k] if failure.startswith("what") else 1.0
    session = sg.Session(graph)
    updates = {w: w * 2 + sg.sum(x) * read, b: b * 2, count: count + 1}
    f = sg.function([x, k], output(x, k, w), updates=updates, session=session)
    assert "bb" in placed(f)
    values = np.linspace(1, 2, 60)
    values[:16] = np.eye(4).ravel()
    if straight:
        f(values, np.int64(0))
    before = state(f)
    for argument in (wrong, int(wrong)):
        with pytest.raises(error):
            f(values, argument)
        for value, old in zip(state(f), before, strict=True):
            np.testing.assert_array_equal(value, old)
    f(values, np.int64(0))
    np.testing.assert_array_equal(session.value(b), before[1] * 2)
    assert session.value(count) == before[2] + 1


class Alarm(BaseException):
    """What a signal raises, as an interrupt from the keyboard does."""


def run_until_alarm(f: sg.Function, argument: np.ndarray, delay: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, delay)
    while True:
        f(argument)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no timer")
@pytest.mark.parametrize("straight", [False, True])
def test_an_interrupt_leaves_all_variables_old_or_new(graph, straight):
    size = 200_000
    g, w = sg.placeholder("g", (size,)), sg.variable(np.zeros(size), name="w")
    count, half = sg.variable(0, name="count"), sg.variable(np.ones(3), name="half")
    slow = w
    for _ in range(40):
        slow = sg.sin(slow + g)
    updates = {w: w + 1 + 0 * slow, count: count + 1, half: half[::-1] * 0.5}
    f = sg.function([g], sg.sum(w), updates=updates, options=sg.Options(threads=1))
    gradient = np.ones(size)
    given = gradient if straight else gradient[::-1]
    f(given)
    assert placed(f) == {"w"}

    def ring(*_):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        for delay in (0.002, 0.005, 0.01, 0.02):
            with pytest.raises(Alarm):
                run_until_alarm(f, given, delay)
            steps = f.session.value(count)
            np.testing.assert_array_equal(f.session.value(w), np.full(size, float(steps)))
            np.testing.assert_array_equal(f.session.value(half), np.full(3, 0.5**steps))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_readers_on_other_threads_see_one_value_or_the_other(graph):
    size, steps = 300_000, 60
    w, other = sg.variable(np.zeros(size), name="w"), sg.variable(np.zeros(size), name="other")
    session = sg.Session(graph)
    options = sg.Options(threads=1)
    step = sg.function([], None, updates={w: w + 1, other: other - 1}, session=session, options=options)
    both = w + other
    seen = sg.function([], [sg.min(w), sg.max(w), sg.min(both), sg.max(both)], session=session, options=options)
    step()
    seen()
    assert placed(step) == {"w", "other"}
    wrong, done = [], threading.Event()

    def look():
        while not done.is_set():
            least, greatest, *sums = seen()
            value = session.value(w)
            if least != greatest or sums != [0.0, 0.0] or value.min() != value.max():
                wrong.append((least, greatest, sums))

    readers = [threading.Thread(target=look) for _ in range(2)]
    writers = [threading.Thread(target=lambda: [step() for _ in range(steps)]) for _ in range(2)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert not wrong
    np.testing.assert_array_equal(session.value(w), np.full(size, 2.0 * steps + 1))


def test_values_lend_an_array_to_one_at_a_time(graph):
    w, b = variable("w", 5), variable("bb", 5)
    values = Values(graph)
    held = values.read([w, b])
    mine = values.read([w, b], changed=[w])
    assert mine[0] is not held[0]
    assert mine[1] is held[1]
    np.testing.assert_array_equal(mine[0], held[0])
    place = mine[0].ctypes.data
    del mine, held
    view = values.read([w], changed=[w])[0][1:]
    assert view.ctypes.data == place + 8
    assert values.read([w], changed=[w])[0].ctypes.data != place


MEASURED = """
import re
import numpy as np
import symgraph as sg

def memory(field):
    return int(re.search(rf"{field}:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

n = 6_250_000
with sg.Graph():
    g, w = sg.placeholder("g", (n,)), sg.variable(np.ones(n), name="w")
    step = sg.train.Momentum(0.1, 0.9).apply_gradients([(g, w)])
    f = sg.function([g], sg.sum(w), updates=step.updates)
gradient = np.ones(n)
f(gradient)
open("/proc/self/clear_refs", "w").write("5")
before = memory("VmHWM")
for _ in range(3):
    f(gradient)
print(memory("VmHWM") - before, f.memory().peak.bytes or 0)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux")
def test_a_step_over_large_variables_takes_no_memory():
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    measured, _ = map(int, done.stdout.split())
    assert measured < 4e6
