"""Zero mean and unit variance over one set of numbers: BN, IN, LN and GN differ only in the set."""

import numpy as np

from minidl.reference.arrays import Array


def standardize(v: Array, eps: float) -> Array:
    """Subtract the mean of v and divide by its standard deviation.

    mu = mean v,  sigma² = mean (v − mu)²,  vhat = (v − mu) / sqrt(sigma² + eps)

    Parameters
    ----------
    v : array
        The set, as an array of any shape; M is its size.
    eps : float
        Added to the variance, inside the root.

    >>> standardize(np.array([-1.0, 1.0]), eps=3.0)
    array([-0.5,  0.5])
    """
    mu = v.mean()
    sigma = np.sqrt(((v - mu) ** 2).mean() + eps)
    vhat: Array = (v - mu) / sigma
    return vhat


def standardize_backward(dvhat: Array, v: Array, eps: float) -> Array:
    """Carry the gradient of the standardized values back to v.

    With s = sqrt(sigma² + eps):

    dsigma² = sum dvhat · (v − mu) · (−1/2) s⁻³
    dmu     = −sum dvhat / s          (sigma² depends on mu too, but its slope −2·mean(v − mu) is zero)
    dv      = dvhat / s + dsigma² · 2 (v − mu) / M + dmu / M

    >>> standardize_backward(np.array([1.0, 0.0]), np.array([-1.0, 1.0]), eps=3.0)
    array([ 0.1875, -0.1875])
    """
    M = v.size
    mu = v.mean()
    s = np.sqrt(((v - mu) ** 2).mean() + eps)
    dvar = (dvhat * (v - mu)).sum() * (-1 / 2) / s**3
    dmu = -dvhat.sum() / s
    dv: Array = dvhat / s + dvar * 2 * (v - mu) / M + dmu / M
    return dv
