import numpy as np
from scipy import special


def logistic_regression(X, w, y):
    """Return (float64[], float64[d]).

    Args:
        X: float64[n,d]
        w: float64[d]
        y: float64[n]
    """
    X = np.asarray(X, np.float64)
    w = np.asarray(w, np.float64)
    y = np.asarray(y, np.float64)
    n = X.shape[0]
    t1 = X @ w
    return (
        np.mean(np.logaddexp(t1, 0) - y*t1),
        X.T @ (np.float64(-1.0)/n*y + np.float64(1.0)/n*special.expit(t1)),
    )
