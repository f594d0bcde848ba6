"""What stands in a branch that was not taken never reaches a derivative, to any order, in either engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import symgraph as sg
from symgraph import eager
from tests.helpers.engines import emitted, interpreted, replay, tensors

Array = np.ndarray[Any, Any]
NAN, INF = np.nan, np.inf


class Case(NamedTuple):
    """A function whose branch not taken is not finite, and the same function without that branch.

    Attributes:
        unsafe: The function.
        plain: The same values, said without the branch.
        values: The arrays it is computed at; the first is differentiated.
    """

    unsafe: Callable[..., sg.Expr]
    plain: Callable[..., sg.Expr]
    values: tuple[Any, ...]


X = np.array([-1.0, 0.0, 2.0, 3.0])
MATRIX = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, -1.0]])
ROWS = np.array([[1.0, 2.0], [NAN, INF], [3.0, -1.0]])
GOOD = np.array([True, False, True])
W = np.array([0.5, -1.5])


def _chosen(x: sg.Expr, function: Callable[[sg.Expr], sg.Expr]) -> sg.Expr:
    """Apply a function where x is positive, to the part of x that is."""
    return sg.concat([sg.zeros(2), function(x[2:])])


CASES = {
    "log": Case(lambda x: sg.where(x > 0, sg.log(x), 0), lambda x: _chosen(x, sg.log), (X,)),
    "sqrt": Case(lambda x: sg.where(x > 0, sg.sqrt(x), 0), lambda x: _chosen(x, sg.sqrt), (X,)),
    "reciprocal": Case(lambda x: sg.where(x > 0, 1 / x, 0), lambda x: _chosen(x, sg.reciprocal), (X,)),
    "power of a node": Case(
        lambda x: sg.where(x > 0, x**x, 0), lambda x: _chosen(x, lambda p: sg.exp(p * sg.log(p))), (X,)
    ),
    "the other branch": Case(
        lambda x: sg.where(x <= 0, 0, sg.log(x) * x), lambda x: _chosen(x, lambda p: sg.log(p) * p), (X,)
    ),
    "overflow": Case(
        lambda x: sg.where(x < 1, sg.sin(x), sg.exp(-1000 * x)),
        lambda x: sg.concat([sg.sin(x[:2]), sg.zeros(2)]),
        (X,),
    ),
    "a chain before": Case(
        lambda x: sg.where(x > 0, sg.log(sg.sqrt(x) * x), 0),
        lambda x: _chosen(x, lambda p: 1.5 * sg.log(p)),
        (X,),
    ),
    "nested": Case(
        lambda x: sg.where(x > 0, sg.where(x > 2.5, sg.log(x - 2.5), sg.sqrt(x)), 0),
        lambda x: sg.concat([sg.zeros(2), sg.sqrt(x[2:3]), sg.log(x[3:] - 2.5)]),
        (X,),
    ),
    "nested inside": Case(
        lambda x: sg.where(x > 0, sg.log(sg.where(x > 2.5, 1 / (x - 2), x)), 0),
        lambda x: sg.concat([sg.zeros(2), sg.log(x[2:3]), -sg.log(x[3:] - 2)]),
        (X,),
    ),
    "a sum of two that share a part": Case(
        lambda x: sg.where(x > 0, sg.log(x), 0) + sg.where(x > 2.5, sg.log(x) ** 2, 0),
        lambda x: sg.concat([sg.zeros(2), sg.log(x[2:3]), sg.log(x[3:]) + sg.log(x[3:]) ** 2]),
        (X,),
    ),
    "complementary": Case(
        lambda x: sg.where(x > 0, sg.log(x), 0) + sg.where(x > 0, 0, sg.log(-x + 0.5)),
        lambda x: sg.concat([sg.log(0.5 - x[:2]), sg.log(x[2:])]),
        (X,),
    ),
    "through a broadcast": Case(
        lambda x, y: sg.where(y > 0, sg.log(y) * x[:, None], 0),
        lambda x, y: sg.concat([sg.zeros((4, 2)), np.log(X[2:]) * x[:, None]], axis=1),
        (X, X),
    ),
    "a broadcast scalar": Case(
        lambda s, y: sg.where(y > 0, sg.log(s * y), 0),
        lambda s, y: sg.concat([sg.zeros(2), sg.log(s) + sg.log(y[2:])]),
        (np.array(0.7), X),
    ),
    "a reduction inside": Case(
        lambda x, y: sg.where(GOOD, sg.sum(sg.log(y) * x[:, None], axis=1), 0),
        lambda x, y: sg.stack([x[0] * np.log(2), sg.zeros(()), x[2] * np.log(12)]),
        (np.array([1.0, 2.0, 3.0]), np.array([[1.0, 2.0], [-1.0, 0.0], [3.0, 4.0]])),
    ),
    "a reduction of the differentiated": Case(
        lambda x: sg.where(GOOD, sg.sum(sg.log(x), axis=1), 0),
        lambda x: sg.stack([sg.log(x[0, 0] * x[0, 1]), sg.zeros(()), sg.log(x[2, 0] * x[2, 1])]),
        (np.array([[1.0, 2.0], [-1.0, 0.0], [3.0, 4.0]]),),
    ),
    "a mean": Case(
        lambda x: sg.where(GOOD, sg.mean(sg.log(x), axis=1), 0),
        lambda x: sg.stack([sg.log(x[0, 0] * x[0, 1]), sg.zeros(()), sg.log(x[2, 0] * x[2, 1])]) / 2,
        (np.array([[1.0, 2.0], [-1.0, 0.0], [3.0, 4.0]]),),
    ),
    "logsumexp of rows": Case(
        lambda x: sg.where(GOOD, sg.logsumexp(x, axis=1), 0),
        lambda x: sg.stack([sg.logsumexp(x[0]), sg.zeros(()), sg.logsumexp(x[2])]),
        (np.array([[1.0, 2.0], [-INF, -INF], [3.0, 4.0]]),),
    ),
    "norm of rows": Case(
        lambda x: sg.where(GOOD, sg.vector_norm(x, axis=1), 0),
        lambda x: sg.stack([sg.sqrt(sg.sum(x[0] ** 2)), sg.zeros(()), sg.sqrt(sg.sum(x[2] ** 2))]),
        (MATRIX,),
    ),
    "product of rows": Case(
        lambda x: sg.where(GOOD, sg.prod(x, axis=1), 0),
        lambda x: sg.stack([x[0, 0] * x[0, 1], sg.zeros(()), x[2, 0] * x[2, 1]]),
        (ROWS,),
    ),
    "maximum of rows": Case(
        lambda x: sg.where(GOOD, sg.max(x * x * x, axis=1), 0),
        lambda x: sg.stack([x[0, 1] ** 3, sg.zeros(()), x[2, 0] ** 3]),
        (ROWS,),
    ),
    "matmul with rows of NaN": Case(
        lambda w, a: sg.where(GOOD, sg.sin(a @ w), 0),
        lambda w, a: sg.stack([sg.sin(w[0] + 2 * w[1]), sg.zeros(()), sg.sin(3 * w[0] - w[1])]),
        (W, ROWS),
    ),
    "matrix product with rows of NaN": Case(
        lambda w, a: sg.where(GOOD[:, None], sg.tanh(a @ w), 0),
        lambda w, a: sg.concat([sg.tanh(a[:1] @ w), sg.zeros((1, 2)), sg.tanh(a[2:] @ w)]),
        (np.array([[0.5, 0.1], [-0.2, 0.4]]), ROWS),
    ),
    "einsum with rows of NaN": Case(
        lambda w, a: sg.where(GOOD, sg.einsum("ni,ij,nj->n", a, w, a) ** 3, 0),
        lambda w, a: sg.stack([(a[0] @ w @ a[0]) ** 3, sg.zeros(()), (a[2] @ w @ a[2]) ** 3]),
        (np.array([[0.5, 0.1], [-0.2, 0.4]]), ROWS),
    ),
    "gather": Case(
        lambda x: sg.where([True, False, True], sg.log(x[[2, 0, 3]]), 0),
        lambda x: sg.stack([sg.log(x[2]), sg.zeros(()), sg.log(x[3])]),
        (X,),
    ),
    "gather of a function": Case(
        lambda x: sg.where([True, False, True], sg.log(x)[[2, 0, 2]], 0),
        lambda x: sg.stack([sg.log(x[2]), sg.zeros(()), sg.log(x[2])]),
        (X,),
    ),
    "slices and concat": Case(
        lambda x: sg.where(x > 0, sg.concat([sg.log(x[:2]), sg.log(x[:1:-1])[::-1]]), 0),
        lambda x: _chosen(x, sg.log),
        (X,),
    ),
    "transposed": Case(
        lambda x: sg.where(x.T > 0, sg.log(x).T, 0),
        lambda x: sg.stack([sg.stack([sg.log(x[0, 0]), sg.zeros(())]), sg.stack([sg.log(x[0, 1]), sg.log(x[1, 1])])]),
        (np.array([[1.0, 2.0], [-1.0, 3.0]]),),
    ),
    "reshaped": Case(
        lambda x: sg.where(x.reshape(-1) > 0, sg.log(x).reshape(-1), 0),
        lambda x: sg.concat([sg.log(x[0]), sg.zeros(1), sg.log(x[1, 1:])]),
        (np.array([[1.0, 2.0], [-1.0, 3.0]]),),
    ),
    "cumulative sum": Case(
        lambda x: sg.where([True, True, False], sg.cumulative_sum(sg.log(x)), 0),
        lambda x: sg.stack([sg.log(x[0]), sg.log(x[0]) + sg.log(x[1]), sg.zeros(())]),
        (np.array([1.0, 2.0, 3.0]),),
    ),
    "clip guards itself": Case(
        lambda x: sg.where(x > 0, sg.log(sg.maximum(x, 0)), 0), lambda x: _chosen(x, sg.log), (X,)
    ),
    "a whole solution": Case(
        lambda x: sg.where(x[0, 0] > 10, sg.sum(sg.log(-x)), sg.sum(sg.inv(x) ** 2)),
        lambda x: (x[0, 0] ** 2 + x[0, 1] ** 2 + x[1, 0] ** 2 + x[1, 1] ** 2) / sg.det(x) ** 2,
        (np.array([[2.0, 0.5], [0.3, 1.0]]),),
    ),
}  # fmt: skip


def declare(case: Case) -> tuple[list[sg.Expr], dict[sg.Expr, Array]]:
    with sg.Graph():
        leaves = [sg.placeholder(f"x{i}", np.shape(value)) for i, value in enumerate(case.values)]
    return leaves, dict(zip(leaves, case.values, strict=True))


def _weights(shape: tuple[int, ...], order: int) -> Array:
    """Return fixed numbers near 1, so that derivatives of sums do not cancel."""
    return np.random.default_rng(order).uniform(0.5, 1.5, shape)


def derivatives(y: sg.Expr, x: sg.Expr) -> list[sg.Expr]:
    """Return the first three derivatives, each of a weighted sum of the one before; y may be infinite."""
    found = []
    for order in range(3):
        (y,) = sg.gradients(y, [x], [_weights(y.shape, order)], unconnected="zero")
        found.append(y)
    return found


@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_those_of_the_branch_taken(name: str) -> None:
    case = CASES[name]
    leaves, feed = declare(case)
    expected = interpreted(derivatives(case.plain(*leaves), leaves[0]), feed)
    if name not in ("product of rows", "maximum of rows"):
        assert all(np.all(np.isfinite(e)) for e in expected)
    found = derivatives(case.unsafe(*leaves), leaves[0])
    for engine in (interpreted, emitted):
        for order, (got, want) in enumerate(zip(engine(found, feed), expected, strict=True), 1):
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12, err_msg=f"order {order}, {engine.__name__}")


@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_those_of_the_branch_taken_in_the_eager_engine(name: str) -> None:
    case = CASES[name]
    leaves, feed = declare(case)
    expected = interpreted(derivatives(case.plain(*leaves), leaves[0]), feed)
    values = tensors(feed)
    x = values[leaves[0]].requires_grad_()
    (y,) = replay([case.unsafe(*leaves)], values)
    for order, want in enumerate(expected):
        if not y.requires_grad:
            np.testing.assert_array_equal(want, 0)
            break
        weights = eager.tensor(_weights(tuple(y.shape), order), dtype=eager.float64)
        (y,) = eager.autograd.grad(y, x, weights, create_graph=True, allow_unused=True, materialize_grads=True)
        got = y.detach().numpy()
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12, err_msg=f"order {order + 1}")
