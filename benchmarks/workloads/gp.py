"""Gaussian process: the negative log marginal likelihood and its gradient in the logarithms of three parameters."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from scipy.linalg import lapack

import symgraph as sg
from benchmarks.suite import peers
from benchmarks.suite.contest import Array, Case, Model, Problem, Run, Skipped, Workload
from symgraph.compile.kernels import exp


def data(n: int, d: int) -> dict[str, Array]:
    """Return points with values, and the logarithms of the kernel's scale, its amplitude and the noise."""
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(n, d)),
        "y": rng.normal(size=n),
        "scale": np.array(0.1),
        "amplitude": np.array(0.2),
        "noise": np.array(-2.0),
    }


def model(n: int, d: int) -> Model:
    """Return the graph."""
    with sg.Graph():
        x, y = sg.placeholder("x", ("n", "d")), sg.placeholder("y", ("n",))
        scale, amplitude, noise = (sg.placeholder(name) for name in ("scale", "amplitude", "noise"))
    distances = sg.sum((x[:, None, :] - x[None, :, :]) ** 2, axis=2)
    kernel = sg.exp(amplitude) * sg.exp(-0.5 * distances * sg.exp(-2 * scale))
    factor = sg.cholesky(kernel + sg.exp(noise) * sg.eye(x.shape[0]))
    whitened = sg.solve_triangular(factor, y[:, None])
    diagonal = sg.einsum("ii->i", factor)
    value = 0.5 * sg.sum(whitened**2) + sg.sum(sg.log(diagonal)) + 0.5 * math.log(2 * math.pi) * x.shape[0]
    return Model([x, y, scale, amplitude, noise], value, [scale, amplitude, noise])


def jax_loss(jax: Any, x: Any, y: Any, scale: Any, amplitude: Any, noise: Any) -> Any:
    """Return the value for JAX."""
    np = jax.numpy
    factor = np.linalg.cholesky(_covariance(np, x, scale, amplitude, noise))
    whitened = jax.scipy.linalg.solve_triangular(factor, y, lower=True)
    value = 0.5 * np.sum(whitened**2) + np.sum(np.log(np.diagonal(factor)))
    return value + 0.5 * math.log(2 * math.pi) * x.shape[0]


def autograd_loss(autograd: Any, x: Any, y: Any, scale: Any, amplitude: Any, noise: Any) -> Any:
    """Return the value for autograd, whose Cholesky factor has a derivative by loops; so solved without one."""
    np = autograd.numpy
    covariance = _covariance(np, x, scale, amplitude, noise)
    _, logarithm = np.linalg.slogdet(covariance)
    value = 0.5 * np.dot(y, np.linalg.solve(covariance, y)) + 0.5 * logarithm
    return value + 0.5 * math.log(2 * math.pi) * x.shape[0]


def _covariance(np: Any, x: Any, scale: Any, amplitude: Any, noise: Any) -> Any:
    distances = np.sum((x[:, None, :] - x[None, :, :]) ** 2, axis=2)
    return np.exp(amplitude) * np.exp(-0.5 * distances * np.exp(-2 * scale)) + np.exp(noise) * np.eye(x.shape[0])


def torch_loss(torch: Any, x: Any, y: Any, scale: Any, amplitude: Any, noise: Any) -> Any:
    """Return the value for PyTorch."""
    factor = torch.linalg.cholesky(_tensor_covariance(torch, x, scale, amplitude, noise))
    whitened = torch.linalg.solve_triangular(factor, y[:, None], upper=False)
    value = 0.5 * (whitened**2).sum() + torch.log(torch.diagonal(factor)).sum()
    return value + 0.5 * math.log(2 * math.pi) * x.shape[0]


def eager_loss(eager: Any, x: Any, y: Any, scale: Any, amplitude: Any, noise: Any) -> Any:
    """Return the value for symgraph's dynamic engine, which solves general systems only."""
    covariance = _tensor_covariance(eager, x, scale, amplitude, noise)
    fit = (y * eager.linalg.solve(covariance, y[:, None])[:, 0]).sum()
    logarithms = eager.log(eager.diagonal(eager.linalg.cholesky(covariance))).sum()
    return 0.5 * fit + logarithms + 0.5 * math.log(2 * math.pi) * x.shape[0]


def _tensor_covariance(torch: Any, x: Any, scale: Any, amplitude: Any, noise: Any) -> Any:
    distances = ((x[:, None, :] - x[None, :, :]) ** 2).sum(2)
    kernel = torch.exp(amplitude) * torch.exp(-0.5 * distances * torch.exp(-2 * scale))
    return kernel + torch.exp(noise) * torch.eye(x.shape[0], dtype=torch.float64)


