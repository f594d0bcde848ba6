"""What emitted modules call on whole arrays: scans, arg-reductions, matrix products and linear algebra.

Each function is plain Python over NumPy arrays that Numba compiles as well. Matrices come as stacks of
shape ``(batch, rows, columns)``, scans and arg-reductions as ``(outer, axis, inner)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.compile.kernels.lowering import jitable
from symgraph.errors import DTypeError, ShapeError

Array = np.ndarray[Any, Any]


@jitable
def received(name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype[Any], wide: np.dtype[Any]) -> Array:
    """Return what a user's operation returned, which may be a part of what it was given, as an array of its own.

    It may be of a wider type: Numba computes in float64 where an array of float32 meets a number.

    Raises:
        ShapeError, DTypeError: its type is another one than declared.
    """
    array = np.asarray(value)
    if array.shape != shape:
        raise ShapeError(name + ": forward returned an array of another shape than its type says")
    if array.dtype == dtype or array.dtype == wide:
        return array.astype(dtype).copy()  # in rows, where astype keeps the order of the axes in memory
    raise DTypeError(name + ": forward returned an array of another dtype than its type says")


@jitable
def cumulative_sum(x: Array) -> Array:
    """Return running sums along the middle axis."""
    out = np.empty_like(x)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            for k in range(x.shape[2]):
                out[i, j, k] = x[i, j, k] if j == 0 else out[i, j - 1, k] + x[i, j, k]
    return out


@jitable
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


@jitable
def argmax(x: Array) -> Array:
    """Return the index of the first greatest element (the first NaN where there is one) along the middle axis."""
    out = np.zeros((x.shape[0], x.shape[2]), np.int64)
    for i in range(x.shape[0]):
        for k in range(x.shape[2]):
            best = 0
            for j in range(1, x.shape[1]):
                held, met = x[i, best, k], x[i, j, k]
                if held == held and (met > held or met != met):
                    best = j
            out[i, k] = best
    return out


@jitable
def argmin(x: Array) -> Array:
    """Return the index of the first smallest element (the first NaN where there is one) along the middle axis."""
    out = np.zeros((x.shape[0], x.shape[2]), np.int64)
    for i in range(x.shape[0]):
        for k in range(x.shape[2]):
            best = 0
            for j in range(1, x.shape[1]):
                held, met = x[i, best, k], x[i, j, k]
                if held == held and (met < held or met != met):
                    best = j
            out[i, k] = best
    return out


@jitable
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


@jitable
def integer_matmul(x: Array, y: Array) -> Array:
    """Return the product of two matrices of integers or booleans, of any layouts."""
    out = np.zeros((x.shape[0], y.shape[1]), x.dtype)
    for r in range(x.shape[0]):
        for s in range(x.shape[1]):
            for t in range(y.shape[1]):
                out[r, t] += x[r, s] * y[s, t]
    return out


@jitable
def cholesky(x: Array) -> Array:
    """Return the lower Cholesky factors."""
    out = np.empty_like(x)
    for i in range(x.shape[0]):
        out[i] = np.linalg.cholesky(x[i])
    return out


@jitable
def solve(a: Array, b: Array) -> Array:
    """Return the solutions of ``a @ x = b``."""
    out = np.empty_like(b)
    for i in range(a.shape[0]):
        out[i] = np.linalg.solve(a[i], b[i])
    return out


_BLOCK = 64


@jitable
def _substitute(a: Array, out: Array, first: int, last: int, lower: bool, transposed: bool) -> None:
    """Solve for the rows of one diagonal block, row after row, all rows outside it being done."""
    forward = lower != transposed
    for step in range(last - first):
        r = first + step if forward else last - 1 - step
        start, stop = (first, r) if forward else (r + 1, last)
        for s in range(start, stop):
            factor = a[s, r] if transposed else a[r, s]
            for k in range(out.shape[1]):
                out[r, k] -= factor * out[s, k]
        for k in range(out.shape[1]):
            out[r, k] /= a[r, r]


@jitable
def solve_triangular(a: Array, b: Array, lower: bool, transposed: bool) -> Array:
    """Return the solutions of triangular systems: blocks by substitution, what is between them by matrix products."""
    out = b.copy()
    n = a.shape[1]
    forward = lower != transposed
    blocks = (n + _BLOCK - 1) // _BLOCK
    for i in range(a.shape[0]):
        for step in range(blocks):
            first = (step if forward else blocks - 1 - step) * _BLOCK
            last = min(first + _BLOCK, n)
            start, stop = (0, first) if forward else (last, n)
            if stop > start:
                if transposed:
                    between = np.ascontiguousarray(a[i, start:stop, first:last].T)
                else:
                    between = np.ascontiguousarray(a[i, first:last, start:stop])
                out[i, first:last] -= np.dot(between, out[i, start:stop])
            _substitute(a[i], out[i], first, last, lower, transposed)
    return out


@jitable
def cholesky_pullback(factor: Array, cotangent: Array) -> Array:
    """Return the cotangents of the matrices that Cholesky factors are of."""
    out = np.empty_like(factor)
    for i in range(factor.shape[0]):
        lower = np.tril(np.dot(np.ascontiguousarray(factor[i].T), np.tril(cotangent[i])))
        symmetric = 0.5 * (lower + np.tril(lower, -1).T)
        half = solve_triangular(factor[i : i + 1], symmetric.reshape((1, *symmetric.shape)), True, True)
        turned = np.ascontiguousarray(half[0].T)
        out[i] = solve_triangular(factor[i : i + 1], turned.reshape(half.shape), True, True)[0]
    return out


@jitable
def inv(x: Array) -> Array:
    """Return the inverses."""
    out = np.empty_like(x)
    for i in range(x.shape[0]):
        out[i] = np.linalg.inv(x[i])
    return out


@jitable
def det(x: Array) -> Array:
    """Return the determinants."""
    out = np.empty(x.shape[0], x.dtype)
    for i in range(x.shape[0]):
        out[i] = np.linalg.det(x[i])
    return out


@jitable
def det_sign(x: Array) -> Array:
    """Return the signs of the determinants."""
    out = np.empty(x.shape[0], x.dtype)
    for i in range(x.shape[0]):
        out[i] = np.linalg.slogdet(x[i])[0]
    return out


@jitable
def logabsdet(x: Array) -> Array:
    """Return the logarithms of the absolute values of the determinants."""
    out = np.empty(x.shape[0], x.dtype)
    for i in range(x.shape[0]):
        out[i] = np.linalg.slogdet(x[i])[1]
    return out
