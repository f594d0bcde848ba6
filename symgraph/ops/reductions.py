"""Reductions and scans over axes, and the statistics made of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from symgraph.arraytype import BOOL, FLOAT64, INT64, ArrayType, format_shape
from symgraph.dims import Dim, Shape
from symgraph.dims import product as size_product
from symgraph.errors import ShapeError, at_user_line
from symgraph.op import FUNCTIONS, Kind, Op, Requirement, public, register
from symgraph.ops import reference
from symgraph.ops.construct import apply, as_value, cast, normalize_axes, normalize_axis, promote
from symgraph.ops.elementwise import abs as absolute
from symgraph.ops.elementwise import equal, exp, sqrt, where
from symgraph.ops.movement import broadcast_to, expand_dims, reshape, slice_at
from symgraph.value import Axis

Axes = tuple[int, ...]


def _reduced(shape: Shape, axes: Axes, keepdims: bool) -> Shape:
    if keepdims:
        return tuple(1 if a in axes else size for a, size in enumerate(shape))
    return tuple(size for a, size in enumerate(shape) if a not in axes)


def _spread(g: Any, x: Any, axes: Axes, keepdims: bool) -> Any:
    """Return a reduction's cotangent (or result) with size-1 axes where x was reduced."""
    return g if keepdims else expand_dims(g, axes)


def _count(x: Any, axes: Axes) -> Any:
    return size_product(x.shape[a] for a in axes)


def _reduction(name: str, numpy: str | Callable[..., Any], vjp: Any, **facts: Any) -> Op:
    result = facts.pop("result", None)
    nonempty = facts.pop("nonempty", False)

    def requires(x: ArrayType, axes: Axes, keepdims: bool) -> list[Requirement]:
        return [
            Requirement(size - 1, ">= 0", f"{name}: axis {a} is empty, and {name} of nothing has no value")
            for a in axes
            if isinstance(size := x.shape[a], Dim)
        ]

    return register(
        Op(
            name,
            Kind.REDUCE,
            1,
            lambda x, axes, keepdims: ArrayType(result or x.dtype, _reduced(x.shape, axes, keepdims)),
            numpy,
            attributes=("axes", "keepdims"),
            vjp=vjp,
            requires=requires if nonempty else None,
            **facts,
        )
    )


def _numpy_reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axes, keepdims: function(x, axis=axes, keepdims=keepdims)


