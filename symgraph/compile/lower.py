"""Lowering: operations that the scheduler does not know become operations that it does.

After lowering a graph holds leaves, elementwise operations, movement, plain reductions, scans, gathers and
scatters, matrix products, einsums that stay loops, linear algebra, and users' opaque functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from symgraph.compile.contraction import cheapest_order, kept_labels
from symgraph.dims import Size, product
from symgraph.expr import Expr, constant, constant_value, make, rebuild, scalar_value, topological
from symgraph.op import REGISTRY, Kind, Op
from symgraph.ops.construct import apply, cast, elementwise_type
from symgraph.ops.contraction import matmul, parse_subscripts
from symgraph.ops.elementwise import exp, isfinite, log, minimum, multiply, reciprocal, sqrt, square, where
from symgraph.ops.movement import broadcast_to, expand_dims, permute_dims, reshape, squeeze
from symgraph.ops.reductions import sum as total

SHORT = 16
"""A matrix product with two axes of at most so many elements is not worth a call of a library."""


def lower(outputs: Sequence[Expr], leaves: Iterable[Expr]) -> list[Expr]:
    """Return the outputs in terms of operations that the scheduler knows.

    Args:
        outputs: What is computed.
        leaves: Nodes that are given; what is behind them is not looked at.
    """
    given = set(leaves)
    lowered: dict[Expr, Expr] = {}
    for node in topological(outputs, stop=given):
        if node in given or not node.args:
            lowered[node] = node
            continue
        args = [lowered[arg] for arg in node.args]
        rule = _RULES.get(node.op.name) if REGISTRY.get(node.op.name) is node.op else None
        if "expand" in node.op.custom:
            inner = node.op.custom["expand"](*args)
            lowered[node] = lower([inner], [*given, *args])[0]
        elif (compound := _compound(node, given)) is not None:
            meant, x = compound
            lowered[node] = meant(lowered[x])
        elif rule is not None:
            lowered[node] = rule(*args, *node.attrs)
        else:
            lowered[node] = rebuild(node, args)
    return [lowered[output] for output in outputs]


def materialise(outputs: Sequence[Expr], given: set[Expr]) -> list[Expr]:
    """Return the outputs with a copy where an array must exist as such.

    Movement moves nothing by itself: it is read through. Results, and the operands of library calls, are
    arrays; where one is a leaf or a movement, a copy is computed.
    """
    made: dict[Expr, Expr] = {}
    for node in topological(outputs, stop=given):
        args = [made[arg] for arg in node.args] if node not in given else []
        if node in given or not node.args:
            made[node] = node
        else:
            whole = len(args) if needs_arrays(node) else 1 if _reads_anywhere(node) else 0
            arrays = [_as_array(arg, given, node.op.name == "matmul") for arg in args[:whole]]
            made[node] = rebuild(node, [*arrays, *args[whole:]])
    results: dict[Expr, None] = {}
    for output in outputs:
        result = made[output]
        if output in given or is_read_through(result) or result.op.name == "reshape":
            result = copy(result)
        while result in results:  # rewriting has made two outputs one node, and each has an array of its own
            result = copy(result)
        results[result] = None
    return list(results)


def needs_arrays(node: Expr) -> bool:
    """Tell whether a node is computed by a library call on whole arrays."""
    return node.op.kind in OPAQUE or node.op.name in ("matmul", "argmax", "argmin", "reshape")


def _reads_anywhere(node: Expr) -> bool:
    """Tell whether a node reads its first operand elsewhere than at an affine index."""
    if node.op.name == "place":
        return any(stride not in (1, -1) for stride in node.attrs[2])
    return node.op.name == "gather" or (
        node.op.name in ("scatter_add", "scatter_set") and scalar_value(node.args[0]) is None
    )


def is_read_through(node: Expr) -> bool:
    """Tell whether reading a node is reading something else at another index."""
    return node.op.name in ("permute_dims", "expand_dims", "squeeze", "broadcast_to", "slice") or not node.args


def is_matrix_transpose(node: Expr) -> bool:
    """Tell whether a node is the transpose of a matrix."""
    return node.op.name == "permute_dims" and node.attrs[0] == (1, 0)


def copy(node: Expr) -> Expr:
    """Return a node that computes the same elements."""
    return make(REGISTRY["positive"], (node,))


def _as_array(node: Expr, given: set[Expr], may_transpose: bool) -> Expr:
    if may_transpose and is_matrix_transpose(node):
        return rebuild(node, [_as_array(node.args[0], given, False)])
    array = constant_value(node)
    if node in given or (array is not None and array.size != 1):
        return node
    return copy(node) if is_read_through(node) else node


def _matmul(x: Expr, y: Expr) -> Expr:
    """Products with a vector, and small or skinny ones, are sums of products, and become loops."""
    if x.ndim > 1 and y.ndim > 1:
        if _is_skinny(x.shape[-2], x.shape[-1], y.shape[-1]):
            if x.shape[-1] == 1:
                return multiply(x, y)  # type: ignore[no-any-return]
            products = multiply(expand_dims(x, x.ndim), expand_dims(y, y.ndim - 2))
            return _summed(products, (products.ndim - 2,))
        if x.shape[:-2] == y.shape[:-2]:
            return matmul(x, y)  # type: ignore[no-any-return]
        batch = matmul(x, y).shape[:-2]
        return matmul(  # type: ignore[no-any-return]
            broadcast_to(x, (*batch, *x.shape[-2:])), broadcast_to(y, (*batch, *y.shape[-2:]))
        )
    if y.ndim == 1:
        return _summed(multiply(x, y), (x.ndim - 1,))
    return _summed(multiply(expand_dims(x, 1), y), (y.ndim - 2,))


def _is_skinny(*sizes: Size) -> bool:
    """Tell whether a product has an axis of one element, or is known to have at most one that is not short."""
    short = [isinstance(size, int) and size <= SHORT for size in sizes]
    return any(size == 1 for size in sizes) or sum(short) >= 2


def _summed(products: Expr, axes: Sequence[int]) -> Expr:
    """Sum in the dtype of the operands, as products of arrays are; a sum of small integers has a wider one."""
    return cast(total(products, tuple(axes)), products.dtype)  # type: ignore[no-any-return]


_GAUSSIAN = Op(
    "gaussian", Kind.ELEMENTWISE, 1, partial(elementwise_type, "gaussian", None), lambda x: np.exp(-np.square(x))
)


def _compound(node: Expr, given: set[Expr]) -> tuple[Callable[[Expr], Expr], Expr] | None:
    """Return what a node computes, and of which node, where several operations have a better way together.

    Nodes that are given stand for themselves, whatever they were made of.
    """
    if node.op.name != "exp" or node.args[0] in given:
        return None
    argument = node.args[0]
    if argument.op.name == "negative" and argument.args[0].op.name == "square" and argument.args[0] not in given:
        return _gaussian, argument.args[0].args[0]
    if argument.op.name == "subtract":
        x, normaliser = argument.args
        axes = _axes_of_logsumexp(x, normaliser, given)
        if axes is not None:
            return partial(_normalised, axes), x
    return None


def _gaussian(x: Expr) -> Expr:
    """The derivative of erfc has a kernel, which shares its exponential with erfc's and is more accurate."""
    return make(_GAUSSIAN, (x,))


