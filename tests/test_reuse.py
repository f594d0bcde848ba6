"""Arrays where those are that they replace, or that replace them: which may be, and that results stay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from benchmarks.workloads import ba
from symgraph.compile.loops import (
    Accumulate,
    Affine,
    Allocate,
    Axis,
    Buffer,
    Free,
    Let,
    Load,
    Loop,
    Name,
    Program,
    Start,
    Statement,
    Store,
)
from symgraph.compile.pipeline import plan
from symgraph.compile.reuse import reuse_vectors
from symgraph.compile.show import listing
from symgraph.dims import dim
from symgraph.options import Options
from symgraph.structure import flatten
from tests.helpers.engines import emitted, interpreted, program

DOUBLE, SINGLE = np.dtype("float64"), np.dtype("float32")
K, D = dim("k"), dim("d")
TABLE, VECTOR = Buffer("table", DOUBLE, (K, D), "scratch"), Buffer("vector", DOUBLE, (D,), "scratch")
ROW, RESULT = Buffer("row", DOUBLE, (D,), "scratch"), Buffer("result", DOUBLE, (), "result")
LANES, OUTER = Axis("n1", dim("n")), Axis("k1", K)
INDEX, J = Axis("i1", D), Axis("j1", D)


def set_from(target: Load, source: Load, axis: Axis, more: Sequence[Statement] = ()) -> Loop:
    """Return the loop that stores twice the elements of one buffer in another."""
    let = Let(f"t{axis.name}", DOUBLE, "add", "{0} + {1}", (source, source))
    return Loop(axis, (let, Store(target.buffer, target.indices, Name(let.name, DOUBLE)), *more))


def added(source: Load, axis: Axis, name: str = "s") -> list[Statement]:
    """Return statements that add up a buffer's elements."""
    return [Start(name, DOUBLE, "sum"), Loop(axis, (Accumulate(Name(name, DOUBLE), "sum", source),))]


def first(buffer: Buffer, axis: Axis, *before: Axis) -> Load:
    return Load(buffer, tuple(Affine(each) for each in (*before, axis)))


def in_lanes(each: Sequence[Statement], after: Sequence[Statement] = (), table: Buffer = TABLE) -> Program:
    """Return a program of a loop in lanes, with a table, over rows of which a loop runs."""
    body = (Allocate(table), Loop(OUTER, tuple(each)), *after, Free(table))
    return Program("f", (), ("n", "k", "d"), (), (Loop(LANES, body, lanes=True),), (RESULT,))


def replacing(source: Load | None = None, more: Sequence[Statement] = (), after: Sequence[Statement] = ()) -> Program:
    """Return a program in which a vector is made of the last of a row, or of another element."""
    made = set_from(first(VECTOR, INDEX), source or first(TABLE, INDEX, OUTER), INDEX, more)
    return in_lanes([Allocate(VECTOR), made, *added(first(VECTOR, J), J), Free(VECTOR)], after)


def replaced(between: Sequence[Statement] = (), after: Sequence[Statement] = (), table: Buffer = TABLE) -> Program:
    """Return a program in which a row is made of the last of a vector."""
    start = Loop(J, (Store(VECTOR, (Affine(J),), Load(ROW, (Affine(J),))),))
    indices = [OUTER] if len(table.shape) == 2 else []
    made = set_from(first(table, INDEX, *indices), first(VECTOR, INDEX), INDEX)
    return in_lanes([Allocate(VECTOR), start, *between, made, *after, Free(VECTOR)], table=table)


def test_a_vector_goes_where_the_one_is_that_it_replaces() -> None:
    text = listing(reuse_vectors(replacing()))
    assert "vector" not in text
    assert "table[k1, i1] = ti1" in text
    assert "s += table[k1, j1]" in text


def test_a_vector_goes_where_the_one_will_be_that_replaces_it() -> None:
    text = listing(reuse_vectors(replaced()))
    assert "vector" not in text
    assert "table[k1, j1] = row[j1]" in text
    assert "ti1 = table[k1, i1] + table[k1, i1]" in text


NARROW = Buffer("narrow", SINGLE, (K, D), "scratch")
OTHER = Axis("o1", D)
KEPT = {
    "the row is read later": replacing(after=[Loop(OUTER, tuple(added(first(TABLE, OTHER, OUTER), OTHER)))]),
    "the row is read after the store": replacing(
        more=[Accumulate(Name("s", DOUBLE), "sum", first(TABLE, INDEX, OUTER))]
    ),
    "another element is read": replacing(Load(TABLE, (Affine(OUTER), Affine(INDEX, offset=1)))),
    "every iteration reads the same row": replacing(Load(TABLE, (Affine(None), Affine(INDEX)))),
    "a column is read": replacing(Load(TABLE, (Affine(INDEX), Affine(OUTER)))),
    "what is read is outside of the lanes": replacing(Load(ROW, (Affine(INDEX),))),
    "the row is used between": replaced(added(first(TABLE, OTHER, OUTER), OTHER)),
    "the vector is read later": replaced(after=added(first(VECTOR, OTHER), OTHER)),
    "numbers of another type": replaced(table=NARROW),
}


@pytest.mark.parametrize("name", KEPT)
def test_vectors_that_are_needed_stay(name: str) -> None:
    assert reuse_vectors(KEPT[name]) == KEPT[name]


