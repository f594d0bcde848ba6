"""The primitives of integer indexing: gather, and its adjoints that scatter.

They put the axes of the index first: with index arrays of one shape S on some axes of x, ``gather`` has the
shape S followed by x's other axes, and the updates of a scatter have that shape. Negative integers count
from the end; one out of range raises IndexError at the call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symgraph.arraytype import INT64, ArrayType
from symgraph.dims import Shape
from symgraph.dims import product as size_product
from symgraph.errors import DTypeError, ShapeError, at_user_line
from symgraph.op import Kind, Op, register
from symgraph.ops import reference
from symgraph.ops.construct import apply, as_value
from symgraph.ops.creation import arange, zeros, zeros_like
from symgraph.ops.elementwise import equal, where
from symgraph.ops.movement import expand_dims, reshape

Axes = tuple[int, ...]


def rest_of(shape: Shape, axes: Axes) -> Shape:
    """Return a shape without some axes."""
    return tuple(size for a, size in enumerate(shape) if a not in axes)


def _check_indices(name: str, x: ArrayType, indices: Sequence[ArrayType], axes: Axes) -> Shape:
    if list(axes) != sorted(set(axes)) or len(axes) != len(indices) or not axes or axes[-1] >= x.rank:
        raise ShapeError(at_user_line(f"{name}: {len(indices)} index arrays cannot index axes {axes} of {x}"))
    if any(i.dtype != INT64 or i.shape != indices[0].shape for i in indices):
        raise DTypeError(at_user_line(f"{name}: index arrays are int64 arrays of one shape, got {list(indices)}"))
    return indices[0].shape


def _gather_type(x: ArrayType, *args: Any) -> ArrayType:
    shape = _check_indices("gather", x, args[:-1], args[-1])
    return ArrayType(x.dtype, shape + rest_of(x.shape, args[-1]))


def _scatter_type(name: str) -> Callable[..., ArrayType]:
    def type_rule(base: ArrayType, updates: ArrayType, *args: Any) -> ArrayType:
        shape = _check_indices(name, base, args[:-1], args[-1]) + rest_of(base.shape, args[-1])
        if updates.shape != shape or updates.dtype != base.dtype:
            raise ShapeError(
                at_user_line(f"{name}: updates of {ArrayType(base.dtype, shape)} are needed, got {updates}")
            )
        return base

    return type_rule


def _surviving(g: Any, base: Any, updates: Any, indices: Sequence[Any], axes: Axes) -> Any:
    """Return the cotangent of the updates of a scatter_set: where an index repeats, only the last write counts.

    Which write survived is found by the same operation on the writes' numbers.
    """
    shape = indices[0].shape
    count = arange(size_product(shape))
    numbers = as_value("scatter_set", reshape(count, shape), type(g))
    targets = as_value("scatter_set", zeros(tuple(base.shape[a] for a in axes), INT64), type(g))
    every = tuple(range(len(axes)))
    survivors = gather(scatter_set(targets, numbers, indices, every), indices, every)
    last = expand_dims(equal(survivors, numbers), tuple(range(len(shape), updates.ndim)))
    return where(last, gather(g, indices, axes), 0)


def _index(name: str, type_rule: Any, numpy: Any, vjp: Any, facts: str, torch: str) -> Op:
    return register(
        Op(
            name, Kind.INDEX, None, type_rule, numpy, attributes=("axes",), vjp=vjp,
            facts=frozenset(facts.split()), torch_name=torch,
        )
    )  # fmt: skip


_GATHER = _index(
    "gather", _gather_type, lambda x, *args: reference.gather(x, *args[:-1], axes=args[-1]),
    lambda g, out, x, *args: [scatter_add(zeros_like(x), g, args[:-1], args[-1]), *[None] * len(args[:-1])],
    "smooth linear", "Index",
)  # fmt: skip
_SCATTER_ADD = _index(
    "scatter_add", _scatter_type("scatter_add"),
    lambda base, updates, *args: reference.scatter(base, updates, *args[:-1], axes=args[-1], add=True),
    lambda g, out, base, updates, *args: [g, gather(g, args[:-1], args[-1]), *[None] * len(args[:-1])],
    "smooth linear", "IndexPut",
)  # fmt: skip
_SCATTER_SET = _index(
    "scatter_set", _scatter_type("scatter_set"),
    lambda base, updates, *args: reference.scatter(base, updates, *args[:-1], axes=args[-1], add=False),
    lambda g, out, base, updates, *args: [
        scatter_set(g, zeros_like(updates), args[:-1], args[-1]),
        _surviving(g, base, updates, args[:-1], args[-1]),
        *[None] * len(args[:-1]),
    ],
    "smooth linear", "IndexPut",
)  # fmt: skip


def gather(x: Any, indices: Sequence[Any], axes: Axes) -> Any:
    """Return the elements of x at index arrays of one shape S on some axes: S first, then the other axes."""
    return apply(_GATHER, x, *indices, attrs=(axes,))


def scatter_add(base: Any, updates: Any, indices: Sequence[Any], axes: Axes) -> Any:
    """Return base with updates (shaped as gather's result) added; those at a repeated index add up."""
    return apply(_SCATTER_ADD, base, updates, *indices, attrs=(axes,))


def scatter_set(base: Any, updates: Any, indices: Sequence[Any], axes: Axes) -> Any:
    """Return base with updates (shaped as gather's result) in place; at a repeated index the last one stays."""
    return apply(_SCATTER_SET, base, updates, *indices, attrs=(axes,))