def _numpy_index(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axes, keepdims: function(x, axis=axes[0], keepdims=keepdims)


def _extremum_vjp(g: Any, out: Any, x: Any, axes: Axes, keepdims: bool) -> list[Any]:
    """Ties share equally, as in PyTorch's amax."""
    ties = equal(x, _spread(out, x, axes, keepdims))
    count = sum(cast(ties, x.dtype), axes, True)
    return [where(ties, _spread(g, x, axes, keepdims) / count, 0)]


def _prod_vjp(g: Any, out: Any, x: Any, axes: Axes, keepdims: bool) -> list[Any]:
    """Multiply all the others, without a division: exact also where elements are zero, to every order."""
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    order = (*kept, *axes)
    flat = reshape(x.transpose(order), (*[x.shape[a] for a in kept], _count(x, axes)))
    others = reshape(exclusive_prod(flat, -1), tuple(x.shape[a] for a in order))
    inverse = tuple(order.index(a) for a in range(x.ndim))
    return [_spread(g, x, axes, keepdims) * others.transpose(inverse)]


def _norm_vjp(g: Any, out: Any, x: Any, axes: Axes, keepdims: bool) -> list[Any]:
    """The derivative at 0 is 0."""
    norm = _spread(out, x, axes, keepdims)
    zero = equal(norm, 0)
    return [where(zero, 0, _spread(g, x, axes, keepdims) * (x / where(zero, 1, norm)))]


_SUM = _reduction(
    "sum", _numpy_reduction(np.sum),
    lambda g, out, x, axes, keepdims: [broadcast_to(_spread(g, x, axes, keepdims), x.shape)],
    facts=frozenset({"smooth", "linear"}), torch_name="Sum",
)  # fmt: skip
_MEAN = _reduction(
    "mean", reference.mean,
    lambda g, out, x, axes, keepdims: [
        broadcast_to(_spread(g, x, axes, keepdims) / as_value("mean", _count(x, axes), type(x), x.dtype), x.shape)
    ],
    facts=frozenset({"smooth", "linear"}), torch_name="Mean",
)  # fmt: skip
_PROD = _reduction("prod", _numpy_reduction(np.prod), _prod_vjp, facts=frozenset({"smooth"}), torch_name="Prod")
_MAX = _reduction("max", _numpy_reduction(np.max), _extremum_vjp, nonempty=True, torch_name="Amax")
_MIN = _reduction("min", _numpy_reduction(np.min), _extremum_vjp, nonempty=True, torch_name="Amin")
_ANY = _reduction("any", _numpy_reduction(np.any), None, result=BOOL)
_ALL = _reduction("all", _numpy_reduction(np.all), None, result=BOOL)
_ARGMAX = _reduction("argmax", _numpy_index(np.argmax), None, result=INT64, nonempty=True)
_ARGMIN = _reduction("argmin", _numpy_index(np.argmin), None, result=INT64, nonempty=True)
_LOGSUMEXP = _reduction(
    "logsumexp", reference.logsumexp,
    lambda g, out, x, axes, keepdims: [
        _spread(g, x, axes, keepdims) * exp(x - _spread(out, x, axes, keepdims))
    ],
    facts=frozenset({"smooth"}), torch_name="Logsumexp",
)  # fmt: skip
_NORM = _reduction(
    "vector_norm", reference.vector_norm, _norm_vjp,
    facts=frozenset({"smooth"}), torch_name="LinalgVectorNorm",
)  # fmt: skip


def _scan(name: str, numpy: str | Callable[..., Any], vjp: Any, torch: str, facts: str = "smooth") -> Op:
    return register(
        Op(
            name, Kind.SCAN, 1, lambda x, axis: x, numpy, attributes=("axis",), vjp=vjp,
            facts=frozenset(facts.split()), torch_name=torch,
        )
    )  # fmt: skip


def _exclusive_prod_vjp(g: Any, out: Any, x: Any, axis: int) -> list[Any]:
    """Row j of ``rows`` is x with element j replaced by 1; the others of the others are its exclusive product."""
    last = x.ndim - 1
    n = x.shape[axis]
    order = (*[a for a in range(x.ndim) if a != axis], axis)
    inverse = tuple(order.index(a) for a in range(x.ndim))
    moved, cotangent = x.transpose(order), g.transpose(order)
    index = FUNCTIONS["arange"](n)
    same = equal(expand_dims(index, 1), expand_dims(index, 0))
    rows = where(same, 1, expand_dims(moved, last))
    products = where(same, 0, exclusive_prod(rows, last + 1))
    return [sum(expand_dims(cotangent, last + 1) * products, last).transpose(inverse)]


_CUMSUM = _scan(
    "cumulative_sum", "numpy:cumsum",
    lambda g, out, x, axis: [_reversed(cumulative_sum(_reversed(g, axis), axis), axis)], "Cumsum", "smooth linear",
)  # fmt: skip
_EXCLUSIVE = _scan("exclusive_prod", reference.exclusive_prod, _exclusive_prod_vjp, "ExclusiveProd")


def _reversed(x: Any, axis: int) -> Any:
    starts = tuple(size - 1 if a == axis else 0 for a, size in enumerate(x.shape))
    return slice_at(x, starts, tuple(-1 if a == axis else 1 for a in range(x.ndim)), x.shape)


def exclusive_prod(x: Any, axis: int) -> Any:
    """Return, for each element, the product of all others along the axis."""
    return apply(_EXCLUSIVE, x, attrs=(normalize_axis("exclusive_prod", axis, x.ndim),))


def _reduce(op: Op, x: Any, axis: Axis, keepdims: bool) -> Any:
    axes = normalize_axes(op.name, axis, x.ndim)
    if op.requires is not None and 0 in [x.shape[a] for a in axes]:
        raise ShapeError(at_user_line(f"{op.name}: shape {format_shape(x.shape)} has no elements to choose from"))
    return (
        x
        if not axes and op.name in ("sum", "prod", "max", "min", "mean")
        else apply(op, x, attrs=(axes, bool(keepdims)))
    )


def _accumulated(name: str, x: Any) -> Any:
    """Return integers and booleans as NumPy's sum and prod accumulate them: in 64 bits."""
    value = as_value(name, x)
    kind = value.dtype.kind
    return value if kind == "f" else cast(value, np.dtype("uint64") if kind == "u" else INT64)


def _averaged(name: str, x: Any) -> Any:
    """Return integers and booleans as NumPy averages them: as float64."""
    value = as_value(name, x)
    return value if value.dtype.kind == "f" else cast(value, FLOAT64)


@public
def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Return the sum over axes; the sum of nothing is 0.

    Args:
        x: Any shape; integers and booleans are summed in 64 bits.
        axis: One axis, several, or all when None.
        keepdims: Whether reduced axes stay, with size 1.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.sum(sg.constant([[1.0, 2.0], [3.0, 4.0]]), axis=0))
        array([4., 6.])
    """
    return _reduce(_SUM, _accumulated("sum", x), axis, keepdims)


@public
def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Return the product over axes; the product of nothing is 1. Its derivatives are exact at zeros too.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.prod(sg.constant([2.0, 3.0, 4.0])))
        np.float64(24.0)
    """
    return _reduce(_PROD, _accumulated("prod", x), axis, keepdims)


