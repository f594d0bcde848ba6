"""ADBench's Gaussian mixture: the log likelihood with a Wishart prior (γ = 1, m = 0) and its gradient.

The square roots Q_k of the precisions are lower triangular: exp(q_k) on the diagonal, the part of L_k below it.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

import symgraph as sg
from benchmarks.suite import peers
from benchmarks.suite.contest import Array, Case, Model, Problem, Run, Workload
from symgraph.compile.kernels import exp, log

TILE = 64  # examples to a tile of the limit: eight vectors of AVX-512


def data(n: int, d: int, k: int) -> dict[str, Array]:
    """Return points and a mixture near them."""
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(n, d)),
        "alpha": rng.normal(size=k),
        "mu": rng.normal(size=(k, d)),
        "q": rng.normal(size=(k, d)) * 0.1,
        "L": rng.normal(size=(k, d, d)) * 0.1,
    }


def model(n: int, d: int, k: int) -> Model:
    """Return the graph."""
    with sg.Graph():
        x = sg.placeholder("x", ("n", "d"))
        alpha, mu = sg.placeholder("alpha", ("k",)), sg.placeholder("mu", ("k", "d"))
        q, lower = sg.placeholder("q", ("k", "d")), sg.placeholder("L", ("k", "d", "d"))
    strict = sg.tril(lower, -1)
    centred = x[:, None, :] - mu[None, :, :]
    scaled = sg.exp(q)[None, :, :] * centred + sg.sum(strict[None, :, :, :] * centred[:, :, None, :], axis=3)
    inner = alpha + sg.sum(q, axis=1) - 0.5 * sg.sum(scaled**2, axis=2)
    likelihood = sg.sum(sg.logsumexp(inner, axis=1)) - x.shape[0] * sg.logsumexp(alpha)
    prior = 0.5 * (sg.sum(sg.exp(q) ** 2) + sg.sum(strict**2)) - sg.sum(q)
    return Model([x, alpha, mu, q, lower], likelihood - prior, [alpha, mu, q, lower])


def array_loss(library: Any, x: Any, alpha: Any, mu: Any, q: Any, lower: Any) -> Any:
    """Return the value for JAX and autograd.

    The products are written in the two ways that were fastest in JAX: all components by one product where they are
    small, a product for each where they are large. The form of `model` takes JAX two to seven times as long.
    """
    np, logsumexp = library.numpy, library.scipy.special.logsumexp
    d = x.shape[1]
    strict = np.tril(lower, -1)
    factor = strict + np.exp(q)[:, :, None] * np.eye(d)
    level = alpha + np.sum(q, axis=1)
    if d <= 32:
        scaled = (
            np.reshape(x @ np.reshape(factor, (-1, d)).T, (x.shape[0], *q.shape)) - (factor @ mu[:, :, None])[..., 0]
        )
        inner = level - 0.5 * np.sum(scaled**2, axis=2)
    else:
        scaled = (x[None] - mu[:, None]) @ np.swapaxes(factor, 1, 2)
        inner = np.transpose(level[:, None] - 0.5 * np.sum(scaled**2, axis=2))
    likelihood = np.sum(logsumexp(inner, axis=1)) - x.shape[0] * logsumexp(alpha)
    return likelihood - 0.5 * (np.sum(np.exp(q) ** 2) + np.sum(strict**2)) + np.sum(q)


def tensor_loss(torch: Any, x: Any, alpha: Any, mu: Any, q: Any, lower: Any) -> Any:
    """Return the value for PyTorch and symgraph's dynamic engine, with products as in `array_loss`."""
    d = x.shape[1]
    strict = torch.tril(lower, -1)
    factor = strict + torch.exp(q)[:, :, None] * torch.eye(d, dtype=torch.float64)
    level = alpha + q.sum(1)
    if d <= 32:
        scaled = (x @ factor.reshape(-1, d).T).reshape(x.shape[0], *q.shape) - (factor @ mu[:, :, None])[:, :, 0]
        inner = level - 0.5 * (scaled**2).sum(2)
    else:
        scaled = (x[None] - mu[:, None]) @ factor.transpose(1, 2)
        inner = (level[:, None] - 0.5 * (scaled**2).sum(2)).T
    likelihood = torch.logsumexp(inner, 1).sum() - x.shape[0] * torch.logsumexp(alpha, 0)
    return likelihood - 0.5 * ((torch.exp(q) ** 2).sum() + (strict**2).sum()) + q.sum()


