"""Rosenbrock's valley: the cost of a call at n = 10, a stencil and its gradient in one pass at n = 1,000,000."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import symgraph as sg
from benchmarks.suite import peers
from benchmarks.suite.contest import Array, Case, Model, Problem, Run, Workload


def data(n: int) -> dict[str, Array]:
    """Return a point."""
    return {"x": np.random.default_rng(0).normal(size=n)}


def model(n: int) -> Model:
    """Return the graph."""
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    value = sg.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    return Model([x], value, [x])


def array_loss(library: Any, x: Any) -> Any:
    """Return the value for JAX and for autograd."""
    return library.numpy.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def tensor_loss(torch: Any, x: Any) -> Any:
    """Return the value for PyTorch and for symgraph's dynamic engine."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def pytensor_loss(tensor: Any, x: Any) -> Any:
    """Return the value for PyTensor."""
    return tensor.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def casadi(problem: Problem) -> Run:
    """Return CasADi's run: a graph of scalars where that is small enough to compile."""
    return peers.casadi(_casadi_loss, scalar=len(problem.data["x"]) <= 1_000)(problem)


def _casadi_loss(library: Any, x: Any) -> Any:
    return library.sumsqr(10 * (x[1:] - x[:-1] ** 2)) + library.sumsqr(1 - x[:-1])


def limit(problem: Problem) -> Run:
    """Return one pass that writes each gradient once; a plain loop where threads would cost more than the work."""
    x = problem.data["x"]
    kernel = _kernel(len(x) > 50_000)
    return Run(kernel, (x, problem.threads) if len(x) > 50_000 else (x,))


def _kernel(threaded: bool) -> Callable[..., Any]:
    @numba.njit(fastmath=True, error_model="numpy")
    def part(x: Array, gradient: Array, start: int, stop: int) -> float:
        """Fill gradient[start:stop], and return the sum of the terms that start there."""
        n = len(x)
        total = 0.0
        if start == 0:
            valley, slope = x[1] - x[0] * x[0], 1.0 - x[0]
            total = 100.0 * valley * valley + slope * slope
            gradient[0] = -400.0 * x[0] * valley - 2.0 * slope
        for i in range(max(start, 1), min(stop, n - 1)):
            valley, slope = x[i + 1] - x[i] * x[i], 1.0 - x[i]
            total += 100.0 * valley * valley + slope * slope
            gradient[i] = 200.0 * (x[i] - x[i - 1] * x[i - 1]) - 400.0 * x[i] * valley - 2.0 * slope
        if stop == n:
            gradient[n - 1] = 200.0 * (x[n - 1] - x[n - 2] * x[n - 2])
        return total

    @numba.njit
    def alone(x: Array) -> tuple[float, Array]:
        gradient = np.empty_like(x)
        return part(x, gradient, 0, len(x)), gradient

    @numba.njit(parallel=True)
    def together(x: Array, threads: int) -> tuple[float, Array]:
        gradient = np.empty_like(x)
        totals = np.zeros(threads)
        for t in numba.prange(threads):
            totals[t] = part(x, gradient, len(x) * t // threads, len(x) * (t + 1) // threads)
        return totals.sum(), gradient

    return together if threaded else alone


WORKLOAD = Workload(
    name="rosenbrock",
    what="Σ 100 (x₊ − x²)² + (1 − x)²",
    cases=[Case(f"n = {n:,}", n=n) for n in (2, 10, 1_000, 1_000_000)],
    tiny=Case("n = 7", n=7),
    data=data,
    wrt=["x"],
    contestants={
        "symgraph": peers.symgraph(model),
        "symgraph eager": peers.eager(tensor_loss),
        "JAX": peers.jax(array_loss),
        "PyTorch": peers.torch(tensor_loss),
        "torch.compile": peers.torch_compile(tensor_loss),
        "PyTensor": peers.pytensor(pytensor_loss),
        "CasADi": casadi,
        "autograd": peers.autograd(array_loss),
        "limit": peers.by_hand(limit),
    },
)