@public
def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Return the mean over axes; the mean of nothing is NaN.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.mean(sg.constant([1.0, 2.0, 6.0])))
        np.float64(3.0)
    """
    value = _averaged("mean", x)
    return _reduce(_MEAN, value, axis, keepdims)


@public
def var(x: Any, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Any:
    """Return the variance over axes: the squared distances from the mean, divided by the count less a correction.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.var(sg.constant([1.0, 2.0, 3.0]), correction=1))
        np.float64(1.0)
    """
    value = _averaged("var", x)
    axes = normalize_axes("var", axis, value.ndim)
    centred = value - mean(value, axes, True)
    squares = centred * centred
    if correction == 0:
        return mean(squares, axes, keepdims)
    count = as_value("var", _count(value, axes), type(value), value.dtype)
    return sum(squares, axes, keepdims) / (count - correction)


@public
def std(x: Any, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Any:
    """Return the standard deviation over axes: the square root of the variance; its derivative at 0 is 0.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.std(sg.constant([1.0, 2.0, 3.0]), correction=1))
        np.float64(1.0)
    """
    (value,) = promote("std", x, floating=True)
    axes = normalize_axes("std", axis, value.ndim)
    # A norm, whose derivative at 0 is 0 as PyTorch's is here; that of a square root is inf.
    distance = vector_norm(value - mean(value, axes, True), axes, keepdims)
    count = as_value("std", _count(value, axes), type(value), value.dtype)
    return distance / sqrt(count - correction)


@public
def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Return the greatest element over axes, NaN where there is one; ties share the derivative equally.

    Raises:
        ShapeError: there is no element to choose from.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.max(sg.constant([[1.0, 2.0], [4.0, 3.0]]), axis=1))
        array([2., 4.])
    """
    return _reduce(_MAX, as_value("max", x), axis, keepdims)


