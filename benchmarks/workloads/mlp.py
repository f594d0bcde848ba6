"""A relu network with softmax cross-entropy: large contractions, and what is around them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np

import symgraph as sg
from benchmarks.suite import peers
from benchmarks.suite.contest import Array, Case, Model, Problem, Run, Workload
from benchmarks.workloads.softmax import cross_entropy_of_casadi, with_one_hot
from symgraph.compile import kernels

SMALL, LARGE = (784, 128, 10), (784, 512, 512, 10)


def data(batch: int, widths: tuple[int, ...], dtype: str) -> dict[str, Array]:
    """Return rows, classes, and for each layer weights, then for each layer biases."""
    rng = np.random.default_rng(0)
    rows = {"x": rng.normal(size=(batch, widths[0])).astype(dtype), "y": rng.integers(0, widths[-1], batch)}
    pairs = list(enumerate(itertools.pairwise(widths)))
    weights = {f"W{i}": (rng.normal(size=pair) / math.sqrt(pair[0])).astype(dtype) for i, pair in pairs}
    return rows | weights | {f"b{i}": np.zeros(pair[1], dtype) for i, pair in pairs}


def model(batch: int, widths: tuple[int, ...], dtype: str) -> Model:
    """Return the graph."""
    with sg.Graph():
        x, y = sg.placeholder("x", ("n", widths[0]), dtype), sg.placeholder("y", ("n",), "int64")
        weights = [sg.placeholder(f"W{i}", pair, dtype) for i, pair in enumerate(itertools.pairwise(widths))]
        biases = [sg.placeholder(f"b{i}", (width,), dtype) for i, width in enumerate(widths[1:])]
    value = sg.mean(sg.softmax_cross_entropy(_logits(sg.relu, x, [*weights, *biases]), y))
    return Model([x, y, *weights, *biases], value, [*weights, *biases])


def _logits(relu: Callable[[Any], Any], x: Any, parameters: Sequence[Any]) -> Any:
    """Return what the last layer gives."""
    depth = len(parameters) // 2
    for i in range(depth - 1):
        x = relu(x @ parameters[i] + parameters[depth + i])
    return x @ parameters[depth - 1] + parameters[-1]


def jax_loss(jax: Any, x: Any, y: Any, *parameters: Any) -> Any:
    """Return the value for JAX."""
    z = _logits(jax.nn.relu, x, parameters)
    picked = jax.numpy.sum(jax.nn.one_hot(y, z.shape[1], dtype=z.dtype) * z, axis=1)
    return jax.numpy.mean(jax.nn.logsumexp(z, axis=1) - picked)


def autograd_loss(autograd: Any, x: Any, y: Any, *parameters: Any) -> Any:
    """Return the value for autograd."""
    np = autograd.numpy
    z = _logits(lambda h: np.where(h > 0, h, 0 * h), x, parameters)
    return np.mean(autograd.scipy.special.logsumexp(z, axis=1) - z[np.arange(len(y)), y])


def tensor_loss(torch: Any, x: Any, y: Any, *parameters: Any) -> Any:
    """Return the value for PyTorch and for symgraph's dynamic engine."""
    return torch.nn.functional.cross_entropy(_logits(torch.relu, x, parameters), y)


def pytensor_loss(tensor: Any, x: Any, y: Any, *parameters: Any) -> Any:
    """Return the value for PyTensor."""
    z = _logits(lambda h: tensor.switch(h > 0, h, tensor.zeros_like(h)), x, parameters)
    return -tensor.mean(tensor.special.log_softmax(z, axis=1)[tensor.arange(y.shape[0]), y])


def casadi_loss(casadi: Any, x: Any, hot: Any, *parameters: Any) -> Any:
    """Return the value for CasADi, with one-hot labels."""
    rows = [casadi.repmat(p.T, x.shape[0], 1) for p in parameters[len(parameters) // 2 :]]
    z = _logits(lambda h: casadi.fmax(h, 0), x, [*parameters[: len(rows)], *rows])
    return cross_entropy_of_casadi(casadi, z, hot)


def limit(problem: Problem) -> Run:
    """Return the closed form: BLAS for the contractions, everything else in place, and in few passes."""
    depth = (len(problem.data) - 2) // 2
    x, y, *parameters = problem.arrays
    kernel = _kernel(depth)
    return Run(lambda x, y, *p: kernel(x, y, p[:depth], p[depth:]), [x, y, *parameters])


def _kernel(depth: int) -> Callable[..., Any]:
    exp, log = kernels.exp, kernels.log

    @numba.njit(fastmath=True, error_model="numpy")
    def activate(h: Array, b: Array) -> None:
        for i in range(h.shape[0]):
            for j in range(h.shape[1]):
                h[i, j] = max(h[i, j] + b[j], h.dtype.type(0))

    @numba.njit(fastmath=True, error_model="numpy")
    def softmax(z: Array, y: Array, b: Array, by_b: Array) -> Any:
        """Turn logits without biases into cotangents, and return the mean loss."""
        n, k = z.shape
        losses, share = z.dtype.type(0), z.dtype.type(1) / z.dtype.type(n)
        for i in range(n):
            largest, total = z[i, 0] + b[0], z.dtype.type(0)
            for j in range(k):
                z[i, j] += b[j]
                largest = max(largest, z[i, j])
            losses += largest - z[i, y[i]]
            for j in range(k):
                z[i, j] = exp(z[i, j] - largest)
                total += z[i, j]
            losses += log(total)
            for j in range(k):
                z[i, j] *= share / total
            z[i, y[i]] -= share
            for j in range(k):
                by_b[j] += z[i, j]
        return losses * share

    @numba.njit(fastmath=True, error_model="numpy")
    def back(delta: Array, h: Array, by_b: Array) -> None:
        """Stop cotangents where relu did, and add them up for the biases."""
        for i in range(h.shape[0]):
            for j in range(h.shape[1]):
                delta[i, j] = delta[i, j] if h[i, j] > h.dtype.type(0) else h.dtype.type(0)
                by_b[j] += delta[i, j]

    def run(x: Array, y: Array, weights: Sequence[Array], biases: Sequence[Array]) -> list[Any]:
        layers = [x]
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            layers.append(np.dot(layers[-1], w))
            activate(layers[-1], b)
        by_biases = [np.zeros_like(b) for b in biases]
        delta = np.dot(layers[-1], weights[-1])
        value = softmax(delta, y, biases[-1], by_biases[-1])
        by_weights = []
        for i in range(depth - 1, 0, -1):
            by_weights.append(np.dot(layers[i].T, delta))
            delta = np.dot(delta, weights[i].T)
            back(delta, layers[i], by_biases[i - 1])
        by_weights.append(np.dot(x.T, delta))
        return [value, *reversed(by_weights), *by_biases]

    return run


WORKLOAD = Workload(
    name="mlp",
    what="softmax cross-entropy of a relu network",
    cases=[
        Case(f"{'-'.join(map(str, widths))}, batch {batch}, {dtype}", batch=batch, widths=widths, dtype=dtype)
        for batch, widths in ((128, SMALL), (256, LARGE))
        for dtype in ("float32", "float64")
    ],
    tiny=Case("6-5-4-3", batch=9, widths=(6, 5, 4, 3), dtype="float64"),
    data=data,
    wrt=lambda data: list(data)[2:],
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
