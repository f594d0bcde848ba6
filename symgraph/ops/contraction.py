"""Sums of products: matmul and einsum, and the products of NumPy made of them."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from symgraph.arraytype import ArrayType, format_shape
from symgraph.dims import Shape, Size
from symgraph.errors import ShapeError, at_user_line
from symgraph.op import FUNCTIONS, Kind, Op, public, register
from symgraph.ops.construct import (
    apply,
    as_value,
    broadcast_shapes,
    engine_of,
    expect_rank,
    normalize_axis,
    promote,
    size_hint,
)
from symgraph.ops.elementwise import multiply
from symgraph.ops.movement import broadcast_to, expand_dims, matrix_transpose, moveaxis, squeeze, sum_to_shape
from symgraph.ops.reductions import sum as total


def _matmul_type(x: ArrayType, y: ArrayType) -> ArrayType:
    if x.rank == 0 or y.rank == 0:
        raise ShapeError(
            at_user_line(f"matmul: shapes {format_shape(x.shape)} and {format_shape(y.shape)} need an axis each")
        )
    inner = y.shape[0] if y.rank == 1 else y.shape[-2]
    if x.shape[-1] != inner:
        raise ShapeError(
            at_user_line(
                f"matmul: shapes {format_shape(x.shape)} and {format_shape(y.shape)} do not fit: "
                f"{x.shape[-1]} columns meet {inner} rows{size_hint(x.shape, y.shape)}"
            )
        )
    batch = broadcast_shapes("matmul", x.shape[:-2], y.shape[:-2])
    return ArrayType(x.dtype, (*batch, *x.shape[-2:-1], *(y.shape[-1:] if y.rank > 1 else ())))


def _matmul_vjp(g: Any, out: Any, x: Any, y: Any) -> list[Any]:
    if x.ndim == 1 and y.ndim == 1:
        return [g * y, g * x]
    if x.ndim == 1:
        return [_vector_left(g, y, x), outer_product(x, g, y.shape)]
    if y.ndim == 1:
        return [outer_product(g, y, x.shape), _vector_right(x, g, y)]
    left = matmul(g, matrix_transpose(y))
    right = matmul(matrix_transpose(x), g)
    return [sum_to_shape(left, x.shape), sum_to_shape(right, y.shape)]


def _vector_left(g: Any, y: Any, x: Any) -> Any:
    if y.ndim == 2:
        return matmul(y, g)
    return sum_to_shape(total(y * expand_dims(g, -2), -1), x.shape)


def _vector_right(x: Any, g: Any, y: Any) -> Any:
    if x.ndim == 2:
        return matmul(matrix_transpose(x), g)
    return sum_to_shape(total(x * expand_dims(g, -1), -2), y.shape)


def outer_product(column: Any, row: Any, shape: Shape) -> Any:
    """Return ``column[..., :, None] * row[..., None, :]``, summed to a shape."""
    return sum_to_shape(multiply(expand_dims(column, -1), expand_dims(row, -2)), shape)


_MATMUL = register(
    Op(
        "matmul",
        Kind.CONTRACT,
        2,
        _matmul_type,
        "numpy:matmul",
        vjp=_matmul_vjp,
        text="{0} @ {1}",
        precedence=13,
        latex="{0} {1}",
        facts=frozenset({"smooth", "bilinear"}),
        torch_name="Mm",
    )
)


@lru_cache(maxsize=10_000)
def parse_subscripts(subscripts: str) -> tuple[tuple[str, ...], str]:
    """Return the labels of each operand and of the result of explicit subscripts such as ``ij,jk->ik``."""
    operands, _, result = subscripts.partition("->")
    return tuple(operands.split(",")), result


def _einsum_type(*args: Any) -> ArrayType:
    types, subscripts = args[:-1], args[-1]
    inputs, result = parse_subscripts(subscripts)
    sizes: dict[str, Size] = {}
    for labels, operand in zip(inputs, types, strict=True):
        if len(labels) != operand.rank:
            raise ShapeError(
                at_user_line(f"einsum: {labels!r} of {subscripts!r} does not label shape {format_shape(operand.shape)}")
            )
        for label, size in zip(labels, operand.shape, strict=True):
            if sizes.setdefault(label, size) != size:
                shown = " and ".join(format_shape(t.shape) for t in types)
                raise ShapeError(
                    at_user_line(
                        f"einsum: in {subscripts!r} of shapes {shown}, {label!r} is both {sizes[label]} and {size}"
                    )
                )
    return ArrayType(types[0].dtype, tuple(sizes[label] for label in result))


def _einsum_vjp(g: Any, out: Any, *args: Any) -> list[Any]:
    operands, subscripts = args[:-1], args[-1]
    inputs, result = parse_subscripts(subscripts)
    cotangents = []
    for i, labels in enumerate(inputs):
        others = [(inputs[j], operands[j]) for j in range(len(operands)) if j != i]
        cotangents.append(_einsum_cotangent(g, result, labels, operands[i], others))
    return cotangents


def _einsum_cotangent(g: Any, result: str, labels: str, operand: Any, others: Sequence[tuple[str, Any]]) -> Any:
    known = set(result).union(*[set(other) for other, _ in others])
    unique = "".join(dict.fromkeys(labels))
    found = "".join(label for label in unique if label in known)
    subscripts = ",".join([result, *[other for other, _ in others]]) + "->" + found
    reduced = apply(_EINSUM, g, *[value for _, value in others], attrs=(subscripts,))
    sizes = dict(zip(labels, operand.shape, strict=True))
    missing = tuple(i for i, label in enumerate(unique) if label not in known)
    spread = broadcast_to(expand_dims(reduced, missing), tuple(sizes[label] for label in unique))
    return spread if unique == labels else on_diagonal(spread, unique, labels, operand.shape)


def on_diagonal(x: Any, unique: str, labels: str, shape: Shape) -> Any:
    """Return zeros of the shape, with x where axes that share a label have equal indices."""
    places = tuple(labels.index(label) for label in unique)
    spread = expand_dims(x, tuple(a for a in range(len(labels)) if a not in places))
    for axis, label in enumerate(labels):
        first = labels.index(label)
        if first != axis:
            shown = [1] * len(labels)
            index = FUNCTIONS["arange"](shape[axis])
            rows = index.reshape(*[shape[axis] if a == first else s for a, s in enumerate(shown)])
            columns = index.reshape(*[shape[axis] if a == axis else s for a, s in enumerate(shown)])
            spread = FUNCTIONS["where"](FUNCTIONS["equal"](rows, columns), spread, 0)
    return spread


_EINSUM = register(
    Op(
        "einsum",
        Kind.CONTRACT,
        None,
        _einsum_type,
        lambda *args: np.einsum(args[-1], *args[:-1]),
        attributes=("subscripts",),
        vjp=_einsum_vjp,
        facts=frozenset({"smooth", "multilinear"}),
        torch_name="Einsum",
    )
)


@public
def matmul(x: Any, y: Any) -> Any:
    """Return the matrix product on the last two axes; axes before them broadcast, and vectors are taken as NumPy does.

    Raises:
        ShapeError: the inner sizes differ, or an operand has no axis.

    Example:
        >>> import symgraph as sg
        >>> sg.matmul(sg.ones((2, 3)), sg.ones(3)).shape
        (2,)
    """
    return apply(_MATMUL, *promote("matmul", x, y))


@public
def dot(x: Any, y: Any) -> Any:
    """Return NumPy's dot product: over the last axis of x and the last but one of y.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.dot(sg.constant([1.0, 2.0]), sg.constant([3.0, 4.0])))
        np.float64(11.0)
    """
    x, y = promote("dot", x, y)
    if x.ndim == 0 or y.ndim == 0:
        return multiply(x, y)
    if y.ndim <= 2:
        return matmul(x, y)
    return tensordot(x, y, ([x.ndim - 1], [y.ndim - 2]))


@public
def vecdot(x: Any, y: Any, axis: int = -1) -> Any:
    """Return the sum of products along one axis; the others broadcast.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.vecdot(sg.constant([[1.0, 2.0], [3.0, 4.0]]), sg.constant([1.0, 10.0])))
        array([21., 43.])
    """
    x, y = promote("vecdot", x, y)
    expect_rank("vecdot", x, 1)
    expect_rank("vecdot", y, 1)
    left = moveaxis(x, normalize_axis("vecdot", axis, x.ndim), -1)
    right = moveaxis(y, normalize_axis("vecdot", axis, y.ndim), -1)
    if left.shape[-1] != right.shape[-1]:
        shown = f"{format_shape(x.shape)} and {format_shape(y.shape)}"
        raise ShapeError(at_user_line(f"vecdot: shapes {shown} have different sizes along axis {axis}"))
    return matmul(left, right) if left.ndim == right.ndim == 1 else total(multiply(left, right), -1)


@public
def tensordot(x: Any, y: Any, axes: Any = 2) -> Any:
    """Return the sum of products over pairs of axes.

    Args:
        x, y: Any arrays.
        axes: How many axes, last of x with first of y, or a pair of lists of axes.

    Raises:
        ShapeError: the paired sizes differ.

    Example:
        >>> import symgraph as sg
        >>> sg.tensordot(sg.ones((2, 3, 4)), sg.ones((3, 4, 5))).shape
        (2, 5)
    """
    x, y = promote("tensordot", x, y)
    if isinstance(axes, int):
        axes = (list(range(x.ndim - axes, x.ndim)), list(range(axes)))
    left, right = ([a] if isinstance(a, int) else list(a) for a in axes)
    left = [normalize_axis("tensordot", a, x.ndim) for a in left]
    right = [normalize_axis("tensordot", a, y.ndim) for a in right]
    if len(left) != len(right) or any(x.shape[a] != y.shape[b] for a, b in zip(left, right, strict=True)):
        shown = f"{format_shape(x.shape)} and {format_shape(y.shape)}"
        raise ShapeError(at_user_line(f"tensordot: axes {left} and {right} of shapes {shown} do not fit"))
    letters = string.ascii_letters
    first = letters[: x.ndim]
    rest = iter(letters[x.ndim :])
    second = "".join(first[left[right.index(b)]] if b in right else next(rest) for b in range(y.ndim))
    kept = [c for a, c in enumerate(first) if a not in left] + [c for b, c in enumerate(second) if b not in right]
    return apply(_EINSUM, x, y, attrs=(f"{first},{second}->{''.join(kept)}",))


@public
def outer(x: Any, y: Any) -> Any:
    """Return the products of every element of x with every element of y.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.outer(sg.constant([1.0, 2.0]), sg.constant([3.0, 4.0])))
        array([[3., 4.],
               [6., 8.]])
    """
    x, y = promote("outer", x, y)
    return multiply(expand_dims(x.ravel(), 1), expand_dims(y.ravel(), 0))


@public
def einsum(subscripts: str, *operands: Any) -> Any:
    """Return a sum of products in Einstein's notation, as NumPy's einsum.

    Args:
        subscripts: Labels of each operand's axes; those of the result after ``->``, or implicit (labels that
            occur once, in alphabetical order). ``...`` stands for axes that broadcast.
        operands: One array for each group of labels.

    Raises:
        ShapeError: the labels do not fit the shapes, or one label would have two sizes.

    Example:
        >>> import symgraph as sg
        >>> sg.einsum("ij,kj->ik", sg.ones((2, 3)), sg.ones((4, 3))).shape
        (2, 4)
    """
    engine = engine_of("einsum", operands)
    values = promote("einsum", *[as_value("einsum", x, engine) for x in operands]) if operands else []
    explicit, values = _explicit(subscripts.replace(" ", ""), values)
    return apply(_EINSUM, *values, attrs=(explicit,))


def _explicit(subscripts: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
    inputs = subscripts.partition("->")[0].split(",")
    if len(inputs) != len(values):
        raise ShapeError(at_user_line(f"einsum: {subscripts!r} labels {len(inputs)} operands, got {len(values)}"))
    allowed = set(string.ascii_letters)
    if not set(subscripts.replace("...", "").replace("->", "", 1).replace(",", "")) <= allowed:
        raise ShapeError(at_user_line(f"einsum: {subscripts!r} may hold letters, commas, '->' and '...' only"))
    unused = [letter for letter in string.ascii_letters if letter not in subscripts]
    ranks = [
        x.ndim - len(labels.replace("...", "")) if "..." in labels else 0
        for labels, x in zip(inputs, values, strict=True)
    ]
    if any(rank < 0 for rank in ranks):
        raise ShapeError(at_user_line(f"einsum: {subscripts!r} labels more axes than the operands have"))
    batch = "".join(unused[: max(ranks, default=0)])
    full = [labels.replace("...", batch[len(batch) - rank :]) for labels, rank in zip(inputs, ranks, strict=True)]
    wide = {
        label
        for labels, x in zip(full, values, strict=True)
        for label, size in zip(labels, x.shape, strict=False)
        if label in batch and size != 1
    }
    spread, reduced = [], []
    for labels, x in zip(full, values, strict=True):
        repeated = [a for a, c in enumerate(labels[: x.ndim]) if c in wide and x.shape[a] == 1]
        spread.append("".join(c for a, c in enumerate(labels) if a not in repeated))
        reduced.append(squeeze(x, repeated) if repeated else x)
    if "->" in subscripts:
        result = subscripts.partition("->")[2].replace("...", batch)
    else:
        joined = "".join(inputs).replace("...", "")
        result = batch + "".join(sorted(c for c in set(joined) if joined.count(c) == 1))
    if len(set(result)) != len(result) or not set(result) <= set("".join(spread)):
        raise ShapeError(
            at_user_line(f"einsum: the result {result!r} of {subscripts!r} repeats a label or names an unknown one")
        )
    return f"{','.join(spread)}->{result}", reduced
