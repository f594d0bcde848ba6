"""Tensors as Python numbers, lists and NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.errors import EagerError
from symgraph.value import Value

Array = np.ndarray[Any, Any]


class Convertible(Value):
    """What a tensor answers to Python and NumPy."""

    _array: Array
    _requires: bool

    def item(self) -> Any:
        """Return the one element as a Python number."""
        if self._array.size != 1:
            raise EagerError(f"a Tensor with {self._array.size} elements cannot be converted to Scalar")
        return self._array.item()

    def tolist(self) -> Any:
        """Return the elements as nested lists of Python numbers."""
        return self._array.tolist()

    def numpy(self, *, force: bool = False) -> Array:
        """Return the NumPy array over the same memory."""
        if self._requires and not force:
            raise EagerError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self._array.dtype.kind not in "iub":
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __bool__(self) -> bool:
        if self._array.size != 1:
            raise EagerError(f"Boolean value of Tensor with {_no_or_many(self._array.size)} is ambiguous")
        return bool(self._array.item())

    def __format__(self, specification: str) -> str:
        return format(self.item(), specification) if not self._array.ndim else object.__format__(self, specification)

    def __contains__(self, element: Any) -> bool:
        return bool(np.any(self._array == (getattr(element, "_array", element))))

    def __len__(self) -> int:
        if not self._array.ndim:
            raise TypeError("len() of a 0-d tensor")
        return len(self._array)

    def __iter__(self) -> Any:
        if not self._array.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(len(self._array)))


def _no_or_many(size: int) -> str:
    return "no values" if size == 0 else "more than one value"
