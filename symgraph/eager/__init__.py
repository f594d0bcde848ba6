"""The dynamic engine: define by run, with PyTorch's names, over symgraph's operations and derivative rules.

    >>> import symgraph.eager as torch
    >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
    >>> y = (x + 2) ** 2
    >>> y
    tensor([25., 36.], grad_fn=<PowBackward0>)
    >>> y.sum().backward()
    >>> x.grad
    tensor([10., 12.])

Random numbers are NumPy's: a seed repeats them, and they are not PyTorch's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symgraph import ops as _ops
from symgraph.eager import autograd, cuda, linalg, nn, optim
from symgraph.eager.creation import (
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    manual_seed,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    tensor,
    zeros,
    zeros_like,
)
from symgraph.eager.cuda import Device as device
from symgraph.eager.dot import make_dot
from symgraph.eager.functions import FUNCTIONS_OF_TORCH as _FUNCTIONS
from symgraph.eager.modes import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from symgraph.eager.tensor import Size, Tensor

globals().update(_FUNCTIONS)

_DTYPES = {
    "float32": "float32", "float": "float32", "float64": "float64", "double": "float64", "int8": "int8", "int16": "int16",
    "short": "int16", "int32": "int32", "int": "int32", "int64": "int64", "long": "int64", "uint8": "uint8", "bool": "bool",
}  # fmt: skip
globals().update({name: np.dtype(dtype) for name, dtype in _DTYPES.items()})
inf, nan, pi, e = math.inf, math.nan, math.pi, math.e


def is_tensor(x: Any) -> Any:
    """Tell whether something is a tensor."""
    return isinstance(x, Tensor)


def allclose(x: Tensor, other: Tensor, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: Any = False) -> Any:
    """Tell whether all elements are close: ``|x - other| <= atol + rtol * |other|``."""
    return np.allclose(as_tensor(x)._array, as_tensor(other)._array, rtol, atol, equal_nan)


def equal(x: Tensor, other: Tensor) -> Any:
    """Tell whether two tensors have one shape and the same elements."""
    return np.array_equal(as_tensor(x)._array, as_tensor(other)._array)


__all__ = sorted(
    [
        "Size", "Tensor", "allclose", "arange", "as_tensor", "autograd", "cuda", "device", "empty", "empty_like",
        "enable_grad", "equal", "eye", "from_numpy", "full", "full_like", "inference_mode", "is_grad_enabled", "is_tensor",
        "linalg", "linspace", "make_dot", "manual_seed", "nn", "no_grad", "ones", "ones_like", "optim", "rand", "rand_like",
        "randint", "randn", "randn_like", "randperm", "set_grad_enabled", "tensor", "zeros", "zeros_like",
        *(name for name in _FUNCTIONS if name != "equal"), *_DTYPES,
    ]
)  # fmt: skip
