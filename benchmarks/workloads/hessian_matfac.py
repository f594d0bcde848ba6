"""The dense Hessian of the factorisation ‖T - U Vᵀ‖²: the only result, by the elements of U and then those of V."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

import symgraph as sg
from benchmarks.suite import hessians, peers
from benchmarks.suite.contest import Array, Case, Model, Problem, Run, Workload


def data(n: int, rank: int) -> dict[str, Array]:
    """Return a matrix, and two factors in one vector."""
    rng = np.random.default_rng(0)
    return {"T": rng.normal(size=(n, n)), "w": rng.normal(size=2 * n * rank)}


def model(n: int, rank: int) -> Model:
    """Return the graph."""
    with sg.Graph():
        T, w = sg.placeholder("T", (n, n)), sg.placeholder("w", (2 * n * rank,))
    U, V = sg.reshape(w[: n * rank], (n, rank)), sg.reshape(w[n * rank :], (n, rank))
    return Model([T, w], sg.sum((T - U @ V.T) ** 2), [w])


def loss(_: Any, T: Any, w: Any) -> Any:
    """Return the value, for all libraries whose arrays have NumPy's methods."""
    U, V = w[: len(w) // 2].reshape((len(T), -1)), w[len(w) // 2 :].reshape((len(T), -1))
    return ((T - U @ V.T) ** 2).sum()


def autograd_loss(autograd: Any, T: Any, w: Any) -> Any:
    """Return the value for autograd."""
    np = autograd.numpy
    U, V = np.reshape(w[: len(w) // 2], (len(T), -1)), np.reshape(w[len(w) // 2 :], (len(T), -1))
    return np.sum((T - np.dot(U, V.T)) ** 2)


def pytensor_loss(tensor: Any, T: Any, w: Any) -> Any:
    """Return the value for PyTensor."""
    half = w.shape[0] // 2
    U, V = w[:half].reshape((T.shape[0], -1)), w[half:].reshape((T.shape[0], -1))
    return ((T - tensor.dot(U, V.T)) ** 2).sum()


def casadi_loss(library: Any, T: Any, w: Any) -> Any:
    """Return the value for CasADi, which fills matrices column by column."""
    n, half = T.shape[0], w.shape[0] // 2
    U, V = library.reshape(w[:half], half // n, n), library.reshape(w[half:], half // n, n)
    return library.sumsqr(T - library.mtimes(U.T, V))


def limit(problem: Problem) -> Run:
    """Return the closed form: blocks VᵀV and UᵀU on the diagonal; between them U V, and the error where ranks meet."""
    n, rank = problem.case.parameters["n"], problem.case.parameters["rank"]

    def call(T: Array, w: Array) -> Array:
        U, V = w[: n * rank].reshape(n, rank), w[n * rank :].reshape(n, rank)
        result = np.zeros((2 * n * rank, 2 * n * rank))
        _fill(result, U, V, U.T @ U, V.T @ V, U @ V.T - T)
        return result

    return Run(call, problem.arrays)


@numba.njit(error_model="numpy")
def _fill(result: Array, U: Array, V: Array, UU: Array, VV: Array, error: Array) -> None:
    n, rank = U.shape
    half = n * rank
    for i in range(n):
        for a in range(rank):
            row = i * rank + a
            for b in range(rank):
                result[row, i * rank + b] = 2.0 * VV[a, b]
                result[half + row, half + i * rank + b] = 2.0 * UU[a, b]
            for j in range(n):
                for b in range(rank):
                    result[row, half + j * rank + b] = 2.0 * U[i, b] * V[j, a]
                    result[half + row, j * rank + b] = 2.0 * U[j, a] * V[i, b]
                result[row, half + j * rank + a] += 2.0 * error[i, j]
                result[half + row, j * rank + a] += 2.0 * error[j, i]


WORKLOAD = Workload(
    name="hessian_matfac",
    what="dense Hessian of a matrix factorisation",
    cases=[Case("50 × 50, rank 5", n=50, rank=5)],
    tiny=Case("4 × 4, rank 2", n=4, rank=2),
    data=data,
    wrt=["w"],
    contestants={
        "symgraph": hessians.symgraph(model),
        "symgraph eager": hessians.eager(loss),
        "JAX": hessians.jax(loss),
        "PyTorch": hessians.torch(loss),
        "PyTensor": hessians.pytensor(pytensor_loss),
        "CasADi": hessians.casadi(casadi_loss),
        "autograd": hessians.autograd(autograd_loss),
        "limit": peers.by_hand(limit),
    },
)
