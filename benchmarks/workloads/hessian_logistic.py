"""The dense Hessian of the mean log loss of logistic regression: the only result, a matrix (d, d)."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from scipy.linalg import blas

import symgraph as sg
from benchmarks.suite import hessians, peers
from benchmarks.suite.contest import Array, Case, Model, Problem, Run, Workload
from symgraph.compile.kernels import exp


def data(n: int, d: int) -> dict[str, Array]:
    """Return examples, labels and weights."""
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


def jax_loss(jax: Any, X: Any, y: Any, w: Any) -> Any:
    """Return the value for JAX."""
    z = X @ w
    return jax.numpy.mean(jax.nn.softplus(z) - y * z)


def tensor_loss(torch: Any, X: Any, y: Any, w: Any) -> Any:
    """Return the value for PyTorch and symgraph's dynamic engine."""
    z = X @ w
    return (torch.nn.functional.softplus(z) - y * z).mean()


def pytensor_loss(tensor: Any, X: Any, y: Any, w: Any) -> Any:
    """Return the value for PyTensor."""
    z = tensor.dot(X, w)
    return (tensor.softplus(z) - y * z).mean()


def autograd_loss(autograd: Any, X: Any, y: Any, w: Any) -> Any:
    """Return the value for autograd."""
    np = autograd.numpy
    z = np.dot(X, w)
    return np.mean(np.logaddexp(0.0, z) - y * z)


def casadi_loss(library: Any, X: Any, y: Any, w: Any) -> Any:
    """Return the value for CasADi."""
    z = library.mtimes(X, w)
    return library.sum1(library.log1p(library.exp(-library.fabs(z))) + library.fmax(z, 0) - y * z) / X.shape[0]


def limit(problem: Problem) -> Run:
    """Return Σ σ(z)(1 - σ(z)) x xᵀ: rows scaled by the root of that weight, half of their product by BLAS, mirrored."""

    def call(X: Array, y: Array, w: Array) -> Array:
        scaled = np.empty_like(X)
        _scale(X, X @ w, scaled)
        return _mirror(blas.dsyrk(1.0 / len(X), scaled.T, lower=1))

    return Run(call, problem.arrays)


@numba.njit(parallel=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _scale(X: Array, z: Array, scaled: Array) -> None:
    """Set scaled to the rows of X times √(σ (1 - σ)): with e = exp(-|z|), that is √e / (1 + e)."""
    for i in numba.prange(len(z)):
        e = exp(-abs(z[i]))
        root = math.sqrt(e) / (1.0 + e)
        for j in range(X.shape[1]):
            scaled[i, j] = root * X[i, j]


@numba.njit
def _mirror(half: Array) -> Array:
    for j in range(half.shape[1]):
        for i in range(j):
            half[i, j] = half[j, i]
    return half


WORKLOAD = Workload(
    name="hessian_logistic",
    what="dense Hessian of logistic regression",
    cases=[Case("10,000 × 100", n=10_000, d=100)],
    tiny=Case("30 × 4", n=30, d=4),
    data=data,
    wrt=["w"],
    contestants={
        "symgraph": hessians.symgraph(model),
        "symgraph eager": hessians.eager(tensor_loss),
        "JAX": hessians.jax(jax_loss),
        "PyTorch": hessians.torch(tensor_loss),
        "PyTensor": hessians.pytensor(pytensor_loss),
        "CasADi": hessians.casadi(casadi_loss),
        "autograd": hessians.autograd(autograd_loss),
        "limit": peers.by_hand(limit),
    },
)
