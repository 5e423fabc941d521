"""Instance normalization: one mean and variance for each channel of each sample."""

import numpy as np

from minidl.reference.arrays import Array, check_shapes, common_precision, pixels
from minidl.reference.standardize import standardize, standardize_backward


def instance_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Normalise each channel of each sample over its pixels, in training and inference alike.

    y_nc = alpha_c · (x_nc − mu_nc) / sqrt(sigma²_nc + eps) + beta_c,  the statistics over P

    Parameters
    ----------
    x : array
        The batch.
    weight, bias : array
        alpha and beta, one value per channel. (PyTorch's InstanceNorm has none by default.)
    eps : float
        Added to the variance, inside the root.

    Raises
    ------
    ValueError
        If a shape is not one of these.

    Notes
    -----
    Shape: x, y : (N, C), (N, C, L) or (N, C, H, W);  weight, bias : (C,)

    On (N, C) the variance of the one value is zero and y is beta.

    >>> instance_norm(np.array([[[-1.0, 1.0]]]), weight=np.array([4.0]), bias=np.array([5.0]), eps=3.0)
    array([[[3., 7.]]])
    """
    x, weight, bias = common_precision(x, weight, bias)
    shape, x = x.shape, pixels("instance_norm", x)
    N, C, _ = x.shape
    check_shapes("instance_norm", weight=(weight, (C,)), bias=(bias, (C,)))
    y = np.empty_like(x)
    for n in range(N):
        for c in range(C):
            y[n, c] = weight[c] * standardize(x[n, c], eps) + bias[c]
    return y.reshape(shape)


def instance_norm_backward(dy: Array, x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> dict[str, Array]:
    """Return dx, dweight and dbias of :func:`instance_norm`.

    dalpha_c = sum_np dy · xhat,  dbeta_c = sum_np dy,  dx through `standardize_backward` of alpha_c · dy.
    """
    dy, x, weight, bias = common_precision(dy, x, weight, bias)
    check_shapes("instance_norm_backward", dy=(dy, x.shape))
    shape, x, dy = x.shape, pixels("instance_norm_backward", x), pixels("instance_norm_backward", dy)
    N, C, _ = x.shape
    check_shapes("instance_norm_backward", weight=(weight, (C,)), bias=(bias, (C,)))
    dx, dweight, dbias = np.empty_like(x), np.zeros_like(weight), np.zeros_like(bias)
    for n in range(N):
        for c in range(C):
            dweight[c] += (dy[n, c] * standardize(x[n, c], eps)).sum()
            dbias[c] += dy[n, c].sum()
            dx[n, c] = standardize_backward(dy[n, c] * weight[c], x[n, c], eps)
    return {"dx": dx.reshape(shape), "dweight": dweight, "dbias": dbias}
