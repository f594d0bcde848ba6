"""Arrays made from sizes and numbers; every size may be symbolic."""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.arraytype import ArrayType, DTypeLike, ShapeLike, as_dtype, as_shape
from symgraph.dims import Dim, Size, dim
from symgraph.errors import DTypeError, ShapeError, at_user_line
from symgraph.expr import Expr
from symgraph.op import Kind, Op, no_negative_sizes, public, register
from symgraph.ops.construct import as_value, cast
from symgraph.ops.elementwise import equal
from symgraph.ops.movement import broadcast_to, expand_dims
from symgraph.value import Value

_ARANGE = register(
    Op(
        "arange",
        Kind.LEAF,
        0,
        lambda size, dtype: ArrayType(dtype, (size,)),
        lambda size, dtype: np.arange(size, dtype=dtype),
        attributes=("size", "dtype"),
        requires=lambda size, dtype: no_negative_sizes("arange", (size,)),
    )
)


@public
def arange(
    start: Size | float, stop: Size | float | None = None, step: float = 1, dtype: DTypeLike | None = None
) -> Any:
    """Return evenly spaced numbers from start (0 when only one bound is given) up to, without, stop.

    Args:
        start, stop: Numbers; with a step of 1 and whole numbers they may be symbolic sizes.
        step: The distance between neighbours.
        dtype: The element type; int64 for whole numbers, else float64, when None.

    Raises:
        ShapeError: a symbolic size is given with a step other than 1.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.arange(3)), sg.evaluate(sg.arange(1, 2, 0.5))
        (array([0, 1, 2]), array([1. , 1.5]))
    """
    low, high = (0, start) if stop is None else (start, stop)
    if not (isinstance(low, Dim) or isinstance(high, Dim)):
        values = np.arange(low, high, step, dtype=None if dtype is None else as_dtype(dtype))
        whole = step == 1 and low == 0 and isinstance(high, int)
        return _counted(high, values.dtype) if whole and high >= 0 else as_value("arange", values)  # type: ignore[arg-type]
    if step != 1 or isinstance(low, float) or isinstance(high, float):
        raise ShapeError(at_user_line(f"arange: symbolic sizes need a step of 1, got {step}"))
    kind = np.dtype("int64") if dtype is None else as_dtype(dtype)
    counted = _counted(high - low, kind)
    return counted if low == 0 else counted + as_value("arange", low, None, kind)


def _counted(size: Size, dtype: np.dtype[np.generic]) -> Any:
    return Expr._apply(_ARANGE, (), (dim(size), dtype))


@public
def full(shape: ShapeLike, fill_value: Any, dtype: DTypeLike | None = None) -> Any:
    """Return an array of a shape, filled with one value.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.full((2,), 7.0))
        array([7., 7.])
    """
    value = as_value("full", fill_value, None, None if dtype is None else as_dtype(dtype))
    if value.ndim:
        raise ShapeError(at_user_line("full: the value to fill with is a single number"))
    return broadcast_to(value if dtype is None else cast(value, as_dtype(dtype)), as_shape(shape))


@public
def zeros(shape: ShapeLike, dtype: DTypeLike = "float64") -> Any:
    """Return an array of zeros.

    Example:
        >>> import symgraph as sg
        >>> sg.zeros((2, "n")).shape
        (2, n)
    """
    return full(shape, 0, dtype)


@public
def ones(shape: ShapeLike, dtype: DTypeLike = "float64") -> Any:
    """Return an array of ones.

    Example:
        >>> import symgraph as sg
        >>> sg.ones((2, 3), "float32")
        <broadcast_to: float32[2,3]>
    """
    return full(shape, 1, dtype)


@public
def full_like(x: Any, fill_value: Any, dtype: DTypeLike | None = None) -> Any:
    """Return an array of the shape and dtype of x, filled with one value.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.full_like(sg.constant([1.0, 2.0]), 7))
        array([7., 7.])
    """
    value = as_value("full_like", x)
    kind = value.dtype if dtype is None else as_dtype(dtype)
    filled: Any = fill_value if isinstance(fill_value, Value) else type(value)._constant(fill_value, kind)
    return broadcast_to(cast(filled, kind), value.shape)


@public
def zeros_like(x: Any, dtype: DTypeLike | None = None) -> Any:
    """Return zeros of the shape and dtype of x.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.zeros_like(sg.constant([1.0, 2.0])))
        array([0., 0.])
    """
    return full_like(x, 0, dtype)


@public
def ones_like(x: Any, dtype: DTypeLike | None = None) -> Any:
    """Return ones of the shape and dtype of x.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.ones_like(sg.constant([1.0, 2.0])))
        array([1., 1.])
    """
    return full_like(x, 1, dtype)


@public
def empty_like(x: Any, dtype: DTypeLike | None = None) -> Any:
    """Return an array of the shape and dtype of x; here it holds zeros.

    Example:
        >>> import symgraph as sg
        >>> sg.empty_like(sg.constant([1.0, 2.0])).shape
        (2,)
    """
    return full_like(x, 0, dtype)


@public
def eye(rows: Size, columns: Size | None = None, k: int = 0, dtype: DTypeLike = "float64") -> Any:
    """Return a matrix with ones on a diagonal, zeros elsewhere.

    Args:
        rows, columns: Its sizes; square when there is one.
        k: Which diagonal: 0 is the main one, positive ones are above it.
        dtype: The element type.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.eye(2, 3, k=1))
        array([[0., 1., 0.],
               [0., 0., 1.]])
    """
    height = arange(dim(rows))
    width = arange(dim(rows if columns is None else columns))
    return cast(equal(expand_dims(height, 1) + k, expand_dims(width, 0)), as_dtype(dtype))


@public
def linspace(start: float, stop: float, num: int = 50, dtype: DTypeLike | None = None) -> Any:
    """Return numbers evenly spaced from start to stop, both included.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.linspace(0, 1, 3))
        array([0. , 0.5, 1. ])
    """
    if isinstance(start, Value) or isinstance(stop, Value):
        raise DTypeError(at_user_line("linspace: the ends are numbers, not nodes"))
    return as_value("linspace", np.linspace(start, stop, num, dtype=None if dtype is None else as_dtype(dtype)))
