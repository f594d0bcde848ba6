"""Nonlinear regression with SciPy: residuals and their exact Jacobian from one formula.

The data are Misra1a of the NIST Statistical Reference Datasets (D. Misra, Dental Research Monomolecular Adsorption
Study, 1978): volume y against pressure x. The certified parameters are b1 = 238.94212918 and b2 = 0.00055015643181.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares

import symgraph as sg

PRESSURE = [77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0]
VOLUME = [10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78]


def main() -> np.ndarray:
    with sg.Graph():
        x, y = sg.placeholder("x", ("n",)), sg.placeholder("y", ("n",))
        b = sg.placeholder("b", (2,))
        b1, b2 = (sg.broadcast_to(b[i], x.shape) for i in range(2))
        residual = b1 * (1 - sg.exp(-b2 * x)) - y
    # Each residual depends on its own entry of b1 and b2 only, so the gradients of their sum are the columns.
    jacobian = sg.stack(sg.gradients(residual, [b1, b2]), axis=1)
    residuals = sg.function([b, x, y], residual)
    jacobians = sg.function([b, x, y], jacobian)

    data = np.array(PRESSURE), np.array(VOLUME)
    fit = least_squares(residuals, [500.0, 0.0001], jacobians, args=data, method="lm", x_scale="jac", xtol=1e-15)
    covariance = np.linalg.inv(fit.jac.T @ fit.jac) * 2 * fit.cost / (len(VOLUME) - 2)
    for i, (value, deviation) in enumerate(zip(fit.x, np.sqrt(np.diag(covariance)), strict=True), start=1):
        print(f"b{i} = {value:.10g} ± {deviation:.3g}")
    return fit.x


if __name__ == "__main__":
    main()
