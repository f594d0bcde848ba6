"""One step of reverse mode, shared by both engines: a node's cotangent becomes its arguments' cotangents.

Broadcasting is undone here and nowhere else. A cotangent may carry a *mask*: where the mask is false, the
value was not taken by some ``where``, and the cotangent is a strong zero. A masked cotangent times a
partial derivative is a select around the product, so that NaN and infinities in a branch that was not
taken never reach a derivative, to any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from symgraph.errors import DifferentiationError
from symgraph.op import Kind, Op
from symgraph.ops.construct import cast
from symgraph.ops.contraction import on_diagonal, parse_subscripts
from symgraph.ops.elementwise import greater, logical_and, logical_not, logical_or, where
from symgraph.ops.movement import broadcast_to, expand_dims, permute_dims, sum_to_shape
from symgraph.ops.reductions import any as some


class Cotangent(NamedTuple):
    """A cotangent, and where it is not a strong zero (None: everywhere)."""

    value: Any
    mask: Any = None


def add_cotangents(first: Cotangent | None, second: Cotangent) -> Cotangent:
    """Return the sum of two cotangents of one value."""
    if first is None:
        return second
    masked = first.mask is not None and second.mask is not None
    return Cotangent(first.value + second.value, logical_or(first.mask, second.mask) if masked else None)


def pull_back(
    op: Op, cotangent: Cotangent, out: Any, args: Sequence[Any], attrs: tuple[Any, ...], wanted: Sequence[bool]
) -> list[Cotangent | None]:
    """Return the cotangents that one use of an operation gives to its arguments.

    Args:
        op: The operation.
        cotangent: That of its result.
        out: Its result.
        args: Its arguments.
        attrs: Its static attributes.
        wanted: Which arguments need a cotangent.

    Returns:
        One cotangent per argument; None where it is zero or not wanted.

    Raises:
        DifferentiationError: the operation has no derivative rule.
    """
    if op.derivative is not None:
        return _pull_elementwise(op, cotangent, out, args, attrs, wanted)
    if op.vjp is None:
        raise DifferentiationError(f"{op.name} has no derivative rule")
    g, mask = cotangent
    if mask is None:
        values = op.vjp(g, out, *args, *attrs)
        return [Cotangent(v) if w and v is not None else None for v, w in zip(values, wanted, strict=True)]
    masks = _masks_of_arguments(op, mask, g, out, args, attrs)
    if op.kind is Kind.CONTRACT:
        args = [where(m, arg, 0) for m, arg in zip(masks, args, strict=True)]
    values = op.vjp(g, out, *args, *attrs)
    linear = op.kind is Kind.CONTRACT or "linear" in op.facts
    return [
        Cotangent(v if linear or m is None else where(m, v, 0), m) if w and v is not None else None
        for v, m, w in zip(values, masks, wanted, strict=True)
    ]


def _pull_elementwise(
    op: Op, cotangent: Cotangent, out: Any, args: Sequence[Any], attrs: tuple[Any, ...], wanted: Sequence[bool]
) -> list[Cotangent | None]:
    g, mask = cotangent
    found: list[Cotangent | None] = []
    assert op.derivative is not None
    for i, (arg, rule) in enumerate(zip(args, op.derivative, strict=True)):
        value = rule(g, out, *args, *attrs) if rule is not None and wanted[i] else None
        if value is None:
            found.append(None)
            continue
        reach = mask
        if "select" in op.facts:
            taken = args[0] if i == 1 else logical_not(args[0])
            reach = taken if mask is None else logical_and(mask, taken)
        elif mask is not None and value is not g and "linear" not in op.facts:
            value = where(mask, value, 0)
        if value.shape != arg.shape:
            value = sum_to_shape(value, arg.shape)
            reach = None if reach is None else sum_to_shape(broadcast_to(reach, g.shape), arg.shape)
        found.append(Cotangent(value, reach))
    return found


def _masks_of_arguments(op: Op, mask: Any, g: Any, out: Any, args: Sequence[Any], attrs: tuple[Any, ...]) -> list[Any]:
    """Return, for each argument, where some element of the result that depends on it was taken."""
    assert op.vjp is not None
    full = broadcast_to(mask, g.shape)
    if op.kind is Kind.MOVEMENT:
        return list(op.vjp(full, out, *args, *attrs))
    if op.kind is Kind.REDUCE:
        axes, keepdims = attrs
        return [broadcast_to(full if keepdims else expand_dims(full, axes), args[0].shape)]
    if op.kind is Kind.INDEX:
        counts = op.vjp(cast(full, g.dtype), out, *args, *attrs)
        return [None if count is None else greater(count, 0) for count in counts]
    if op.kind is Kind.CONTRACT:
        inputs, result = contraction_labels(op, args, attrs)
        return [_aligned(full, result, labels, arg) for labels, arg in zip(inputs, args, strict=True)]
    if op.kind is Kind.SCAN:
        (axis,) = attrs
        if "linear" in op.facts:
            return [greater(op.vjp(cast(full, g.dtype), out, *args, *attrs)[0], 0)]
        return [broadcast_to(some(full, axis, True), args[0].shape)]
    if op.kind is Kind.LINALG:
        batch = args[0].ndim - 2
        matrices = some(full, tuple(range(batch, full.ndim)))
        return [broadcast_to(expand_dims(matrices, tuple(range(batch, arg.ndim))), arg.shape) for arg in args]
    return [broadcast_to(some(full), arg.shape) for arg in args]


def contraction_labels(op: Op, args: Sequence[Any], attrs: tuple[Any, ...]) -> tuple[tuple[str, ...], str]:
    """Return the axis labels of a contraction's operands and result; ``matmul`` counts its batch axes from the end."""
    if attrs:
        return parse_subscripts(attrs[0])
    x, y = args
    batch = "abcdefghijklmnop"[: max(x.ndim, y.ndim, 2) - 2]
    left = batch[len(batch) - max(x.ndim - 2, 0) :] + ("r" if x.ndim > 1 else "") + "s"
    right = batch[len(batch) - max(y.ndim - 2, 0) :] + "s" + ("t" if y.ndim > 1 else "")
    return (left, right), batch + ("r" if x.ndim > 1 else "") + ("t" if y.ndim > 1 else "")


def _aligned(mask: Any, result: str, labels: str, arg: Any) -> Any:
    """Return a mask over a contraction's result as one over an operand: true where some use was taken."""
    lost = tuple(a for a, label in enumerate(result) if label not in labels)
    kept = [label for label in result if label in labels]
    reduced = some(mask, lost) if lost else mask
    unique = list(dict.fromkeys(labels))
    order = tuple(kept.index(label) for label in unique if label in kept)
    moved = permute_dims(reduced, order) if order else reduced
    spread = expand_dims(moved, tuple(a for a, label in enumerate(unique) if label not in kept))
    if len(unique) != len(labels):
        sizes = dict(zip(labels, arg.shape, strict=True))
        return on_diagonal(broadcast_to(spread, tuple(sizes[c] for c in unique)), "".join(unique), labels, arg.shape)
    if spread.shape != arg.shape:
        repeated = tuple(a for a, size in enumerate(arg.shape) if size == 1 and spread.shape[a] != 1)
        spread = some(spread, repeated, True) if repeated else spread
    return broadcast_to(spread, arg.shape)
