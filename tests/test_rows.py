"""Products of a block's rows with a vector: which loops become one, and that they are right."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.compile.loops import Multiply, walk
from tests.helpers.engines import emitted, interpreted, program

ROWS = [0, 1, 7, 8, 9, 31, 32, 33, 70]
COLUMNS = [0, 1, 3, 7, 8, 9, 16, 17, 100, 255, 256, 257, 700]
"""Sizes around the rows worked on at a time, a block, a register, and the strip after which sums are put together."""

Model = Callable[[sg.Expr, sg.Expr, sg.Expr, sg.Expr], sg.Expr]

MODELS: dict[str, tuple[Model, int]] = {
    "least squares": (lambda X, y, w, v: sg.mean((X @ w - y) ** 2) + sg.sum(v), 2),
    "logistic": (lambda X, y, w, v: sg.mean(sg.softplus(X @ w) - y * (X @ w)) + sg.sum(v**2), 2),
    "two of a kind": (lambda X, y, w, v: sg.sum((X @ w - y) ** 2 * sg.sigmoid(X @ v)), 4),
    "one after the other": (lambda X, y, w, v: sg.sum(sg.tanh(X @ (v * sg.sum(w))) * (X @ w)), 4),
    "with a penalty": (lambda X, y, w, v: sg.sum(sg.exp(X @ w / 9) * y) + sg.sum(w**2 * v), 2),
}


def leaves(dtype: str = "float64") -> list[sg.Expr]:
    with sg.Graph():
        X, y = sg.placeholder("X", ("n", "d"), dtype), sg.placeholder("y", ("n",), dtype)
        return [X, y, sg.placeholder("w", ("d",), dtype), sg.placeholder("v", ("d",), dtype)]


def outputs_of(name: str, given: Sequence[sg.Expr]) -> list[sg.Expr]:
    X, y, w, v = given
    value = MODELS[name][0](X, y, w, v)
    return [value, *sg.gradients(value, [w, v])]


def products(outputs: Sequence[sg.Expr], given: Sequence[sg.Expr]) -> int:
    return sum(isinstance(s, Multiply) and s.is_of_vector for s in walk(program(given, outputs).body))


def data(given: Sequence[sg.Expr], n: int, d: int) -> dict[sg.Expr, Any]:
    random = np.random.default_rng(n + 1000 * d)
    sizes = {"n": n, "d": d}
    return {x: (random.normal(size=[sizes[str(s)] for s in x.shape]) / math.sqrt(d + 1)).astype(x.dtype) for x in given}


def check(outputs: Sequence[sg.Expr], feed: dict[sg.Expr, Any], rtol: float = 1e-12) -> None:
    want = interpreted(outputs, feed)
    for got in (sg.function(list(feed), list(outputs))(*feed.values()), emitted(outputs, feed)):
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * np.max(np.abs(other), initial=1e-300))


@pytest.mark.parametrize("name", MODELS)
def test_what_multiplies_rows_is_a_product(name: str) -> None:
    given = leaves()
    assert products(outputs_of(name, given), given) == MODELS[name][1]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:divide by zero:RuntimeWarning")
def test_products_of_all_sizes(name: str, dtype: str) -> None:
    given = leaves(dtype)
    outputs = outputs_of(name, given)
    f = sg.function(given, outputs)
    rtol = 1e-12 if dtype == "float64" else 2e-5
    for n, d in [*((n, 17) for n in ROWS), *((33, d) for d in COLUMNS)]:
        feed = data(given, n, d)
        for one, other in zip(f(*feed.values()), interpreted(outputs, feed), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * np.max(np.abs(other), initial=1e-300))


def test_the_emitted_module_does_the_same() -> None:
    for dtype, rtol in (("float64", 1e-12), ("float32", 2e-5)):
        given = leaves(dtype)
        check(outputs_of("two of a kind", given), data(given, 70, 33), rtol)


@pytest.mark.parametrize(
    "made",
    [
        lambda X, w: X @ w,
        lambda X, w: (X @ w).astype("int64").astype("float64"),
        lambda X, w: (X @ w).astype("float32").astype("float64"),
        lambda X, w: X[1:] @ w + X[:-1] @ w,
        lambda X, w: X[:, 1:] @ w[:-1],
        lambda X, w: X[:, :-1] @ w[1:],
        lambda X, w: X[:, :-1] @ w[:-1],
        lambda X, w: X[::2, ::-1] @ w,
        lambda X, w: (2 * X) @ w,
        lambda X, w: X.T @ (X @ w),
        lambda X, w: (X @ w)[::-1],
        lambda X, w: sg.sum(X * X, axis=1),
        lambda X, w: sg.sum(X * w, axis=1) * sg.sum(X, axis=1),
        lambda X, w: sg.sum(X * sg.sum(X * w, axis=1)[:, None], axis=0),
        lambda X, w: sg.concat([X @ w, w]),
        lambda X, w: sg.where(X @ w > 0, X @ w, 0),
    ],
)
def test_what_is_nearly_one_of_them(made: Callable[[sg.Expr, sg.Expr], sg.Expr]) -> None:
    X, _, w, _ = leaves()
    for n, d in ((1, 1), (2, 40), (65, 41), (40, 300)):
        feed = data([X, w], n, d)
        check([made(X, w)], {X: 5 * feed[X], w: 5 * feed[w]}, rtol=1e-11)


def test_sums_of_long_rows_are_as_good_as_pairwise_ones() -> None:
    X, _, w, _ = leaves()
    f = sg.function([X, w], X @ w)
    random = np.random.default_rng(0)
    rows, vector = random.uniform(size=(9, 2_000_000)), np.ones(2_000_000)
    exact = np.array([math.fsum(row) for row in rows])
    errors = [np.max(np.abs(each - exact)) for each in (f(rows, vector), np.sum(rows, axis=1))]
    assert errors[0] <= errors[1]


def test_what_is_not_finite_stays_in_its_row() -> None:
    X, _, w, _ = leaves()
    f = sg.function([X, w], X @ w)
    for n in (1, 20, 33):
        for bad in (np.nan, np.inf):
            rows = np.ones((n, 19))
            rows[n // 2, 18] = bad
            found = f(rows, np.ones(19))
            assert found[n // 2] == bad or np.isnan(found[n // 2])
            assert np.array_equal(np.delete(found, n // 2), np.full(n - 1, 19.0))
    big = np.full((8, 2_000), 1e308)
    assert np.array_equal(f(big, np.ones(2_000)), np.full(8, np.inf))


def test_any_number_of_threads_gives_the_same_bits() -> None:
    given = leaves()
    outputs = outputs_of("two of a kind", given)
    feed = data(given, 30_001, 50)
    first, *others = (sg.function(given, outputs, options=sg.Options(threads=t))(*feed.values()) for t in (1, 2, 5))
    for results in others:
        assert all(np.array_equal(one, other) for one, other in zip(first, results, strict=True))


def test_a_vector_that_is_updated_is_multiplied_as_it_was() -> None:
    random = np.random.default_rng(0)
    rows, targets, want = random.normal(size=(70, 21)), random.normal(size=70), np.ones(21)
    with sg.Graph() as graph:
        X, y, w = sg.placeholder("X", ("n", 21)), sg.placeholder("y", ("n",)), sg.variable(want, "w")
    loss = sg.mean((X @ w - y) ** 2)
    with sg.Session(graph) as session:
        step = sg.function([X, y], loss, updates={w: w - 0.1 * sg.grad(loss, w)}, session=session)
        for _ in range(3):
            assert math.isclose(step(rows, targets), np.mean((rows @ want - targets) ** 2), rel_tol=1e-12)
            want = want - 0.1 * 2 / 70 * rows.T @ (rows @ want - targets)
        np.testing.assert_allclose(session.value(w), want, rtol=1e-12)
