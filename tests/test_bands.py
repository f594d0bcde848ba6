"""Products that leave out what is zero or not needed: which do, and that nobody can tell from the numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.compile.loops import MatrixVector, Outer, walk
from tests.helpers.engines import emitted, interpreted, program

PRODUCTS = (MatrixVector, Outer)
Loss = tuple[list[sg.Expr], sg.Expr]


def loss(matrix: Callable[[sg.Expr], sg.Expr], read: Callable[[sg.Expr], sg.Expr] = lambda A: A) -> Loss:
    """Return a mixture's loss with square matrices, of whose parameter a function selects elements."""
    with sg.Graph():
        x, L = sg.placeholder("x", ("n", "d")), sg.placeholder("L", ("k", "d", "d"))
    A = read(matrix(L))
    mapped = sg.sum(A[None, :, :, :] * x[:, None, None, :], axis=3)
    return [x, L], sg.sum(sg.logsumexp(-0.5 * sg.sum(mapped**2, axis=2), axis=1))


def bands(leaves: Sequence[sg.Expr], outputs: Sequence[sg.Expr]) -> list[tuple[int | None, int | None]]:
    """Return the bands of all products in a program."""
    statements = list(walk(program(leaves, outputs).body))
    found = [s.matrix if isinstance(s, MatrixVector) else s.result for s in statements if isinstance(s, PRODUCTS)]
    return [section.band for section in found]


def data(leaves: Sequence[sg.Expr], **sizes: int) -> dict[sg.Expr, Any]:
    random = np.random.default_rng(0)
    return {x: random.normal(size=[sizes[str(s)] for s in x.shape]) for x in leaves}


TRIANGLES: dict[str, tuple[Callable[[sg.Expr], sg.Expr], tuple[int | None, int | None]]] = {
    "lower": (sg.tril, (None, 0)),
    "strictly lower": (lambda L: sg.tril(L, -1), (None, -1)),
    "a band below": (lambda L: sg.tril(L, -9), (None, -9)),
    "with a band above": (lambda L: sg.tril(L, 5), (None, 5)),
    "upper": (sg.triu, (0, None)),
    "strictly upper": (lambda L: sg.triu(L, 1), (1, None)),
}
READ: dict[str, Callable[[sg.Expr], sg.Expr]] = {
    "as it is": lambda A: A,
    "transposed": lambda A: sg.permute_dims(A, (0, 2, 1)),
}


@pytest.mark.parametrize("d", [1, 2, 7, 8, 9, 16, 17, 33, 50])
@pytest.mark.parametrize("name", TRIANGLES)
@pytest.mark.parametrize("read", READ)
def test_triangles_of_any_size(name: str, read: str, d: int) -> None:
    matrix, (low, high) = TRIANGLES[name]
    leaves, value = loss(matrix, READ[read])
    outputs = [value, sg.grad(value, leaves[1])]
    if read == "transposed":
        low, high = (None if each is None else -each for each in (high, low))
    assert bands(leaves, outputs)[0] == (low, high)
    feed = data(leaves, n=35, k=2, d=d)
    want = interpreted(outputs, feed)
    for got in (sg.function(leaves, outputs)(*feed.values()), emitted(outputs, feed)):
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)


def test_derivatives_by_a_triangle_are_triangles() -> None:
    for name, (matrix, band) in TRIANGLES.items():
        leaves, value = loss(matrix)
        assert bands(leaves, [value, sg.grad(value, leaves[1])]) == [band, band], name


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_zeros_are_multiplied_with_what_is_not_finite(number: float) -> None:
    """Zero times infinity is not a number, in a triangle's zeros as anywhere."""
    with sg.Graph():
        x, L = sg.placeholder("x", ("n", "d")), sg.placeholder("L", ("d", "d"))
    mapped = sg.sum(sg.tril(L, -1) * x[:, None, :], axis=2)
    value = sg.logsumexp(mapped, axis=1)
    assert bands([x, L], [value]) == [(None, -1)]
    feed = data([x, L], n=40, d=20)
    feed[x][3, 19] = number  # which only zeros are multiplied with
    (got,), (want,) = sg.function([x, L], [value])(*feed.values()), interpreted([value], feed)
    assert np.isnan(want[3])
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_leaving_zeros_out_changes_no_bit() -> None:
    """The sum of the others is the same, and no zero has another sign."""
    with sg.Graph():
        x, L = sg.placeholder("x", ("n", "d")), sg.placeholder("L", ("d", "d"))

    def mapped(A: sg.Expr) -> sg.Expr:
        return 1 / sg.sum(A * x[:, None, :], axis=2)  # 1 / -0.0 is another infinity

    lower, whole = mapped(sg.tril(L, -1)), mapped(sg.where(sg.abs(L) < 1e300, L, 0))
    feed = data([x, L], n=33, d=18)
    feed[x][5] = -0.0
    feed[L] = np.tril(feed[L], -1)
    got, want = (sg.function([x, L], [sg.sum(e, axis=0), sg.max(e, axis=1)])(*feed.values()) for e in (lower, whole))
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)


