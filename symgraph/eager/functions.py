"""PyTorch's functions over the vocabulary of operations, and the methods of tensors made of them.

Tables say which operation each name stands for; a function is written out only where PyTorch's arguments
differ from NumPy's. Every function of this module takes tensors, arrays and numbers.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from symgraph.eager.promotion import floating, result_dtype
from symgraph.eager.tensor import Tensor, named, number, wrap
from symgraph.errors import EagerError
from symgraph.op import FUNCTIONS, REGISTRY, Op

Function = Callable[..., Any]

# PyTorch's name -> the operation; several names for one operation stand side by side
_FLOATING = (
    "exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh sqrt reciprocal "
    "sigmoid erf erfc erfinv lgamma digamma hypot logaddexp xlogy atan2 arcsin=asin arccos=acos arctan=atan "
    "arcsinh=asinh arccosh=acosh arctanh=atanh arctan2=atan2"
)
_SAME = (
    "abs absolute=abs neg=negative negative positive sign sgn=sign square floor ceil round trunc fix=trunc relu isnan "
    "isinf isfinite logical_not logical_and logical_or logical_xor bitwise_not=bitwise_invert bitwise_and bitwise_or "
    "bitwise_xor bitwise_left_shift bitwise_right_shift maximum minimum floor_divide remainder pow=power eq=equal "
    "ne=not_equal not_equal lt=less less le=less_equal less_equal gt=greater greater ge=greater_equal greater_equal"
)


def as_tensor(x: Any) -> Tensor:
    """Return a tensor, array or number as a tensor."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, bool | int | float) and not isinstance(x, np.generic):
        return number(x)
    return wrap(np.asarray(x))


def promoted(operands: Sequence[Any], to_floating: bool = False) -> list[Tensor]:
    """Return operands as tensors of the dtype in which PyTorch computes them together."""
    first = operands[0] if operands else None
    if isinstance(first, Tensor) and (first._array.dtype.kind == "f" or not to_floating):
        dtype = first._array.dtype
        if all(isinstance(x, Tensor) and x._array.dtype is dtype for x in operands):
            return list(operands)
    given = [x if isinstance(x, Tensor) or type(x) in (float, int, bool) else as_tensor(x) for x in operands]
    dtype = result_dtype(given)
    if to_floating:
        dtype = floating(dtype)
    return [
        (x if x._array.dtype == dtype else x.astype(dtype)) if isinstance(x, Tensor) else number(x, dtype)
        for x in given
    ]


def _elementwise(torch_name: str, name: str, to_floating: bool) -> Function:
    general = FUNCTIONS[name]
    op: Op = general.op  # type: ignore[attr-defined]
    direct = not name.startswith(("logical_", "bitwise_"))

    def function(*operands: Any) -> Any:
        if direct and len(operands) == 1 and isinstance(x := operands[0], Tensor) and x._array.dtype.kind == "f":
            return Tensor._apply(op, operands, ())
        return general(*promoted(operands, to_floating))

    function.__name__ = function.__qualname__ = torch_name
    function.__doc__ = f"PyTorch's ``{torch_name}``: ``symgraph.{name}`` with PyTorch's promotion of dtypes."
    return function


def _pairs(table: str) -> list[tuple[str, str]]:
    return [(pair.split("=")[0], pair.split("=")[-1]) for pair in table.split()]


ELEMENTWISE: dict[str, Function] = {
    torch_name: _elementwise(torch_name, name, table is _FLOATING)
    for table in (_FLOATING, _SAME)
    for torch_name, name in _pairs(table)
}


def add(x: Any, other: Any, *, alpha: Any = 1) -> Any:
    """Return ``x + alpha * other``."""
    return FUNCTIONS["add"](*promoted([x, other if alpha == 1 else mul(other, alpha)]))


def sub(x: Any, other: Any, *, alpha: Any = 1) -> Any:
    """Return ``x - alpha * other``."""
    return FUNCTIONS["subtract"](*promoted([x, other if alpha == 1 else mul(other, alpha)]))


def mul(x: Any, other: Any) -> Any:
    """Return ``x * other``."""
    return FUNCTIONS["multiply"](*promoted([x, other]))


