"""Logistic regression: the whole of X read once for value and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import symgraph as sg
from benchmarks.suite import peers
from benchmarks.suite.contest import Array, Case, Model, Problem, Run, Workload
from symgraph.compile import kernels


def data(n: int, d: int) -> dict[str, Array]:
    """Return rows, labels of 0 and 1, and weights."""
    rng = np.random.default_rng(0)
    return {
        "X": rng.normal(size=(n, d)),
        "y": rng.integers(0, 2, n).astype(float),
        "w": rng.normal(size=d) / math.sqrt(d),
    }


def model(n: int, d: int) -> Model:
    """Return the graph."""
    with sg.Graph():
        X, y, w = sg.placeholder("X", ("n", "d")), sg.placeholder("y", ("n",)), sg.placeholder("w", ("d",))
    z = X @ w
    return Model([X, y, w], sg.mean(sg.softplus(z) - y * z), [w])


def array_loss(library: Any, X: Any, y: Any, w: Any) -> Any:
    """Return the value for JAX and for autograd."""
    np = library.numpy
    z = np.dot(X, w)
    return np.mean(np.logaddexp(z, 0.0) - y * z)


def tensor_loss(torch: Any, X: Any, y: Any, w: Any) -> Any:
    """Return the value for PyTorch and for symgraph's dynamic engine."""
    z = X @ w
    return (torch.nn.functional.softplus(z) - y * z).mean()


def pytensor_loss(tensor: Any, X: Any, y: Any, w: Any) -> Any:
    """Return the value for PyTensor."""
    z = tensor.dot(X, w)
    return tensor.mean(tensor.softplus(z) - y * z)


def casadi_loss(casadi: Any, X: Any, y: Any, w: Any) -> Any:
    """Return the value for CasADi."""
    z = X @ w
    return casadi.sum1(casadi.fmax(z, 0) + casadi.log1p(casadi.exp(-casadi.fabs(z))) - y * z) / z.shape[0]


def limit(problem: Problem) -> Run:
    """Return one pass over X in tiles of 32 rows, which are still in the first cache for the gradient."""
    return Run(_kernel(), [*problem.arrays, problem.threads])


def _kernel(tile: int = 32) -> Callable[..., Any]:
    exp, log1p = kernels.exp, kernels.log1p

    @numba.njit(fastmath=True, error_model="numpy")
    def part(X: Array, y: Array, w: Array, gradient: Array, start: int, stop: int) -> float:
        """Add to the gradient, and return the sum of the losses, for rows from start to stop."""
        total, d = 0.0, len(w)
        z = np.empty(tile)
        for first in range(start, stop, tile):
            count = min(tile, stop - first)
            fours = count - count % 4  # four rows at a time: w and the gradient are loaded a quarter as often
            for i in range(first, first + fours, 4):
                p0, p1, p2, p3 = 0.0, 0.0, 0.0, 0.0
                for j in range(d):
                    p0 += X[i, j] * w[j]
                    p1 += X[i + 1, j] * w[j]
                    p2 += X[i + 2, j] * w[j]
                    p3 += X[i + 3, j] * w[j]
                z[i - first], z[i - first + 1], z[i - first + 2], z[i - first + 3] = p0, p1, p2, p3
            for i in range(fours, count):
                p0 = 0.0
                for j in range(d):
                    p0 += X[first + i, j] * w[j]
                z[i] = p0
            for i in range(count):
                small = exp(-abs(z[i]))
                total += max(z[i], 0.0) + log1p(small) - y[first + i] * z[i]
                z[i] = (1.0 if z[i] >= 0.0 else small) / (1.0 + small) - y[first + i]
            for i in range(first, first + fours, 4):
                p0, p1, p2, p3 = z[i - first], z[i - first + 1], z[i - first + 2], z[i - first + 3]
                for j in range(d):
                    gradient[j] += p0 * X[i, j] + p1 * X[i + 1, j] + p2 * X[i + 2, j] + p3 * X[i + 3, j]
            for i in range(fours, count):
                for j in range(d):
                    gradient[j] += z[i] * X[first + i, j]
        return total

    @numba.njit(parallel=True)
    def run(X: Array, y: Array, w: Array, threads: int) -> tuple[float, Array]:
        n = len(y)
        totals, gradients = np.zeros(threads), np.zeros((threads, len(w)))
        for t in numba.prange(threads):
            totals[t] = part(X, y, w, gradients[t], n * t // threads, n * (t + 1) // threads)
        return totals.sum() / n, gradients.sum(axis=0) / n

    return run


WORKLOAD = Workload(
    name="logistic",
    what="mean(softplus(Xw) − y·Xw)",
    cases=[Case("100,000×100", n=100_000, d=100)],
    tiny=Case("37×5", n=37, d=5),
    data=data,
    wrt=["w"],
    contestants={
        "symgraph": peers.symgraph(model),
        "symgraph eager": peers.eager(tensor_loss),
        "JAX": peers.jax(array_loss),
        "PyTorch": peers.torch(tensor_loss),
        "torch.compile": peers.torch_compile(tensor_loss),
        "PyTensor": peers.pytensor(pytensor_loss),
        "CasADi": peers.casadi(casadi_loss),
        "autograd": peers.autograd(array_loss),
        "limit": peers.by_hand(limit),
    },
)
