import numpy as np


def _logsumexp(x, axis=None, keepdims=False):
    """Return the logarithm of the sum of exponentials, without overflow."""
    top = np.max(x, axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    total = np.log(np.sum(np.exp(x - top), axis, keepdims=True)) + top
    return total if keepdims else np.squeeze(total, axis)


def softmax_regression(X, Y, W, b):
    """Return (float64[], float64[d,k], float64[k]).

    Args:
        X: float64[n,d]
        Y: float64[n,k]
        W: float64[d,k]
        b: float64[k]
    """
    X = np.asarray(X, np.float64)
    Y = np.asarray(Y, np.float64)
    W = np.asarray(W, np.float64)
    b = np.asarray(b, np.float64)
    n = X.shape[0]
    t1 = X @ W + b
    t2 = t1 - _logsumexp(t1, axis=1, keepdims=True)
    t3 = np.float64(-1.0)/n*Y
    t4 = t3 + np.sum(-t3, axis=1, keepdims=True)*np.exp(t2)
    return (np.mean(-np.sum(Y*t2, axis=1)), X.T @ t4, np.sum(t4, axis=0))
