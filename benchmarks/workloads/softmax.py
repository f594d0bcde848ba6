"""Multinomial logistic regression: two skinny contractions around a softmax along short rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np

import symgraph as sg
from benchmarks.suite import peers
from benchmarks.suite.contest import Array, Case, Model, Problem, Run, Workload
from symgraph.compile import kernels


def data(n: int, d: int, k: int) -> dict[str, Array]:
    """Return rows, classes, weights and biases."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, d)), rng.integers(0, k, n)
    return {"X": X, "y": y, "W": rng.normal(size=(d, k)) * 0.1, "b": np.zeros(k)}


def model(n: int, d: int, k: int) -> Model:
    """Return the graph."""
    with sg.Graph():
        X, y = sg.placeholder("X", ("n", "d")), sg.placeholder("y", ("n",), "int64")
        W, b = sg.placeholder("W", ("d", "k")), sg.placeholder("b", ("k",))
    return Model([X, y, W, b], sg.mean(sg.softmax_cross_entropy(X @ W + b, y)), [W, b])


def jax_loss(jax: Any, X: Any, y: Any, W: Any, b: Any) -> Any:
    """Return the value for JAX; with one-hot labels, because the gradient of an index is a slow scatter there."""
    z = X @ W + b
    return jax.numpy.mean(jax.nn.logsumexp(z, axis=1) - jax.numpy.sum(jax.nn.one_hot(y, z.shape[1]) * z, axis=1))


def autograd_loss(autograd: Any, X: Any, y: Any, W: Any, b: Any) -> Any:
    """Return the value for autograd."""
    np = autograd.numpy
    z = np.dot(X, W) + b
    return np.mean(autograd.scipy.special.logsumexp(z, axis=1) - z[np.arange(len(y)), y])


def tensor_loss(torch: Any, X: Any, y: Any, W: Any, b: Any) -> Any:
    """Return the value for PyTorch and for symgraph's dynamic engine."""
    return torch.nn.functional.cross_entropy(X @ W + b, y)


def pytensor_loss(tensor: Any, X: Any, y: Any, W: Any, b: Any) -> Any:
    """Return the value for PyTensor."""
    z = tensor.dot(X, W) + b
    return -tensor.mean(tensor.special.log_softmax(z, axis=1)[tensor.arange(y.shape[0]), y])


def casadi_loss(casadi: Any, X: Any, hot: Any, W: Any, b: Any) -> Any:
    """Return the value for CasADi, with one-hot labels."""
    return cross_entropy_of_casadi(casadi, X @ W + casadi.repmat(b.T, X.shape[0], 1), hot)


def cross_entropy_of_casadi(casadi: Any, z: Any, hot: Any) -> Any:
    """Return the mean cross-entropy of logits; CasADi has neither indices that are data nor maxima of rows."""
    n, k = hot.shape
    largest = z[:, 0]
    for j in range(1, k):
        largest = casadi.fmax(largest, z[:, j])
    logarithm = largest + casadi.log(casadi.sum2(casadi.exp(z - casadi.repmat(largest, 1, k))))
    return casadi.sum1(logarithm - casadi.sum2(hot * z)) / n


def with_one_hot(problem: Problem) -> Sequence[Array]:
    """Return the data with the classes as rows of zeros and a one; the last array is the biases of the classes."""
    classes = problem.arrays[-1].size
    return [np.eye(classes)[array] if name == "y" else array for name, array in problem.data.items()]


def limit(problem: Problem) -> Run:
    """Return one pass over X: on each tile of rows a BLAS call, the softmax in place, and a BLAS call."""
    return Run(_kernel(), [*problem.arrays, problem.threads])


def _kernel(tile: int = 64) -> Callable[..., Any]:
    exp, log = kernels.exp, kernels.log

    @numba.njit(fastmath=True, error_model="numpy")
    def softmax(z: Array, y: Array, b: Array) -> float:
        """Turn logits without biases, one class a row, into weights of the rows of X; return the sum of the losses."""
        k, n = z.shape
        largest, total, losses = np.empty(n), np.zeros(n), 0.0
        for i in range(n):
            largest[i] = -np.inf
        for j in range(k):
            for i in range(n):
                z[j, i] += b[j]
                largest[i] = max(largest[i], z[j, i])
        for i in range(n):
            losses += largest[i] - z[y[i], i]
        for j in range(k):
            for i in range(n):
                z[j, i] = exp(z[j, i] - largest[i])
                total[i] += z[j, i]
        for i in range(n):
            losses += log(total[i])
            total[i] = 1.0 / total[i]
        for j in range(k):
            for i in range(n):
                z[j, i] *= total[i]
        for i in range(n):
            z[y[i], i] -= 1.0
        return losses

    @numba.njit(fastmath=True)
    def part(X: Array, y: Array, Wt: Array, b: Array, gradients: Array, start: int, stop: int) -> float:
        k = len(b)
        space, product, losses = np.empty(k * tile), np.empty_like(Wt), 0.0
        for first in range(start, stop, tile):
            last = min(first + tile, stop)
            z = space[: k * (last - first)].reshape(k, last - first)
            np.dot(Wt, X[first:last].T, z)
            losses += softmax(z, y[first:last], b)
            np.dot(z, X[first:last], product)
            gradients[:, :-1] += product
            for j in range(k):
                gradients[j, -1] += z[j].sum()
        return losses

    @numba.njit(parallel=True)
    def run(X: Array, y: Array, W: Array, b: Array, threads: int) -> tuple[float, Array, Array]:
        n, d, k = len(y), len(W), len(b)
        Wt = np.ascontiguousarray(W.T)
        losses, gradients = np.zeros(threads), np.zeros((threads, k, d + 1))
        for t in numba.prange(threads):
            losses[t] = part(X, y, Wt, b, gradients[t], n * t // threads, n * (t + 1) // threads)
        whole = gradients.sum(axis=0) / n
        return losses.sum() / n, np.ascontiguousarray(whole[:, :d].T), np.ascontiguousarray(whole[:, d])

    return run


WORKLOAD = Workload(
    name="softmax",
    what="mean cross-entropy of softmax(XW + b)",
    cases=[Case("50,000×64→10", n=50_000, d=64, k=10)],
    tiny=Case("37×5→3", n=37, d=5, k=3),
    data=data,
    wrt=["W", "b"],
    contestants={
        "symgraph": peers.symgraph(model),
        "symgraph eager": peers.eager(tensor_loss),
        "JAX": peers.jax(jax_loss),
        "PyTorch": peers.torch(tensor_loss),
        "torch.compile": peers.torch_compile(tensor_loss),
        "PyTensor": peers.pytensor(pytensor_loss),
        "CasADi": peers.casadi(casadi_loss, prepare=with_one_hot),
        "autograd": peers.autograd(autograd_loss),
        "limit": peers.by_hand(limit),
    },
)