def pytensor_loss(tensor: Any, x: Any, alpha: Any, mu: Any, q: Any, lower: Any) -> Any:
    """Return the value for PyTensor."""
    d = x.shape[1]
    strict = lower * tensor.tril(tensor.ones((d, d)), -1)
    factor = strict + tensor.exp(q)[:, :, None] * tensor.eye(d)
    scaled = tensor.matmul(x[None] - mu[:, None], factor.transpose(0, 2, 1))
    inner = (alpha + q.sum(axis=1))[:, None] - 0.5 * (scaled**2).sum(axis=2)
    likelihood = tensor.logsumexp(inner, axis=0).sum() - x.shape[0] * tensor.logsumexp(alpha)
    return likelihood - 0.5 * ((tensor.exp(q) ** 2).sum() + (strict**2).sum()) + q.sum()


def casadi(problem: Problem) -> Run:
    """Return CasADi's run: matrices of each component by themselves, since CasADi has no arrays of three axes."""

    def flat(problem: Problem) -> list[Array]:
        *rest, lower = problem.arrays
        return [*rest, lower.reshape(len(lower), -1)]

    run = peers.casadi(_casadi_loss, prepare=flat)(problem)

    def read(results: Any) -> list[Array]:
        *rest, lower = run.read(results)
        return [*rest, lower.reshape(problem.data["L"].shape)]

    return Run(run.function, run.arguments, read)


def _casadi_loss(library: Any, x: Any, alpha: Any, mu: Any, q: Any, lower: Any) -> Any:
    (n, d), k = x.shape, alpha.shape[0]
    below = np.tril(np.ones((d, d)), -1)
    columns, prior = [], 0.5 * library.sumsqr(library.exp(q)) - library.sum1(library.sum2(q))
    for j in range(k):
        strict = library.reshape(lower[j, :], d, d).T * below
        centred = x - library.repmat(mu[j, :], n, 1)
        scaled = library.mtimes(centred, (strict + library.diag(library.exp(q[j, :]))).T)
        columns.append(alpha[j] + library.sum2(q[j, :]) - 0.5 * library.sum2(scaled**2))
        prior += 0.5 * library.sumsqr(strict)
    return _casadi_logsumexp(library, columns) - n * library.logsumexp(alpha) - prior


def _casadi_logsumexp(library: Any, columns: list[Any]) -> Any:
    top = columns[0]
    for column in columns[1:]:
        top = library.fmax(top, column)
    return library.sum1(top + library.log(sum(library.exp(column - top) for column in columns)))


def limit(problem: Problem) -> Run:
    """Return tiles of examples on each thread, which keep its sums to itself.

    A tile's scaled differences are kept from forward to backward. Small components: the axis of the examples is
    innermost, and the number of dimensions a constant, so that rows of a tile stay in registers. Large ones: products
    by BLAS, of blocks of rows so that most of the zeros above the diagonal are left out.
    """
    x, alpha, mu, q, lower = problem.arrays
    chunk = _chunk_by_vectors(x.shape[1]) if x.shape[1] <= 32 else _chunk_by_products()
    run, threads = _on_threads(chunk), problem.threads

    def call(x: Array, alpha: Array, mu: Array, q: Array, lower: Array) -> Any:
        k, d = mu.shape
        sums = np.zeros(threads), np.zeros((threads, k)), np.zeros((threads, k, d)), np.zeros((threads, k, d, d))
        run(x, alpha, mu, q, lower, *sums)
        return _finish(len(x), alpha, q, lower, *sums)

    return Run(call, (x, alpha, mu, q, lower))


def _on_threads(chunk: Any) -> Any:
    """Return the function that runs `chunk` on every thread."""

    @numba.njit(parallel=True)
    def run(
        x: Array, alpha: Array, mu: Array, q: Array, lower: Array,
        values: Array, weights: Array, rows: Array, products: Array,
    ) -> None:  # fmt: skip
        n, threads = len(x), len(values)
        tiles = (n + TILE - 1) // TILE
        for t in numba.prange(threads):
            first, last = t * tiles // threads * TILE, min(n, (t + 1) * tiles // threads * TILE)
            values[t] = chunk(x[first:last], alpha, mu, q, lower, weights[t], rows[t], products[t])

    return run


