"""Second derivatives as expressions: the gradient, differentiated in all directions at once."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from symgraph.derive.batch import batch
from symgraph.derive.pullback import contraction_labels
from symgraph.dims import product
from symgraph.errors import DifferentiationError, at_user_line
from symgraph.expr import PLACEHOLDER, Expr, make_leaf, topological
from symgraph.gradients import gradients
from symgraph.op import REGISTRY, Kind
from symgraph.ops.construct import cast
from symgraph.ops.contraction import einsum
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
        the derivative with respect to ``b`` of the gradient with respect to ``a``, in the dtype of ``b``.
        Where y does not depend on a node, its blocks are zeros.

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
        raise DifferentiationError(at_user_line(f"hessian: a scalar is expected, got {y!r}, which is not one: sum it"))
    leaves: list[Expr] = flatten(x)
    slopes = gradients(y, leaves, unconnected="zero")
    symmetric = _is_symmetric(y) and _are_independent(leaves)
    rows: list[list[Any]] = []
    for i, slope in enumerate(slopes):
        known = [_transposed(rows[j][i], leaves[j]) for j in range(i)] if symmetric else []
        rows.append([*known, *_row(slope, leaves[i], leaves[len(known) :])])
    blocks = iter(rewrite([block for row in rows for block in row], keep=frozenset(leaves)))
    return restore(x, [restore(x, [next(blocks) for _ in row]) for row in rows])


def _row(slope: Expr, x: Expr, others: Sequence[Expr]) -> list[Any]:
    """Return the derivatives of x's gradient with respect to nodes: its pullback of all unit cotangents, as a batch."""
    if not slope.ndim:
        return gradients(slope, others, unconnected="zero")
    direction = make_leaf(PLACEHOLDER, ("direction", "hessian"), slope.type)
    pulled = gradients(slope, others, [direction], unconnected="zero")
    count = product(slope.shape)
    units = reshape(eye(count, dtype=slope.dtype), (count, *slope.shape))
    blocks = batch(pulled, {direction: units, **_products_with_units(pulled, direction)}, count)
    return [reshape(block, (*x.shape, *other.shape)) for block, other in zip(blocks, others, strict=True)]


def _products_with_units(outputs: Sequence[Expr], direction: Expr) -> dict[Expr, Any]:
    """Return the products that read the direction, for all unit directions at once: they select, and need no sums."""
    found = {}
    for node in topological(outputs):
        if node.op.kind is Kind.CONTRACT and (node.attrs or node.ndim <= 2) and node.args.count(direction) == 1:
            selected = _selected(node, node.args.index(direction), direction)
            if selected is not None:
                found[node] = reshape(selected, (product(direction.shape), *node.shape))
    return found


def _selected(node: Expr, position: int, direction: Expr) -> Any:
    """Return a product with all unit directions, whose axes come first: one is 1 where they equal its own axes.

    A label that is summed over then names the axis of the unit in the other operands; a label of the result
    meets it in an identity matrix.
    """
    inputs, result = contraction_labels(node.op, node.args, node.attrs)
    labels = inputs[position]
    spare = [letter for letter in string.ascii_letters if letter not in "".join(inputs)]
    others = [other for i, other in enumerate(inputs) if i != position]
    summed = [label for label in labels if label not in result]
    if len(spare) < len(labels) or len(set(labels)) < len(labels) or not set(summed) <= set("".join(others)):
        return None
    units = dict(zip(labels, spare, strict=False))
    terms = [other.translate({ord(label): units[label] for label in summed}) for other in others]
    operands = [arg for i, arg in enumerate(node.args) if i != position]
    for label, size in zip(labels, direction.shape, strict=True):
        if label in result:
            terms.append(units[label] + label)
            operands.append(eye(size, dtype=direction.dtype))
    order = "".join(units.values()) + result
    if len(operands) == 1 and len(set(terms[0])) == len(terms[0]) == len(order):
        return permute_dims(operands[0], tuple(terms[0].index(label) for label in order))
    return einsum(f"{','.join(terms)}->{order}", *operands)


def _transposed(block: Expr, x: Expr) -> Any:
    """Return the block on the other side of the diagonal, from the one whose row is that of x."""
    return cast(permute_dims(block, (*range(x.ndim, block.ndim), *range(x.ndim))), x.dtype)


def _is_symmetric(y: Expr) -> bool:
    """Tell whether the gradient is that of a function: a user's own operation may have any derivative rule."""
    return all(node.op.kind is Kind.LEAF or REGISTRY.get(node.op.name) is node.op for node in topological([y]))


def _are_independent(nodes: Sequence[Expr]) -> bool:
    """Tell whether no node is computed from another: only then are mixed derivatives the same in either order."""
    return not any(other in topological([node]) for node in nodes if node.args for other in nodes if other is not node)