def div(x: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """Return ``x / other``, rounded down (``"floor"``) or towards zero (``"trunc"``) if asked."""
    if rounding_mode == "floor":
        return ELEMENTWISE["floor_divide"](x, other)
    quotient = FUNCTIONS["divide"](*promoted([x, other], to_floating=True))
    return FUNCTIONS["trunc"](quotient) if rounding_mode == "trunc" else quotient


def where(condition: Any, x: Any = None, other: Any = None) -> Any:
    """Return x where the condition holds, other elsewhere; the positions where it holds, given only a condition."""
    if x is None and other is None:
        return tuple(wrap(positions) for positions in as_tensor(condition)._array.nonzero())
    return FUNCTIONS["where"](as_tensor(condition), *promoted([x, other]))


def clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    """Return the elements limited to an interval."""
    if min is None and max is None:
        raise EagerError("torch.clamp: At least one of 'min' or 'max' must not be None")
    limits = [limit for limit in (min, max) if limit is not None]
    value, *converted = promoted([x, *limits])
    low = converted.pop(0) if min is not None else None
    clipped = FUNCTIONS["clip"](value, low, converted[0] if max is not None else None)
    tensors = any(isinstance(limit, Tensor) for limit in limits)
    return named(clipped, f"ClampBackward{int(not tensors)}")


def clone(x: Any) -> Any:
    """Return a copy; gradients pass through it."""
    return named(Tensor._apply(REGISTRY["positive"], (as_tensor(x),), ()), "CloneBackward0")


def masked_fill(x: Any, mask: Any, value: Any) -> Any:
    """Return x with a number where the mask is true."""
    x = as_tensor(x)
    fill = value if isinstance(value, Tensor) else number(value, x.dtype)
    return named(FUNCTIONS["where"](as_tensor(mask), fill, x), "MaskedFillBackward0")


# Reductions
def _axes(dim: Any, axis: Any) -> Any:
    chosen = axis if dim is None else dim
    return tuple(chosen) if isinstance(chosen, list) else chosen


def _keeps(keepdim: bool, keepdims: bool | None) -> bool:
    return keepdim if keepdims is None else keepdims


def _typed(x: Any, dtype: Any) -> Tensor:
    value = as_tensor(x)
    return value if dtype is None else value.astype(dtype)


def _over(name: str, value: Tensor, dim: Any, axis: Any, keeps: bool) -> Any:
    axes = _axes(dim, axis)
    found = FUNCTIONS[name.lower()](value, axes if value.ndim else None, keeps)
    return found if axes is None else named(found, f"{name}Backward1")


def sum(
    x: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool | None = None, dtype: Any = None
) -> Any:
    """Return the sum over dimensions; all when ``dim`` is None."""
    value = _typed(x, dtype)
    if value.ndim == 0 and value.dtype.kind == "f":
        return named(clone(value), "SumBackward0")
    return _over("Sum", value, dim, axis, _keeps(keepdim, keepdims))


def prod(
    x: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool | None = None, dtype: Any = None
) -> Any:
    """Return the product over dimensions."""
    return _over("Prod", _typed(x, dtype), dim, axis, _keeps(keepdim, keepdims))


def mean(
    x: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool | None = None, dtype: Any = None
) -> Any:
    """Return the mean over dimensions."""
    value = _typed(x, dtype)
    if value.dtype.kind != "f":
        kind = {"int64": "Long", "bool": "Bool", "int32": "Int"}.get(value.dtype.name, value.dtype.name)
        raise EagerError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
            f"Got: {kind}"
        )
    if value.ndim == 0:
        return named(clone(value), "MeanBackward0")
    return _over("Mean", value, dim, axis, _keeps(keepdim, keepdims))


class ValuesAndIndices(NamedTuple):
    """What ``max`` and ``min`` along a dimension return."""

    values: Any
    indices: Any


def _extremum(name: str, x: Any, dim: Any, keepdim: bool, axis: Any, keepdims: bool | None) -> Any:
    value = as_tensor(x)
    chosen = _axes(dim, axis)
    if isinstance(chosen, Tensor):
        return ELEMENTWISE[f"{name}imum"](value, chosen)
    if chosen is None:
        return named(FUNCTIONS[name](value, None, _keeps(keepdim, keepdims)), f"{name.capitalize()}Backward1")
    indices = FUNCTIONS[f"arg{name}"](value, chosen, True)
    values = FUNCTIONS["take_along_axis"](value, indices, chosen)
    if not _keeps(keepdim, keepdims):
        values, indices = FUNCTIONS["squeeze"](values, chosen), FUNCTIONS["squeeze"](indices, chosen)
    return ValuesAndIndices(named(values, f"{name.capitalize()}Backward0"), indices)


