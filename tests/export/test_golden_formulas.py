"""Formulas and modules that people read, kept in golden files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import symgraph as sg

Declared = dict[str, sg.Expr]


def least_squares() -> Declared:
    with sg.Graph():
        X, w, y = sg.placeholder("X", ("n", "d")), sg.placeholder("w", ("d",)), sg.placeholder("y", ("n",))
    loss = sg.mean((X @ w - y) ** 2)
    return {"loss": loss, "gradient": sg.grad(loss, w)}


def logistic_regression() -> Declared:
    with sg.Graph():
        X, w, y = sg.placeholder("X", ("n", "d")), sg.placeholder("w", ("d",)), sg.placeholder("y", ("n",))
    z = X @ w
    loss = sg.mean(sg.softplus(z) - y * z)
    return {"loss": loss, "gradient": sg.grad(loss, w)}


def softmax_regression() -> Declared:
    with sg.Graph():
        X, Y = sg.placeholder("X", ("n", "d")), sg.placeholder("Y", ("n", "k"))
        W, b = sg.placeholder("W", ("d", "k")), sg.placeholder("b", ("k",))
    loss = sg.mean(-sg.sum(Y * sg.log_softmax(X @ W + b, axis=1), axis=1))
    dW, db = sg.gradients(loss, [W, b])
    return {"loss": loss, "gradient_W": dW, "gradient_b": db}


def gaussian_likelihood() -> Declared:
    with sg.Graph():
        x, mu, sigma = sg.placeholder("x", ("n",)), sg.placeholder("mu"), sg.placeholder("sigma")
    likelihood = sg.sum(-0.5 * ((x - mu) / sigma) ** 2 - sg.log(sigma) - 0.5 * np.log(2 * np.pi))
    dmu, dsigma = sg.gradients(likelihood, [mu, sigma])
    return {"likelihood": likelihood, "by_mu": dmu, "by_sigma": dsigma}


MODELS = [least_squares, logistic_regression, softmax_regression, gaussian_likelihood]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_latex(model: Callable[[], Declared], golden: Callable[..., None]) -> None:
    golden(sg.to_latex(model()), "tex")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_text(model: Callable[[], Declared], golden: Callable[..., None]) -> None:
    golden(sg.to_text(model()), "txt")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_source(model: Callable[[], Declared], golden: Callable[..., None]) -> None:
    golden(sg.to_source(list(model().values()), name=model.__name__), "py")
