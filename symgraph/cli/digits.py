"""Two classifiers of handwritten digits, declared once for both engines, and how they are trained.

The data are the 1,797 images of 8×8 pixels that scikit-learn carries (E. Alpaydin, C. Kaynak, Optical Recognition of
Handwritten Digits, UCI Machine Learning Repository, 1998).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np

import symgraph as sg
from symgraph.comparison import Step
from symgraph.expr import Expr

Array = np.ndarray[Any, Any]
BATCH = 128
_TEST = 360
_SEED = 0
_DECAY = 1e-4


class Digits(NamedTuple):
    """Images as rows of 64 numbers in [0, 1], and labels as rows with a one in the digit's place, in two parts."""

    images: Array
    labels: Array
    test_images: Array
    test_labels: Array


def load_digits() -> Digits:
    """Return the data in a fixed split: 1,437 images to train with and 360 to test.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    from sklearn.datasets import load_digits as load

    images, labels = load(return_X_y=True)
    order = np.random.default_rng(_SEED).permutation(len(labels))
    images, ones = images[order] / 16.0, np.eye(10)[labels[order]]
    return Digits(images[_TEST:], ones[_TEST:], images[:_TEST], ones[:_TEST])


class Classifier(NamedTuple):
    """A classifier made of layers; without hidden units it is softmax regression.

    Attributes:
        name: What it is called in files.
        meaning: One line for people.
        units: How many numbers stand before the first layer, between layers, and after the last.
        rate, epochs: How it is trained.
    """

    name: str
    meaning: str
    units: tuple[int, ...]
    rate: float
    epochs: int

    def initial_parameters(self) -> dict[str, Array]:
        """Return random weights whose outputs have the variance of their inputs, and zero biases."""
        rng = np.random.default_rng(_SEED)
        found: dict[str, Array] = {}
        for i, (before, after) in enumerate(zip(self.units, self.units[1:], strict=False), start=1):
            number = str(i) if len(self.units) > 2 else ""
            found[f"W{number}"] = rng.standard_normal((before, after)) * np.sqrt(1 / before)
            found[f"b{number}"] = np.zeros(after)
        return found

    def logits(self, tanh: Callable[[Any], Any], X: Any, *parameters: Any) -> Any:
        """Return one score per class; written once, for nodes and for tensors of any library."""
        for W, b in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            X = tanh(X @ W + b)
        return X @ parameters[-2] + parameters[-1]

    def loss(self, X: Any, Y: Any, *parameters: Any) -> Any:
        """Return the mean cross-entropy and a small penalty on the weights, for either engine of symgraph."""
        penalty = reduce(add, [sg.sum(W**2) for W in parameters[::2]])
        return sg.mean(sg.softmax_cross_entropy(self.logits(sg.tanh, X, *parameters), Y)) + _DECAY * penalty

    def torch_loss(self, X: Any, Y: Any, *parameters: Any) -> Any:
        """Return the same loss by PyTorch; only where it is installed."""
        import torch

        penalty = reduce(add, [(W**2).sum() for W in parameters[::2]])
        return torch.nn.functional.cross_entropy(self.logits(torch.tanh, X, *parameters), Y) + _DECAY * penalty


CLASSIFIERS = (
    Classifier("softmax", "softmax regression, 64 → 10", (64, 10), 0.02, 40),
    Classifier("network", "one hidden layer, 64 → 64 → 10", (64, 64, 10), 0.003, 60),
)


class Declared(NamedTuple):
    """A classifier as a static graph, with its derivatives and its train operation."""

    graph: sg.Graph
    X: Expr
    Y: Expr
    parameters: dict[str, Expr]
    loss: Expr
    gradients: dict[str, Expr]
    train: Any
    accuracy: Expr


def declare(classifier: Classifier) -> Declared:
    """Return the classifier declared in a graph of its own and differentiated."""
    with sg.Graph() as graph:
        X = sg.placeholder("X", ("n", classifier.units[0]))
        Y = sg.placeholder("Y", ("n", classifier.units[-1]))
        parameters = {name: sg.variable(value, name=name) for name, value in classifier.initial_parameters().items()}
        loss = classifier.loss(X, Y, *parameters.values())
        found = sg.gradients(loss, list(parameters.values()))
        scores = classifier.logits(sg.tanh, X, *parameters.values())
        hits = sg.equal(sg.argmax(scores, axis=1), sg.argmax(Y, axis=1))
        accuracy = sg.mean(hits.astype("float64"))
        train = sg.train.Adam(classifier.rate).minimize(loss)
    gradients = {f"d{name}": node for name, node in zip(parameters, found, strict=True)}
    return Declared(graph, X, Y, parameters, loss, gradients, train, accuracy)


def batches(data: Digits, epochs: int) -> Iterator[tuple[int, Array, Array]]:
    """Yield the epoch's number, images and labels of one batch after another, in a fixed random order."""
    rng = np.random.default_rng(_SEED)
    for epoch in range(epochs):
        order = rng.permutation(len(data.labels))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            yield epoch, data.images[chosen], data.labels[chosen]


def fit(
    declared: Declared, session: sg.Session, data: Digits, epochs: int, show: Callable[[int, float], None]
) -> list[float]:
    """Train, and return the loss of each step.

    Args:
        declared: What to train.
        session: Where its parameters live.
        data: What to train with.
        epochs: How many times all data are used.
        show: Called after each step with the epoch and the loss.
    """
    step = session.make_callable([declared.loss, declared.train], [declared.X, declared.Y])
    losses = []
    for epoch, X, Y in batches(data, epochs):
        loss, _ = step(X, Y)
        losses.append(float(loss))
        show(epoch, losses[-1])
    return losses


def torch_step(classifier: Classifier, images: Array, labels: Array, parameters: Sequence[Array]) -> Step:
    """Return a call that computes loss and gradients by PyTorch; only where it is installed."""
    import torch

    X, Y = torch.from_numpy(images), torch.from_numpy(labels)
    leaves = [torch.from_numpy(p.copy()).requires_grad_() for p in parameters]

    def step() -> tuple[Any, list[Any]]:
        loss = classifier.torch_loss(X, Y, *leaves)
        return loss.detach().numpy(), [g.numpy() for g in torch.autograd.grad(loss, leaves)]

    return step
