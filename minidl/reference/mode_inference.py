"""Mode normalization in inference: the running moments of equation (4), and Algorithm 2."""

import numpy as np

from minidl.reference.arrays import Array, check_shapes, common_precision, pixels
from minidl.reference.gating import gates, gates_backward, log_gates, log_softmax
from minidl.reference.mode import affine_by_mode


def mode_norm_running(
    x: Array, gate_weight: Array, gate_bias: Array, running_mean: Array, running_mean_square: Array, momentum: float
) -> tuple[Array, Array]:
    """Blend the batch's two moments of each mode into the running ones.

    <x>_k  ← lambda · sum_n w_nk mean_p x_n  + (1 − lambda) · <x>_k
    <x²>_k ← lambda · sum_n w_nk mean_p x_n² + (1 − lambda) · <x²>_k,  with w_nk = g_nk / N_k

    Parameters
    ----------
    x : array
        The batch.
    gate_weight, gate_bias : array
        The affine map Psi, (K, C) and (K,).
    running_mean, running_mean_square : array
        The values before this batch, (K, C).
    momentum : float
        lambda, the weight of the new batch.

    Raises
    ------
    ValueError
        If a shape is not one of these.

    >>> psi = np.zeros((1, 1)), np.zeros(1)
    >>> mode_norm_running(np.array([[0.0], [2.0]]), *psi, np.zeros((1, 1)), np.ones((1, 1)), momentum=0.5)
    (array([[0.5]]), array([[1.5]]))
    """
    x, gate_weight, gate_bias, running_mean, running_mean_square = common_precision(
        x, gate_weight, gate_bias, running_mean, running_mean_square
    )
    x = pixels("mode_norm_running", x)
    w = np.exp(log_softmax(log_gates(x, gate_weight, gate_bias), axis=0))  # (N, K)
    _check_running("mode_norm_running", gate_weight, running_mean, running_mean_square)
    new_mean, new_mean_square = (1 - momentum) * running_mean, (1 - momentum) * running_mean_square
    for k in range(len(gate_bias)):
        for n in range(x.shape[0]):
            new_mean[k] += momentum * w[n, k] * x[n].mean(axis=-1)
            new_mean_square[k] += momentum * w[n, k] * (x[n] ** 2).mean(axis=-1)
    return new_mean, new_mean_square


def mode_norm_eval(
    x: Array,
    weight: Array,
    bias: Array,
    gate_weight: Array,
    gate_bias: Array,
    running_mean: Array,
    running_mean_square: Array,
    eps: float = 1e-5,
) -> Array:
    """Normalise each sample by the running moments of the K modes, in proportion to its gates.

    mu_k = <x>_k,  sigma²_k = max(<x²>_k − <x>_k², 0)
    y_ncp = alpha_c · sum_k g_nk (x_ncp − mu_kc) / sqrt(sigma²_kc + eps) + beta_c

    Parameters
    ----------
    x, weight, bias, gate_weight, gate_bias, eps
        As in `mode_norm`.
    running_mean, running_mean_square : array
        <x> and <x²> as `mode_norm_running` leaves them, (K, C): constants.

    Raises
    ------
    ValueError
        If a shape is not one of these.

    >>> one = np.ones((1, 1))
    >>> mode_norm_eval(np.array([[7.0]]), 4 * one, 5 * one, 0 * one, one[0], one, 2 * one, eps=3.0)
    array([[17.]])
    """
    x, weight, bias, gate_weight, gate_bias, running_mean, running_mean_square = common_precision(
        x, weight, bias, gate_weight, gate_bias, running_mean, running_mean_square
    )
    shape, x = x.shape, pixels("mode_norm_eval", x)
    g = gates(x, gate_weight, gate_bias)  # (N, K)
    alpha, beta = affine_by_mode("mode_norm_eval", weight, bias, *gate_weight.shape)  # (K, C)
    _check_running("mode_norm_eval", gate_weight, running_mean, running_mean_square)
    y = np.zeros_like(x)
    for n in range(x.shape[0]):
        for k in range(len(gate_bias)):
            mu_k, sigma_k = _running_statistics(running_mean[k], running_mean_square[k], eps)  # (C,)
            y_nk = (x[n] - mu_k[:, None]) / sigma_k[:, None]  # (C, P)
            y[n] += g[n, k] * (alpha[k][:, None] * y_nk + beta[k][:, None])
    return y.reshape(shape)