def _chunk_by_vectors(d: int) -> Any:
    """Return the function that adds a chunk of the examples' parts of the sums, for `d` dimensions."""

    @numba.njit(inline="always")
    def scale(x: Array, mu: Array, diagonal: Array, lower: Array, c: Array, y: Array, inner: Array) -> None:
        """Set y to Q (x - μ), and add -½ ‖y‖² to inner."""
        for i in range(d):
            for t in range(TILE):
                c[i, t] = x[i, t] - mu[i]
        for i in range(d):
            start = i % 4
            for t in range(TILE):
                y[i, t] = diagonal[i] * c[i, t]
            for j in range(start):
                for t in range(TILE):
                    y[i, t] += lower[i, j] * c[j, t]
            for j in range(start, i, 4):
                a0, a1, a2, a3 = lower[i, j], lower[i, j + 1], lower[i, j + 2], lower[i, j + 3]
                for t in range(TILE):
                    y[i, t] += a0 * c[j, t] + a1 * c[j + 1, t] + a2 * c[j + 2, t] + a3 * c[j + 3, t]
            for t in range(TILE):
                inner[t] -= 0.5 * (y[i, t] * y[i, t])

    @numba.njit(inline="always")
    def add(x: Array, mu: Array, w: Array, c: Array, y: Array, row: Array, product: Array) -> float:
        """Add Σ w y and the lower half of Σ w y (x - μ)ᵀ, and return Σ w."""
        total = 0.0
        for t in range(TILE):
            total += w[t]
        for i in range(d):
            for t in range(TILE):
                c[i, t] = x[i, t] - mu[i]
        for i in range(d):
            row_sum = diagonal_sum = 0.0
            for t in range(TILE):
                weighted = w[t] * y[i, t]
                y[i, t] = weighted
                row_sum += weighted
                diagonal_sum += weighted * c[i, t]
            row[i] += row_sum
            product[i, i] += diagonal_sum
            start = i % 4
            for j in range(start):
                s0 = 0.0
                for t in range(TILE):
                    s0 += y[i, t] * c[j, t]
                product[i, j] += s0
            for j in range(start, i, 4):
                s0 = s1 = s2 = s3 = 0.0
                for t in range(TILE):
                    weighted = y[i, t]
                    s0 += weighted * c[j, t]
                    s1 += weighted * c[j + 1, t]
                    s2 += weighted * c[j + 2, t]
                    s3 += weighted * c[j + 3, t]
                product[i, j] += s0
                product[i, j + 1] += s1
                product[i, j + 2] += s2
                product[i, j + 3] += s3
        return total

    @numba.njit(fastmath={"reassoc", "contract"}, error_model="numpy")
    def chunk(
        x: Array, alpha: Array, mu: Array, q: Array, lower: Array, weights: Array, rows: Array, products: Array
    ) -> float:
        k = len(alpha)
        tile, c, y, inner = np.zeros((d, TILE)), np.empty((d, TILE)), np.empty((k, d, TILE)), np.empty((k, TILE))
        diagonal, level = np.exp(q), alpha.copy()
        for j in range(k):
            for i in range(d):
                level[j] += q[j, i]
        value = 0.0
        for start in range(0, len(x), TILE):
            size = min(TILE, len(x) - start)
            for t in range(size):
                for i in range(d):
                    tile[i, t] = x[start + t, i]
            for j in range(k):
                for t in range(TILE):
                    inner[j, t] = level[j]
                scale(tile, mu[j], diagonal[j], lower[j], c, y[j], inner[j])
            value += _to_weights(inner, size)
            for j in range(k):
                weights[j] += add(tile, mu[j], inner[j], c, y[j], rows[j], products[j])
        return value

    return chunk


