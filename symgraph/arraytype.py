"""The type of an array: what its elements are and how many there are along each axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, TypeAlias

import numpy as np

from symgraph.dims import Dim, Shape, Size, dim
from symgraph.errors import DTypeError, ShapeError, at_user_line

DTypeLike: TypeAlias = "str | type | np.dtype[np.generic]"
ShapeLike: TypeAlias = "int | str | Dim | Sequence[int | str | Dim]"

SUPPORTED = {np.dtype(name) for name in ("float64", "float32", "bool")} | {
    np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)
}
BOOL = np.dtype("bool")
FLOAT64 = np.dtype("float64")
INT8 = np.dtype("int8")
INT64 = np.dtype("int64")


class ArrayType:
    """An element type and a shape, interned: equal types are the same object.

    Example:
        >>> array_type("float32", ("n", 3))
        float32[n,3]
    """

    __slots__ = ("dtype", "shape")
    dtype: np.dtype[np.generic]
    shape: Shape

    _interned: ClassVar[dict[tuple[np.dtype[np.generic], Shape], ArrayType]] = {}

    def __new__(cls, dtype: np.dtype[np.generic], shape: Shape) -> ArrayType:
        """Return the one type with this dtype and shape."""
        key = (dtype, shape)
        found = cls._interned.get(key)
        if found is None:
            found = object.__new__(cls)
            found.dtype = dtype
            found.shape = shape
            found = cls._interned.setdefault(key, found)
        return found

    def __reduce__(self) -> tuple[type[ArrayType], tuple[object, ...]]:
        return ArrayType, (self.dtype, self.shape)

    @property
    def rank(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"{self.dtype}[{','.join(str(size) for size in self.shape)}]"


def as_dtype(dtype: DTypeLike) -> np.dtype[np.generic]:
    """Return a supported NumPy dtype in native byte order.

    Raises:
        DTypeError: symgraph computes with float32, float64, integers and booleans only.
    """
    try:
        # NumPy's one object for the native dtype, so that equal dtypes are identical.
        found = np.dtype(np.dtype(dtype).type)
    except TypeError:
        raise DTypeError(at_user_line(f"{dtype!r} is not a dtype")) from None
    if found not in SUPPORTED:
        raise DTypeError(at_user_line(f"dtype {found} is not supported: use float32, float64, an integer type or bool"))
    return found


def as_shape(shape: ShapeLike) -> Shape:
    """Return a shape as a tuple of sizes; a single size is a shape of one axis."""
    if isinstance(shape, int | str | Dim):
        return (dim(shape),)
    if not isinstance(shape, Iterable):
        raise ShapeError(at_user_line(f"{shape!r} is not a shape"))
    return tuple(dim(size) for size in shape)


def array_type(dtype: DTypeLike, shape: ShapeLike = ()) -> ArrayType:
    """Return the array type with this dtype and shape."""
    return ArrayType(as_dtype(dtype), as_shape(shape))


def is_float(dtype: np.dtype[np.generic]) -> bool:
    """Tell whether a dtype is a floating-point one: only such nodes have derivatives."""
    return dtype.kind == "f"


def format_shape(shape: Iterable[Size]) -> str:
    """Return a shape as it is written in messages: ``(n, 3)``."""
    sizes = [str(size) for size in shape]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"
