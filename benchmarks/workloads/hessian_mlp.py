"""The dense Hessian of a network's mean squared error: 10 → 20 → 20 → 1, tanh, no biases; the only result."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

import symgraph as sg
from benchmarks.suite import hessians, peers
from benchmarks.suite.contest import Array, Case, Model, Problem, Run, Workload
from symgraph.compile.kernels import tanh


def data(n: int, d: int, m: int) -> dict[str, Array]:
    """Return examples, targets, and all weights in one vector."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=size) / math.sqrt(width) for size, width in ((d * m, d), (m * m, m), (m, m))]
    return {"x": rng.normal(size=(n, d)), "y": rng.normal(size=n), "w": np.concatenate(parts)}


def model(n: int, d: int, m: int) -> Model:
    """Return the graph."""
    with sg.Graph():
        x, y = sg.placeholder("x", ("n", d)), sg.placeholder("y", ("n",))
        w = sg.placeholder("w", (d * m + m * m + m,))
    first, second = sg.reshape(w[: d * m], (d, m)), sg.reshape(w[d * m : d * m + m * m], (m, m))
    value = sg.mean((sg.tanh(sg.tanh(x @ first) @ second) @ w[d * m + m * m :] - y) ** 2)
    return Model([x, y, w], value, [w])


def _width(d: int, count: int) -> int:
    """Return the width m of the hidden layers, from m² + (d + 1) m weights in all."""
    return (math.isqrt((d + 1) ** 2 + 4 * count) - d - 1) // 2


def _loss(tanh: Any, x: Any, y: Any, w: Any) -> Any:
    """Return the value from arrays with NumPy's methods."""
    d = x.shape[1]
    m = _width(d, w.shape[0])
    first, second = w[: d * m].reshape((d, m)), w[d * m : d * m + m * m].reshape((m, m))
    return ((tanh(tanh(x @ first) @ second) @ w[d * m + m * m :] - y) ** 2).mean()


def array_loss(library: Any, x: Any, y: Any, w: Any) -> Any:
    """Return the value for JAX and autograd."""
    np, d = library.numpy, x.shape[1]
    m = _width(d, w.shape[0])
    first, second = np.reshape(w[: d * m], (d, m)), np.reshape(w[d * m : d * m + m * m], (m, m))
    hidden = np.tanh(np.dot(np.tanh(np.dot(x, first)), second))
    return np.mean((np.dot(hidden, w[d * m + m * m :]) - y) ** 2)


def tensor_loss(torch: Any, x: Any, y: Any, w: Any) -> Any:
    """Return the value for PyTorch and symgraph's dynamic engine."""
    return _loss(torch.tanh, x, y, w)


def pytensor(problem: Problem) -> Run:
    """Return PyTensor's run; its shapes are symbols, so the widths come from the data."""
    d = problem.data["x"].shape[1]
    m = _width(d, len(problem.data["w"]))

    def loss(tensor: Any, x: Any, y: Any, w: Any) -> Any:
        first, second = w[: d * m].reshape((d, m)), w[d * m : d * m + m * m].reshape((m, m))
        hidden = tensor.tanh(tensor.dot(tensor.tanh(tensor.dot(x, first)), second))
        return ((tensor.dot(hidden, w[d * m + m * m :]) - y) ** 2).mean()

    return hessians.pytensor(loss)(problem)


def casadi_loss(library: Any, x: Any, y: Any, w: Any) -> Any:
    """Return the value for CasADi, which fills matrices column by column."""
    n, d = x.shape
    m = _width(d, w.shape[0])
    first, second = library.reshape(w[: d * m], m, d).T, library.reshape(w[d * m : d * m + m * m], m, m).T
    hidden = library.tanh(library.mtimes(library.tanh(library.mtimes(x, first)), second))
    return library.sumsqr(library.mtimes(hidden, w[d * m + m * m :]) - y) / n


