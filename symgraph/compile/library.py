"""What emitted modules call on whole arrays: scans, arg-reductions, matrix products and linear algebra.

Each function is plain Python over NumPy arrays that Numba compiles as well. Matrices come as stacks of
shape ``(batch, rows, columns)``, scans and arg-reductions as ``(outer, axis, inner)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

Array = np.ndarray[Any, Any]


@register_jitable
def cumulative_sum(x: Array) -> Array:
    """Return running sums along the middle axis."""
    out = np.empty_like(x)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            for k in range(x.shape[2]):
                out[i, j, k] = x[i, j, k] if j == 0 else out[i, j - 1, k] + x[i, j, k]
    return out


@register_jitable
def exclusive_prod(x: Array) -> Array:
    """Return, for each element, the product of all others along the middle axis."""
    out = np.ones_like(x)
    n = x.shape[1]
    for i in range(x.shape[0]):
        for k in range(x.shape[2]):
            product = x.dtype.type(1)
            for j in range(n):
                out[i, j, k] = product
                product = product * x[i, j, k]
            product = x.dtype.type(1)
            for j in range(n - 1, -1, -1):
                out[i, j, k] = out[i, j, k] * product
                product = product * x[i, j, k]
    return out


@register_jitable
def argmax(x: Array) -> Array:
    """Return the index of the first greatest element (the first NaN where there is one) along the middle axis."""
    out = np.zeros((x.shape[0], x.shape[2]), np.int64)
    for i in range(x.shape[0]):
        for k in range(x.shape[2]):
            best = 0
            for j in range(1, x.shape[1]):
                held, met = x[i, best, k], x[i, j, k]
                if held == held and (met > held or met != met):  # noqa: PLR0124
                    best = j
            out[i, k] = best
    return out


@register_jitable
def argmin(x: Array) -> Array:
    """Return the index of the first smallest element (the first NaN where there is one) along the middle axis."""
    out = np.zeros((x.shape[0], x.shape[2]), np.int64)
    for i in range(x.shape[0]):
        for k in range(x.shape[2]):
            best = 0
            for j in range(1, x.shape[1]):
                held, met = x[i, best, k], x[i, j, k]
                if held == held and (met < held or met != met):  # noqa: PLR0124
                    best = j
            out[i, k] = best
    return out


@register_jitable
def matmul(x: Array, y: Array) -> Array:
    """Return the products of two stacks of matrices."""
    out = np.zeros((x.shape[0], x.shape[1], y.shape[2]), x.dtype)
    for i in range(x.shape[0]):
        for r in range(x.shape[1]):
            for s in range(x.shape[2]):
                left = x[i, r, s]
                for t in range(y.shape[2]):
                    out[i, r, t] += left * y[i, s, t]
    return out


@register_jitable
def cholesky(x: Array) -> Array:
    """Return the lower Cholesky factors."""
    out = np.empty_like(x)
    for i in range(x.shape[0]):
        out[i] = np.linalg.cholesky(x[i])
    return out


@register_jitable
def solve(a: Array, b: Array) -> Array:
    """Return the solutions of ``a @ x = b``."""
    out = np.empty_like(b)
    for i in range(a.shape[0]):
        out[i] = np.linalg.solve(a[i], b[i])
    return out


@register_jitable
def solve_triangular(a: Array, b: Array, lower: bool, transposed: bool) -> Array:
    """Return the solutions of triangular systems, by substitution row after row."""
    out = b.copy()
    n = a.shape[1]
    forward = lower != transposed
    for i in range(a.shape[0]):
        for step in range(n):
            r = step if forward else n - 1 - step
            first, last = (0, r) if forward else (r + 1, n)
            for s in range(first, last):
                factor = a[i, s, r] if transposed else a[i, r, s]
                for k in range(out.shape[2]):
                    out[i, r, k] -= factor * out[i, s, k]
            for k in range(out.shape[2]):
                out[i, r, k] /= a[i, r, r]
    return out


@register_jitable
def inv(x: Array) -> Array:
    """Return the inverses."""
    out = np.empty_like(x)
    for i in range(x.shape[0]):
        out[i] = np.linalg.inv(x[i])
    return out


@register_jitable
def det(x: Array) -> Array:
    """Return the determinants."""
    out = np.empty(x.shape[0], x.dtype)
    for i in range(x.shape[0]):
        out[i] = np.linalg.det(x[i])
    return out


@register_jitable
def det_sign(x: Array) -> Array:
    """Return the signs of the determinants."""
    out = np.empty(x.shape[0], x.dtype)
    for i in range(x.shape[0]):
        out[i] = np.linalg.slogdet(x[i])[0]
    return out


@register_jitable
def logabsdet(x: Array) -> Array:
    """Return the logarithms of the absolute values of the determinants."""
    out = np.empty(x.shape[0], x.dtype)
    for i in range(x.shape[0]):
        out[i] = np.linalg.slogdet(x[i])[1]
    return out
