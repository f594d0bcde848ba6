"""The methods and operators of tensors that PyTorch names, attached to the class from tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from symgraph.arraytype import BOOL, as_dtype
from symgraph.eager.functions import (
    FUNCTIONS_OF_TORCH,
    as_tensor,
    expand,
    matmul,
    permute,
    promoted,
    repeat,
    reshape,
    transpose,
    where,
)
from symgraph.eager.tensor import Tensor, named, number, wrap
from symgraph.errors import EagerError
from symgraph.op import FUNCTIONS, REGISTRY

Function = Callable[..., Any]

_IN_PLACE = (
    "abs neg negative square floor ceil round trunc relu exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos "
    "atan sinh cosh tanh sqrt reciprocal sigmoid erf add sub subtract mul multiply div divide floor_divide remainder "
    "pow clamp clip masked_fill where"
)


def _in_place(function: Function) -> Function:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self._in_place(lambda before: function(before, *args, **kwargs))

    method.__name__ = method.__qualname__ = f"{function.__name__}_"
    method.__doc__ = f"Replace the elements by those of ``{function.__name__}``, in the same memory."
    return method


def _filled(source: Function) -> Function:
    def method(self: Tensor, *args: Any) -> Tensor:
        return self._in_place(lambda before: wrap(np.asarray(source(before, *args), self.dtype)))

    return method


def _to(self: Tensor, *args: Any, dtype: Any = None, **_: Any) -> Tensor:
    """Return the tensor with another dtype; there is one device, the CPU."""
    for arg in args:
        if isinstance(arg, Tensor):
            dtype = arg.dtype
        elif isinstance(arg, np.dtype) or (isinstance(arg, type) and not isinstance(arg, str)):
            dtype = arg
        elif "cuda" in str(arg):
            raise EagerError("Torch not compiled with CUDA enabled")
    return self if dtype is None else self.astype(as_dtype(dtype))


def _converter(dtype: str) -> Function:
    return lambda self: self.astype(dtype)


def _size(self: Tensor, dim: int | None = None) -> Any:
    """Return the shape, or the size of one dimension."""
    return self.shape if dim is None else self.shape[dim]


def _operator(name: str, reflected: bool = False, to_floating: bool = False, label: str | None = None) -> Function:
    op = REGISTRY[name]

    def operator(self: Tensor, other: Any) -> Any:
        dtype = self._array.dtype
        kind = type(other)
        if dtype.kind == "f" and (kind is float or kind is int):
            args = (number(other, dtype), self) if reflected else (self, number(other, dtype))
            result = Tensor._apply(op, args, ())
        elif dtype.kind == "f" and isinstance(other, Tensor) and other._array.dtype is dtype:
            result = Tensor._apply(op, (other, self) if reflected else (self, other), ())
        elif isinstance(other, Tensor | float | int | np.ndarray | np.generic):
            result = FUNCTIONS[name](*promoted([other, self] if reflected else [self, other], to_floating))
        else:
            return NotImplemented
        return result if label is None else named(result, label)

    return operator


_OPERATORS = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide"} | {
    "mod": "remainder", "pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
}  # fmt: skip
_COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
_REFLECTED_NAMES = {"sub": "RsubBackward1", "truediv": "MulBackward0"}


def _attach_methods() -> None:
    methods: dict[str, Any] = {
        name: function
        for name, function in FUNCTIONS_OF_TORCH.items()
        if name not in ("where", "cat", "concat", "concatenate", "stack", "einsum")
    }
    methods["where"] = lambda self, condition, other: where(condition, self, other)
    for name in _IN_PLACE.split():
        methods[f"{name}_"] = _in_place(methods[name])
    methods |= {
        "zero_": _filled(lambda x: np.zeros(x.shape)),
        "fill_": _filled(lambda x, value: np.full(x.shape, as_tensor(value)._array)),
        "copy_": lambda self, source: self._in_place(lambda before: expand(as_tensor(source), before.shape)),
        "size": _size,
        "dim": lambda self: self.ndim,
        "numel": lambda self: self._array.size,
        "nelement": lambda self: self._array.size,
        "expand": expand,
        "expand_as": lambda self, other: expand(self, other.shape),
        "view_as": lambda self, other: reshape(self, other.shape),
        "reshape_as": lambda self, other: reshape(self, other.shape),
        "repeat": repeat,
        "contiguous": lambda self: self,
        "cpu": lambda self: self,
        "to": _to,
        "float": _converter("float32"),
        "double": _converter("float64"),
        "long": _converter("int64"),
        "int": _converter("int32"),
        "bool": _converter("bool"),
        "type_as": lambda self, other: self.astype(other.dtype),
        "is_floating_point": lambda self: self.dtype.kind == "f",
        "data_ptr": lambda self: self._array.ctypes.data,
        "element_size": lambda self: self._array.itemsize,
        "mT": property(lambda self: transpose(self, -2, -1)),
        "T": property(lambda self: permute(self, tuple(range(self.ndim - 1, -1, -1)))),
        "_version_number": property(lambda self: self._version[0]),
        "is_cuda": False,
    }
    for symbol, name in _OPERATORS.items():
        methods[f"__{symbol}__"] = _operator(name, to_floating=symbol == "truediv")
        methods[f"__r{symbol}__"] = _operator(name, True, symbol == "truediv", _REFLECTED_NAMES.get(symbol))
        methods[f"__i{symbol}__"] = _in_place(methods[f"__{symbol}__"])
    for symbol, name in _COMPARISONS.items():
        methods[f"__{symbol}__"] = _operator(name)
    methods["__matmul__"] = matmul
    methods["__rmatmul__"] = lambda self, other: matmul(other, self)
    methods["__invert__"] = lambda self: FUNCTIONS["logical_not" if self.dtype == BOOL else "bitwise_invert"](self)
    for name, method in methods.items():
        setattr(Tensor, name, method)


_attach_methods()
