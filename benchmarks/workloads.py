"""The workloads that compare compilers, each declared once: inputs, value, what to differentiate by, and data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import symgraph as sg

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Workload:
    """A value of some inputs, its parameters among them, and the data to run it on."""

    inputs: list[sg.Expr]
    value: sg.Expr
    parameters: list[sg.Expr]
    data: list[Array]


def rosenbrock(n: int) -> Workload:
    """Return Σ 100 (x₊ - x²)² + (1 - x)²."""
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    value = sg.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    return Workload([x], value, [x], [np.random.default_rng(0).normal(size=n)])


def logistic(n: int, d: int) -> Workload:
    """Return the mean log loss of logistic regression."""
    with sg.Graph():
        X, y, w = sg.placeholder("X", ("n", "d")), sg.placeholder("y", ("n",)), sg.placeholder("w", ("d",))
    z = X @ w
    rng = np.random.default_rng(0)
    data = [rng.normal(size=(n, d)), rng.integers(0, 2, n).astype(float), rng.normal(size=d) / math.sqrt(d)]
    return Workload([X, y, w], sg.mean(sg.softplus(z) - y * z), [w], data)


def softmax(n: int, d: int, k: int) -> Workload:
    """Return the mean cross-entropy of multinomial logistic regression."""
    with sg.Graph():
        X, y = sg.placeholder("X", ("n", "d")), sg.placeholder("y", ("n",), "int64")
        W, b = sg.placeholder("W", ("d", "k")), sg.placeholder("b", ("k",))
    value = sg.mean(sg.softmax_cross_entropy(X @ W + b, y))
    rng = np.random.default_rng(0)
    data = [rng.normal(size=(n, d)), rng.integers(0, k, n), rng.normal(size=(d, k)) * 0.1, np.zeros(k)]
    return Workload([X, y, W, b], value, [W, b], data)


def gmm(n: int, d: int, k: int) -> Workload:
    """Return ADBench's Gaussian mixture: log likelihood with a Wishart prior (γ = 1, m = 0)."""
    with sg.Graph():
        x = sg.placeholder("x", ("n", "d"))
        alpha, mu = sg.placeholder("alpha", ("k",)), sg.placeholder("mu", ("k", "d"))
        q, lower = sg.placeholder("q", ("k", "d")), sg.placeholder("L", ("k", "d", "d"))
    strict = sg.tril(lower, -1)
    centred = x[:, None, :] - mu[None, :, :]
    scaled = sg.exp(q)[None, :, :] * centred + sg.sum(strict[None, :, :, :] * centred[:, :, None, :], axis=3)
    inner = alpha + sg.sum(q, axis=1) - 0.5 * sg.sum(scaled**2, axis=2)
    count = x.shape[0]
    likelihood = sg.sum(sg.logsumexp(inner, axis=1)) - count * sg.logsumexp(alpha)
    prior = 0.5 * (sg.sum(sg.exp(q) ** 2) + sg.sum(strict**2)) - sg.sum(q)
    rng = np.random.default_rng(0)
    data = [
        rng.normal(size=(n, d)), rng.normal(size=k), rng.normal(size=(k, d)), rng.normal(size=(k, d)) * 0.1,
        rng.normal(size=(k, d, d)) * 0.1,
    ]  # fmt: skip
    return Workload([x, alpha, mu, q, lower], likelihood - prior, [alpha, mu, q, lower], data)


def black_scholes(n: int) -> Workload:
    """Return the sum of European call prices."""
    with sg.Graph():
        spot, strike, maturity, volatility = (
            sg.placeholder(name, ("n",)) for name in ("spot", "strike", "maturity", "volatility")
        )
    rate = 0.02
    width = volatility * sg.sqrt(maturity)
    d1 = (sg.log(spot / strike) + (rate + 0.5 * volatility**2) * maturity) / width
    d2 = d1 - width
    price = spot * _normal(d1) - strike * sg.exp(-rate * maturity) * _normal(d2)
    rng = np.random.default_rng(0)
    data = [rng.uniform(80, 120, n), rng.uniform(80, 120, n), rng.uniform(0.2, 2, n), rng.uniform(0.1, 0.5, n)]
    inputs = [spot, strike, maturity, volatility]
    return Workload(inputs, sg.sum(price), inputs, data)


def _normal(z: sg.Expr) -> sg.Expr:
    """Return the distribution function of the standard normal."""
    return 0.5 * sg.erfc(z * -math.sqrt(0.5))


