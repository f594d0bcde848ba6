"""Masks by position: one-hot codes, triangles and diagonals, for known and symbolic sizes."""

from __future__ import annotations

import string
from typing import Any

from symgraph.arraytype import DTypeLike, as_dtype, format_shape
from symgraph.dims import Dim, Size, dim
from symgraph.errors import DTypeError, ShapeError, at_user_line
from symgraph.op import public
from symgraph.ops.construct import as_value, cast, engine_of, expect_rank, normalize_axis
from symgraph.ops.contraction import einsum
from symgraph.ops.creation import arange
from symgraph.ops.elementwise import equal, less_equal, where
from symgraph.ops.movement import expand_dims, moveaxis, place, slice_at


@public
def one_hot(indices: Any, num_classes: Size, dtype: DTypeLike = "float64", axis: int = -1) -> Any:
    """Return ones at the classes that integers name, zeros elsewhere; all zeros for a number that is no class.

    Args:
        indices: Integers, of any shape.
        num_classes: The size of the new axis.
        dtype: The element type.
        axis: Where the new axis stands in the result.

    Raises:
        DTypeError: the indices are not integers.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.one_hot([2, 0], 3))
        array([[0., 0., 1.],
               [1., 0., 0.]])
    """
    values = as_value("one_hot", indices, engine_of("one_hot", (indices,)))
    if values.dtype.kind not in "iu":
        raise DTypeError(at_user_line(f"one_hot: classes are integers, not {values.dtype}"))
    new = normalize_axis("one_hot", axis, values.ndim + 1)
    classes = expand_dims(arange(dim(num_classes)), tuple(a for a in range(values.ndim + 1) if a != new))
    return cast(equal(expand_dims(values, new), classes), as_dtype(dtype))


def _below(x: Any, k: int) -> Any:
    """Tell where the column is at most the row plus k, on the last two axes."""
    rows, columns = arange(x.shape[-2]), arange(x.shape[-1])
    return less_equal(expand_dims(columns, 0), expand_dims(rows, 1) + k)


@public
def tril(x: Any, k: int = 0) -> Any:
    """Return x with zeros above the k-th diagonal, on the last two axes.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.tril(sg.ones((2, 2))))
        array([[1., 0.],
               [1., 1.]])
    """
    x = as_value("tril", x)
    expect_rank("tril", x, 2)
    return where(_below(x, k), x, 0)


@public
def triu(x: Any, k: int = 0) -> Any:
    """Return x with zeros below the k-th diagonal, on the last two axes.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.triu(sg.ones((2, 2))))
        array([[1., 1.],
               [0., 1.]])
    """
    x = as_value("triu", x)
    expect_rank("triu", x, 2)
    return where(_below(x, k - 1), 0, x)


@public
def diag(x: Any, k: int = 0) -> Any:
    """Return the matrix with a vector on its k-th diagonal, or the k-th diagonal of a matrix.

    Raises:
        ShapeError: x has neither one nor two axes.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.diag(sg.constant([1.0, 2.0])))
        array([[1., 0.],
               [0., 2.]])
    """
    x = as_value("diag", x)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ShapeError(at_user_line(f"diag: a vector or a matrix is expected, got shape {format_shape(x.shape)}"))
    numbers = arange(x.shape[0])
    square = where(equal(expand_dims(numbers, 1), expand_dims(numbers, 0)), expand_dims(x, 0), 0)
    size = x.shape[0] + abs(k)
    return place(square, (size, size), (max(-k, 0), max(k, 0)), (1, 1))


@public
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Return a diagonal of the matrices on two axes, as a new last axis.

    Args:
        x: At least two axes.
        offset: Which diagonal: 0 is the main one, positive ones are above it.
        axis1, axis2: The axes of rows and of columns, as in NumPy.

    Raises:
        ShapeError: the matrices have symbolic sizes and are not square.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.diagonal(sg.constant([[1.0, 2.0], [3.0, 4.0]])))
        array([1., 4.])
    """
    x = as_value("diagonal", x)
    square, batch = _square_at(x, offset, axis1, axis2)
    return einsum(f"{batch}YY->{batch}Y", square)


@public
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Return the sum of a diagonal of the matrices on two axes.

    Args and errors are those of :func:`diagonal`.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.diagonal(sg.constant([[1.0, 2.0], [3.0, 4.0]])).sum())
        np.float64(5.0)
    """
    x = as_value("trace", x)
    square, batch = _square_at(x, offset, axis1, axis2)
    return einsum(f"{batch}YY->{batch}", square)


def _square_at(x: Any, offset: int, axis1: int, axis2: int) -> tuple[Any, str]:
    """Return the square matrices whose main diagonal is x's diagonal at an offset, and letters for the axes before."""
    first, second = normalize_axis("diagonal", axis1, x.ndim), normalize_axis("diagonal", axis2, x.ndim)
    if first == second:
        raise ShapeError(at_user_line(f"diagonal: axis {axis1} cannot hold both rows and columns"))
    moved = moveaxis(x, (first, second), (-2, -1))
    down, right = max(-offset, 0), max(offset, 0)
    rows, columns = moved.shape[-2] - down, moved.shape[-1] - right
    excess = columns - rows
    if isinstance(excess, Dim):
        raise ShapeError(
            at_user_line(
                f"diagonal: which of {rows} and {columns} is smaller is not known for shape {format_shape(x.shape)}"
            )
        )
    size = rows if excess >= 0 else columns
    if isinstance(size, int) and size <= 0:
        size, down, right = 0, 0, 0
    batch = moved.shape[:-2]
    square = slice_at(moved, (*[0] * len(batch), down, right), (1,) * moved.ndim, (*batch, size, size))
    return square, string.ascii_lowercase[: len(batch)]
