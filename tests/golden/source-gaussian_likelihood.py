import numpy as np


def gaussian_likelihood(x, mu, sigma):
    """Return (float64[], float64[], float64[]).

    Args:
        x: float64[n]
        mu: float64[]
        sigma: float64[]
    """
    x = np.asarray(x, np.float64)
    mu = np.asarray(mu, np.float64)
    sigma = np.asarray(sigma, np.float64)
    n = x.shape[0]
    t1 = (x - mu)/sigma
    t2 = -0.5*(2.0*t1)/sigma
    return (
        np.sum(-0.5*t1**2.0 - np.log(sigma) - 0.9189385332046727),
        np.sum(-t2),
        np.sum(np.full((n,), -1.0, np.float64))/sigma + np.sum(-t2*t1),
    )
