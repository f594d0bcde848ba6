"""Tensors made from data, sizes and random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.arraytype import as_dtype
from symgraph.eager.promotion import DEFAULT
from symgraph.eager.tensor import Tensor, wrap
from symgraph.errors import EagerError

Array = np.ndarray[Any, Any]
_generator = [np.random.default_rng()]


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return a new tensor with a copy of the data.

    Python floats become float32, integers int64; a NumPy array keeps its dtype.

    Raises:
        EagerError: gradients are asked for, and the dtype is not a floating-point one.

    Example:
        >>> import symgraph.eager as torch
        >>> torch.tensor([[1, 2], [3, 4]])
        tensor([[1, 2],
                [3, 4]])
    """
    return _made(_array_of(data, dtype), requires_grad)


def _array_of(data: Any, dtype: Any) -> Array:
    if isinstance(data, Tensor):
        array = data._array
    elif isinstance(data, np.ndarray | np.generic):
        array = np.asarray(data)
    else:
        array = np.array(_plain(data))  # an empty list is float64 for NumPy too
        if array.dtype.kind == "f" and dtype is None:
            array = array.astype(DEFAULT)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"could not make a tensor of {data!r}")
    return np.array(array, as_dtype(array.dtype if dtype is None else dtype), order="C")


def _plain(data: Any) -> Any:
    if isinstance(data, Tensor):
        return data._array.astype(np.float64).tolist() if data.dtype.kind == "f" else data.tolist()
    return [_plain(item) for item in data] if isinstance(data, list | tuple) else data


def _made(array: Array, requires_grad: bool) -> Tensor:
    made = wrap(array)
    return made.requires_grad_() if requires_grad else made


def from_numpy(array: Array) -> Tensor:
    """Return a tensor over the memory of a NumPy array."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    as_dtype(array.dtype)
    return wrap(array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")))


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Return data as a tensor, without a copy where that is possible."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.astype(as_dtype(dtype))
    if isinstance(data, np.ndarray) and (dtype is None or data.dtype == as_dtype(dtype)):
        return from_numpy(data)
    return tensor(data, dtype)


def _sizes(size: Sequence[Any]) -> tuple[int, ...]:
    given = size[0] if len(size) == 1 and isinstance(size[0], list | tuple) else size
    return tuple(int(s) for s in given)


def _kind(dtype: Any) -> np.dtype[np.generic]:
    return DEFAULT if dtype is None else as_dtype(dtype)


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return zeros."""
    return _made(np.zeros(_sizes(size), _kind(dtype)), requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return ones.

    Example:
        >>> import symgraph.eager as torch
        >>> torch.ones(2, requires_grad=True)
        tensor([1., 1.], requires_grad=True)
    """
    return _made(np.ones(_sizes(size), _kind(dtype)), requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return a tensor whose elements nobody has chosen; here they are zeros."""
    return zeros(*size, dtype=dtype, requires_grad=requires_grad)


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return a tensor filled with one number, whose dtype it takes."""
    filled = _array_of(fill_value, dtype)
    return _made(np.full(_sizes((size,)) if isinstance(size, int) else tuple(size), filled), requires_grad)


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return evenly spaced numbers from start (0 when only one bound is given) up to, without, end."""
    low, high = (0, start) if end is None else (start, end)
    whole = all(isinstance(bound, int) for bound in (low, high, step))
    kind = as_dtype(dtype) if dtype is not None else np.dtype("int64") if whole else DEFAULT
    return _made(np.arange(low, high, step).astype(kind), requires_grad)


def linspace(
    start: float, end: float, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return numbers evenly spaced from start to end, both included."""
    return _made(np.linspace(start, end, steps).astype(_kind(dtype)), requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return a matrix with ones on its diagonal."""
    return _made(np.eye(n, m, dtype=_kind(dtype)), requires_grad)


def zeros_like(x: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return zeros of a tensor's shape and dtype."""
    return zeros(x.shape, dtype=dtype or x.dtype, requires_grad=requires_grad)


def ones_like(x: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return ones of a tensor's shape and dtype."""
    return ones(x.shape, dtype=dtype or x.dtype, requires_grad=requires_grad)


def empty_like(x: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return a tensor of another's shape and dtype; here it holds zeros."""
    return zeros_like(x, dtype=dtype, requires_grad=requires_grad)


def full_like(
    x: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return a tensor of another's shape and dtype, filled with one number."""
    return full(x.shape, fill_value, dtype=dtype or x.dtype, requires_grad=requires_grad)


# Random numbers: NumPy's generator, so that a seed gives the same numbers again, though not PyTorch's
def manual_seed(seed: int) -> None:
    """Start the random numbers anew; the same seed gives the same numbers."""
    _generator[0] = np.random.default_rng(seed)


def uniform(shape: Sequence[int], low: float, high: float, dtype: Any = None) -> Array:
    """Return uniform random numbers as an array."""
    return _generator[0].uniform(low, high, tuple(shape)).astype(_kind(dtype))


def rand(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return random numbers, uniform in [0, 1)."""
    return _made(_generator[0].random(_sizes(size)).astype(_kind(dtype)), requires_grad)


def randn(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return random numbers of the standard normal distribution."""
    return _made(np.asarray(_generator[0].standard_normal(_sizes(size))).astype(_kind(dtype)), requires_grad)


def rand_like(x: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Return uniform random numbers of a tensor's shape and dtype."""
    return rand(x.shape, dtype=dtype or x.dtype, requires_grad=requires_grad)


def randn_like(x: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Return normal random numbers of a tensor's shape and dtype."""
    return randn(x.shape, dtype=dtype or x.dtype, requires_grad=requires_grad)


def randint(
    low: int, high: int | None = None, size: Any = (), *, dtype: Any = "int64", requires_grad: bool = False
) -> Tensor:
    """Return random integers from low up to, without, high; from 0 when one bound is given."""
    if isinstance(high, list | tuple):
        high, size = None, high
    bounds = (0, low) if high is None else (low, high)
    if bounds[0] >= bounds[1]:
        raise EagerError(f"random_ expects 'from' to be less than 'to', but got from={bounds[0]} >= to={bounds[1]}")
    return _made(_generator[0].integers(*bounds, size=tuple(size)).astype(as_dtype(dtype)), requires_grad)


def randperm(n: int) -> Tensor:
    """Return the integers below n in random order."""
    return wrap(_generator[0].permutation(n).astype(np.int64))
