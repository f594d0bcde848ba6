"""Operations that no single NumPy or SciPy function gives, as source code."""

from __future__ import annotations

HELPERS = {
    "leaky_relu": "def _leaky_relu(x, slope):\n    return np.where(x > 0, x, x * slope)\n",
    "elu": "def _elu(x, alpha):\n    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))\n",
    "gelu": "def _gelu(x):\n    return x * special.ndtr(x)\n",
    "silu": "def _silu(x):\n    return x * special.expit(x)\n",
    "logsumexp": '''def _logsumexp(x, axis=None, keepdims=False):
    """Return the logarithm of the sum of exponentials, without overflow."""
    top = np.max(x, axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    total = np.log(np.sum(np.exp(x - top), axis, keepdims=True)) + top
    return total if keepdims else np.squeeze(total, axis)
''',
    "exclusive_prod": '''def _exclusive_prod(x, axis):
    """Return, for each element, the product of all others along the axis."""
    moved = np.moveaxis(x, axis, -1)
    one = np.ones((*moved.shape[:-1], min(moved.shape[-1], 1)), x.dtype)
    before = np.concatenate([one, np.cumprod(moved[..., :-1], -1)], -1)
    after = np.concatenate([np.cumprod(moved[..., :0:-1], -1)[..., ::-1], one], -1)
    return np.moveaxis(before * after, -1, axis)
''',
    "place": '''def _place(x, shape, index):
    """Return zeros of the shape, with x at the index."""
    out = np.zeros(shape, x.dtype)
    out[index] = x
    return out
''',
    "scatter_add": '''def _scatter_add(base, updates, indices, axes):
    """Return a copy of base, with updates added at the indices along the axes."""
    out = np.array(base)
    np.add.at(np.moveaxis(out, axes, range(len(axes))), indices, updates)
    return out
''',
    "scatter_set": '''def _scatter_set(base, updates, indices, axes):
    """Return a copy of base, with updates put at the indices along the axes."""
    out = np.array(base)
    np.moveaxis(out, axes, range(len(axes)))[indices] = updates
    return out
''',
    "cholesky_pullback": '''def _cholesky_pullback(factor, cotangent):
    """Return the cotangent of the matrices that Cholesky factors are of."""
    turned = np.swapaxes(factor, -1, -2)
    lower = np.tril(turned @ np.tril(cotangent))
    half = np.linalg.solve(turned, lower + np.swapaxes(np.tril(lower, -1), -1, -2))
    return 0.5 * np.linalg.solve(turned, np.swapaxes(half, -1, -2))
''',
    "solve_triangular": '''def _solve_triangular(a, b, lower, transposed):
    """Return the solution of a system whose matrix is one triangle of a."""
    triangle = np.tril(a) if lower else np.triu(a)
    return np.linalg.solve(np.swapaxes(triangle, -1, -2) if transposed else triangle, b)
''',
}
ELEMENTWISE = {
    "softplus": "np.logaddexp({0}, 0)",
    "relu": "np.maximum({0}, 0)",
    "leaky_relu": "_leaky_relu({0}, {1})",
    "elu": "_elu({0}, {1})",
    "gelu": "_gelu({0})",
    "silu": "_silu({0})",
    "polygamma": "special.polygamma({order}, {0})",
    "clip": "np.minimum(np.maximum({0}, {1}), {2})",
    "astype": "{0}.astype({dtype})",
    "logical_not": "~{0}",
}