def test_one_row_takes_the_place_of_one_vector_only() -> None:
    second = Buffer("second", DOUBLE, (D,), "scratch")
    stores = set_from(first(VECTOR, INDEX), first(TABLE, INDEX, OUTER), INDEX).body
    stores += (Store(second, (Affine(INDEX),), Name("ti1", DOUBLE)),)
    ends = [*added(first(VECTOR, J), J), *added(first(second, OTHER), OTHER, "r"), Free(VECTOR), Free(second)]
    text = listing(reuse_vectors(in_lanes([Allocate(VECTOR), Allocate(second), Loop(INDEX, stores), *ends])))
    assert ("vector" in text) != ("second" in text)


def test_the_home_of_a_vector_lives_as_long_as_the_vector() -> None:
    home = Buffer("home", DOUBLE, (D,), "scratch")
    made = set_from(first(VECTOR, INDEX), first(home, INDEX), INDEX)
    start = Loop(OTHER, (Store(home, (Affine(OTHER),), Load(ROW, (Affine(OTHER),))),))
    body = [Allocate(home), start, Allocate(VECTOR), made, Free(home), *added(first(VECTOR, J), J), Free(VECTOR)]
    made_of_it = Program("f", (), ("n", "d"), (), (Loop(LANES, tuple(body), lanes=True),), (RESULT,))
    text = listing(reuse_vectors(made_of_it))
    assert "vector" not in text
    assert text.index("s += home[j1]") < text.index("free home")
    assert text.count("free home") == text.count("home[d] = scratch") == 1


def mixture() -> tuple[list[sg.Expr], list[sg.Expr]]:
    with sg.Graph():
        x, m = sg.placeholder("x", ("n", "d")), sg.placeholder("m", ("k", "d"))
        L = sg.placeholder("L", ("k", "d", "d"))
    centred = x[:, None, :] - m[None, :, :]
    mapped = centred + sg.sum(sg.tril(L, -1)[None, :, :, :] * centred[:, :, None, :], axis=3)
    value = sg.sum(sg.logsumexp(-0.5 * sg.sum(mapped**2, axis=2), axis=1))
    return [x, m, L], [value, *sg.gradients(value, [m, L])]


def test_a_mixture_keeps_one_row_for_what_becomes_of_a_product() -> None:
    leaves, outputs = mixture()
    text = sg.function(leaves, outputs).loops
    product = re.search(r"(b\d+\[i1\]) = tril\(b\d+\[i1\], -1\) @ b\d+", text)
    assert product is not None
    assert f"outer({product[1]}, " in text


@pytest.mark.parametrize("d", [0, 1, 7, 8, 9, 16, 17, 33])
def test_a_mixture_is_the_same(d: int) -> None:
    leaves, outputs = mixture()
    random = np.random.default_rng(0)
    sizes = {"n": 37, "k": 3, "d": d}
    feed: dict[sg.Expr, Any] = {x: random.normal(size=[sizes[str(s)] for s in x.shape]) for x in leaves}
    want = interpreted(outputs, feed)
    for got in (sg.function(leaves, outputs)(*feed.values()), emitted(outputs, feed)):
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)


def test_what_goes_where_does_not_depend_on_addresses() -> None:
    others: list[Any] = []
    found = set[str]()
    for count in range(20):
        model = ba.model(3)
        found.add(listing(plan(model.inputs, flatten(model.outputs), Options(), "f")))
        others += [object() for _ in range(37 * count)]
    assert len(found) == 1


def test_turned_points_are_where_nothing_is_needed_any_more() -> None:
    model, data = ba.model(50), ba.data(50)
    results = flatten(model.outputs)
    feed = {x: data[x.attrs[0]] for x in model.inputs}
    for one, other in zip(sg.function(model.inputs, results)(*feed.values()), interpreted(results, feed), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10 * np.max(np.abs(other)))


TOTALS = {
    "with a penalty": (lambda g, w: [g + 2 * w], 0),
    "times a factor": (lambda g, w: [g * sg.exp(w)], 0),
    "in two results": (lambda g, w: [g + w, g * w], 0),
    "in two results, of which one reads it elsewhere": (lambda g, w: [g + w, g[::-1] * w], 1),
    "turned round": (lambda g, w: [g + g[::-1]], 1),
    "and its sum": (lambda g, w: [g - sg.sum(g)], 0),
}


@pytest.mark.parametrize("name", TOTALS)
def test_what_is_added_up_is_where_the_result_is_that_replaces_it(name: str) -> None:
    with sg.Graph():
        x, y, w = sg.placeholder("x", ("n", "d")), sg.placeholder("y", ("n",)), sg.placeholder("w", ("d",))
    gradient = sg.grad(sg.sum(sg.softplus(x @ w) * y), w)
    make, left = TOTALS[name]
    outputs = make(gradient, w)
    body = program([x, y, w], outputs).body
    totals = [s.buffer for s in body if isinstance(s, Allocate) and s.buffer.shape == w.shape]
    assert len(totals) == left
    random = np.random.default_rng(0)
    for n, d in ((0, 3), (1, 1), (40, 20), (3_000, 300)):
        feed = {x: random.normal(size=(n, d)), y: random.normal(size=n), w: random.normal(size=d)}
        want = interpreted(outputs, feed)
        found = [sg.function([x, y, w], outputs, options=sg.Options(threads=t))(*feed.values()) for t in (1, 2, 5)]
        for one, *others in zip(want, *found, emitted(outputs, feed), strict=True):
            for other in others:
                np.testing.assert_allclose(other, one, rtol=1e-11, atol=1e-11 * np.max(np.abs(one), initial=1e-300))
        assert all(np.array_equal(*pair) for more in found[1:] for pair in zip(found[0], more, strict=True))
