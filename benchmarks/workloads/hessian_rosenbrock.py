"""The Hessian of Rosenbrock's valley, which has three diagonals; the results are its main one and the one above.

A contestant without sparse Hessians gets the diagonals from three products H v, with v of ones at every third place:
no row of H has two elements that are added up. symgraph computes the dense matrix, where that fits.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

import symgraph as sg
from benchmarks.suite import hessians, peers
from benchmarks.suite.contest import Array, Builder, Case, Model, Problem, Run, Skipped, Workload


def data(n: int) -> dict[str, Array]:
    """Return a point."""
    return {"x": np.random.default_rng(0).normal(size=n)}


def model(n: int) -> Model:
    """Return the graph."""
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    return Model([x], loss(None, x), [x])


def symgraph(problem: Problem) -> Run:
    """Return symgraph's run: the dense matrix."""
    if len(problem.data["x"]) > 1_000:
        raise Skipped("has dense Hessians only")
    run = hessians.symgraph(model)(problem)
    return Run(run.function, run.arguments, lambda results: _diagonals(*run.read(results)))


def _diagonals(matrix: Array) -> list[Array]:
    return [np.diagonal(matrix), np.diagonal(matrix, 1)]


def loss(_: Any, x: Any) -> Any:
    """Return the value, for all libraries whose arrays have NumPy's methods."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def autograd_loss(autograd: Any, x: Any) -> Any:
    """Return the value for autograd."""
    return autograd.numpy.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def _seeds(n: int) -> Array:
    return np.arange(n) % 3 == np.arange(3)[:, None]


def _by_products(builder: Builder) -> Builder:
    """Return the builder of a contestant that computes the three products."""

    def build(problem: Problem) -> Run:
        run = builder(problem)
        places = np.arange(len(problem.data["x"]))

        def read(results: Any) -> list[Array]:
            products = np.array(run.read(results)).reshape(3, -1)
            return [products[places % 3, places], products[(places[:-1] + 1) % 3, places[:-1]]]

        return Run(run.function, run.arguments, read)

    return build


def jax_products(jax: Any, x: Any) -> Any:
    """Return the three products for JAX, forward over reverse."""
    slope = jax.grad(lambda x: loss(jax, x))
    return jax.vmap(lambda v: jax.jvp(slope, (x,), (v,))[1])(jax.numpy.asarray(_seeds(len(x)), x.dtype))


def torch_products(torch: Any, x: Any) -> Any:
    """Return the three products for PyTorch, reverse over reverse (its forward mode took longer)."""
    return _products_by_tape(torch, x, [torch.from_numpy(seed.astype(float)) for seed in _seeds(len(x))])


def _products_by_tape(library: Any, x: Any, seeds: Sequence[Any]) -> Any:
    x = x.requires_grad_()
    (slope,) = library.autograd.grad(loss(library, x), [x], create_graph=True)
    return [library.autograd.grad([slope], [x], [seed], retain_graph=True)[0] for seed in seeds]


def autograd_products(autograd: Any, x: Any) -> Any:
    """Return the three products for autograd."""
    pull, _ = autograd.make_vjp(autograd.grad(lambda x: autograd_loss(autograd, x)))(x)
    return [pull(seed.astype(float)) for seed in _seeds(len(x))]


def pytensor_products(tensor: Any, x: Any) -> Any:
    """Return the three products for PyTensor."""
    slope = tensor.grad(loss(tensor, x), x)
    return [tensor.grad((slope * tensor.eq(tensor.arange(x.shape[0]) % 3, c)).sum(), x) for c in range(3)]


def casadi(problem: Problem) -> Run:
    """Return CasADi's run: a sparse matrix from a graph of scalars, compiled where that does not take minutes."""
    import casadi as library

    point = problem.data["x"]
    n = len(point)
    x = library.SX.sym("x", n)
    value = library.sumsqr(10 * (x[1:] - x[:-1] ** 2)) + library.sumsqr(1 - x[:-1])
    hessian = library.hessian(value, x)[0]
    jit = n <= 1_000 and shutil.which("gcc") is not None
    options = {"jit": True, "compiler": "shell", "jit_options": {"flags": ["-O3", "-march=native"]}}
    compiled = library.Function("hessian", [x], [hessian], options if jit else {})
    buffer, trigger = compiled.buffer()
    elements = np.zeros(hessian.nnz())
    buffer.set_arg(0, memoryview(point))
    buffer.set_res(0, memoryview(elements))
    keep = compiled, buffer

    def read(_: Any) -> list[Array]:
        assert len(elements) == 3 * n - 2  # column by column: above, on and below the main diagonal
        assert keep
        return [elements[::3], elements[2::3]]

    return Run(trigger, (), read)


def limit(problem: Problem) -> Run:
    """Return one loop that writes each element once."""
    return Run(_second_derivatives, problem.arrays)


@numba.njit(fastmath={"reassoc", "contract"}, error_model="numpy")
def _second_derivatives(x: Array) -> tuple[Array, Array]:
    n = len(x)
    diagonal, above = np.empty(n), np.empty(n - 1)
    diagonal[0] = 1200.0 * x[0] * x[0] - 400.0 * x[1] + 2.0
    for i in range(1, n - 1):
        diagonal[i] = 1200.0 * x[i] * x[i] - 400.0 * x[i + 1] + 202.0
    diagonal[n - 1] = 200.0
    for i in range(n - 1):
        above[i] = -400.0 * x[i]
    return diagonal, above


WORKLOAD = Workload(
    name="hessian_rosenbrock",
    what="sparse Hessian of Rosenbrock's valley",
    cases=[Case(f"n = {n:,}", n=n) for n in (1_000, 100_000)],
    tiny=Case("n = 7", n=7),
    data=data,
    wrt=["x"],
    contestants={
        "symgraph": symgraph,
        "JAX": _by_products(peers.jax_function(jax_products)),
        "PyTorch": _by_products(peers.torch_function(torch_products)),
        "PyTensor": _by_products(peers.pytensor_function(pytensor_products)),
        "CasADi": casadi,
        "autograd": _by_products(peers.autograd_function(autograd_products)),
        "limit": peers.by_hand(limit),
    },
)
