"""Named models on made-up data, each written once for symgraph's two engines, PyTorch and JAX.

A model is a function of a library and its arrays; the library gives NumPy's names, and the few functions of
machine learning that NumPy has not.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from symgraph.comparison import Step
from symgraph.op import FUNCTIONS

Array = np.ndarray[Any, Any]


class Model(NamedTuple):
    """A named model.

    Attributes:
        meaning: One line for people.
        loss: ``(library, **arrays) -> one number``.
        data: Makes the arrays; the parameters come first.
        parameters: How many of the arrays are parameters: gradients are taken by these.
    """

    meaning: str
    loss: Callable[..., Any]
    data: Callable[[np.random.Generator], dict[str, Array]]
    parameters: int


def _rosenbrock(lib: Any, x: Any) -> Any:
    return lib.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def _logistic(lib: Any, w: Any, X: Any, y: Any) -> Any:
    z = X @ w
    return lib.mean(lib.softplus(z) - y * z)


def _softmax(lib: Any, W: Any, b: Any, X: Any, Y: Any) -> Any:
    z = X @ W + b
    return lib.mean(lib.logsumexp(z, 1) - lib.sum(z * Y, 1))


def _mlp(lib: Any, W1: Any, b1: Any, W2: Any, b2: Any, X: Any, Y: Any) -> Any:
    z = lib.relu(X @ W1 + b1) @ W2 + b2
    return lib.mean(lib.logsumexp(z, 1) - lib.sum(z * Y, 1))


def _gmm(lib: Any, alpha: Any, mu: Any, log_width: Any, X: Any) -> Any:
    """Give minus the mean log-likelihood of a mixture of normal distributions with axis-parallel widths.

    C. M. Bishop, Pattern Recognition and Machine Learning (2006), equation 9.14, without its constant.
    """
    distance = (X[:, None, :] - mu[None, :, :]) / lib.exp(log_width)[None, :, :]
    scores = alpha - lib.sum(log_width, 1) - 0.5 * lib.sum(distance**2, 2)
    return lib.logsumexp(alpha, 0) - lib.mean(lib.logsumexp(scores, 1))


def _one_hot(rng: np.random.Generator, n: int, classes: int) -> Array:
    return np.eye(classes)[rng.integers(0, classes, n)]


def _logistic_data(rng: np.random.Generator) -> dict[str, Array]:
    X = rng.standard_normal((20_000, 50))
    return {"w": rng.standard_normal(50) / 10, "X": X, "y": (X @ rng.standard_normal(50) > 0).astype(float)}


def _softmax_data(rng: np.random.Generator) -> dict[str, Array]:
    return {
        "W": rng.standard_normal((64, 10)) / 10,
        "b": np.zeros(10),
        "X": rng.standard_normal((10_000, 64)),
        "Y": _one_hot(rng, 10_000, 10),
    }


def _mlp_data(rng: np.random.Generator) -> dict[str, Array]:
    return {
        "W1": rng.standard_normal((64, 128)) / 8,
        "b1": np.zeros(128),
        "W2": rng.standard_normal((128, 10)) / 11,
        "b2": np.zeros(10),
        "X": rng.standard_normal((256, 64)),
        "Y": _one_hot(rng, 256, 10),
    }


def _gmm_data(rng: np.random.Generator) -> dict[str, Array]:
    return {
        "alpha": rng.standard_normal(8),
        "mu": rng.standard_normal((8, 5)),
        "log_width": rng.standard_normal((8, 5)) / 10,
        "X": rng.standard_normal((2_000, 5)),
    }


MODELS: Mapping[str, Model] = {
    "rosenbrock": Model(
        "Rosenbrock's valley, 1,000 variables", _rosenbrock, lambda rng: {"x": rng.standard_normal(1_000)}, 1
    ),
    "logistic": Model("logistic regression, 20,000 examples, 50 features", _logistic, _logistic_data, 1),
    "softmax": Model("softmax regression, 10,000 examples, 64 features, 10 classes", _softmax, _softmax_data, 2),
    "mlp": Model("a network of 64, 128 and 10 units, a batch of 256", _mlp, _mlp_data, 4),
    "gmm": Model("a mixture of 8 normal distributions, 2,000 points in 5 dimensions", _gmm, _gmm_data, 3),
}


def symgraph_library() -> Any:
    """Return symgraph's functions, which serve both of its engines."""
    return SimpleNamespace(**FUNCTIONS)


def torch_step(model: Model, arrays: Mapping[str, Array]) -> Step:
    """Return a call that computes value and gradients by PyTorch; only where it is installed."""
    import torch

    lib = SimpleNamespace(
        exp=torch.exp, mean=torch.mean, sum=torch.sum, logsumexp=torch.logsumexp, relu=torch.relu,
        softplus=torch.nn.functional.softplus,
    )  # fmt: skip
    tensors = {name: torch.from_numpy(a.copy()) for name, a in arrays.items()}
    leaves = [tensor.requires_grad_() for tensor in list(tensors.values())[: model.parameters]]

    def step() -> tuple[Any, list[Any]]:
        value = model.loss(lib, **tensors)
        return value.detach().numpy(), [g.numpy() for g in torch.autograd.grad(value, leaves)]

    return step


def jax_step(model: Model, arrays: Mapping[str, Array]) -> Step:
    """Return a call that computes value and gradients by a jitted function of JAX; only where it is installed."""
    import jax
    import jax.numpy as jnp

    lib = SimpleNamespace(
        exp=jnp.exp, mean=jnp.mean, sum=jnp.sum, logsumexp=jax.scipy.special.logsumexp, relu=jax.nn.relu,
        softplus=jax.nn.softplus,
    )  # fmt: skip
    names = list(arrays)

    def loss(*values: Any) -> Any:
        return model.loss(lib, **dict(zip(names, values, strict=True)))

    with jax.enable_x64(True):
        device = [jnp.asarray(a) for a in arrays.values()]
    compiled = jax.jit(jax.value_and_grad(loss, argnums=tuple(range(model.parameters))))

    def step() -> tuple[Any, list[Any]]:
        with jax.enable_x64(True):
            value, found = compiled(*device)
        return np.asarray(value), [np.asarray(g) for g in found]

    return step


def peer_steps(model: Model, arrays: Mapping[str, Array]) -> dict[str, Step]:
    """Return the other libraries' calls, for those that are installed."""
    makers = {"PyTorch": ("torch", torch_step), "JAX, jitted": ("jax", jax_step)}
    return {
        name: make(model, arrays)
        for name, (package, make) in makers.items()
        if importlib.util.find_spec(package) is not None
    }
