"""Batching: a graph for one value of some nodes becomes a graph for a whole batch of values.

Every node that depends on the batched ones gains a leading axis; what does not stays as it is, computed once
and shared. There is one rule for each kind of operation. Products and systems of equations with one matrix
that all members of the batch share become one product, one factorisation.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from symgraph.arraytype import ArrayType
from symgraph.dims import Size, product
from symgraph.errors import DifferentiationError, ShapeError, at_user_line, declared_at
from symgraph.expr import Expr, derived, make, topological
from symgraph.op import Kind
from symgraph.ops.contraction import matmul, parse_subscripts
from symgraph.ops.creation import arange
from symgraph.ops.elementwise import multiply
from symgraph.ops.movement import broadcast_to, expand_dims, matrix_transpose, moveaxis, permute_dims, reshape, squeeze
from symgraph.ops.reductions import sum as total

Rule = Callable[[Expr, Sequence[Expr], Sequence[bool], Size], Any]
"""``(node, arguments, which of them are batched, size of the batch) ->`` the batched node."""


def batch(outputs: Sequence[Expr], values: Mapping[Expr, Expr], size: Size) -> list[Expr]:
    """Return the outputs for a batch of values of some nodes, along a new leading axis.

    The graph grows by at most a few nodes for each node that depends on a batched one.

    Args:
        outputs: Any nodes.
        values: For each node that is batched, leaf or not, its values, of shape (size, *shape of the node).
        size: How many members the batch has; it may be symbolic.

    Returns:
        One node per output, of shape (size, *shape of the output); an output that depends on none of the
        batched nodes is repeated.

    Raises:
        ShapeError: the values of a node have another shape or dtype.
        DifferentiationError: an operation is met that cannot be batched, such as a user's opaque one.

    Example:
        >>> import symgraph as sg
        >>> from symgraph.derive.batch import batch
        >>> with sg.Graph():
        ...     x, many = sg.placeholder("x", (3,)), sg.placeholder("many", ("b", 3))
        >>> (norms,) = batch([sg.vector_norm(x)], {x: many}, sg.dim("b"))
        >>> sg.evaluate(norms, {many: [[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]]})
        array([5., 2.])
    """
    for node, value in values.items():
        expected = ArrayType(node.type.dtype, (size, *node.shape))
        if value.type is not expected:
            raise ShapeError(at_user_line(f"batch: a batch of {node!r} is an array {expected}, got {value.type}"))
    carried = dict(values)
    with derived() as come_from:
        for node in topological(outputs, stop=frozenset(values)):
            flags = [arg in carried for arg in node.args]
            if node in carried or True not in flags:
                continue
            come_from(node.location)
            rule = _RULES.get(node.op.kind, _refuse)
            carried[node] = rule(node, [carried.get(arg, arg) for arg in node.args], flags, size)
    return [carried[node] if node in carried else _repeated(node, size) for node in outputs]


def _repeated(x: Expr, size: Size) -> Any:
    return broadcast_to(x, (size, *x.shape))


def _all_batched(args: Sequence[Expr], flags: Sequence[bool], size: Size) -> list[Any]:
    return [arg if batched else _repeated(arg, size) for arg, batched in zip(args, flags, strict=True)]


def _aligned(x: Expr, rank: int) -> Any:
    """Return a batched value with size-1 axes after the batch axis, so that it broadcasts as one of this rank."""
    return expand_dims(x, tuple(range(1, 2 + rank - x.ndim)))


def _elementwise(node: Expr, args: Sequence[Expr], flags: Sequence[bool], size: Size) -> Expr:
    """What is not batched lines up from the last axis, as it did."""
    lined_up = [_aligned(arg, node.ndim) if batched else arg for arg, batched in zip(args, flags, strict=True)]
    return make(node.op, tuple(lined_up), node.attrs)


_SHIFTS: dict[str, Callable[[Any, Size], Any]] = {
    "axis": lambda axis, size: axis + 1,
    "axes": lambda axes, size: tuple(axis + 1 for axis in axes),
    "keepdims": lambda keepdims, size: keepdims,
    "shape": lambda shape, size: (size, *shape),
    "sizes": lambda sizes, size: (size, *sizes),
    "starts": lambda starts, size: (0, *starts),
    "steps": lambda steps, size: (1, *steps),
}
"""What attributes that speak of axes become when there is one more in front."""


def _shifted(node: Expr, size: Size) -> tuple[Any, ...]:
    names = node.op.attributes
    if not _SHIFTS.keys() >= set(names):
        raise _refusal(node, "its attributes are not known")
    return tuple(_SHIFTS[name](value, size) for name, value in zip(names, node.attrs, strict=True))


def _along_axes(node: Expr, args: Sequence[Expr], flags: Sequence[bool], size: Size) -> Expr:
    """Reductions and scans."""
    return make(node.op, tuple(args), _shifted(node, size))


def _movement(node: Expr, args: Sequence[Expr], flags: Sequence[bool], size: Size) -> Expr:
    attrs = _shifted(node, size)
    whole = _all_batched(args, flags, size)
    if node.op.name == "permute_dims":
        attrs = ((0, *attrs[0]),)
    elif node.op.name == "broadcast_to":
        whole = [_aligned(whole[0], node.ndim)]
    return make(node.op, tuple(whole), attrs)


def _contraction(node: Expr, args: Sequence[Expr], flags: Sequence[bool], size: Size) -> Any:
    if not node.attrs:
        return _matmul(node, args, flags)
    inputs, result = parse_subscripts(node.attrs[0])
    label = next((letter for letter in string.ascii_letters if letter not in node.attrs[0]), None)
    if label is None:
        raise _refusal(node, "its subscripts leave no letter for the batch")
    terms = [label + labels if batched else labels for labels, batched in zip(inputs, flags, strict=True)]
    return make(node.op, tuple(args), (f"{','.join(terms)}->{label}{result}",))


def _matmul(node: Expr, args: Sequence[Expr], flags: Sequence[bool]) -> Any:
    x, y = args
    ranks = [arg.ndim for arg in node.args]
    if ranks == [1, 1]:
        return total(multiply(x, y), 1)
    if not all(flags):
        if ranks[flags.index(False)] == 1 or (ranks == [1, 2] and flags[0]):
            return matmul(x, y)
        if ranks == [2, 1]:
            return matmul(y, matrix_transpose(x))
    left = expand_dims(x, -2) if ranks[0] == 1 else x
    right = expand_dims(y, -1) if ranks[1] == 1 else y
    result = _product_of_matrices(left, right, flags, max(*ranks, 2))
    return squeeze(result, -2 if ranks[0] == 1 else -1) if 1 in ranks else result


def _product_of_matrices(x: Any, y: Any, flags: Sequence[bool], rank: int) -> Any:
    """Return the products, as one product of two matrices where all members of the batch share one of them."""
    if not flags[1] and y.ndim == 2:
        rows = x.shape[:-1]
        return reshape(matmul(reshape(x, (product(rows), x.shape[-1])), y), (*rows, y.shape[-1]))
    if not flags[0] and x.ndim == 2:
        moved = moveaxis(y, -2, 0)
        columns = moved.shape[1:]
        flat = reshape(moved, (moved.shape[0], product(columns)))
        return moveaxis(reshape(matmul(x, flat), (x.shape[0], *columns)), 0, -2)
    return matmul(_aligned(x, rank) if flags[0] else x, _aligned(y, rank) if flags[1] else y)


def _index(node: Expr, args: Sequence[Expr], flags: Sequence[bool], size: Size) -> Any:
    """A gather has one array before its indices, a scatter two: the base, and updates shaped as a gather's result."""
    (axes,) = node.attrs
    count = len(args) - len(axes)
    arrays, indices = args[:count], args[count:]
    index_rank = node.args[count].ndim
    if any(flags[count:]):
        several = _all_batched(indices, flags[count:], size)
        if count == 1 and not flags[0]:
            return make(node.op, (arrays[0], *several), (axes,))
        member = expand_dims(arange(size), tuple(range(1, 1 + index_rank)))
        several.insert(0, broadcast_to(member, several[0].shape))
        return make(
            node.op, (*_all_batched(arrays, flags[:count], size), *several), ((0, *_SHIFTS["axes"](axes, size)),)
        )
    base, *updates = _all_batched(arrays, flags[:count], size)
    written = [moveaxis(values, 0, index_rank) for values in updates]
    result = make(node.op, (base, *written, *indices), _shifted(node, size))
    return result if updates else moveaxis(result, index_rank, 0)