def mlp(batch: int, widths: tuple[int, ...], dtype: str) -> Workload:
    """Return the softmax cross-entropy of a relu network."""
    rng = np.random.default_rng(0)
    with sg.Graph():
        x, y = sg.placeholder("x", ("n", widths[0]), dtype), sg.placeholder("y", ("n",), "int64")
        weights = [sg.placeholder(f"W{i}", pair, dtype) for i, pair in enumerate(itertools.pairwise(widths))]
        biases = [sg.placeholder(f"b{i}", (width,), dtype) for i, width in enumerate(widths[1:])]
    h = x
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        h = h @ w + b
        h = sg.relu(h) if i < len(weights) - 1 else h
    value = sg.mean(sg.softmax_cross_entropy(h, y))
    data = [rng.normal(size=(batch, widths[0])).astype(dtype), rng.integers(0, widths[-1], batch)]
    data += [(rng.normal(size=w.shape) / math.sqrt(w.shape[0])).astype(dtype) for w in weights]
    data += [np.zeros(b.shape, dtype) for b in biases]
    return Workload([x, y, *weights, *biases], value, [*weights, *biases], data)


def bundle_adjustment(n: int) -> Workload:
    """Return half the sum of squared reprojection errors: Rodrigues rotation, radial distortion."""
    with sg.Graph():
        camera, point = sg.placeholder("camera", ("n", 11)), sg.placeholder("point", ("n", 3))
        weight, feature = sg.placeholder("weight", ("n",)), sg.placeholder("feature", ("n", 2))
    rotation, centre = camera[:, :3], camera[:, 3:6]
    focal, principal, radial = camera[:, 6], camera[:, 7:9], camera[:, 9:]
    moved = point - centre
    angle = sg.sqrt(sg.sum(rotation**2, axis=1))
    axis = rotation / angle[:, None]
    cross = sg.stack(
        [axis[:, (i + 1) % 3] * moved[:, (i + 2) % 3] - axis[:, (i + 2) % 3] * moved[:, (i + 1) % 3] for i in range(3)],
        1,
    )
    along = sg.sum(axis * moved, axis=1) * (1 - sg.cos(angle))
    turned = moved * sg.cos(angle)[:, None] + cross * sg.sin(angle)[:, None] + axis * along[:, None]
    flat = turned[:, :2] / turned[:, 2][:, None]
    squared = sg.sum(flat**2, axis=1)
    distortion = 1 + radial[:, 0] * squared + radial[:, 1] * squared**2
    projected = flat * (distortion * focal)[:, None] + principal
    residual = weight[:, None] * (projected - feature)
    rng = np.random.default_rng(0)
    cameras = rng.normal(size=(n, 11)) * 0.1 + np.array([0.1, 0.2, 0.3, 0, 0, -5, 1, 0, 0, 0, 0])
    data = [cameras, rng.normal(size=(n, 3)), np.ones(n), rng.normal(size=(n, 2))]
    return Workload([camera, point, weight, feature], 0.5 * sg.sum(residual**2), [camera, point, weight], data)


def gaussian_process(n: int, d: int) -> Workload:
    """Return the negative log marginal likelihood with a squared-exponential kernel."""
    with sg.Graph():
        x, y = sg.placeholder("x", ("n", "d")), sg.placeholder("y", ("n",))
        scale, amplitude, noise = (sg.placeholder(name) for name in ("scale", "amplitude", "noise"))
    distances = sg.sum((x[:, None, :] - x[None, :, :]) ** 2, axis=2)
    kernel = sg.exp(amplitude) * sg.exp(-0.5 * distances * sg.exp(-2 * scale))
    factor = sg.cholesky(kernel + sg.exp(noise) * sg.eye(x.shape[0]))
    whitened = sg.solve_triangular(factor, y[:, None])
    diagonal = sg.einsum("ii->i", factor)
    value = 0.5 * sg.sum(whitened**2) + sg.sum(sg.log(diagonal)) + 0.5 * math.log(2 * math.pi) * x.shape[0]
    rng = np.random.default_rng(0)
    data = [rng.normal(size=(n, d)), rng.normal(size=n), np.float64(0.1), np.float64(0.2), np.float64(-2.0)]
    return Workload([x, y, scale, amplitude, noise], value, [scale, amplitude, noise], data)


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "rosenbrock 1,000": lambda: rosenbrock(1_000),
    "rosenbrock 1,000,000": lambda: rosenbrock(1_000_000),
    "logistic 100,000x100": lambda: logistic(100_000, 100),
    "softmax 50,000x64->10": lambda: softmax(50_000, 64, 10),
    "gmm 1,000 (10, 25)": lambda: gmm(1_000, 10, 25),
    "gmm 1,000 (64, 25)": lambda: gmm(1_000, 64, 25),
    "black_scholes 1,000,000": lambda: black_scholes(1_000_000),
    "mlp 784-128-10 float32": lambda: mlp(128, (784, 128, 10), "float32"),
    "mlp 784-512-512-10 float64": lambda: mlp(256, (784, 512, 512, 10), "float64"),
    "ba 31,843": lambda: bundle_adjustment(31_843),
    "gp 500": lambda: gaussian_process(500, 3),
}