def _mean(x: Expr, axes: tuple[int, ...], keepdims: bool) -> Expr:
    count = constant(product(x.shape[a] for a in axes), x.dtype)
    result: Expr = total(x, axes, keepdims) / count
    return result


def _logsumexp(x: Expr, axes: tuple[int, ...], keepdims: bool) -> Expr:
    shift, powers = _powers(x, axes)
    result = log(total(powers, axes, True)) + shift
    lowered: Expr = result if keepdims else squeeze(result, axes)
    return lowered


def _powers(x: Expr, axes: tuple[int, ...]) -> tuple[Expr, Expr]:
    """Return a shift near the greatest elements along axes, finite whatever these are, and ``exp(x - shift)``."""
    top = minimum(apply(REGISTRY["max"], x, attrs=(axes, True)), constant(np.finfo(x.dtype.type).max, x.dtype))  # type: ignore[type-var]
    shift: Expr = where(isfinite(top), top, 0)
    return shift, exp(x - shift)


def _axes_of_logsumexp(x: Expr, node: Expr, given: set[Expr]) -> tuple[int, ...] | None:
    """Return the axes where a node is the logsumexp of x over these, along which it has one element."""
    added = None
    if node.op.name == "expand_dims" and node not in given:
        added, node = node.attrs[0], node.args[0]
    if node.op.name != "logsumexp" or node in given or node.args[0] is not x:
        return None
    axes, keepdims = node.attrs
    leading = tuple(range(len(axes)))
    aligned = added is None if keepdims else (leading if added is None else added) == tuple(sorted(axes))
    return axes if aligned else None


def _normalised(axes: tuple[int, ...], x: Expr) -> Expr:
    """Return the softmax of x, with the exponentials that its logsumexp adds up."""
    powers = _powers(x, axes)[1]
    result: Expr = powers * reciprocal(total(powers, axes, True))
    return result


def _vector_norm(x: Expr, axes: tuple[int, ...], keepdims: bool) -> Expr:
    result: Expr = sqrt(total(square(x), axes, keepdims))
    return result


def _reshape(x: Expr, shape: tuple[Any, ...]) -> Expr:
    """Reshapes that only add or drop axes of size 1 move nothing."""
    if tuple(s for s in x.shape if s != 1) != tuple(s for s in shape if s != 1):
        return x if x.shape == shape else apply(REGISTRY["reshape"], x, attrs=(shape,))
    bare = squeeze(x, tuple(a for a, s in enumerate(x.shape) if s == 1))
    result: Expr = expand_dims(bare, tuple(a for a, s in enumerate(shape) if s == 1))
    return result


