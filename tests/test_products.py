"""Products of a matrix with what the lanes of a loop hold: which loops become one, and that they are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.compile.loops import Loop, MatrixVector, Outer, walk
from tests.helpers.engines import emitted, interpreted, program

EDGES = [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 70]
"""Sizes around a block of rows, a register and the lanes."""


def mixture(dtype: str = "float64") -> tuple[list[sg.Expr], sg.Expr]:
    """Return a loss with a matrix for each of k components, applied to every example."""
    with sg.Graph():
        x, m = sg.placeholder("x", ("n", "d"), dtype), sg.placeholder("m", ("k", "d"), dtype)
        A = sg.placeholder("A", ("k", "h", "d"), dtype)
    centred = x[:, None, :] - m[None, :, :]
    mapped = sg.sum(A[None, :, :, :] * centred[:, :, None, :], axis=3)
    return [x, m, A], -sg.sum(sg.logsumexp(-0.5 * sg.sum(mapped**2, axis=2), axis=1))


def products(outputs: Sequence[sg.Expr], leaves: Sequence[sg.Expr]) -> list[MatrixVector | Outer]:
    return [s for s in walk(program(leaves, outputs).body) if isinstance(s, MatrixVector | Outer)]


def data(leaves: Sequence[sg.Expr], **sizes: int) -> dict[sg.Expr, Any]:
    random = np.random.default_rng(0)
    return {x: random.normal(size=[sizes[str(s)] for s in x.shape]).astype(x.dtype) for x in leaves}


def check(outputs: Sequence[sg.Expr], feed: dict[sg.Expr, Any], rtol: float = 1e-11) -> None:
    want = interpreted(outputs, feed)
    f = sg.function(list(feed), list(outputs))
    for got in (f(*feed.values()), emitted(outputs, feed)):
        for one, other in zip(got, want, strict=True):
            scale = np.max(np.abs(other), initial=1e-300)
            np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * scale)


def test_loops_in_lanes_are_products_of_matrices() -> None:
    leaves, value = mixture()
    _, m, A = leaves
    found = products([value, *sg.gradients(value, [m, A])], leaves)
    assert [type(each) for each in found] == [MatrixVector, Outer]
    text = sg.function(leaves, [value, sg.grad(value, A)]).loops
    assert " @ " in text
    assert " += outer(" in text


@pytest.mark.parametrize("d", EDGES)
def test_products_with_a_transposed_matrix(d: int) -> None:
    """Unless factors are taken out of sums, the gradient of m has a product with the transpose of A."""
    leaves, value = mixture()
    plain = sg.Options(optimize=False)
    outputs = [value, sg.grad(value, leaves[1])]
    body = program(leaves, outputs, optimize=False).body
    assert any(isinstance(s, MatrixVector) and s.matrix.transposed and s.accumulate for s in walk(body))
    feed = data(leaves, n=37, k=2, h=11, d=d)
    for got in (sg.function(leaves, outputs, options=plain)(*feed.values()), emitted(outputs, feed, optimize=False)):
        for one, other in zip(got, interpreted(outputs, feed), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("d", EDGES)
def test_products_of_any_inner_size(d: int) -> None:
    leaves, value = mixture()
    check([value, *sg.gradients(value, leaves)], data(leaves, n=37, k=2, h=5, d=d))


@pytest.mark.parametrize("h", EDGES)
def test_products_of_any_number_of_rows(h: int) -> None:
    leaves, value = mixture()
    check([value, *sg.gradients(value, leaves)], data(leaves, n=37, k=2, h=h, d=5))


@pytest.mark.parametrize("n", EDGES)
def test_products_of_any_number_of_examples(n: int) -> None:
    leaves, value = mixture()
    check([value, *sg.gradients(value, leaves)], data(leaves, n=n, k=3, h=9, d=11))


def test_products_of_narrow_numbers() -> None:
    leaves, value = mixture("float32")
    outputs = [value, *sg.gradients(value, leaves)]
    assert any(isinstance(each, Outer) for each in products(outputs, leaves))
    check(outputs, data(leaves, n=45, k=2, h=33, d=18), rtol=2e-5)


def test_lanes_that_are_not_there_leave_no_trace() -> None:
    """At the end of the data some lanes compute with zeros: their logarithms and quotients must not reach a sum."""
    with sg.Graph():
        x, A = sg.placeholder("x", ("n", "d")), sg.placeholder("A", ("h", "d"))
    mapped = sg.sum(A * sg.log(x)[:, None, :] / x[:, None, :], axis=2)
    value = sg.sum(sg.log(sg.sum(mapped**2, axis=1)))
    outputs = [value, *sg.gradients(value, [x, A])]
    random = np.random.default_rng(0)
    feed = {x: random.uniform(1.5, 2, size=(19, 12)), A: random.normal(size=(9, 12))}
    check(outputs, feed)
    assert all(np.isfinite(result).all() for result in sg.function([x, A], outputs)(*feed.values()))


def test_what_is_not_a_number_stays_in_its_example() -> None:
    leaves, value = mixture()
    x, _, A = leaves
    feed = data(leaves, n=40, k=2, h=9, d=11)
    feed[x][7, 3] = np.nan
    by_x, by_A = sg.function(leaves, list(sg.gradients(value, [x, A])))(*feed.values())
    assert np.isnan(by_x[7]).all()
    assert np.isfinite(np.delete(by_x, 7, axis=0)).all()
    assert np.isnan(by_A).all()


def test_any_number_of_threads_gives_the_same_bits() -> None:
    leaves, value = mixture()
    outputs = [value, *sg.gradients(value, leaves)]
    feed = data(leaves, n=3_000, k=4, h=20, d=30)
    first, *others = (sg.function(leaves, outputs, options=sg.Options(threads=t))(*feed.values()) for t in (1, 2, 5))
    for results in others:
        assert all(np.array_equal(one, other) for one, other in zip(first, results, strict=True))


# Loops that look like products and are none.
OTHERS = {
    "a matrix of each example's own": lambda x, A: sg.sum(
        sg.exp(x[:, :, None] * x[:, None, :]) * x[:, None, :], axis=2
    ),
    "short axes": lambda x, A: sg.sum(A[0, :4] * sg.exp(x[:, :3, None]), axis=2),
    "sums of something else": lambda x, A: sg.sum(sg.exp(A * sg.sin(x)[:, None, :]), axis=2),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_loops_stay(name: str) -> None:
    with sg.Graph():
        x, A = sg.placeholder("x", ("n", "d")), sg.placeholder("A", ("h", "d"))
    value = sg.sum(OTHERS[name](x, A) ** 2)
    leaves = [x] if name.startswith("a matrix") else [x, A]
    assert not products([value], leaves)
    check([value, sg.grad(value, x)], data(leaves, n=35, d=10, h=9))


def test_products_stand_in_loops_in_lanes_only() -> None:
    leaves, value = mixture()
    body = program(leaves, [value, *sg.gradients(value, leaves)]).body
    inside = [s for loop in walk(body) if isinstance(loop, Loop) and loop.lanes for s in walk(loop.body)]
    everywhere = [s for s in walk(body) if isinstance(s, MatrixVector | Outer)]
    assert everywhere
    assert all(any(s is t for t in inside) for s in everywhere)