def pytensor_loss(tensor: Any, x: Any, y: Any, scale: Any, amplitude: Any, noise: Any) -> Any:
    """Return the value for PyTensor."""
    distances = ((x[:, None, :] - x[None, :, :]) ** 2).sum(axis=2)
    kernel = tensor.exp(amplitude) * tensor.exp(-0.5 * distances * tensor.exp(-2 * scale))
    factor = tensor.linalg.cholesky(kernel + tensor.exp(noise) * tensor.eye(x.shape[0]))
    whitened = tensor.linalg.solve_triangular(factor, y, lower=True)
    value = 0.5 * (whitened**2).sum() + tensor.log(tensor.diagonal(factor)).sum()
    return value + 0.5 * math.log(2 * math.pi) * x.shape[0]


def casadi(problem: Problem) -> Run:
    """Say why CasADi cannot take part."""
    raise Skipped("its Cholesky factor is for graphs of scalars, and this one has 40 million nodes")


def limit(problem: Problem) -> Run:
    """Return the closed form: with A = K⁻¹ - αα', α = K⁻¹ y, a parameter's derivative is ½ tr(A dK).

    Half of each symmetric matrix is computed. The trace with the kernel itself needs only that with the noise, since
    K⁻¹ K = 1.
    """

    def call(x: Array, y: Array, scale: Array, amplitude: Array, noise: Array) -> Any:
        n, level = len(y), math.exp(noise)
        covariance = np.empty((n, n), order="F")
        exponents = np.empty((n, n), order="F")
        _fill(x.T.copy(), math.exp(-2 * scale), float(amplitude), level, covariance, exponents)
        factor, info = lapack.dpotrf(covariance, lower=1, clean=0, overwrite_a=1)
        assert info == 0
        alpha, _ = lapack.dpotrs(factor, y, lower=1)
        determinant = float(np.log(factor.diagonal()).sum())
        inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
        by_scale, trace = _traces(inverse, exponents, alpha, float(amplitude))
        fit, squares = float(y @ alpha), float(alpha @ alpha)
        value = 0.5 * fit + determinant + 0.5 * math.log(2 * math.pi) * n
        by_amplitude = 0.5 * (n - level * trace) - 0.5 * (fit - level * squares)
        return value, by_scale, by_amplitude, 0.5 * level * (trace - squares)

    return Run(call, problem.arrays)


@numba.njit(fastmath={"reassoc", "contract"}, error_model="numpy")
def _fill(x: Array, shrink: float, amplitude: float, noise: float, covariance: Array, exponents: Array) -> None:
    """Fill the lower halves of the covariance and of -½ d² / scale², column by column."""
    d, n = x.shape
    squares = np.empty(n)
    for j in range(n):
        for i in range(j, n):
            squares[i] = 0.0
        for k in range(d):
            for i in range(j, n):
                squares[i] += (x[k, i] - x[k, j]) * (x[k, i] - x[k, j])
        for i in range(j, n):
            exponents[i, j] = -0.5 * shrink * squares[i]
            covariance[i, j] = exp(exponents[i, j] + amplitude)
        covariance[j, j] += noise


@numba.njit(fastmath={"reassoc", "contract"}, error_model="numpy")
def _traces(inverse: Array, exponents: Array, alpha: Array, amplitude: float) -> tuple[float, float]:
    """Return the derivative with respect to the logarithm of the scale, and the trace of the inverse."""
    n = len(alpha)
    total = trace = 0.0
    for j in range(n):
        trace += inverse[j, j]
        for i in range(j + 1, n):
            weight = inverse[i, j] - alpha[i] * alpha[j]
            total += weight * exponents[i, j] * exp(exponents[i, j] + amplitude)
    return -2.0 * total, trace


WORKLOAD = Workload(
    name="gp",
    what="Gaussian process, log marginal likelihood",
    cases=[Case("n = 500", n=500, d=3)],
    tiny=Case("n = 17", n=17, d=3),
    data=data,
    wrt=["scale", "amplitude", "noise"],
    contestants={
        "symgraph": peers.symgraph(model),
        "symgraph eager": peers.eager(eager_loss),
        "JAX": peers.jax(jax_loss),
        "PyTorch": peers.torch(torch_loss),
        "torch.compile": peers.torch_compile(torch_loss),
        "PyTensor": peers.pytensor(pytensor_loss),
        "CasADi": casadi,
        "autograd": peers.autograd(autograd_loss),
        "limit": peers.by_hand(limit),
    },
)