def limit(problem: Problem) -> Run:
    """Return the Hessian's blocks, each as one product over the examples.

    With a and b the inputs of the two layers of tanh, g = tanh(a) and h = tanh(b), the weights enter through
    a = W₁ᵀ x and b = W₂ᵀ g. An example's part of a block is then a second derivative with respect to a, b or the output
    weights, times two elements of x or g: a product of a matrix (examples, pairs of hidden units) and a matrix
    (examples, pairs of inputs). Of symmetric pairs, half is computed. Only where W₂ meets a itself, in b = W₂ᵀ g, there
    is one term more.
    """
    parameters = problem.case.parameters
    d, m = parameters["d"], parameters["m"]

    def call(x: Array, y: Array, w: Array) -> Array:
        n, first, second, third = len(x), w[: d * m].reshape(d, m), w[d * m : -m].reshape(m, m), w[-m:]
        g, h = x @ first, np.empty((n, m))
        _apply_tanh(g)
        h = g @ second
        _apply_tanh(h)
        error = (h @ third - y) * (2.0 / n)
        pairs = m * (m + 1) // 2
        aa, bb, ab = np.empty((n, pairs)), np.empty((n, pairs)), np.empty((n, m * m))
        a3, b3, extra = np.empty((n, m * m)), np.empty((n, m * m)), np.empty((n, m * m))
        xx, gg, xg = np.empty((n, d * (d + 1) // 2)), np.empty((n, pairs)), np.empty((n, d * m))
        _fill(x, g, h, error, second, third, aa, bb, ab, a3, b3, extra, xx, gg, xg)
        products = aa.T @ xx, bb.T @ gg, ab.T @ xg, extra.T @ x, a3.T @ x, b3.T @ g, h.T @ h
        return _assemble(d, m, 2.0 / n, *products)

    return Run(call, problem.arrays)


@numba.njit(fastmath={"reassoc", "contract"}, error_model="numpy")
def _apply_tanh(x: Array) -> None:
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] = tanh(x[i, j])


@numba.njit(parallel=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _fill(
    x: Array, g: Array, h: Array, error: Array, second: Array, third: Array, aa: Array, bb: Array, ab: Array,
    a3: Array, b3: Array, extra: Array, xx: Array, gg: Array, xg: Array,
) -> None:  # fmt: skip
    """Fill each example's second derivatives, and the products of inputs that they are multiplied by."""
    n, d = x.shape
    m = g.shape[1]
    curvature = 2.0 / n
    for e in numba.prange(n):
        slope_g, slope_h, by_b, by_g = np.empty(m), np.empty(m), np.empty(m), np.zeros(m)
        by_a, paths, bends = np.zeros(m), np.empty((m, m)), np.empty(m)
        for k in range(m):
            slope_g[k] = 1.0 - g[e, k] * g[e, k]
            slope_h[k] = 1.0 - h[e, k] * h[e, k]
            by_b[k] = third[k] * slope_h[k]  # of the output, as all of these are
            bends[k] = -2.0 * h[e, k] * by_b[k] * error[e]
        for i in range(m):
            for k in range(m):
                paths[i, k] = slope_g[i] * second[i, k]
                by_a[i] += paths[i, k] * by_b[k]
                by_g[i] += second[i, k] * by_b[k]
        for i in range(m):
            for k in range(m):
                bent = paths[i, k] * bends[k]
                ab[e, i * m + k] = curvature * by_a[i] * by_b[k] + bent
                a3[e, i * m + k] = curvature * by_a[i] * h[e, k] + error[e] * paths[i, k] * slope_h[k]
                b3[e, i * m + k] = curvature * by_b[i] * h[e, k]
                extra[e, i * m + k] = error[e] * by_b[k] * slope_g[i]
            b3[e, i * m + i] += error[e] * slope_h[i]
        at = 0
        for i in range(m):
            for j in range(i + 1):
                total = curvature * by_a[i] * by_a[j]
                for k in range(m):
                    total += paths[i, k] * paths[j, k] * bends[k]
                aa[e, at] = total
                bb[e, at] = curvature * by_b[i] * by_b[j]
                gg[e, at] = g[e, i] * g[e, j]
                at += 1
            aa[e, at - 1] -= 2.0 * g[e, i] * slope_g[i] * by_g[i] * error[e]
            bb[e, at - 1] += bends[i]
        at = 0
        for i in range(d):
            for j in range(i + 1):
                xx[e, at] = x[e, i] * x[e, j]
                at += 1
            for k in range(m):
                xg[e, i * m + k] = x[e, i] * g[e, k]


@numba.njit(error_model="numpy")
def _assemble(
    d: int, m: int, curvature: float, aa: Array, bb: Array, ab: Array, extra: Array, a3: Array, b3: Array, hh: Array
) -> Array:
    """Put the blocks in their places; weights from unit i to unit k stand at i m + k of their layer."""
    size, two, three = d * m + m * m + m, d * m, d * m + m * m
    result = np.empty((size, size))
    for p in range(d):
        for k in range(m):
            row = p * m + k
            for q in range(d):
                pair = max(p, q) * (max(p, q) + 1) // 2 + min(p, q)
                for h in range(m):
                    result[row, q * m + h] = aa[max(k, h) * (max(k, h) + 1) // 2 + min(k, h), pair]
            for i in range(m):
                for h in range(m):
                    value = ab[k * m + h, p * m + i]
                    if i == k:
                        value += extra[k * m + h, p]
                    result[row, two + i * m + h] = value
                    result[two + i * m + h, row] = value
            for h in range(m):
                result[row, three + h] = result[three + h, row] = a3[k * m + h, p]
    for i in range(m):
        for k in range(m):
            row = two + i * m + k
            for j in range(m):
                pair = max(i, j) * (max(i, j) + 1) // 2 + min(i, j)
                for h in range(m):
                    result[row, two + j * m + h] = bb[max(k, h) * (max(k, h) + 1) // 2 + min(k, h), pair]
            for h in range(m):
                result[row, three + h] = result[three + h, row] = b3[k * m + h, i]
    for k in range(m):
        for h in range(m):
            result[three + k, three + h] = curvature * hh[k, h]
    return result


WORKLOAD = Workload(
    name="hessian_mlp",
    what="dense Hessian of a 10 → 20 → 20 → 1 network",
    cases=[Case("620 weights, n = 500", n=500, d=10, m=20)],
    tiny=Case("18 weights, n = 7", n=7, d=2, m=3),
    data=data,
    wrt=["w"],
    contestants={
        "symgraph": hessians.symgraph(model),
        "symgraph eager": hessians.eager(tensor_loss),
        "JAX": hessians.jax(array_loss),
        "PyTorch": hessians.torch(tensor_loss),
        "PyTensor": pytensor,
        "CasADi": hessians.casadi(casadi_loss),
        "autograd": hessians.autograd(array_loss),
        "limit": peers.by_hand(limit),
    },
)
