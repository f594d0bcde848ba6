"""Expressions with values: every elementwise operation from the registry, every other one by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import symgraph as sg
from symgraph.op import REGISTRY, Kind, Op
from symgraph.ops.construct import apply


class Sample(NamedTuple):
    """An expression, and values for its placeholders."""

    node: sg.Expr
    feed: dict[sg.Expr, Any]


_BITS = {name for name in REGISTRY if name.startswith("bitwise")}
_TRUTH = {"logical_and", "logical_or", "logical_xor", "logical_not"}
_ATTRIBUTES: dict[str, Any] = {"polygamma": (1,), "astype": (np.dtype("float32"),)}
ELEMENTWISE = [name for name, op in REGISTRY.items() if op.kind is Kind.ELEMENTWISE]


def _argument_dtypes(op: Op, dtype: str) -> list[str]:
    if op.name == "where":
        return ["bool", dtype, dtype]
    kind = "int64" if op.name in _BITS else "bool" if op.name in _TRUTH else dtype
    return [kind] * (op.arity or 0)


def elementwise_sample(name: str, dtype: str = "float64", shape: Sequence[int] = (3,)) -> Sample:
    """Return an elementwise operation on placeholders of a new graph, with values inside its domain."""
    with sg.Graph():
        return declare_elementwise(name, dtype, shape)


def declare_elementwise(name: str, dtype: str = "float64", shape: Sequence[int] = (3,), prefix: str = "") -> Sample:
    """Declare placeholders for an elementwise operation in the graph that is open."""
    op = REGISTRY[name]
    random = np.random.default_rng(len(name) + sum(map(ord, name)))
    feed: dict[sg.Expr, Any] = {}
    domain = op.domain if len(op.domain) == op.arity else ((0.3, 2.0),) * (op.arity or 0)
    for i, (kind, (low, high)) in enumerate(zip(_argument_dtypes(op, dtype), domain, strict=True)):
        value = random.uniform(low, high, shape)
        value = {"bool": value > (low + high) / 2, "int64": random.integers(1, 5, shape)}.get(kind, value)
        feed[sg.placeholder(prefix + "xyz"[i], shape, kind)] = np.asarray(value, kind)
    return Sample(apply(op, *feed, attrs=_ATTRIBUTES.get(name, ())), feed)


def _declare(shapes: Sequence[Sequence[int | str]], sizes: dict[str, int], prefix: str = "") -> dict[sg.Expr, Any]:
    random = np.random.default_rng(7)
    feed = {}
    for name, shape in zip("xyz", shapes, strict=False):
        node = sg.placeholder(prefix + name, shape)
        feed[node] = random.uniform(0.5, 2.0, [sizes.get(str(s), s) for s in shape])  # type: ignore[arg-type]
    return feed


Make = Callable[..., sg.Expr]

_X, _Y = (2, 3), (3, 2)
STRUCTURED: dict[str, tuple[list[Sequence[int]], Make]] = {
    "sum": ([_X], sg.sum),
    "sum of one axis": ([_X], lambda x: sg.sum(x, axis=0)),
    "sum with keepdims": ([_X], lambda x: x / sg.sum(x, axis=1, keepdims=True)),
    "prod": ([_X], lambda x: sg.prod(x, axis=1)),
    "mean": ([_X], lambda x: sg.mean(x, axis=1)),
    "max": ([_X], lambda x: sg.max(x, axis=0)),
    "min": ([_X], sg.min),
    "any": ([_X], lambda x: sg.any(x > 1, axis=0)),
    "all": ([_X], lambda x: sg.all(x > 0.6, axis=0)),
    "argmax": ([_X], lambda x: sg.argmax(x, axis=1)),
    "argmin": ([_X], lambda x: sg.argmin(x, axis=0)),
    "logsumexp": ([_X], lambda x: sg.logsumexp(x, axis=1)),
    "vector_norm": ([_X], lambda x: sg.vector_norm(x, axis=1)),
    "cumulative_sum": ([_X], lambda x: sg.cumulative_sum(x, axis=1)),
    "exclusive_prod": ([_X], lambda x: apply(REGISTRY["exclusive_prod"], x, attrs=(1,))),
    "matmul": ([_X, _Y], lambda x, y: x @ y),
    "matmul of vectors": ([(3,), (3,)], lambda x, y: x @ y),
    "matmul with a product": ([_X, _Y], lambda x, y: x * (y.T * 2) * (x @ y @ x)),
    "matmul of batches": ([(2, 2, 3), (3, 2)], lambda x, y: x @ y),
    "einsum": ([_X, _Y], lambda x, y: sg.einsum("ij,jk->ki", x, y)),
    "reshape": ([_X], lambda x: sg.reshape(x, (3, 2)) * 2),
    "permute_dims": ([(2, 3, 2)], lambda x: sg.permute_dims(x, (1, 0, 2)) * 1.5),
    "transpose": ([_X], lambda x: x.T + 1),
    "transpose of batches": ([(2, 2, 3)], lambda x: sg.matrix_transpose(x) + 1),
    "expand_dims": ([_X], lambda x: sg.expand_dims(x, 1)),
    "squeeze": ([(2, 1, 3)], lambda x: sg.squeeze(x, 1)),
    "broadcast_to": ([(3,)], lambda x: sg.broadcast_to(x, (2, 3))),
    "full": ([()], lambda x: sg.full((2, 2), 3.0) * x + sg.broadcast_to(x, (2, 2))),
    "slice": ([(5,)], lambda x: x[1:4] - x[:3] + x[::2]),
    "slice backwards": ([(5,)], lambda x: x[::-1] + x[4:0:-1][0] + x[-1]),
    "slice of a matrix": ([_X], lambda x: x[1:, :2] + x[0, 1]),
    "place": ([(3,)], lambda x: sg.pad(x, (1, 2)) * 2),
    "gradient of a slice": ([(5,)], lambda x: sg.grad(sg.sum(x[::2] ** 2), x)),
    "concat": ([_X, _X], lambda x, y: sg.concat([x, y * 2], axis=1)),
    "stack": ([(3,), (3,)], lambda x, y: sg.stack([x, y], axis=1)),
    "gather": ([(3, 2)], lambda x: x[np.array([2, 0, 2])]),
    "gather along an axis": ([(2, 3)], lambda x: sg.take(x, np.array([2, 0]), axis=1)),
    "gather of pairs": ([(3, 2)], lambda x: x[np.array([2, 0]), np.array([1, 0])]),
    "scatter_add": ([(3,), (2,)], lambda x, y: x.at[np.array([1, 1])].add(y)),
    "scatter_set": ([(3,), (2,)], lambda x, y: x.at[np.array([2, 0])].set(y)),
    "softmax": ([_X], lambda x: sg.softmax(x, axis=1)),
    "log_softmax": ([_X], lambda x: sg.log_softmax(x, axis=0)),
    "arange": ([(3,)], lambda x: x * sg.arange(3)),
    "constants": ([(3,)], lambda x: x * sg.constant([0.1, -2.0, 1e-9]) + sg.constant([1.0, 1.0, 2.0]) * 1e20),
    "condition": ([_X], lambda x: sg.where((x > 1) & ~(x > 1.5), 1.0, 0.0)),
    "cast": ([_X], lambda x: (x * 3).astype("int64") // 2 + (x > 1).astype("int64")),
    "cholesky": ([(2, 2)], lambda x: sg.cholesky(x @ x.T + sg.eye(2))),
    "cholesky_pullback": (
        [(2, 2), (2, 2)],
        lambda x, y: apply(REGISTRY["cholesky_pullback"], sg.tril(x) + 2 * sg.eye(2), y),
    ),
    "solve": ([(2, 2), (2,)], lambda x, y: sg.solve(x + 2 * sg.eye(2), y)),
    "solve of batches": ([(2, 2, 2), (2, 2, 1)], lambda x, y: sg.solve(x + 2 * sg.eye(2), y)),
    "solve_triangular": ([(2, 2), (2, 1)], sg.solve_triangular),
    "solve_triangular transposed": (
        [(2, 2), (2, 1)], lambda x, y: sg.solve_triangular(x, y, lower=False, transposed=True)
    ),
    "inv": ([(2, 2)], lambda x: sg.inv(x + 2 * sg.eye(2))),
    "det": ([(2, 2)], sg.det),
    "slogdet": ([(2, 2)], lambda x: sum(sg.slogdet(x))),
    "shared parts": ([_X], lambda x: (sg.exp(x) + 1) / (sg.exp(x) + 2) * sg.sin(sg.exp(x) + 1)),
    "third derivative": ([()], lambda x: sg.grad(sg.grad(sg.grad(sg.sin(x) * sg.exp(x**2), x), x), x)),
}  # fmt: skip


def structured_sample(name: str) -> Sample:
    """Return one of the expressions of fixed shape written by hand, in a new graph."""
    with sg.Graph():
        return declare_structured(name)


def declare_structured(name: str, prefix: str = "") -> Sample:
    """Declare one of the expressions of fixed shape in the graph that is open."""
    shapes, make = STRUCTURED[name]
    feed = _declare(shapes, {}, prefix)
    return Sample(make(*feed), feed)


SYMBOLIC: dict[str, tuple[list[Sequence[int | str]], Make]] = {
    "mean": ([("n", "d")], lambda x: sg.mean(x, axis=0)),
    "gradient of a mean": ([("n", "d"), ("d",)], lambda x, y: sg.grad(sg.mean((x @ y) ** 2), y)),
    "differences": ([("n",)], lambda x: x[1:] - x[:-1]),
    "gradient of differences": ([("n",)], lambda x: sg.grad(sg.sum((x[1:] - x[:-1]) ** 2), x)),
    "every other": ([("n",)], lambda x: x[::2]),
    "backwards": ([("n",)], lambda x: x[::-1][1:]),
    "product of sizes": ([("n", "d")], lambda x: sg.reshape(x, (-1,)) / (x.shape[0] * x.shape[1] + 1)),
    "size from a sum": ([("2*n+1",)], lambda x: sg.sum(x) / sg.dim("n")),
    "ones": ([("n",)], lambda x: sg.ones((x.shape[0], 2)) * sg.arange(x.shape[0])[:, None]),
    "a name that is a size": ([("x",)], lambda x: x / x.shape[0]),
}


def symbolic_sample(name: str) -> Sample:
    """Return one of the expressions of symbolic shape written by hand."""
    shapes, make = SYMBOLIC[name]
    with sg.Graph():
        feed = _declare(shapes, {"n": 4, "d": 3, "2*n+1": 9, "x": 5})
        return Sample(make(*feed), feed)
