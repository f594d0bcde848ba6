"""PyTorch's ``torch.nn.functional``: layers and losses as functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.eager import creation
from symgraph.eager.functions import ELEMENTWISE, add, as_tensor, clone, log_softmax, matmul, mean, mul, softmax, sub, t
from symgraph.eager.functions import sum as total
from symgraph.eager.tensor import Tensor, named, wrap
from symgraph.errors import EagerError
from symgraph.op import FUNCTIONS

relu, sigmoid = ELEMENTWISE["relu"], ELEMENTWISE["sigmoid"]
tanh = ELEMENTWISE["tanh"]


def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """Return ``input @ weight.T + bias``; weight has one row per output."""
    product = matmul(input, t(weight))
    if bias is None:
        return product
    return named(add(product, bias), "AddmmBackward0" if product.ndim == 2 else "ViewBackward0")


def softplus(input: Any) -> Any:
    """Return ``log(1 + exp(x))`` without overflow."""
    return FUNCTIONS["softplus"](as_tensor(input))


def silu(input: Any) -> Any:
    """Return ``x * sigmoid(x)``."""
    return FUNCTIONS["silu"](as_tensor(input))


def gelu(input: Any, approximate: str = "none") -> Any:
    """Return ``x * Φ(x)``, Φ the distribution function of the standard normal.

    Raises:
        EagerError: an approximation is asked for.
    """
    if approximate != "none":
        raise EagerError("gelu: only approximate='none' is there")
    return FUNCTIONS["gelu"](as_tensor(input))


def elu(input: Any, alpha: float = 1.0) -> Any:
    """Return x where it is positive, else ``alpha * (exp(x) - 1)``."""
    return FUNCTIONS["elu"](as_tensor(input), alpha)


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Any:
    """Return x where it is positive, else ``negative_slope * x``."""
    return FUNCTIONS["leaky_relu"](as_tensor(input), negative_slope)


def dropout(input: Any, p: float = 0.5, training: bool = True) -> Any:
    """Return x with random elements zero and the others divided by ``1 - p``, while training."""
    if not training or p == 0:
        return input
    kept = creation.rand_like(input) >= p
    return mul(input, kept.astype(input.dtype) / (1 - p))


def one_hot(input: Any, num_classes: int = -1) -> Any:
    """Return integers as rows that are one at their index, zero elsewhere."""
    labels = as_tensor(input)._array
    count = int(labels.max()) + 1 if num_classes == -1 else num_classes
    return wrap((labels[..., None] == np.arange(count)).astype(np.int64))


def _reduced(losses: Any, reduction: str, name: str) -> Any:
    if reduction == "none":
        return named(losses, name)
    if reduction not in ("mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return named(mean(losses) if reduction == "mean" else total(losses), name)


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Return the mean of the squared differences (or their sum, or each of them)."""
    difference = sub(input, target)
    return _reduced(mul(difference, difference), reduction, "MseLossBackward0")


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Return the mean of the absolute differences."""
    return _reduced(
        ELEMENTWISE["abs"](sub(input, target)), reduction, "MeanBackward0" if reduction == "mean" else "SumBackward0"
    )


def nll_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Return the mean of minus the log-probabilities of the target classes: one row, or one class, an example."""
    scores, labels = as_tensor(input), as_tensor(target)
    if scores.ndim == 1:
        scores, labels = FUNCTIONS["expand_dims"](scores, 0), FUNCTIONS["expand_dims"](labels, 0)
    if scores.ndim != 2 or labels.ndim != 1:
        raise EagerError(
            f"nll_loss: shapes {scores.shape} and {labels.shape} are not (examples, classes) and (examples,)"
        )
    classes = scores.shape[1]
    if labels._array.size and not 0 <= int(labels._array.min()) <= int(labels._array.max()) < classes:
        raise IndexError("Target is out of bounds.")
    chosen = scores[creation.arange(scores.shape[0]), labels]
    return _reduced(-chosen, reduction, "NllLossBackward0")


def cross_entropy(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Return the mean cross entropy of scores against classes (integers) or probabilities (of the scores' shape)."""
    scores, labels = as_tensor(input), as_tensor(target)
    logarithms = log_softmax(scores, -1)
    if labels.dtype.kind != "f":
        return nll_loss(logarithms, labels, reduction)
    losses = -total(mul(labels, logarithms), -1)
    return _reduced(losses, reduction, "DivBackward1")


def binary_cross_entropy_with_logits(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Return the mean cross entropy of logits against probabilities of 0 to 1, without overflow."""
    logits = as_tensor(input)
    losses = sub(FUNCTIONS["softplus"](logits), mul(target, logits))
    return _reduced(losses, reduction, "BinaryCrossEntropyWithLogitsBackward0")


def binary_cross_entropy(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Return the mean cross entropy of probabilities against probabilities; logarithms end at -100, as in PyTorch."""
    probability, wanted = as_tensor(input), as_tensor(target)
    log = ELEMENTWISE["log"]
    hit = FUNCTIONS["clip"](log(probability), -100.0, None)
    miss = FUNCTIONS["clip"](log(1 - probability), -100.0, None)
    return _reduced(-(wanted * hit + (1 - wanted) * miss), reduction, "BinaryCrossEntropyBackward0")


__all__ = [
    "Tensor",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "clone",
    "cross_entropy",
    "dropout",
    "elu",
    "gelu",
    "l1_loss",
    "leaky_relu",
    "linear",
    "log_softmax",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]