def mode_norm_eval_backward(
    dy: Array,
    x: Array,
    weight: Array,
    bias: Array,
    gate_weight: Array,
    gate_bias: Array,
    running_mean: Array,
    running_mean_square: Array,
    eps: float = 1e-5,
) -> dict[str, Array]:
    """Return dx, dweight, dbias, dgate_weight and dgate_bias of :func:`mode_norm_eval`.

    mu_k and sigma_k are constants, so only y_n = sum_k g_nk (alpha_k xhat_nk + beta_k) is left:
    dalpha_k = sum_np g_nk dy_n xhat_nk,  dbeta_k = sum_np g_nk dy_n,  dx_n = sum_k g_nk dy_n alpha_k / sigma_k,
    dg_nk = sum_cp dy_n (alpha_k xhat_nk + beta_k), and through Psi by `gates_backward`.
    """
    dy, x, weight, bias, gate_weight, gate_bias, running_mean, running_mean_square = common_precision(
        dy, x, weight, bias, gate_weight, gate_bias, running_mean, running_mean_square
    )
    where = "mode_norm_eval_backward"
    check_shapes(where, dy=(dy, x.shape))
    shape, x, dy = x.shape, pixels(where, x), pixels(where, dy)
    g = gates(x, gate_weight, gate_bias)  # (N, K)
    alpha, beta = affine_by_mode(where, weight, bias, *gate_weight.shape)  # (K, C)
    _check_running(where, gate_weight, running_mean, running_mean_square)
    dx, dalpha, dbeta, dg = np.zeros_like(x), np.zeros_like(gate_weight), np.zeros_like(gate_weight), np.zeros_like(g)
    for n in range(x.shape[0]):
        for k in range(len(gate_bias)):
            mu_k, sigma_k = _running_statistics(running_mean[k], running_mean_square[k], eps)  # (C,)
            xhat = (x[n] - mu_k[:, None]) / sigma_k[:, None]  # (C, P)
            dalpha[k] += g[n, k] * (dy[n] * xhat).sum(axis=-1)
            dbeta[k] += g[n, k] * dy[n].sum(axis=-1)
            dx[n] += g[n, k] * dy[n] * (alpha[k] / sigma_k)[:, None]
            dg[n, k] = (dy[n] * (alpha[k][:, None] * xhat + beta[k][:, None])).sum()
    grads = gates_backward(dg, x, gate_weight, gate_bias)
    grads["dx"] = (grads["dx"] + dx).reshape(shape)
    grads["dweight"] = dalpha if weight.ndim == 2 else dalpha.sum(axis=0)
    grads["dbias"] = dbeta if bias.ndim == 2 else dbeta.sum(axis=0)
    return grads


def _running_statistics(mean_k: Array, mean_square_k: Array, eps: float) -> tuple[Array, Array]:
    """Return mu_k and sigma_k, (C,) each, from the running moments of one mode."""
    var_k = mean_square_k - mean_k**2
    var_k = np.where(var_k.real > 0, var_k, 0)
    return mean_k, np.sqrt(var_k + eps)


def _check_running(where: str, gate_weight: Array, running_mean: Array, running_mean_square: Array) -> None:
    """Raise a ValueError unless both running moments are (K, C)."""
    check_shapes(where, running_mean=(running_mean, gate_weight.shape))
    check_shapes(where, running_mean_square=(running_mean_square, gate_weight.shape))