def _chunk_by_products() -> Any:
    """Return the function that adds a chunk of the examples' parts of the sums, with BLAS's products.

    OpenBLAS runs products of this size on the thread that asks for them.
    """
    block, size = 16, 128

    @numba.njit(fastmath={"reassoc", "contract"}, error_model="numpy")
    def chunk(
        x: Array, alpha: Array, mu: Array, q: Array, lower: Array, weights: Array, rows: Array, products: Array
    ) -> float:
        d, k = x.shape[1], len(alpha)
        level = alpha.copy()
        factors = np.zeros((k, d * d))  # blocks of rows of Q, each without the columns after its last row
        for j in range(k):
            at = 0
            for i in range(d):
                level[j] += q[j, i]
                stop = min(d, (i // block + 1) * block)
                factors[j, at : at + i] = lower[j, i, :i]
                factors[j, at + i] = math.exp(q[j, i])
                at += stop
        value = 0.0
        tile, c, y = np.zeros((d, size)), np.empty((d, size)), np.empty((k, d, size))
        inner = np.empty((size // TILE, k, TILE))
        for first in range(0, len(x), size):
            count = min(size, len(x) - first)
            for t in range(count):
                for i in range(d):
                    tile[i, t] = x[first + t, i]
            for j in range(k):
                for i in range(d):
                    for t in range(size):
                        c[i, t] = tile[i, t] - mu[j, i]
                inner[:, j] = level[j]
                at = 0
                for start in range(0, d, block):
                    stop = min(d, start + block)
                    length = (stop - start) * stop
                    np.dot(factors[j, at : at + length].reshape(stop - start, stop), c[:stop], y[j, start:stop])
                    at += length
                for i in range(d):
                    for half in range(size // TILE):
                        for t in range(TILE):
                            inner[half, j, t] -= 0.5 * (y[j, i, half * TILE + t] * y[j, i, half * TILE + t])
            for half in range(size // TILE):
                value += _to_weights(inner[half], max(0, min(TILE, count - half * TILE)))
            for j in range(k):
                for half in range(size // TILE):
                    weights[j] += inner[half, j].sum()
                for i in range(d):
                    total = 0.0
                    for half in range(size // TILE):
                        for t in range(TILE):
                            c[i, half * TILE + t] = tile[i, half * TILE + t] - mu[j, i]
                            weighted = inner[half, j, t] * y[j, i, half * TILE + t]
                            y[j, i, half * TILE + t] = weighted
                            total += weighted
                    rows[j, i] += total
                for start in range(0, d, block):
                    stop = min(d, start + block)
                    products[j, start:stop, :stop] += np.dot(y[j, start:stop], c[:stop].T)
        return value

    return chunk


@numba.njit(fastmath={"reassoc", "contract"}, error_model="numpy")
def _to_weights(inner: Array, size: int) -> float:
    """Turn the logarithms of a tile into weights, zero after the first `size`; return Σ logsumexp of those."""
    top, norm = inner[0].copy(), np.zeros(TILE)
    for j in range(1, len(inner)):
        for t in range(TILE):
            top[t] = inner[j, t] if inner[j, t] > top[t] else top[t]
    for j in range(len(inner)):
        for t in range(TILE):
            inner[j, t] = exp(inner[j, t] - top[t])
            norm[t] += inner[j, t]
    total = 0.0
    for t in range(TILE):
        total += top[t] + log(norm[t]) if t < size else 0.0
        norm[t] = 1.0 / norm[t] if t < size else 0.0
    for j in range(len(inner)):
        for t in range(TILE):
            inner[j, t] *= norm[t]
    return total


@numba.njit(error_model="numpy")
def _finish(
    n: int, alpha: Array, q: Array, lower: Array, values: Array, weights: Array, rows: Array, products: Array
) -> tuple[float, Array, Array, Array, Array]:
    """Add the threads' sums, the prior, and what does not depend on examples."""
    k, d = q.shape
    top, norm, value = alpha.max(), 0.0, 0.0
    for j in range(k):
        norm += math.exp(alpha[j] - top)
    by_alpha, by_mu, by_q, by_lower = np.empty(k), np.zeros((k, d)), np.empty((k, d)), np.zeros((k, d, d))
    for t in range(1, len(values)):
        for j in range(k):
            weights[0, j] += weights[t, j]
            for i in range(d):
                rows[0, j, i] += rows[t, j, i]
                for h in range(i + 1):
                    products[0, j, i, h] += products[t, j, i, h]
    for t in range(len(values)):
        value += values[t]
    value -= n * (top + math.log(norm))
    for j in range(k):
        by_alpha[j] = weights[0, j] - n * math.exp(alpha[j] - top) / norm
        for i in range(d):
            scale = math.exp(q[j, i])
            value += q[j, i] - 0.5 * scale * scale
            by_q[j, i] = weights[0, j] - scale * products[0, j, i, i] + 1.0 - scale * scale
            by_mu[j, i] += scale * rows[0, j, i]
            for h in range(i):
                value -= 0.5 * lower[j, i, h] * lower[j, i, h]
                by_lower[j, i, h] = -products[0, j, i, h] - lower[j, i, h]
                by_mu[j, h] += lower[j, i, h] * rows[0, j, i]
    return value, by_alpha, by_mu, by_q, by_lower


SIZES = [(10, 25), (20, 50), (64, 25)]

WORKLOAD = Workload(
    name="gmm",
    what="Gaussian mixture of ADBench",
    cases=[Case(f"n = {n:,}, {d} × {k}", n=n, d=d, k=k) for n in (1_000, 10_000) for d, k in SIZES],
    tiny=Case("n = 70, 5 × 3", n=70, d=5, k=3),
    data=data,
    wrt=["alpha", "mu", "q", "L"],
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