def _einsum(*operands: Any) -> Expr:
    subscripts = operands[-1]
    terms = list(zip(*_terms(subscripts, operands[:-1]), strict=True))
    result = parse_subscripts(subscripts)[1]
    sizes = {c: size for labels, x in terms for c, size in zip(labels, x.shape, strict=True)}
    order = cheapest_order([labels for labels, _ in terms], result, sizes)
    for i, j in order[:-1]:
        (left, x), (right, y) = terms[i], terms[j]
        terms = [term for k, term in enumerate(terms) if k not in (i, j)]
        kept = kept_labels(left, right, [labels for labels, _ in terms], result)
        terms.append((kept, _pair(left, x, right, y, kept)))
    if len(terms) == 2:
        (left, x), (right, y) = terms
        return _pair(left, x, right, y, result)
    return _single(*terms[0], result)


def _terms(subscripts: str, operands: Sequence[Expr]) -> tuple[list[str], list[Expr]]:
    """Take the diagonal where a label is repeated within one operand."""
    labels, values = [], []
    for label, operand in zip(parse_subscripts(subscripts)[0], operands, strict=True):
        unique = "".join(dict.fromkeys(label))
        values.append(operand if unique == label else apply(REGISTRY["einsum"], operand, attrs=(f"{label}->{unique}",)))
        labels.append(unique)
    return labels, values


def _single(labels: str, x: Expr, result: str) -> Expr:
    lost = tuple(a for a, label in enumerate(labels) if label not in result)
    kept = [label for label in labels if label in result]
    reduced = _summed(x, lost) if lost else x
    moved: Expr = permute_dims(reduced, tuple(kept.index(label) for label in result)) if kept else reduced
    return moved


def _pair(left: str, x: Expr, right: str, y: Expr, result: str) -> Expr:
    """Multiply two operands: as a matrix product where both have free axes, as a sum of products elsewhere."""
    only_left = "".join(c for c in left if c in right or c in result)
    only_right = "".join(c for c in right if c in left or c in result)
    x, y = _single(left, x, only_left), _single(right, y, only_right)
    batch = [c for c in only_left if c in only_right and c in result]
    summed = [c for c in only_left if c in only_right and c not in result]
    free_left = [c for c in only_left if c not in only_right]
    free_right = [c for c in only_right if c not in only_left]
    order = [*batch, *free_left, *free_right]
    sizes = dict(zip(only_left, x.shape, strict=True)) | dict(zip(only_right, y.shape, strict=True))
    if summed and free_left and free_right:
        rows, columns = (product(sizes[c] for c in part) for part in (free_left, free_right))
        inner = product(sizes[c] for c in summed)
        heads = [sizes[c] for c in batch]
        a = reshape(_single(only_left, x, "".join([*batch, *free_left, *summed])), (*heads, rows, inner))
        b = reshape(_single(only_right, y, "".join([*batch, *summed, *free_right])), (*heads, inner, columns))
        combined = reshape(matmul(a, b), tuple(sizes[c] for c in order))
        combined = lower([combined], [x, y])[0]
    else:
        every = [*order, *summed]
        a, b = (_spread(labels, value, every) for labels, value in ((only_left, x), (only_right, y)))
        products = multiply(a, b)
        combined = _summed(products, range(len(order), len(every))) if summed else products
        combined = broadcast_to(combined, tuple(sizes[c] for c in order))
    return _single("".join(order), combined, result)


def _spread(labels: str, x: Expr, every: Sequence[str]) -> Expr:
    moved = _single(labels, x, "".join(c for c in every if c in labels))
    spread: Expr = expand_dims(moved, tuple(a for a, c in enumerate(every) if c not in labels))
    return spread


def _lower_einsum(*operands: Any) -> Expr:
    labels, result = parse_subscripts(operands[-1])
    if len(labels) == 1 and len(set(labels[0])) < len(labels[0]) and result == "".join(dict.fromkeys(labels[0])):
        return apply(REGISTRY["einsum"], *operands[:-1], attrs=operands[-1:])  # type: ignore[no-any-return]
    return _einsum(*operands)


def _scatter_set(base: Expr, updates: Expr, *args: Any) -> Expr:
    """The last write at a place stays: one axis of writes has an order, whichever way loops are nested."""
    indices, axes = args[:-1], args[-1]
    rank = indices[0].ndim
    if rank < 2:
        return apply(REGISTRY["scatter_set"], base, updates, *indices, attrs=(axes,))  # type: ignore[no-any-return]
    count = product(indices[0].shape)
    rows = reshape(updates, (count, *updates.shape[rank:]))
    flat = [reshape(index, (count,)) for index in indices]
    combined = apply(REGISTRY["scatter_set"], base, rows, *flat, attrs=(axes,))
    return lower([combined], [base, updates, *indices])[0]


_RULES: dict[str, Callable[..., Expr]] = {
    "matmul": _matmul,
    "mean": _mean,
    "logsumexp": _logsumexp,
    "vector_norm": _vector_norm,
    "reshape": _reshape,
    "scatter_set": _scatter_set,
    "einsum": _lower_einsum,
}

OPAQUE = frozenset({Kind.LINALG, Kind.SCAN, Kind.CUSTOM, Kind.CONTROL})
