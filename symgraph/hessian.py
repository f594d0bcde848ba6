"""Second derivatives as expressions: the gradient, differentiated in all directions at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph.arraytype import format_shape
from symgraph.derive.batch import batch
from symgraph.dims import product
from symgraph.errors import DifferentiationError, at_user_line
from symgraph.expr import PLACEHOLDER, Expr, make_leaf, topological
from symgraph.gradients import gradients
from symgraph.op import REGISTRY, Kind
from symgraph.ops.creation import eye
from symgraph.ops.movement import permute_dims, reshape
from symgraph.rewrite import rewrite
from symgraph.structure import flatten, restore


def hessian(y: Any, x: Any) -> Any:
    """Return the second derivatives of a scalar.

    The graph does not depend on how many elements x has: its sizes may be symbolic.

    Args:
        y: A scalar node.
        x: A node, or a list, tuple or dict of such structures: placeholders, variables, or intermediate nodes.

    Returns:
        For one node x, a node of shape (*x.shape, *x.shape). For a structure, in place of each node ``a`` in it
        the same structure again, with the block of shape (*a.shape, *b.shape) in place of each node ``b``:
        the derivative with respect to ``b`` of the gradient with respect to ``a``. Where y does not depend
        on a node, its blocks are zeros.

    Raises:
        DifferentiationError: y is not a scalar, y or a part of x is not of a floating-point dtype, or an
            operation on the way has no second derivative.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph():
        ...     x = sg.placeholder("x", ("n",))
        >>> sg.evaluate(sg.hessian(sg.sum(x) ** 2 + sg.sum(x**3), x), {x: [1.0, 2.0]})
        array([[ 8.,  2.],
               [ 2., 14.]])
        >>> sg.hessian(sg.sum(x * x), {"x": x})["x"]["x"].shape
        (n, n)
    """
    if isinstance(y, Expr) and y.ndim:
        shown = f"{y!r} has shape {format_shape(y.shape)}"
        raise DifferentiationError(at_user_line(f"hessian: the second derivatives of a scalar are asked for, and {shown}"))
    leaves: list[Expr] = flatten(x)
    slopes = gradients(y, leaves, unconnected="zero")
    rows: list[list[Any]] = []
    for i, slope in enumerate(slopes):
        known = [_transposed(rows[j][i], leaves[j].ndim) for j in range(i)] if _is_symmetric(y) else []
        rows.append([*known, *_row(slope, leaves[i], leaves[len(known) :])])
    blocks = iter(rewrite([block for row in rows for block in row], keep=frozenset(leaves)))
    return restore(x, [restore(x, [next(blocks) for _ in row]) for row in rows])


def _row(slope: Expr, x: Expr, others: Sequence[Expr]) -> list[Any]:
    """Return the derivatives of one gradient with respect to nodes: its pullback, for a batch of all unit cotangents."""
    if not slope.ndim:
        return gradients(slope, others, unconnected="zero")
    direction = make_leaf(PLACEHOLDER, ("direction", "hessian"), slope.type)
    pulled = gradients(slope, others, [direction], unconnected="zero")
    count = product(slope.shape)
    units = reshape(eye(count, dtype=slope.dtype), (count, *slope.shape))
    blocks = batch(pulled, {direction: units}, count)
    return [reshape(block, (*x.shape, *other.shape)) for block, other in zip(blocks, others, strict=True)]


def _transposed(block: Expr, rank: int) -> Any:
    """Return the block on the other side of the diagonal, from one whose first axes, so many, are those of a row."""
    return permute_dims(block, (*range(rank, block.ndim), *range(rank)))


def _is_symmetric(y: Expr) -> bool:
    """Tell whether the gradient is that of a function: a user's own operation may have any derivative rule."""
    return all(node.op.kind is Kind.LEAF or REGISTRY.get(node.op.name) is node.op for node in topological([y]))
