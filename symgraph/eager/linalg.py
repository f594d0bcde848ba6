"""PyTorch's ``torch.linalg``: linear algebra on the last two dimensions."""

from __future__ import annotations

from typing import Any, NamedTuple

from symgraph.eager.functions import as_tensor, norm, promoted
from symgraph.op import FUNCTIONS


class SignAndLogarithm(NamedTuple):
    """What :func:`slogdet` returns."""

    sign: Any
    logabsdet: Any


def cholesky(x: Any) -> Any:
    """Return the lower triangular factor of a symmetric positive definite matrix."""
    return FUNCTIONS["cholesky"](as_tensor(x))


def solve(a: Any, b: Any) -> Any:
    """Return the x with ``a @ x == b``."""
    return FUNCTIONS["solve"](*promoted([a, b], to_floating=True))


def inv(x: Any) -> Any:
    """Return the inverse."""
    return FUNCTIONS["inv"](as_tensor(x))


def det(x: Any) -> Any:
    """Return the determinant."""
    return FUNCTIONS["det"](as_tensor(x))


def slogdet(x: Any) -> SignAndLogarithm:
    """Return the sign of the determinant, and the logarithm of its absolute value."""
    return SignAndLogarithm(*FUNCTIONS["slogdet"](as_tensor(x)))


def vector_norm(x: Any, ord: float = 2, dim: Any = None, keepdim: bool = False) -> Any:
    """Return the norm of the vectors along dimensions."""
    return norm(x, ord, dim, keepdim)


__all__ = ["cholesky", "det", "inv", "norm", "slogdet", "solve", "vector_norm"]