def max(x: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool | None = None) -> Any:
    """Return the greatest element; along a dimension, the greatest elements and the first place of each."""
    return _extremum("max", x, dim, keepdim, axis, keepdims)


def min(x: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool | None = None) -> Any:
    """Return the smallest element; along a dimension, the smallest elements and the first place of each."""
    return _extremum("min", x, dim, keepdim, axis, keepdims)


def _reduction(torch_name: str, name: str) -> Function:
    def function(
        x: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool | None = None
    ) -> Any:
        return FUNCTIONS[name](as_tensor(x), _axes(dim, axis), _keeps(keepdim, keepdims))

    function.__name__ = function.__qualname__ = torch_name
    function.__doc__ = f"PyTorch's ``{torch_name}``: ``symgraph.{name}`` over dimensions."
    return function


REDUCTIONS: dict[str, Function] = {
    torch_name: _reduction(torch_name, name)
    for torch_name, name in _pairs("amax=max amin=min all any argmax argmin logsumexp")
}


def var(
    x: Any,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Any:
    """Return the variance over dimensions, divided by the count less 1 unless told otherwise."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    less = correction if correction is not None else 1 if unbiased is None else int(unbiased)
    found = FUNCTIONS["var"](as_tensor(x), _axes(dim, axis), less, _keeps(keepdim, keepdims))
    return named(found, "VarBackward0")


def std(
    x: Any,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Any:
    """Return the square root of the variance."""
    spread = var(x, dim, unbiased, keepdim, correction=correction, axis=axis, keepdims=keepdims)
    return named(FUNCTIONS["sqrt"](spread), "StdBackward0")


def norm(x: Any, p: Any = 2, dim: Any = None, keepdim: bool = False) -> Any:
    """Return the norm of the vectors along dimensions (of all elements when None)."""
    order = 2 if p in ("fro", None) else p
    return named(FUNCTIONS["vector_norm"](as_tensor(x), _axes(dim, None), keepdim, order), "LinalgVectorNormBackward0")


def cumsum(x: Any, dim: int) -> Any:
    """Return the running sum along a dimension."""
    return FUNCTIONS["cumulative_sum"](as_tensor(x), dim)


def softmax(x: Any, dim: int) -> Any:
    """Return the exponentials along a dimension divided by their sum."""
    return named(FUNCTIONS["softmax"](as_tensor(x), dim), "SoftmaxBackward0")


def log_softmax(x: Any, dim: int) -> Any:
    """Return the logarithm of :func:`softmax`, computed without overflow."""
    return named(FUNCTIONS["log_softmax"](as_tensor(x), dim), "LogSoftmaxBackward0")


# Products
def matmul(x: Any, other: Any) -> Any:
    """Return the matrix product."""
    left, right = promoted([x, other])
    if left.ndim == 2 and right.ndim == 2 and left._array.shape[1] != right._array.shape[0]:
        shapes = f"{left._array.shape[0]}x{left._array.shape[1]} and {right._array.shape[0]}x{right._array.shape[1]}"
        raise EagerError(f"mat1 and mat2 shapes cannot be multiplied ({shapes})")
    return FUNCTIONS["matmul"](left, right)


def dot(x: Any, other: Any) -> Any:
    """Return the product of two vectors."""
    left, right = as_tensor(x), as_tensor(other)
    if left.ndim != 1 or right.ndim != 1:
        raise EagerError(f"1D tensors expected, but got {left.ndim}D and {right.ndim}D tensors")
    if left._array.size != right._array.size:
        raise EagerError(
            f"inconsistent tensor size, expected tensor [{left._array.size}] and src [{right._array.size}] to have the "
            f"same number of elements, but got {left._array.size} and {right._array.size} elements respectively"
        )
    return matmul(left, right)


def outer(x: Any, other: Any) -> Any:
    """Return the products of every element of one vector with every element of another."""
    return FUNCTIONS["outer"](*promoted([x, other]))


def einsum(equation: str, *operands: Any) -> Any:
    """Return a sum of products in Einstein's notation."""
    given = operands[0] if len(operands) == 1 and isinstance(operands[0], list | tuple) else operands
    return FUNCTIONS["einsum"](equation, *promoted(given))


def tensordot(x: Any, other: Any, dims: Any = 2) -> Any:
    """Return the sum of products over pairs of dimensions."""
    return FUNCTIONS["tensordot"](*promoted([x, other]), dims)


def addmm(x: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    """Return ``beta * x + alpha * (mat1 @ mat2)``."""
    product = matmul(mat1, mat2)
    scaled = product if alpha == 1 else mul(product, alpha)
    return named(add(x if beta == 1 else mul(x, beta), scaled), "AddmmBackward0")


# Shapes
def _shape(sizes: Sequence[Any]) -> tuple[int, ...]:
    given = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], list | tuple) else sizes
    return tuple(int(size) for size in given)