@public
def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Return the smallest element over axes, NaN where there is one; ties share the derivative equally.

    Raises:
        ShapeError: there is no element to choose from.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.min(sg.constant([[1.0, 2.0], [4.0, 3.0]]), axis=1))
        array([1., 3.])
    """
    return _reduce(_MIN, as_value("min", x), axis, keepdims)


@public
def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Tell whether some element over axes is true (not zero).

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.any(sg.constant([False, True])))
        np.True_
    """
    return apply(_ANY, _truth("any", x), attrs=(normalize_axes("any", axis, as_value("any", x).ndim), bool(keepdims)))


@public
def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Tell whether every element over axes is true (not zero).

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.all(sg.constant([False, True])))
        np.False_
    """
    return apply(_ALL, _truth("all", x), attrs=(normalize_axes("all", axis, as_value("all", x).ndim), bool(keepdims)))


def _truth(name: str, x: Any) -> Any:
    return cast(as_value(name, x), BOOL)


@public
def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Return the index of the first greatest element along an axis (of the flattened array when None).

    Raises:
        ShapeError: there is no element to choose from.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.argmax(sg.constant([3.0, 7.0, 5.0])))
        np.int64(1)
    """
    return _index_of(_ARGMAX, x, axis, keepdims)


@public
def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Return the index of the first smallest element along an axis (of the flattened array when None).

    Raises:
        ShapeError: there is no element to choose from.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.argmin(sg.constant([3.0, 7.0, 5.0])))
        np.int64(0)
    """
    return _index_of(_ARGMIN, x, axis, keepdims)


def _index_of(op: Op, x: Any, axis: int | None, keepdims: bool) -> Any:
    value = as_value(op.name, x)
    if axis is None:
        flat = _reduce(op, reshape(value, (-1,)), 0, False)
        return reshape(flat, (1,) * value.ndim) if keepdims else flat
    return _reduce(op, value, normalize_axis(op.name, axis, value.ndim), keepdims)


@public
def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Return ``log(sum(exp(x)))`` over axes without overflow; of nothing it is -inf.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.logsumexp(sg.constant([1000.0, 1000.0]))).round(3)
        np.float64(1000.693)
    """
    (value,) = promote("logsumexp", x, floating=True)
    axes = normalize_axes("logsumexp", axis, value.ndim)
    return apply(_LOGSUMEXP, value, attrs=(axes, bool(keepdims)))


@public
def vector_norm(x: Any, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Any:
    """Return the norm of the vectors along axes; its derivative at 0 is 0.

    Args:
        x: Any shape.
        axis: One axis, several, or all when None.
        keepdims: Whether reduced axes stay, with size 1.
        ord: Which norm: any p > 0, ``inf``, ``-inf``, or 0, which counts the elements that are not 0.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.vector_norm(sg.constant([3.0, 4.0])))
        np.float64(5.0)
    """
    (value,) = promote("vector_norm", x, floating=True)
    axes = normalize_axes("vector_norm", axis, value.ndim)
    if ord == 2:
        return apply(_NORM, value, attrs=(axes, bool(keepdims)))
    size = absolute(value)
    if ord == 1:
        return sum(size, axes, keepdims)
    if math.isinf(ord):
        return (max if ord > 0 else min)(size, axes, keepdims)
    if ord == 0:
        return sum(cast(size > 0, value.dtype), axes, keepdims)
    total = sum(where(equal(size, 0), 0, size**ord), axes, keepdims)
    zero = equal(total, 0)
    return where(zero, 0, where(zero, 1, total) ** (1 / ord))


@public
def cumulative_sum(x: Any, axis: int | None = None) -> Any:
    """Return the running sum along an axis, which may be left out where there is only one.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.cumulative_sum(sg.constant([1.0, 2.0, 3.0])))
        array([1., 3., 6.])
    """
    value = _accumulated("cumulative_sum", x)
    if axis is None and value.ndim != 1:
        raise ShapeError(at_user_line(f"cumulative_sum: shape {format_shape(value.shape)} needs an axis"))
    return apply(_CUMSUM, value, attrs=(normalize_axis("cumulative_sum", 0 if axis is None else axis, value.ndim),))
