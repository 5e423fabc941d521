"""Group normalization (section 3.1): one mean and variance for each group of channels of each sample."""

import numpy as np

from minidl.reference.arrays import Array, check_shapes, common_precision, pixels
from minidl.reference.standardize import standardize, standardize_backward


def group_norm(x: Array, num_groups: int, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Normalise each group of C / G consecutive channels of each sample, in training and inference alike.

    y_nc = alpha_c · (x_nc − mu_nj) / sqrt(sigma²_nj + eps) + beta_c  for c in group G_j,
    the statistics over the channels of G_j and their pixels

    Parameters
    ----------
    x : array
        The batch.
    num_groups : int
        G, a divisor of C.
    weight, bias : array
        alpha and beta, one value per channel.
    eps : float
        Added to the variance, inside the root.

    Raises
    ------
    ValueError
        If a shape is not one of these, or G does not divide C.

    >>> group_norm(np.array([[-1.0, 1.0, 5.0, 9.0]]), 2, np.full(4, 2.0), np.ones(4), eps=0.0)
    array([[-1.,  3., -1.,  3.]])

    Notes
    -----
    Shape: x, y : (N, C), (N, C, L) or (N, C, H, W);  weight, bias : (C,)
    """
    x, weight, bias = common_precision(x, weight, bias)
    shape, x = x.shape, pixels("group_norm", x)
    N, C, _ = x.shape
    check_shapes("group_norm", weight=(weight, (C,)), bias=(bias, (C,)))
    y = np.empty_like(x)
    for n in range(N):
        for group in _groups("group_norm", num_groups, C):
            y[n, group] = weight[group, None] * standardize(x[n, group], eps) + bias[group, None]
    return y.reshape(shape)


def group_norm_backward(
    dy: Array, x: Array, num_groups: int, weight: Array, bias: Array, eps: float = 1e-5
) -> dict[str, Array]:
    """Return dx, dweight and dbias of :func:`group_norm`.

    dalpha_c = sum_np dy · xhat,  dbeta_c = sum_np dy,  dx through `standardize_backward` of alpha_c · dy.
    """
    dy, x, weight, bias = common_precision(dy, x, weight, bias)
    check_shapes("group_norm_backward", dy=(dy, x.shape))
    shape, x, dy = x.shape, pixels("group_norm_backward", x), pixels("group_norm_backward", dy)
    N, C, _ = x.shape
    check_shapes("group_norm_backward", weight=(weight, (C,)), bias=(bias, (C,)))
    dx, dweight, dbias = np.empty_like(x), np.zeros_like(weight), np.zeros_like(bias)
    for n in range(N):
        for group in _groups("group_norm_backward", num_groups, C):
            dweight[group] += (dy[n, group] * standardize(x[n, group], eps)).sum(axis=-1)
            dbias[group] += dy[n, group].sum(axis=-1)
            dx[n, group] = standardize_backward(dy[n, group] * weight[group, None], x[n, group], eps)
    return {"dx": dx.reshape(shape), "dweight": dweight, "dbias": dbias}


def _groups(where: str, num_groups: int, C: int) -> list[slice]:
    """Return the channels of each group."""
    if num_groups < 1 or C % num_groups:
        raise ValueError(
            f"{where}: num_groups must divide the number of channels, got {num_groups} groups for {C} channels; "
            f"choose one of {[G for G in range(1, C + 1) if C % G == 0]}"
        )
    size = C // num_groups
    return [slice(j * size, (j + 1) * size) for j in range(num_groups)]
