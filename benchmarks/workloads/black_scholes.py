"""Black and Scholes: the sum of call prices and its gradients, elementwise mathematics on a million options."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.polynomial import chebyshev
from scipy import special

import symgraph as sg
from benchmarks.suite import peers
from benchmarks.suite.contest import Array, Case, Model, Problem, Run, Workload
from symgraph.compile import kernels

RATE = 0.02
ROOT_HALF = math.sqrt(0.5)


def data(n: int) -> dict[str, Array]:
    """Return spots, strikes, maturities in years and volatilities."""
    rng = np.random.default_rng(0)
    return {
        "spot": rng.uniform(80, 120, n),
        "strike": rng.uniform(80, 120, n),
        "maturity": rng.uniform(0.2, 2, n),
        "volatility": rng.uniform(0.1, 0.5, n),
    }


def model(n: int) -> Model:
    """Return the graph."""
    with sg.Graph():
        inputs = [sg.placeholder(name, ("n",)) for name in ("spot", "strike", "maturity", "volatility")]
    prices = _prices(sg.log, sg.sqrt, sg.exp, lambda z: 0.5 * sg.erfc(z * -ROOT_HALF), *inputs)
    return Model(inputs, sg.sum(prices), inputs)


def _prices(log: Any, sqrt: Any, exp: Any, normal: Any, spot: Any, strike: Any, maturity: Any, volatility: Any) -> Any:
    """Return the prices, with a library's functions; ``normal`` is the normal distribution's function."""
    width = volatility * sqrt(maturity)
    d1 = (log(spot / strike) + (RATE + 0.5 * volatility**2) * maturity) / width
    return spot * normal(d1) - strike * exp(-RATE * maturity) * normal(d1 - width)


def array_loss(library: Any, *inputs: Any) -> Any:
    """Return the value for JAX and for autograd."""
    np, erfc = library.numpy, library.scipy.special.erfc
    return np.sum(_prices(np.log, np.sqrt, np.exp, lambda z: 0.5 * erfc(z * -ROOT_HALF), *inputs))


def tensor_loss(torch: Any, *inputs: Any) -> Any:
    """Return the value for PyTorch and for symgraph's dynamic engine."""
    return _prices(torch.log, torch.sqrt, torch.exp, lambda z: 0.5 * torch.erfc(z * -ROOT_HALF), *inputs).sum()


def pytensor_loss(tensor: Any, *inputs: Any) -> Any:
    """Return the value for PyTensor."""
    normal = lambda z: 0.5 * tensor.erfc(z * -ROOT_HALF)  # noqa: E731
    return tensor.sum(_prices(tensor.log, tensor.sqrt, tensor.exp, normal, *inputs))


def casadi_loss(casadi: Any, *inputs: Any) -> Any:
    """Return the value for CasADi, which has erf and no erfc."""
    normal = lambda z: 0.5 + 0.5 * casadi.erf(z * ROOT_HALF)  # noqa: E731
    return casadi.sum1(_prices(casadi.log, casadi.sqrt, casadi.exp, normal, *inputs))


def limit(problem: Problem) -> Run:
    """Return one loop with the derivatives in closed form.

    Both normal distribution functions and the density take one exponential: the tail of the normal distribution is
    exp(-d²/2) times a smooth function, and spot times the density at d1 is the discounted strike times that at d2.
    Numba has no vector mathematics of its own without Intel's SVML, so exp and log are symgraph's kernels, as an
    expert would take a library's.
    """
    return Run(_kernel(), [*problem.arrays, problem.threads])


POLE = 3.0


def _tail_coefficients(degree: int = 22) -> tuple[float, ...]:
    """Return the polynomial p in 2t - 1, t = POLE/(POLE + x), with erfc(x) = t p exp(-x²) to about 1e-14, x >= 0."""

    def smooth(s: Array) -> Array:
        t = (s + 1) / 2
        return np.asarray(special.erfcx(POLE * (1 - t) / t) / t)

    return tuple(float(c) for c in chebyshev.cheb2poly(chebyshev.chebinterpolate(smooth, degree)))


def _kernel() -> Callable[..., Any]:
    exp, log = kernels.exp, kernels.log
    density_at_0 = 1.0 / math.sqrt(2.0 * math.pi)
    tail = _polynomial(_tail_coefficients())

    @numba.njit(fastmath=True, error_model="numpy")
    def part(
        spot: Array, strike: Array, maturity: Array, volatility: Array,
        by_spot: Array, by_strike: Array, by_maturity: Array, by_volatility: Array,
    ) -> float:  # fmt: skip
        """Fill the gradients, and return the sum of the prices."""
        total = 0.0
        for i in range(len(spot)):
            root = math.sqrt(maturity[i])
            width = volatility[i] * root
            inverse, ratio = 1.0 / width, spot[i] / strike[i]
            d1 = (log(ratio) + (RATE + 0.5 * volatility[i] * volatility[i]) * maturity[i]) * inverse
            d2 = d1 - width
            discount, bell = exp(-RATE * maturity[i]), exp(-0.5 * d1 * d1)
            pole1, pole2 = POLE + abs(d1) * ROOT_HALF, POLE + abs(d2) * ROOT_HALF
            both = POLE / (pole1 * pole2)  # one division for two
            t1, t2 = both * pole2, both * pole1
            out1 = 0.5 * bell * t1 * tail(2.0 * t1 - 1.0)
            out2 = 0.5 * bell * ratio * t2 * tail(2.0 * t2 - 1.0)
            delta = 1.0 - out1 if d1 > 0.0 else out1
            discounted = discount - out2 if d2 > 0.0 else out2
            density = spot[i] * density_at_0 * bell
            total += spot[i] * delta - strike[i] * discounted
            by_spot[i] = delta
            by_strike[i] = -discounted
            by_maturity[i] = 0.5 * density * volatility[i] * volatility[i] * inverse + RATE * strike[i] * discounted
            by_volatility[i] = density * root
        return total

    @numba.njit(parallel=True)
    def run(
        spot: Array, strike: Array, maturity: Array, volatility: Array, threads: int
    ) -> tuple[float, Array, Array, Array, Array]:
        n = len(spot)
        by_spot, by_strike, by_maturity, by_volatility = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
        totals = np.zeros(threads)
        for t in numba.prange(threads):
            a, b = n * t // threads, n * (t + 1) // threads
            totals[t] = part(
                spot[a:b], strike[a:b], maturity[a:b], volatility[a:b],
                by_spot[a:b], by_strike[a:b], by_maturity[a:b], by_volatility[a:b],
            )  # fmt: skip
        return totals.sum(), by_spot, by_strike, by_maturity, by_volatility

    return run


def _polynomial(coefficients: tuple[float, ...]) -> Callable[[float], float]:
    """Return a polynomial with its coefficients as literals, which is what vectorises."""
    text = repr(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        text = f"({text}) * x + {coefficient!r}"
    compiled: Callable[[float], float] = numba.njit(fastmath=True, error_model="numpy")(eval(f"lambda x: {text}"))
    return compiled


WORKLOAD = Workload(
    name="black_scholes",
    what="sum of call prices, by spot, strike, maturity and volatility",
    cases=[Case("1,000,000", n=1_000_000)],
    tiny=Case("37", n=37),
    data=data,
    wrt=["spot", "strike", "maturity", "volatility"],
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
