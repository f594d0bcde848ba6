"""Stencils: what a slice's derivative puts back is computed where it is needed, not stored and read again.

The gradient of ``x[1:] - x[:-1]`` places cotangents at shifted positions. Where such a cotangent is a short
formula of arrays that are at hand, it is cheaper to compute it at the shifted index than to write it to
memory in one loop and read it in the next; the loops of the whole stencil then become one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from symgraph.compile.lower import is_read_through
from symgraph.dims import Shape, Size
from symgraph.expr import Expr, constant, rebuild, topological
from symgraph.op import FUNCTIONS, REGISTRY, Kind
from symgraph.ops.construct import apply
from symgraph.ops.elementwise import greater_equal, less, logical_and, where

LIMIT = 16
"""How many operations are computed again at most: what Rosenbrock's function takes, with room
(``python -m benchmarks.gradient_cost`` shows what it saves)."""

_CHEAP = frozenset({"square", "abs", "sign", "reciprocal", "relu", "maximum", "minimum"})


def sink_places(outputs: Sequence[Expr], given: Iterable[Expr]) -> list[Expr]:
    """Return the outputs with placed formulas computed at the place they are put to."""
    leaves = set(given)
    depth: dict[Expr, int] = {}
    made: dict[Expr, Expr] = {}
    for node in topological(outputs, stop=leaves):
        new = node if node in leaves or not node.args else rebuild(node, [made[arg] for arg in node.args])
        depth[new] = _depth(new, leaves, depth)
        if new.op.name == "place" and 0 < depth[new.args[0]] <= LIMIT and all(s in (1, -1) for s in new.attrs[2]):
            new = _sunk(new, leaves)
            depth[new] = LIMIT + 1
        made[node] = new
    return [made[output] for output in outputs]


def _depth(node: Expr, leaves: set[Expr], depth: dict[Expr, int]) -> int:
    """Count the operations of a cheap formula of leaves; more than the limit for anything else."""
    if node in leaves or not node.args:
        return 0
    if is_read_through(node):
        return depth[node.args[0]]
    cheap = node.op.kind is Kind.ELEMENTWISE and (node.op.scalar is not None or node.op.name in _CHEAP)
    return 1 + sum(depth.get(arg, LIMIT) for arg in node.args) if cheap else LIMIT + 1


def _sunk(node: Expr, leaves: set[Expr]) -> Expr:
    shape, starts, strides = node.attrs
    formula = node.args[0]
    inside = _inside(formula.shape, shape, starts, strides)
    moved = _moved(formula, shape, starts, strides, leaves, {})
    result: Expr = moved if inside is None else where(inside, moved, constant(0, node.dtype))
    return result


def _moved(
    node: Expr, shape: Shape, starts: Sequence[Size], strides: Sequence[int], leaves: set[Expr], done: dict[Expr, Expr]
) -> Expr:
    """Return a formula of leaves at shifted positions."""
    if node not in done:
        if node in leaves or is_read_through(node):
            done[node] = _placed(node, shape, starts, strides)
        else:
            args = [_moved(arg, shape, starts, strides, leaves, done) for arg in node.args]
            done[node] = apply(node.op, *args, attrs=node.attrs)
    return done[node]


def _placed(node: Expr, shape: Shape, starts: Sequence[Size], strides: Sequence[int]) -> Expr:
    skipped = len(shape) - node.ndim
    single = [size == 1 for size in node.shape]
    target = tuple(1 if one else s for one, s in zip(single, shape[skipped:], strict=True))
    at = tuple(0 if one else s for one, s in zip(single, starts[skipped:], strict=True))
    by = tuple(1 if one else s for one, s in zip(single, strides[skipped:], strict=True))
    if target == node.shape and all(a == 0 for a in at) and all(b == 1 for b in by):
        return node
    placed: Expr = apply(REGISTRY["place"], node, attrs=(target, at, by))
    return placed


def _inside(size: Shape, shape: Shape, starts: Sequence[Size], strides: Sequence[int]) -> Any:
    """Return where the placed array has elements; None where it has them everywhere."""
    condition = None
    for axis, (count, whole, start, stride) in enumerate(zip(size, shape, starts, strides, strict=True)):
        if count == whole and stride == 1:
            continue
        first, stop = (start, start + count) if stride == 1 else (start - count + 1, start + 1)
        index = FUNCTIONS["expand_dims"](FUNCTIONS["arange"](whole), tuple(range(1, len(shape) - axis)))
        for test, bound, trivial in ((greater_equal, first, 0), (less, stop, whole)):
            if bound != trivial:
                holds = test(index, constant(bound, "int64"))
                condition = holds if condition is None else logical_and(condition, holds)
    return condition