# Selections after which all elements count, or may.
WHOLE: dict[str, Loss] = {
    "another value than zero": loss(lambda L: sg.where(sg.tril(sg.ones_like(L)) > 0, L, 1)),
    "a condition on data": loss(lambda L: sg.where(L > 0, L, 0)),
    "a condition on the component": loss(lambda L: sg.where(sg.arange(L.shape[0])[:, None, None] < 2, L, 0)),
}


@pytest.mark.parametrize("offset", [0.5, -0.5, 1.0, np.inf, np.nan])
def test_conditions_on_numbers_that_are_no_integers(offset: float) -> None:
    def matrix(L: sg.Expr) -> sg.Expr:
        index = sg.arange(L.shape[1], dtype="float64")
        return sg.where(index < index[:, None] + offset, L, 0)

    leaves, value = loss(matrix)
    outputs = [value, sg.grad(value, leaves[1])]
    assert set(bands(leaves, outputs)) == {(None, 0) if offset == 1 else (None, None)}
    feed = data(leaves, n=20, k=2, d=17)
    for one, other in zip(sg.function(leaves, outputs)(*feed.values()), interpreted(outputs, feed), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)


def test_rows_of_a_derivative_that_data_choose() -> None:
    with sg.Graph():
        x, L = sg.placeholder("x", ("n", "d")), sg.placeholder("L", ("k", "d", "d"))
        p = sg.placeholder("p", ("d",), "int64")
    mapped = sg.sum(L[None, :, :, :] * x[:, None, None, :], axis=3)
    value = sg.sum(sg.logsumexp(-0.5 * sg.sum(mapped**2, axis=2), axis=1))
    output = sg.sum(sg.tril(sg.grad(value, L)[:, p, :]))
    feed = data([x, L], n=20, k=2, d=11)
    got = sg.function([x, L, p], output)(*feed.values(), np.arange(11)[::-1])
    np.testing.assert_allclose(got, interpreted([output], feed | {p: np.arange(11)[::-1]})[0], rtol=1e-11)


@pytest.mark.parametrize("name", WHOLE)
def test_other_selections_leave_nothing_out(name: str) -> None:
    leaves, value = WHOLE[name]
    outputs = [value, sg.grad(value, leaves[1])]
    assert set(bands(leaves, outputs)) <= {(None, None)}
    feed = data(leaves, n=20, k=3, d=9)
    for one, other in zip(sg.function(leaves, outputs)(*feed.values()), interpreted(outputs, feed), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)


def test_a_derivative_that_is_also_read_elsewhere_is_computed_whole() -> None:
    with sg.Graph():
        x, L = sg.placeholder("x", ("n", "d")), sg.placeholder("L", ("d", "d"))
    mapped = sg.sum(L * x[:, None, :], axis=2)
    gradient = sg.grad(sg.sum(sg.exp(-0.5 * sg.sum(mapped**2, axis=1))), L)
    feed = data([x, L], n=20, d=18)
    for outputs in (
        [sg.tril(gradient), sg.sum(gradient)],
        [sg.tril(gradient), sg.triu(gradient)],
        [sg.tril(gradient, 3), sg.tril(gradient, -3)],
        [sg.where(sg.tril(sg.ones_like(L)) > 0, 0.0, gradient)],
        [gradient, sg.tril(gradient)],
        [sg.where(gradient > 0, sg.tril(gradient), 1)],
    ):
        f = sg.function([x, L], outputs)
        for one, other in zip(f(*feed.values()), interpreted(outputs, feed), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)