def reshape(x: Any, *shape: Any) -> Any:
    """Return the same elements with another shape; one size may be -1."""
    value, sizes = as_tensor(x), _shape(shape)
    known = math.prod(size for size in sizes if size != -1)
    free = sizes.count(-1)
    total = value._array.size
    if free > 1:
        raise EagerError("only one dimension can be inferred")
    if (free and (known == 0 or total % known)) or (not free and known != total):
        raise EagerError(f"shape '{list(sizes)}' is invalid for input of size {total}")
    full = tuple(total // known if size == -1 else size for size in sizes)
    return Tensor._apply(REGISTRY["reshape"], (value,), (full,))


def permute(x: Any, *dims: Any) -> Any:
    """Return x with its dimensions in another order."""
    return FUNCTIONS["permute_dims"](as_tensor(x), _shape(dims))


def transpose(x: Any, *dims: Any) -> Any:
    """Return x with two dimensions exchanged; with a tuple (or nothing), permuted as in NumPy."""
    value = as_tensor(x)
    if len(dims) == 2:
        return named(FUNCTIONS["swapaxes"](value, *dims), "TransposeBackward0")
    return FUNCTIONS["permute_dims"](value, dims[0] if dims else None)


def t(x: Any) -> Any:
    """Return a matrix transposed; a vector as it is."""
    value = as_tensor(x)
    if value.ndim > 2:
        raise EagerError(f"t() expects a tensor with <= 2 dimensions, but self is {value.ndim}D")
    return named(FUNCTIONS["permute_dims"](value), "TBackward0")


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Return x with several dimensions made one."""
    value = as_tensor(x)
    if value.ndim == 0:
        return reshape(value, 1)
    start, end = start_dim % value.ndim, end_dim % value.ndim
    shape = value._array.shape
    return reshape(value, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


def unsqueeze(x: Any, dim: int) -> Any:
    """Return x with a dimension of size 1 inserted."""
    return FUNCTIONS["expand_dims"](as_tensor(x), dim)


def squeeze(x: Any, dim: Any = None, *, axis: Any = None) -> Any:
    """Return x without dimensions of size 1; a named one of another size stays."""
    value, chosen = as_tensor(x), _axes(dim, axis)
    if chosen is None:
        return FUNCTIONS["squeeze"](value)
    dims = chosen if isinstance(chosen, tuple) else (chosen,)
    single = tuple(d for d in dims if value._array.shape[d] == 1)
    return named(FUNCTIONS["squeeze"](value, single), "SqueezeBackward1") if single else value


def expand(x: Any, *sizes: Any) -> Any:
    """Return x repeated along new dimensions and dimensions of size 1; -1 keeps a size."""
    value, shape = as_tensor(x), _shape(sizes)
    kept = (1,) * (len(shape) - value.ndim) + value._array.shape
    return FUNCTIONS["broadcast_to"](value, tuple(k if s == -1 else s for s, k in zip(shape, kept, strict=True)))


def repeat(x: Any, *sizes: Any) -> Any:
    """Return x repeated so many times along each dimension."""
    return named(FUNCTIONS["tile"](as_tensor(x), _shape(sizes)), "RepeatBackward0")


def cat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Return tensors joined along a dimension."""
    return FUNCTIONS["concat"](promoted(tensors), dim)


def stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Return tensors of equal shapes joined along a new dimension."""
    return named(FUNCTIONS["stack"](promoted(tensors), dim), "StackBackward0")


def split(x: Any, split_size_or_sections: Any, dim: int = 0) -> tuple[Any, ...]:
    """Return pieces of x along a dimension: of one size, or of the sizes given."""
    value = as_tensor(x)
    total = value._array.shape[dim]
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        sizes = [builtins.min(size, total - start) for start in range(0, total, size)]
    else:
        sizes = list(split_size_or_sections)
    before = (slice(None),) * (dim % value.ndim)
    starts = np.cumsum([0, *sizes]).tolist()
    return tuple(value[(*before, slice(start, start + size))] for start, size in zip(starts, sizes, strict=False))


def chunk(x: Any, chunks: int, dim: int = 0) -> tuple[Any, ...]:
    """Return x cut into so many pieces along a dimension."""
    return split(x, -(-as_tensor(x)._array.shape[dim] // chunks), dim)


def flip(x: Any, *dims: Any) -> Any:
    """Return x with the order of elements reversed along dimensions."""
    return named(FUNCTIONS["flip"](as_tensor(x), _shape(dims)), "FlipBackward0")


def roll(x: Any, shifts: Any, dims: Any = None) -> Any:
    """Return x with elements moved along dimensions; what leaves at one end comes in at the other."""
    return named(FUNCTIONS["roll"](as_tensor(x), shifts, dims), "RollBackward0")


def gather(x: Any, dim: int, index: Any) -> Any:
    """Return the elements of x at indices along a dimension."""
    return named(FUNCTIONS["take_along_axis"](as_tensor(x), as_tensor(index), dim), "GatherBackward0")


def index_select(x: Any, dim: int, index: Any) -> Any:
    """Return the slices of x at indices along a dimension."""
    return named(FUNCTIONS["take"](as_tensor(x), as_tensor(index), dim), "IndexSelectBackward0")


def _of_matrix(torch_name: str, name: str, takes_diagonal: bool) -> Function:
    def function(x: Any, diagonal: int = 0) -> Any:
        value = as_tensor(x)
        found = FUNCTIONS[name](value, diagonal) if takes_diagonal else FUNCTIONS[name](value)
        return named(found, f"{torch_name.capitalize()}Backward0")

    function.__name__ = function.__qualname__ = torch_name
    function.__doc__ = f"PyTorch's ``{torch_name}``: ``symgraph.{name}``."
    return function


MATRIX: dict[str, Function] = {
    name: _of_matrix(name, name, name != "trace") for name in ("tril", "triu", "diag", "trace")
}

_WRITTEN_OUT = (
    add, sub, mul, div, where, clamp, clone, masked_fill, sum, prod, mean, max, min, var, std, norm, cumsum, softmax,
    log_softmax, matmul, dot, outer, einsum, tensordot, addmm, reshape, permute, transpose, t, flatten, unsqueeze,
    squeeze, cat, stack, split, chunk, flip, roll, gather, index_select,
)  # fmt: skip
_OTHERS = (
    "broadcast_to cbrt cumulative_sum diagonal elu expand_dims gelu leaky_relu matrix_transpose mean_squared_error "
    "moveaxis pad permute_dims sigmoid_cross_entropy silu softmax_cross_entropy softplus stop_gradient take "
    "take_along_axis tile vecdot vector_norm"
)


def _as_it_is(name: str) -> Function:
    def function(x: Any, *args: Any, **kwargs: Any) -> Any:
        given = [as_tensor(arg) if isinstance(arg, np.ndarray) else arg for arg in args]
        return FUNCTIONS[name](as_tensor(x), *given, **kwargs)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"``symgraph.{name}``, which PyTorch does not have under this name."
    return function


_ALIASES: dict[str, Function] = {
    "subtract": sub, "multiply": mul, "divide": div, "true_divide": div, "clip": clamp, "mm": matmul, "mv": matmul,
    "bmm": matmul, "inner": matmul, "concat": cat, "concatenate": cat, "view": reshape, "swapaxes": transpose,
    "ravel": flatten, "ger": outer,
}  # fmt: skip

FUNCTIONS_OF_TORCH: dict[str, Function] = {
    **{name: _as_it_is(name) for name in _OTHERS.split()},
    **ELEMENTWISE,
    **REDUCTIONS,
    **MATRIX,
    **{function.__name__: function for function in _WRITTEN_OUT},
    **_ALIASES,
}
"""Every function of the namespace ``symgraph.eager``, by PyTorch's name."""
