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

from typing import Any

import numpy as np

from symgraph import ops as _ops  # noqa: F401  declares the vocabulary
from symgraph.eager import autograd, cuda, linalg, nn, optim
from symgraph.eager import methods as _methods  # noqa: F401  gives tensors PyTorch's methods
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
from symgraph.eager.cuda import device
from symgraph.eager.dot import make_dot
from symgraph.eager.functions import FUNCTIONS_OF_TORCH as _FUNCTIONS
from symgraph.eager.modes import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from symgraph.eager.tensor import Size, Tensor

_DTYPES = (
    "float32 float=float32 float64 double=float64 int8 int16 short=int16 int32 int=int32 int64 long=int64 uint8 bool"
)
_NAMES: dict[str, Any] = {
    **_FUNCTIONS,
    **{pair.split("=")[0]: np.dtype(pair.split("=")[-1]) for pair in _DTYPES.split()},
    "inf": np.inf,
    "nan": np.nan,
    "pi": np.pi,
    "e": np.e,
}


def is_tensor(x: Any) -> Any:
    """Tell whether something is a tensor."""
    return isinstance(x, Tensor)


def allclose(x: Tensor, other: Tensor, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: Any = False) -> Any:
    """Tell whether all elements are close: ``|x - other| <= atol + rtol * |other|``."""
    return np.allclose(as_tensor(x)._array, as_tensor(other)._array, rtol, atol, equal_nan)


def equal(x: Tensor, other: Tensor) -> Any:
    """Tell whether two tensors have one shape and the same elements."""
    return np.array_equal(as_tensor(x)._array, as_tensor(other)._array)


_NAMES["equal"] = equal
globals().update(_NAMES)


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module 'symgraph.eager' has no attribute {name!r}")


__all__ = [
    "Size",
    "Tensor",
    "allclose",
    "arange",
    "as_tensor",
    "autograd",
    "cuda",
    "device",
    "empty",
    "empty_like",
    "enable_grad",
    "equal",
    "eye",
    "from_numpy",
    "full",
    "full_like",
    "inference_mode",
    "is_grad_enabled",
    "is_tensor",
    "linalg",
    "linspace",
    "make_dot",
    "manual_seed",
    "nn",
    "no_grad",
    "ones",
    "ones_like",
    "optim",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "set_grad_enabled",
    "tensor",
    "zeros",
    "zeros_like",
]
