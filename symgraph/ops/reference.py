"""NumPy references of operations that no single NumPy or SciPy function gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symgraph.op import resolve

Array = np.ndarray[Any, Any]


def softplus(x: Array) -> Any:
    """Return ``log(1 + exp(x))``."""
    return np.logaddexp(x, x.dtype.type(0))


def relu(x: Array) -> Any:
    """Return ``max(x, 0)``."""
    return np.maximum(x, x.dtype.type(0))


def leaky_relu(x: Array, slope: Array) -> Any:
    """Return x, or ``slope * x`` where it is not positive."""
    return np.where(x > 0, x, x * slope)


def elu(x: Array, alpha: Array) -> Any:
    """Return x, or ``alpha * (exp(x) - 1)`` where it is not positive."""
    return np.where(x > 0, x, alpha * np.expm1(np.where(x > 0, 0, x)))


def gelu(x: Array) -> Any:
    """Return ``x * Φ(x)``."""
    return x * resolve("scipy.special:ndtr")(x)


def silu(x: Array) -> Any:
    """Return ``x * sigmoid(x)``."""
    return x * resolve("scipy.special:expit")(x)


def polygamma(x: Array, order: int) -> Any:
    """Return a derivative of digamma."""
    return resolve("scipy.special:polygamma")(order, x).astype(x.dtype)


def clip(x: Array, low: Array, high: Array) -> Any:
    """Return x limited to an interval."""
    return np.minimum(np.maximum(x, low), high)


def astype(x: Array, dtype: np.dtype[np.generic]) -> Any:
    """Return x converted."""
    return x.astype(dtype)


def slice_(x: Array, starts: tuple[int, ...], steps: tuple[int, ...], sizes: tuple[int, ...]) -> Any:
    """Return elements from starts on in steps."""
    return x[_slices(starts, steps, sizes)]


def place(x: Array, shape: tuple[int, ...], starts: tuple[int, ...], steps: tuple[int, ...]) -> Any:
    """Return zeros with the elements of x from starts on in steps."""
    out = np.zeros(shape, x.dtype)
    out[_slices(starts, steps, x.shape)] = x
    return out


def _slices(starts: tuple[int, ...], steps: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[slice, ...]:
    slices = []
    for start, step, size in zip(starts, steps, sizes, strict=True):
        stop = start + step * size
        slices.append(slice(start, stop if stop >= 0 else None, step) if size else slice(0, 0))
    return tuple(slices)


def gather(x: Array, *indices: Array, axes: tuple[int, ...]) -> Any:
    """Return what integer arrays select, their axes first."""
    return np.moveaxis(x, axes, range(len(axes)))[indices]


def scatter(base: Array, updates: Array, *indices: Array, axes: tuple[int, ...], add: bool) -> Any:
    """Return a copy with what integer arrays select added to, or replaced, in the order of the indices."""
    out = base.copy()
    view = np.moveaxis(out, axes, range(len(axes)))
    # Written in C order of the index, whatever the arrays' layouts are: the last write is well defined.
    flat = tuple(np.ravel(index) for index in indices)
    rows = np.reshape(updates, (flat[0].size, *updates.shape[indices[0].ndim :]))
    if add:
        np.add.at(view, flat, rows)
    else:
        view[flat] = rows
    return out


def solve_triangular(a: Array, b: Array, lower: bool, transposed: bool) -> Any:
    """Return the solution of a triangular system; one triangle is read."""
    masked = np.tril(a) if lower else np.triu(a)
    return np.linalg.solve(np.swapaxes(masked, -1, -2) if transposed else masked, b)


def cholesky_pullback(factor: Array, cotangent: Array) -> Any:
    """Return the cotangent of the matrices that Cholesky factors are of."""
    turned = np.swapaxes(factor, -1, -2)
    lower = np.tril(turned @ np.tril(cotangent))
    half = np.linalg.solve(turned, lower + np.swapaxes(np.tril(lower, -1), -1, -2))
    return 0.5 * np.linalg.solve(turned, np.swapaxes(half, -1, -2))


def det_sign(x: Array) -> Any:
    """Return the sign of the determinant."""
    return np.linalg.slogdet(x)[0]


def logabsdet(x: Array) -> Any:
    """Return the logarithm of the absolute value of the determinant."""
    return np.linalg.slogdet(x)[1]


def mean(x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
    """Return the mean, as np.mean, which warns in words of its own when there is nothing to divide."""
    return np.sum(x, axes, keepdims=keepdims) / x.dtype.type(math.prod(x.shape[a] for a in axes))


def logsumexp(x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
    """Return ``log(sum(exp(x)))``."""
    if x.size == 0:
        return np.log(np.sum(np.exp(x), axes, keepdims=keepdims))
    top = np.max(x, axes, keepdims=True)
    finite = np.where(np.isfinite(top), top, x.dtype.type(0))
    result = np.log(np.sum(np.exp(x - finite), axes, keepdims=True)) + finite
    return result if keepdims else np.squeeze(result, axes)


def vector_norm(x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
    """Return the Euclidean norm."""
    return np.sqrt(np.sum(np.square(x), axes, keepdims=keepdims))


def exclusive_prod(x: Array, axis: int) -> Any:
    """Return the product of all other elements."""
    moved = np.moveaxis(x, axis, -1)
    ones = np.ones((*moved.shape[:-1], 1), x.dtype)
    if not moved.shape[-1]:
        return x.copy()
    before = np.concatenate([ones, np.cumprod(moved[..., :-1], -1)], -1)
    after = np.concatenate([np.cumprod(moved[..., :0:-1], -1)[..., ::-1], ones], -1)
    return np.moveaxis(before * after, -1, axis)
