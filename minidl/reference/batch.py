"""Batch normalization, equation (1): one mean and variance per channel, over the batch and the pixels."""

import numpy as np

from minidl.reference.arrays import Array, check_shapes, common_precision, pixels
from minidl.reference.standardize import standardize, standardize_backward


def batch_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Normalise each channel by the mean and (biased) variance of the batch.

    y_ncp = alpha_c · (x_ncp − mu_c) / sqrt(sigma²_c + eps) + beta_c,
    mu_c = mean_np x_ncp,  sigma²_c = mean_np (x_ncp − mu_c)²

    Parameters
    ----------
    x : array
        The batch.
    weight, bias : array
        alpha and beta of equation (1).
    eps : float
        Added to the variance, inside the root.

    Raises
    ------
    ValueError
        If a shape is not one of these.

    >>> batch_norm(np.array([[-1.0], [1.0]]), weight=np.array([4.0]), bias=np.array([5.0]), eps=3.0)
    array([[3.],
           [7.]])

    Notes
    -----
    Shape: x, y : (N, C), (N, C, L) or (N, C, H, W);  weight, bias : (C,)
    """
    x, weight, bias = common_precision(x, weight, bias)
    shape, x = x.shape, pixels("batch_norm", x)
    C = x.shape[1]
    check_shapes("batch_norm", weight=(weight, (C,)), bias=(bias, (C,)))
    y = np.empty_like(x)
    for c in range(C):
        y[:, c] = weight[c] * standardize(x[:, c], eps) + bias[c]
    return y.reshape(shape)


def batch_norm_backward(dy: Array, x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> dict[str, Array]:
    """Return dx, dweight and dbias of :func:`batch_norm`.

    dalpha_c = sum_np dy · xhat,  dbeta_c = sum_np dy,  dx through `standardize_backward` of alpha_c · dy.
    """
    dy, x, weight, bias = common_precision(dy, x, weight, bias)
    check_shapes("batch_norm_backward", dy=(dy, x.shape))
    shape, x, dy = x.shape, pixels("batch_norm_backward", x), pixels("batch_norm_backward", dy)
    C = x.shape[1]
    check_shapes("batch_norm_backward", weight=(weight, (C,)), bias=(bias, (C,)))
    dx, dweight, dbias = np.empty_like(x), np.empty_like(weight), np.empty_like(bias)
    for c in range(C):
        dweight[c] = (dy[:, c] * standardize(x[:, c], eps)).sum()
        dbias[c] = dy[:, c].sum()
        dx[:, c] = standardize_backward(dy[:, c] * weight[c], x[:, c], eps)
    return {"dx": dx.reshape(shape), "dweight": dweight, "dbias": dbias}


def batch_norm_eval(
    x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, eps: float = 1e-5
) -> Array:
    """Normalise each channel by running statistics, which are constants.

    y_ncp = alpha_c · (x_ncp − running_mean_c) / sqrt(running_var_c + eps) + beta_c

    Parameters
    ----------
    x, weight, bias, eps
        As in :func:`batch_norm`.
    running_mean, running_var : array
        What training stored, (C,).

    >>> one = np.ones(1)
    >>> batch_norm_eval(np.array([[7.0]]), 4 * one, 5 * one, running_mean=one, running_var=one, eps=3.0)
    array([[17.]])
    """
    x, weight, bias, running_mean, running_var = common_precision(x, weight, bias, running_mean, running_var)
    shape, x = x.shape, pixels("batch_norm_eval", x)
    C = x.shape[1]
    check_shapes("batch_norm_eval", weight=(weight, (C,)), bias=(bias, (C,)))
    check_shapes("batch_norm_eval", running_mean=(running_mean, (C,)), running_var=(running_var, (C,)))
    y = np.empty_like(x)
    for c in range(C):
        y[:, c] = weight[c] * (x[:, c] - running_mean[c]) / np.sqrt(running_var[c] + eps) + bias[c]
    return y.reshape(shape)


def batch_norm_eval_backward(
    dy: Array, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, eps: float = 1e-5
) -> dict[str, Array]:
    """Return dx, dweight and dbias of :func:`batch_norm_eval`: with constant statistics, dx = dy · alpha / s."""
    dy, x, weight, bias, running_mean, running_var = common_precision(dy, x, weight, bias, running_mean, running_var)
    where = "batch_norm_eval_backward"
    check_shapes(where, dy=(dy, x.shape))
    shape, x, dy = x.shape, pixels(where, x), pixels(where, dy)
    C = x.shape[1]
    check_shapes(where, weight=(weight, (C,)), bias=(bias, (C,)))
    check_shapes(where, running_mean=(running_mean, (C,)), running_var=(running_var, (C,)))
    dx, dweight, dbias = np.empty_like(x), np.empty_like(weight), np.empty_like(bias)
    for c in range(C):
        s = np.sqrt(running_var[c] + eps)
        dweight[c] = (dy[:, c] * (x[:, c] - running_mean[c]) / s).sum()
        dbias[c] = dy[:, c].sum()
        dx[:, c] = dy[:, c] * weight[c] / s
    return {"dx": dx.reshape(shape), "dweight": dweight, "dbias": dbias}


def batch_norm_running(
    x: Array, running_mean: Array, running_var: Array, momentum: float, running: str = "unbiased"
) -> tuple[Array, Array]:
    """Blend the batch's mean and variance into the running ones.

    running ← momentum · batch + (1 − momentum) · running

    Parameters
    ----------
    x : array
        The batch; M = N·P is the number of its values per channel.
    running_mean, running_var : array
        The values before this batch, (C,).
    momentum : float
        The weight of the new batch.
    running : {"unbiased", "biased"}
        Whether the stored variance divides by M − 1 (PyTorch's convention) or by M.

    Raises
    ------
    ValueError
        If `running` is another word, or "unbiased" meets a single value per channel.

    >>> batch_norm_running(np.array([[-1.0], [1.0]]), np.zeros(1), np.ones(1), momentum=0.5)
    (array([0.]), array([1.5]))
    """
    x, running_mean, running_var = common_precision(x, running_mean, running_var)
    x = pixels("batch_norm_running", x)
    N, C, P = x.shape
    check_shapes("batch_norm_running", running_mean=(running_mean, (C,)), running_var=(running_var, (C,)))
    if running not in ("unbiased", "biased"):
        raise ValueError(
            f'batch_norm_running: running must be "unbiased" or "biased", got {running!r}; '
            "for the second moment call batch_norm_running_moments"
        )
    divisor = N * P - 1 if running == "unbiased" else N * P
    if divisor == 0:
        raise ValueError(
            'batch_norm_running: x must have more than one value per channel for running="unbiased", '
            f'got {N} × {P}; use a larger batch or running="biased"'
        )
    new_mean, new_var = np.empty_like(running_mean), np.empty_like(running_var)
    for c in range(C):
        mu = x[:, c].mean()
        var = ((x[:, c] - mu) ** 2).sum() / divisor
        new_mean[c] = momentum * mu + (1 - momentum) * running_mean[c]
        new_var[c] = momentum * var + (1 - momentum) * running_var[c]
    return new_mean, new_var


def batch_norm_running_moments(
    x: Array, running_mean: Array, running_mean_square: Array, momentum: float
) -> tuple[Array, Array]:
    """Blend the batch's two moments into the running ones, as equation (4) does for each mode of MN.

    <x> ← momentum · mean x + (1 − momentum) · <x>,  <x²> ← momentum · mean x² + (1 − momentum) · <x²>

    Parameters
    ----------
    x : array
        The batch.
    running_mean, running_mean_square : array
        The values before this batch, (C,).
    momentum : float
        The weight of the new batch.

    >>> batch_norm_running_moments(np.array([[0.0], [2.0]]), np.zeros(1), np.ones(1), momentum=0.5)
    (array([0.5]), array([1.5]))
    """
    x, running_mean, running_mean_square = common_precision(x, running_mean, running_mean_square)
    x = pixels("batch_norm_running_moments", x)
    C = x.shape[1]
    check_shapes("batch_norm_running_moments", running_mean=(running_mean, (C,)))
    check_shapes("batch_norm_running_moments", running_mean_square=(running_mean_square, (C,)))
    new_mean, new_mean_square = np.empty_like(running_mean), np.empty_like(running_mean_square)
    for c in range(C):
        new_mean[c] = momentum * x[:, c].mean() + (1 - momentum) * running_mean[c]
        new_mean_square[c] = momentum * (x[:, c] ** 2).mean() + (1 - momentum) * running_mean_square[c]
    return new_mean, new_mean_square
