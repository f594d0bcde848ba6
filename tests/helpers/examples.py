"""One example or more of every operation that is not elementwise, on nodes and on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.special

import symgraph as sg
from symgraph.dims import dim, evaluate
from symgraph.op import FUNCTIONS, REGISTRY
from symgraph.ops import scatter
from symgraph.ops.construct import apply
from symgraph.ops.linalg import cholesky_pullback
from symgraph.ops.reductions import exclusive_prod

Array = np.ndarray[Any, Any]


class Example(NamedTuple):
    """An expression, said twice.

    Attributes:
        shapes: Of its placeholders, in ``n`` and ``m``.
        on_nodes: The expression on nodes.
        on_arrays: The same with NumPy.
        least: The least n for which it has a meaning.
        smooth: Whether it has derivatives.
        values: Makes the values instead of normal random numbers.
    """

    shapes: Sequence[Sequence[int | str]]
    on_nodes: Callable[..., Any]
    on_arrays: Callable[..., Any]
    least: int = 0
    smooth: bool = True
    values: Callable[..., Any] | None = None

    def declare(self, name: str = "x") -> list[sg.Expr]:
        """Return its placeholders in the graph that is open, and one that says how much n and m are."""
        return [sg.placeholder(f"{name}{i}", shape) for i, shape in enumerate([*self.shapes, ("n", "m")])]

    def draw(self, n: int, m: int = 2) -> list[Array]:
        """Return values for its placeholders; each element differs enough from every other."""
        sizes = {"n": n, "m": m}
        shapes = [[evaluate(dim(s), sizes) for s in shape] for shape in self.shapes]
        values = [_apart(np.random.default_rng(n + 10 * i), shape) for i, shape in enumerate(shapes)]
        if self.values is not None:
            values = [np.asarray(v) for v in self.values(*values)]
        return [*values, np.zeros((n, m))]


def _apart(random: np.random.Generator, shape: Sequence[int]) -> Array:
    count = int(np.prod(shape, dtype=int))
    return (random.permutation(count).reshape(shape) - count / 2 + 0.3) * (2.4 / max(count, 1)) + random.uniform(
        0, 0.01, shape
    )


def _dominant(x: Array, *rest: Array) -> tuple[Array, ...]:
    """Return well-conditioned matrices."""
    return (x * 0.3 + 1.5 * np.eye(x.shape[-1]), *rest)


def _positive(*values: Array) -> tuple[Array, ...]:
    return tuple(np.abs(v) + 0.2 for v in values)


def _gram(lib: Any, x: Any) -> Any:
    return x @ lib.matrix_transpose(x) + np.eye(2)


def _np_solve_triangular(a: Array, b: Array) -> Array:
    return np.linalg.solve(np.tril(a), b)


def _np_cholesky_pullback(a: Array, g: Array) -> Array:
    """Return the sum of ``g * dL`` for a change dx of each element, where dL = L Φ(L⁻¹ dx L⁻ᵀ) and Φ is half of it."""
    factor, n = np.tril(a), len(a)
    inverse, half = np.linalg.inv(factor), np.tri(n) - 0.5 * np.eye(n)
    out = np.empty((n, n))
    for i, j in np.ndindex(n, n):
        dx = np.zeros((n, n))
        dx[i, j] += 0.5
        dx[j, i] += 0.5
        out[i, j] = np.sum(np.tril(g) * (factor @ (half * (inverse @ dx @ inverse.T))))
    return out


def _updated(x: Array, index: Any, value: Any, add: bool = False) -> Array:
    out = x.copy()
    if add:
        np.add.at(out, index, value)
    else:
        out[index] = value
    return out


def _np_roll(x: Array) -> Array:
    return np.roll(np.roll(x, 1, 0), -1, 1)


def _softmax(x: Array, axis: int = -1) -> Array:
    return np.exp(x - scipy.special.logsumexp(x, axis=axis, keepdims=True))


def _exclusive(x: Array) -> Array:
    rows = [np.prod(np.delete(x, i, 0), axis=0) for i in range(len(x))]
    return np.reshape(rows, x.shape)


def _cross_entropy_of_classes(x: Array, labels: Array) -> Array:
    return scipy.special.logsumexp(x, axis=1) - x[np.arange(len(x)), labels]


def _n(node: Any) -> Any:
    """Return the first size of a node."""
    return node.shape[0]


_NM, _MN = ("n", "m"), ("m", "n")

EXAMPLES: dict[str, Example] = {
    # Reductions and scans
    "sum": Example([_NM], lambda x: sg.sum(x), np.sum),
    "sum of an axis": Example([_NM], lambda x: sg.sum(x * x, axis=0), lambda x: np.sum(x * x, axis=0)),
    "sum with keepdims": Example(
        [_NM], lambda x: x * sg.sum(x, 1, keepdims=True), lambda x: x * np.sum(x, 1, keepdims=True)
    ),
    "mean": Example([_NM], lambda x: sg.mean(x * x, axis=1), lambda x: np.mean(x * x, axis=1)),
    "mean of data": Example([_NM], lambda x: sg.mean(sg.sin(x)), lambda x: np.mean(np.sin(x)), 1),
    "prod": Example([_NM], lambda x: sg.prod(x, axis=0), lambda x: np.prod(x, axis=0)),
    "prod of all": Example([(3, 2)], lambda x: sg.prod(x), np.prod),
    "var": Example([_NM], lambda x: sg.var(x, axis=0, correction=1), lambda x: np.var(x, axis=0, ddof=1), 2),
    "var of all": Example([_NM], lambda x: sg.var(x), np.var, 1),
    "std": Example([_NM], lambda x: sg.std(x, axis=1), lambda x: np.std(x, axis=1)),
    "max": Example([_NM], lambda x: sg.max(x * x, axis=0), lambda x: np.max(x * x, axis=0), 1),
    "min": Example([_NM], lambda x: sg.min(x * x, axis=1), lambda x: np.min(x * x, axis=1)),
    "any": Example([_NM], lambda x: sg.any(x > 1, axis=0), lambda x: np.any(x > 1, axis=0), smooth=False),
    "all": Example([_NM], lambda x: sg.all(x > -1), lambda x: np.all(x > -1), smooth=False),
    "argmax": Example([_NM], lambda x: sg.argmax(x, axis=0), lambda x: np.argmax(x, axis=0), 1, smooth=False),
    "argmin": Example([_NM], lambda x: sg.argmin(x), np.argmin, 1, smooth=False),
    "logsumexp": Example([_NM], lambda x: sg.logsumexp(x, axis=1), lambda x: scipy.special.logsumexp(x, axis=1)),
    "logsumexp of all": Example([_NM], lambda x: sg.logsumexp(x), lambda x: scipy.special.logsumexp(x), 1),
    "vector_norm": Example([_NM], lambda x: sg.vector_norm(x, axis=1), lambda x: np.linalg.norm(x, axis=1)),
    "vector_norm of order 3": Example(
        [_NM], lambda x: sg.vector_norm(x, ord=3), lambda x: np.sum(np.abs(x) ** 3) ** (1 / 3), 1
    ),
    "vector_norm of order 1": Example(
        [_NM], lambda x: sg.vector_norm(x, 1, ord=1), lambda x: np.linalg.norm(x, 1, axis=1)
    ),
    "vector_norm of order inf": Example(
        [_NM], lambda x: sg.vector_norm(x, 1, ord=np.inf), lambda x: np.max(np.abs(x), axis=1)
    ),
    "cumulative_sum": Example([_NM], lambda x: sg.cumulative_sum(x * x, axis=0), lambda x: np.cumsum(x * x, axis=0)),
    "exclusive_prod": Example([_NM], lambda x: exclusive_prod(x, 0), _exclusive),
    # Products
    "matmul": Example([_NM, _MN], lambda x, y: x @ y, np.matmul),
    "matmul of a transpose": Example([_NM, _NM], lambda x, y: x.T @ sg.sin(y), lambda x, y: x.T @ np.sin(y)),
    "matmul with a vector": Example([_NM, ("m",)], lambda x, y: sg.matmul(x, y), np.matmul),
    "matmul of a vector": Example([("n",), _NM], lambda x, y: sg.matmul(x, y), np.matmul),
    "matmul of batches": Example([(3, "n", "m"), (3, "m", "n")], lambda x, y: x @ y, np.matmul),
    "matmul of batches and one": Example([(3, 1, "n", "m"), (2, "m", 3)], lambda x, y: x @ y, np.matmul),
    "matmul of batches and a vector": Example([(3, "n", "m"), ("m",)], lambda x, y: x @ y, np.matmul),
    "dot": Example([("n",), ("n",)], lambda x, y: sg.dot(x, y), np.dot),
    "dot of three axes": Example([(2, "n"), (3, "n", 2)], lambda x, y: sg.dot(x, y), np.dot),
    "vecdot": Example([_NM, ("m",)], lambda x, y: sg.vecdot(x, y), lambda x, y: x @ y),
    "tensordot": Example(
        [(2, "n", 3), (3, "n", 2)],
        lambda x, y: sg.tensordot(x, y, ([1, 2], [1, 0])),
        lambda x, y: np.tensordot(x, y, ([1, 2], [1, 0])),
    ),
    "outer": Example([("n",), ("m",)], lambda x, y: sg.outer(x, y), np.outer),
    "einsum": Example([_NM, _MN], lambda x, y: sg.einsum("ij,jk->ki", x, y), lambda x, y: (x @ y).T),
    "einsum of three": Example(
        [_NM, (2, "m"), ("n",)],
        lambda x, y, z: sg.einsum("ij,kj,i->k", x, y, z),
        lambda x, y, z: np.einsum("ij,kj,i->k", x, y, z),
    ),
    "einsum with a sum": Example(
        [_NM, ("n",)], lambda x, y: sg.einsum("ij,i->", x, y), lambda x, y: np.einsum("ij,i->", x, y)
    ),
    "einsum of a diagonal": Example([("n", "n")], lambda x: sg.einsum("ii->i", x * x), lambda x: np.diagonal(x * x)),
    "einsum of batches": Example([("n", 2, 3), ("n", 3, 2)], lambda x, y: sg.einsum("bij,bjk->bik", x, y), np.matmul),
    # Movement
    "reshape": Example([("n", 4)], lambda x: sg.reshape(x, (-1, 2)) ** 2, lambda x: np.reshape(x, (-1, 2)) ** 2),
    "reshape of a product": Example([_NM], lambda x: sg.reshape(x.T * 2, (-1,)), lambda x: np.reshape(x.T * 2, -1)),
    "permute_dims": Example(
        [("n", 2, 3)], lambda x: sg.permute_dims(x, (2, 0, 1)) ** 2, lambda x: np.transpose(x, (2, 0, 1)) ** 2
    ),
    "matrix_transpose": Example(
        [(2, "n", 3)], lambda x: sg.matrix_transpose(x) ** 2, lambda x: np.swapaxes(x, 1, 2) ** 2
    ),
    "swapaxes": Example([(2, "n", 3)], lambda x: sg.swapaxes(x, 0, 2) * 3, lambda x: np.swapaxes(x, 0, 2) * 3),
    "moveaxis": Example([(2, "n", 3)], lambda x: sg.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, 0, -1)),
    "expand_dims": Example([_NM], lambda x: sg.expand_dims(x, (0, 2)), lambda x: np.expand_dims(x, (0, 2))),
    "squeeze": Example([("n", 1, 2, 1)], lambda x: sg.squeeze(x) ** 2, lambda x: x[:, 0, :, 0] ** 2),
    "broadcast_to": Example(
        [("n", 1)], lambda x: sg.broadcast_to(x, (3, _n(x), 2)) ** 2, lambda x: np.broadcast_to(x, (3, len(x), 2)) ** 2
    ),
    "broadcast_arrays": Example(
        [("n", 1), ("m",)], lambda x, y: sg.sin(sg.add(*sg.broadcast_arrays(x, y))), lambda x, y: np.sin(x + y)
    ),
    "concat": Example(
        [_NM, (3, "m")], lambda x, y: sg.concat([x * 2, y, x]), lambda x, y: np.concatenate([x * 2, y, x])
    ),
    "concat of flattened": Example(
        [_NM, (3,)], lambda x, y: sg.concat([x, y], axis=None), lambda x, y: np.concatenate([x, y], axis=None)
    ),
    "stack": Example([_NM, _NM], lambda x, y: sg.stack([x, y * x], axis=1), lambda x, y: np.stack([x, y * x], axis=1)),
    "flip": Example([_NM], lambda x: sg.flip(x, 0) * x, lambda x: np.flip(x, 0) * x),
    "roll": Example([("n", 3)], lambda x: sg.roll(x, (1, -1), (0, 1)) * x, lambda x: _np_roll(x) * x, 1),
    "roll of all": Example([("n", 3)], lambda x: sg.roll(x, 2), lambda x: np.roll(x, 2), 1),
    "tile": Example([_NM], lambda x: sg.tile(x, (2, 3)) ** 2, lambda x: np.tile(x, (2, 3)) ** 2),
    "repeat": Example([_NM], lambda x: sg.repeat(x, 2, axis=0) ** 2, lambda x: np.repeat(x, 2, axis=0) ** 2),
    "pad": Example([_NM], lambda x: sg.pad(x, ((1, 0), (2, 1))) + 1, lambda x: np.pad(x, ((1, 0), (2, 1))) + 1),
    "slices": Example([("n", 5)], lambda x: x[:, 4:0:-2] * x[:, :2], lambda x: x[:, 4:0:-2] * x[:, :2]),
    "slices of a symbolic size": Example(
        [_NM], lambda x: x[1:] * x[:-1] + x[-1:], lambda x: x[1:] * x[:-1] + x[-1:], 1
    ),
    "every other, backwards": Example([("n",)], lambda x: x[::-2] ** 2, lambda x: x[::-2] ** 2),
    "place": Example(
        [("n",)],
        lambda x: apply(REGISTRY["place"], x, attrs=((2 * _n(x) + 1,), (1,), (2,))),
        lambda x: _updated(np.zeros(2 * len(x) + 1), slice(1, None, 2), x),
    ),
    # Indexing
    "getitem": Example([("n", 3)], lambda x: x[0, ..., None, 1:] ** 2, lambda x: x[0, ..., None, 1:] ** 2, 1),
    "gather": Example([(3, "n")], lambda x: x[[2, 0, 2]] ** 2, lambda x: x[[2, 0, 2]] ** 2),
    "gather of pairs": Example(
        [(3, "n", 2)], lambda x: x[[2, 0, 2], :, [1, 0, 1]], lambda x: x[[2, 0, 2], :, [1, 0, 1]]
    ),
    "take": Example(
        [("n", 3)], lambda x: sg.take(x, [[2, 0], [1, -1]], axis=1), lambda x: np.take(x, [[2, 0], [1, -1]], axis=1)
    ),
    "take_along_axis": Example(
        [_NM],
        lambda x: sg.take_along_axis(x, sg.argmax(x, 1, True), 1),
        lambda x: np.take_along_axis(x, np.argmax(x, 1, keepdims=True), 1),
    ),
    "at_set": Example(
        [(4, "n"), (2, "n")], lambda x, y: x.at[[3, 1]].set(y * y), lambda x, y: _updated(x, [3, 1], y * y)
    ),
    "at_set at a slice": Example(
        [(4, "n"), (2, "n")], lambda x, y: x.at[1:4:2].set(y * y), lambda x, y: _updated(x, slice(1, 4, 2), y * y)
    ),
    "at_set at repeated places": Example(
        [(4,), (3,)], lambda x, y: x.at[[3, 1, 3]].set(y) ** 2, lambda x, y: _updated(x, [3, 1, 3], y) ** 2
    ),
    "at_add": Example(
        [(4, "n"), (3, "n")],
        lambda x, y: x.at[[3, 1, 3]].add(y) ** 2,
        lambda x, y: _updated(x, [3, 1, 3], y, True) ** 2,
    ),
    "scatter_add": Example(
        [(4,), (3,)],
        lambda x, y: scatter.scatter_add(x, y, [sg.constant([3, -1, 0])], (0,)),
        lambda x, y: _updated(x, [3, -1, 0], y, True),
    ),
    "scatter_set": Example(
        [(4,), (3,)],
        lambda x, y: scatter.scatter_set(x, y, [sg.constant([3, -2, 0])], (0,)),
        lambda x, y: _updated(x, [3, -2, 0], y),
    ),
    "where": Example(
        [_NM, ("m",)], lambda x, y: sg.where(x > y, x * y, sg.sin(x)), lambda x, y: np.where(x > y, x * y, np.sin(x))
    ),
    # Triangles and arrays from sizes
    "one_hot": Example(
        [_NM],
        lambda x: x.T @ sg.one_hot(sg.arange(_n(x)) // 2, 3),
        lambda x: x.T @ np.eye(9)[np.arange(len(x)) // 2][:, :3],
    ),
    "tril": Example([("n", "n")], lambda x: sg.tril(x, 1) ** 2, lambda x: np.tril(x, 1) ** 2),
    "triu": Example([(2, "n", "n")], lambda x: sg.triu(x, -1) ** 2, lambda x: np.triu(x, -1) ** 2),
    "diag": Example([("n",)], lambda x: sg.diag(x * x, 1), lambda x: np.diag(x * x, 1)),
    "diag of a matrix": Example([("n", "n")], lambda x: sg.diag(x * x), lambda x: np.diag(x * x)),
    "diagonal": Example([("n", "n", 2)], lambda x: sg.diagonal(x * x), lambda x: np.diagonal(x * x)),
    "trace": Example([("n", "n")], lambda x: FUNCTIONS["trace"](x @ x), lambda x: np.trace(x @ x)),
    "eye": Example(
        [("n", "n")],
        lambda x: x * sg.eye(_n(x), k=1) + sg.eye(_n(x)),
        lambda x: x * np.eye(len(x), k=1) + np.eye(len(x)),
    ),
    "arange": Example([("n",)], lambda x: x * sg.arange(1, _n(x) + 1), lambda x: x * np.arange(1, len(x) + 1)),
    "linspace": Example([(4,)], lambda x: x * sg.linspace(1, 2, 4), lambda x: x * np.linspace(1, 2, 4)),
    "full": Example([("n",)], lambda x: x + sg.full((2, _n(x)), 3.0), lambda x: x + np.full((2, len(x)), 3.0)),
    "zeros and ones": Example(
        [("n",)], lambda x: x * sg.ones((2, _n(x))) + sg.zeros(_n(x)), lambda x: x * np.ones((2, len(x)))
    ),
    "like": Example(
        [_NM],
        lambda x: sg.full_like(x, 2) * x + sg.ones_like(x) + sg.zeros_like(x) * sg.empty_like(x),
        lambda x: 2 * x + 1,
    ),
    "a size": Example([_NM], lambda x: x * _n(x) / (_n(x) + 1), lambda x: x * len(x) / (len(x) + 1)),
    # Losses
    "log_softmax": Example([_NM], lambda x: sg.log_softmax(x), lambda x: np.log(_softmax(x))),
    "softmax": Example([("n", 3)], lambda x: sg.softmax(x, axis=1) ** 2, lambda x: _softmax(x) ** 2),
    "mean_squared_error": Example(
        [_NM, _NM], lambda x, y: sg.mean_squared_error(x, y), lambda x, y: np.mean((x - y) ** 2), 1
    ),
    "sigmoid_cross_entropy": Example(
        [_NM, _NM],
        lambda x, y: sg.sigmoid_cross_entropy(x, y),
        lambda x, y: -(y * np.log(scipy.special.expit(x)) + (1 - y) * np.log(scipy.special.expit(-x))),
    ),
    "softmax_cross_entropy": Example(
        [("n", 3), ("n", 3)],
        lambda x, y: sg.softmax_cross_entropy(x, y),
        lambda x, y: -np.sum(y * np.log(_softmax(x)), axis=1),
    ),
    "softmax_cross_entropy of classes": Example(
        [("n", 4)],
        lambda x: sg.softmax_cross_entropy(x, sg.arange(_n(x)) // 2),
        lambda x: _cross_entropy_of_classes(x, np.arange(len(x)) // 2),
    ),
    # Linear algebra
    "cholesky": Example([(2, "n")], lambda x: sg.cholesky(_gram(sg, x)), lambda x: np.linalg.cholesky(_gram(np, x))),
    "cholesky_pullback": Example(
        [("n", "n"), ("n", "n")],
        lambda a, g: cholesky_pullback(sg.tril(a), g),
        _np_cholesky_pullback,
        values=_dominant,
    ),
    "solve": Example([("n", "n"), ("n", 2)], lambda a, b: sg.solve(a, b), np.linalg.solve, 1, values=_dominant),
    "solve a vector": Example([("n", "n"), ("n",)], lambda a, b: sg.solve(a, b), np.linalg.solve, 1, values=_dominant),
    "solve_triangular": Example(
        [("n", "n"), ("n", 2)], lambda a, b: sg.solve_triangular(a, b), _np_solve_triangular, 1, values=_dominant
    ),
    "solve_triangular, upper and transposed": Example(
        [("n", "n"), ("n",)],
        lambda a, b: sg.solve_triangular(a, b, lower=False, transposed=True),
        lambda a, b: np.linalg.solve(np.triu(a).T, b),
        1,
        values=_dominant,
    ),
    "inv": Example([("n", "n")], lambda x: sg.inv(x), np.linalg.inv, 1, values=_dominant),
    "det": Example([(2, "n", "n")], lambda x: sg.det(x), np.linalg.det, 1, values=_dominant),
    "slogdet": Example(
        [("n", "n")], lambda x: sg.add(*sg.slogdet(x)), lambda x: sum(np.linalg.slogdet(x)), 1, values=_dominant
    ),
}
