"""Layer normalization: one mean and variance per sample, over all its channels and pixels."""

import numpy as np

from minidl.reference.arrays import Array, check_shapes, common_precision, pixels
from minidl.reference.standardize import standardize, standardize_backward


def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Normalise each sample over its channels and pixels, in training and inference alike.

    y_nc = alpha_c · (x_nc − mu_n) / sqrt(sigma²_n + eps) + beta_c,  the statistics over C and P

    Parameters
    ----------
    x : array
        The batch.
    weight, bias : array
        alpha and beta, one value per channel. (PyTorch's LayerNorm has one a feature: channel and pixel.)
    eps : float
        Added to the variance, inside the root.

    Raises
    ------
    ValueError
        If a shape is not one of these.

    >>> layer_norm(np.array([[-1.0, 1.0]]), weight=np.array([4.0, 2.0]), bias=np.array([5.0, 6.0]), eps=3.0)
    array([[3., 7.]])

    Notes
    -----
    Shape: x, y : (N, C), (N, C, L) or (N, C, H, W);  weight, bias : (C,)
    """
    x, weight, bias = common_precision(x, weight, bias)
    shape, x = x.shape, pixels("layer_norm", x)
    N, C, _ = x.shape
    check_shapes("layer_norm", weight=(weight, (C,)), bias=(bias, (C,)))
    y = np.empty_like(x)
    for n in range(N):
        y[n] = weight[:, None] * standardize(x[n], eps) + bias[:, None]
    return y.reshape(shape)


def layer_norm_backward(dy: Array, x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> dict[str, Array]:
    """Return dx, dweight and dbias of :func:`layer_norm`.

    dalpha_c = sum_np dy · xhat,  dbeta_c = sum_np dy,  dx through `standardize_backward` of alpha_c · dy.
    """
    dy, x, weight, bias = common_precision(dy, x, weight, bias)
    check_shapes("layer_norm_backward", dy=(dy, x.shape))
    shape, x, dy = x.shape, pixels("layer_norm_backward", x), pixels("layer_norm_backward", dy)
    N, C, _ = x.shape
    check_shapes("layer_norm_backward", weight=(weight, (C,)), bias=(bias, (C,)))
    dx, dweight, dbias = np.empty_like(x), np.zeros_like(weight), np.zeros_like(bias)
    for n in range(N):
        dweight += (dy[n] * standardize(x[n], eps)).sum(axis=-1)
        dbias += dy[n].sum(axis=-1)
        dx[n] = standardize_backward(dy[n] * weight[:, None], x[n], eps)
    return {"dx": dx.reshape(shape), "dweight": dweight, "dbias": dbias}