def _linalg(node: Expr, args: Sequence[Expr], flags: Sequence[bool], size: Size) -> Any:
    """Leading axes are a batch already; a matrix that all members share is factorised once."""
    if "columnwise" not in node.op.facts:
        return make(node.op, tuple(_all_batched(args, flags, size)), node.attrs)
    is_vector = node.ndim == 1
    if flags[0]:
        matrices, right = _all_batched(args, flags, size)
        if is_vector:
            return squeeze(make(node.op, (matrices, expand_dims(right, -1)), node.attrs), -1)
        return make(node.op, (matrices, right), node.attrs)
    matrix, right = args
    if is_vector:
        return permute_dims(make(node.op, (matrix, permute_dims(right)), node.attrs))
    moved = moveaxis(right, 0, -2)
    side_by_side = reshape(moved, (*moved.shape[:-2], size * moved.shape[-1]))
    solved = make(node.op, (matrix, side_by_side), node.attrs)
    return moveaxis(reshape(solved, moved.shape), -2, 0)


def _custom(node: Expr, args: Sequence[Expr], flags: Sequence[bool], size: Size) -> Expr:
    """A user's function of operations is batched as those operations; its derivative is then theirs."""
    expand = node.op.custom.get("expand")
    if expand is None:
        raise _refusal(node, "it is opaque, and computes with whole arrays")
    batched = {old: new for old, new, is_batched in zip(node.args, args, flags, strict=True) if is_batched}
    return batch([expand(*node.args)], batched, size)[0]


def _refuse(node: Expr, args: Sequence[Expr], flags: Sequence[bool], size: Size) -> Expr:
    raise _refusal(node, f"there is no rule for operations of its kind ({node.op.kind.value})")


def _refusal(node: Expr, reason: str) -> DifferentiationError:
    return DifferentiationError(declared_at(f"{node.op.name} cannot be batched: {reason}", node.location))


_RULES: Mapping[Kind, Rule] = {
    Kind.ELEMENTWISE: _elementwise,
    Kind.REDUCE: _along_axes,
    Kind.SCAN: _along_axes,
    Kind.MOVEMENT: _movement,
    Kind.CONTRACT: _contraction,
    Kind.INDEX: _index,
    Kind.LINALG: _linalg,
    Kind.CUSTOM: _custom,
}
