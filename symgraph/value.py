"""What both engines' arrays share: operators, methods and NumPy dispatch, as NumPy has them.

Every method here only names a function of the vocabulary (``symgraph.ops``), found in the table
``FUNCTIONS``; what the function does depends on the class of its arguments, through ``_apply``:
an :class:`~symgraph.expr.Expr` builds a node, an eager tensor executes.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np

from symgraph.arraytype import ArrayType, DTypeLike, ShapeLike
from symgraph.dims import Dim, Shape, Size
from symgraph.errors import DeclarationError, at_user_line
from symgraph.op import FUNCTIONS, Op

Number: TypeAlias = "bool | int | float"
Axis: TypeAlias = "int | Sequence[int] | None"


class Value:
    """An array of either engine. Arithmetic, indexing and methods are NumPy's."""

    __slots__ = ()
    __array_priority__: ClassVar[float] = 1000.0

    @property
    @abstractmethod
    def type(self) -> ArrayType:
        """Element type and shape."""

    @classmethod
    @abstractmethod
    def _apply(cls, op: Op, args: tuple[Any, ...], attrs: tuple[Any, ...]) -> Self:
        """Interpret one operation: build its node, or execute it."""

    @classmethod
    @abstractmethod
    def _constant(cls, value: Any, dtype: np.dtype[np.generic] | None) -> Self:
        """Return a constant of this engine."""

    @abstractmethod
    def _known_number(self) -> float | int | bool | None:
        """Return the number that the value is known to be everywhere, None where it is not."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The element type."""
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        """The size of each axis."""
        return self.type.shape

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.type.shape)

    @property
    def size(self) -> Size:
        """How many elements there are."""
        total: Size = 1
        for size in self.type.shape:
            total = total * size
        return total

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"len() of {self!r}, which has no axes")
        size = self.shape[0]
        if isinstance(size, Dim):
            hint = "a loop over it needs a number; .shape[0] is the size"
            raise TypeError(at_user_line(f"the length of {self!r} is {size}, which is not known yet: {hint}"))
        return size

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(len(self)))

    # Arithmetic
    def __add__(self, other: Any) -> Self:
        return self._operate("add", self, other)

    def __radd__(self, other: Any) -> Self:
        return self._operate("add", other, self)

    def __sub__(self, other: Any) -> Self:
        return self._operate("subtract", self, other)

    def __rsub__(self, other: Any) -> Self:
        return self._operate("subtract", other, self)

    def __mul__(self, other: Any) -> Self:
        return self._operate("multiply", self, other)

    def __rmul__(self, other: Any) -> Self:
        return self._operate("multiply", other, self)

    def __truediv__(self, other: Any) -> Self:
        return self._operate("divide", self, other)

    def __rtruediv__(self, other: Any) -> Self:
        return self._operate("divide", other, self)

    def __floordiv__(self, other: Any) -> Self:
        return self._operate("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> Self:
        return self._operate("floor_divide", other, self)

    def __mod__(self, other: Any) -> Self:
        return self._operate("remainder", self, other)

    def __rmod__(self, other: Any) -> Self:
        return self._operate("remainder", other, self)

    def __pow__(self, other: Any) -> Self:
        return self._operate("power", self, other)

    def __rpow__(self, other: Any) -> Self:
        return self._operate("power", other, self)

    def __matmul__(self, other: Any) -> Self:
        return self._operate("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Self:
        return self._operate("matmul", other, self)

    def __neg__(self) -> Self:
        return self._call("negative")

    def __pos__(self) -> Self:
        return self._call("positive")

    def __abs__(self) -> Self:
        return self._call("abs")

    # Comparison; == and != are left to each engine
    def __lt__(self, other: Any) -> Self:
        return self._operate("less", self, other)

    def __le__(self, other: Any) -> Self:
        return self._operate("less_equal", self, other)

    def __gt__(self, other: Any) -> Self:
        return self._operate("greater", self, other)

    def __ge__(self, other: Any) -> Self:
        return self._operate("greater_equal", self, other)

    # Bits and truth values
    def __and__(self, other: Any) -> Self:
        return self._operate("bitwise_and", self, other)

    def __rand__(self, other: Any) -> Self:
        return self._operate("bitwise_and", other, self)

    def __or__(self, other: Any) -> Self:
        return self._operate("bitwise_or", self, other)

    def __ror__(self, other: Any) -> Self:
        return self._operate("bitwise_or", other, self)

    def __xor__(self, other: Any) -> Self:
        return self._operate("bitwise_xor", self, other)

    def __rxor__(self, other: Any) -> Self:
        return self._operate("bitwise_xor", other, self)

    def __invert__(self) -> Self:
        return self._call("bitwise_invert")

    def __lshift__(self, other: Any) -> Self:
        return self._operate("bitwise_left_shift", self, other)

    def __rlshift__(self, other: Any) -> Self:
        return self._operate("bitwise_left_shift", other, self)

    def __rshift__(self, other: Any) -> Self:
        return self._operate("bitwise_right_shift", self, other)

    def __rrshift__(self, other: Any) -> Self:
        return self._operate("bitwise_right_shift", other, self)

    # Shape and indexing
    def __getitem__(self, index: Any) -> Self:
        return self._call("getitem", index)

    @property
    def at(self) -> At:
        """Functional updates: ``x.at[index].set(v)`` and ``x.at[index].add(v)``."""
        return At(self)

    @property
    def T(self) -> Self:
        """The array with its axes reversed."""
        return self._call("permute_dims", tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> Self:
        """The array with its last two axes exchanged."""
        return self._call("matrix_transpose")

    def reshape(self, *shape: Any) -> Self:
        """Return the same elements, in C order, with another shape; one size may be -1."""
        return self._call("reshape", shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)

    def ravel(self) -> Self:
        """Return the elements, in C order, along one axis."""
        return self._call("reshape", (-1,))

    def flatten(self) -> Self:
        """Return the elements, in C order, along one axis."""
        return self._call("reshape", (-1,))

    def transpose(self, *axes: Any) -> Self:
        """Return the array with its axes permuted; reversed when none are given."""
        if not axes:
            return self.T
        return self._call("permute_dims", axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes)

    def squeeze(self, axis: Axis = None) -> Self:
        """Return the array without axes of size 1."""
        return self._call("squeeze", axis)

    def astype(self, dtype: DTypeLike) -> Self:
        """Return the elements converted to another dtype."""
        return self._call("astype", dtype)

    def clip(self, min: Any = None, max: Any = None) -> Self:
        """Return the elements limited to an interval."""
        return self._call("clip", min, max)

    def broadcast_to(self, shape: ShapeLike) -> Self:
        """Return the array repeated along new axes and axes of size 1."""
        return self._call("broadcast_to", shape)

    # Reductions
    def sum(self, axis: Axis = None, keepdims: bool = False) -> Self:
        """Return the sum over axes."""
        return self._call("sum", axis, keepdims)

    def prod(self, axis: Axis = None, keepdims: bool = False) -> Self:
        """Return the product over axes."""
        return self._call("prod", axis, keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Self:
        """Return the mean over axes."""
        return self._call("mean", axis, keepdims)

    def var(self, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Self:
        """Return the variance over axes, divided by the count less ``correction``."""
        return self._call("var", axis, correction, keepdims)

    def std(self, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Self:
        """Return the square root of the variance."""
        return self._call("std", axis, correction, keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Self:
        """Return the greatest element over axes."""
        return self._call("max", axis, keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Self:
        """Return the smallest element over axes."""
        return self._call("min", axis, keepdims)

    def any(self, axis: Axis = None, keepdims: bool = False) -> Self:
        """Tell whether some element is true."""
        return self._call("any", axis, keepdims)

    def all(self, axis: Axis = None, keepdims: bool = False) -> Self:
        """Tell whether every element is true."""
        return self._call("all", axis, keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Self:
        """Return the index of the first greatest element."""
        return self._call("argmax", axis, keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Self:
        """Return the index of the first smallest element."""
        return self._call("argmin", axis, keepdims)

    def cumsum(self, axis: int | None = None) -> Self:
        """Return the running sum along one axis (of the flattened array when None)."""
        return self._call("cumulative_sum", axis) if axis is not None else self.ravel().cumsum(0)

    def dot(self, other: Any) -> Self:
        """Return NumPy's ``dot`` with another array."""
        return self._call("dot", other)

    # NumPy functions
    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = _numpy_name(ufunc)
        if method == "reduce":
            name = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min"}.get(name, "")
            name = {"logical_or": "any", "logical_and": "all"}.get(ufunc.__name__, name)
            kwargs = {"axis": 0} | {k: v for k, v in kwargs.items() if v is not None or k == "axis"}
        elif method == "outer" and name == "multiply":
            name = "outer"
        elif method != "__call__":
            name = ""
        function = FUNCTIONS.get(name)
        if function is None or kwargs.get("out") is not None:
            what = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
            raise DeclarationError(at_user_line(f"{what} has no counterpart in symgraph"))
        return _call_function(function, inputs, kwargs, ufunc.__name__)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = _numpy_name(func)
        if func.__module__ == "numpy.linalg":
            name, args, kwargs = _linalg_call(name, args, kwargs)
        function = FUNCTIONS.get(name)
        if function is None:
            raise DeclarationError(at_user_line(f"{func.__module__}.{func.__name__} has no counterpart in symgraph"))
        return _call_function(function, *_with_keywords(func, args, kwargs), func.__name__)

    def _call(self, name: str, *args: Any) -> Self:
        result: Self = FUNCTIONS[name](self, *args)
        return result

    def _operate(self, name: str, x: Any, y: Any) -> Self:
        result: Self = FUNCTIONS[name](x, y) if _is_operand(x) and _is_operand(y) else NotImplemented
        return result


class At:
    """An array about to be updated at an index; see :attr:`Value.at`."""

    __slots__ = ("_index", "_value")

    def __init__(self, value: Value, index: Any = None) -> None:
        self._value = value
        self._index = index

    def __getitem__(self, index: Any) -> At:
        return At(self._value, index)

    def set(self, value: Any) -> Any:
        """Return a copy of the array whose elements at the index are these."""
        return FUNCTIONS["at_set"](self._value, self._index, value)

    def add(self, value: Any) -> Any:
        """Return a copy of the array with these added at the index; repeated indices add up."""
        return FUNCTIONS["at_add"](self._value, self._index, value)


_NUMPY_NAMES = {
    "absolute": "abs",
    "true_divide": "divide",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arctan2": "atan2",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
    "amax": "max",
    "amin": "min",
    "invert": "bitwise_invert",
    "bitwise_not": "bitwise_invert",
    "left_shift": "bitwise_left_shift",
    "right_shift": "bitwise_right_shift",
    "concatenate": "concat",
    "transpose": "permute_dims",
    "cumsum": "cumulative_sum",
    "rint": "round",
    "fmod": "",
}
_NUMPY_KEYWORDS = {"ddof": "correction", "newshape": "shape", "a_min": "min", "a_max": "max"}
_IGNORED_KEYWORDS = {"out", "dtype", "initial", "where", "order", "copy", "casting", "subok"}


def _numpy_name(function: Any) -> str:
    name: str = function.__name__
    return _NUMPY_NAMES.get(name, name)


def _linalg_call(name: str, args: Any, kwargs: dict[str, Any]) -> tuple[str, Any, dict[str, Any]]:
    """Return the function and the arguments that a call of numpy.linalg means; no name for a norm of matrices."""
    if name in ("trace", "diagonal"):
        return name, args, {"axis1": -2, "axis2": -1, **kwargs}
    if name != "norm":
        return name, args, kwargs
    given = dict(zip(("x", "ord", "axis", "keepdims"), args, strict=False)) | kwargs
    order, axis = given.pop("ord", None), given.get("axis")
    if order is None:
        return "vector_norm", (), given
    of_vectors = isinstance(axis, int) or (axis is None and given["x"].ndim == 1)
    return "vector_norm" if of_vectors else "", (), given | {"ord": order}


def _with_keywords(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Pass by name what NumPy's signature says are options: their order is NumPy's own."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[: len(args)]
    except ValueError:
        parameters = []
    names = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]
    if len(names) != len(args):
        return list(args), kwargs
    options = _IGNORED_KEYWORDS | {"axis", "keepdims", "ddof"}
    first = next((i for i, name in enumerate(names) if name in options), len(args))
    return list(args[:first]), dict(zip(names[first:], args[first:], strict=False)) | kwargs


def _call_function(function: Callable[..., Any], args: Any, kwargs: dict[str, Any], name: str) -> Any:
    kept = {}
    for key, value in kwargs.items():
        if key in _IGNORED_KEYWORDS:
            if value is not None and value is not np._NoValue:
                raise DeclarationError(at_user_line(f"numpy.{name} on a node takes no {key}="))
        elif value is not np._NoValue:
            kept[_NUMPY_KEYWORDS.get(key, key)] = value
    return function(*args, **kept)


def _is_operand(x: Any) -> bool:
    return isinstance(x, Value | int | float | np.ndarray | np.generic | Dim | list | tuple)


def is_python_scalar(x: Any) -> bool:
    """Tell whether NumPy treats a value as a weak scalar, which adapts to the other operand's dtype."""
    return type(x) in (int, float, bool) or isinstance(x, Dim)
