"""Least squares from the formula to the answer: the gradient to read, the source to keep, the fit to run."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

import symgraph as sg


def main() -> np.ndarray:
    with sg.Graph():
        X, y = sg.placeholder("X", ("n", "d")), sg.placeholder("y", ("n",))
        w = sg.placeholder("w", ("d",))
        loss = sg.mean((X @ w - y) ** 2)
    (dw,) = sg.gradients(loss, [w])

    print("The gradient in LaTeX:", sg.to_latex(dw))
    print("A module that needs NumPy only:\n")
    print(sg.to_source([loss, dw], name="least_squares"))

    value_and_gradient = sg.function([w, X, y], [loss, dw])
    rng = np.random.default_rng(0)
    features, true_weights = rng.standard_normal((1000, 3)), np.array([1.5, -2.0, 0.5])
    observed = features @ true_weights + 0.1 * rng.standard_normal(1000)
    fit = minimize(value_and_gradient, np.zeros(3), args=(features, observed), jac=True)

    print("Fitted by SciPy's BFGS:", fit.x.round(3), "in", fit.nit, "iterations")
    return fit.x


if __name__ == "__main__":
    main()
