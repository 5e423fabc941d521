"""Mode normalization in training: Algorithm 1, equations (2) and (3)."""

import numpy as np

from minidl.reference.arrays import Array, check_shapes, common_precision, pixels
from minidl.reference.gating import log_gates, log_gates_backward, log_softmax, log_softmax_backward


def mode_norm(x: Array, weight: Array, bias: Array, gate_weight: Array, gate_bias: Array, eps: float = 1e-5) -> Array:
    """Normalise each sample by the statistics of the K modes, in proportion to its gates.

    g_nk    = softmax_k(Psi(mean_p x_n)),  N_k = sum_n g_nk,  w_nk = g_nk / N_k
    mu_kc   = sum_n w_nk mean_p x_ncp
    sigma²_kc = sum_n w_nk mean_p (x_ncp − mu_kc)²
    y_ncp   = alpha_c · sum_k g_nk (x_ncp − mu_kc) / sqrt(sigma²_kc + eps) + beta_c

    Parameters
    ----------
    x : array
        The batch.
    weight, bias : array
        alpha and beta; of shape (K, C) they are one pair per mode, each gated (footnote 3).
    gate_weight, gate_bias : array
        The affine map Psi.
    eps : float
        Added to the variance, inside the root; N_k has none.

    Raises
    ------
    ValueError
        If a shape is not one of these.

    Notes
    -----
    Shape: x, y : (N, C), (N, C, L) or (N, C, H, W);  weight, bias : (C,) or (K, C);
    gate_weight : (K, C);  gate_bias : (K,)

    sigma²_k is the paper's <x²>_k − <x>_k², without its cancellation. A mode that no sample chooses keeps finite
    statistics, because w is a softmax over the batch of log g (see `minidl.reference.gating`).

    With K = 1, this is batch normalization:

    >>> one = np.ones(1)
    >>> mode_norm(np.array([[-1.0], [1.0]]), 4 * one, 5 * one, gate_weight=np.zeros((1, 1)), gate_bias=one, eps=3.0)
    array([[3.],
           [7.]])
    """
    x, weight, bias, gate_weight, gate_bias = common_precision(x, weight, bias, gate_weight, gate_bias)
    shape, x = x.shape, pixels("mode_norm", x)
    N = x.shape[0]
    log_g = log_gates(x, gate_weight, gate_bias)
    g = np.exp(log_g)  # (N, K)
    w = np.exp(log_softmax(log_g, axis=0))  # (N, K), g_nk / N_k
    alpha, beta = affine_by_mode("mode_norm", weight, bias, *gate_weight.shape)  # (K, C)
    y = np.zeros_like(x)
    for k in range(len(gate_bias)):
        mu_k, var_k = mode_statistics(x, w[:, k])  # (C,)
        sigma_k = np.sqrt(var_k + eps)
        for n in range(N):
            y_nk = (x[n] - mu_k[:, None]) / sigma_k[:, None]  # (C, P)
            y[n] += g[n, k] * (alpha[k][:, None] * y_nk + beta[k][:, None])
    return y.reshape(shape)


def mode_norm_backward(
    dy: Array, x: Array, weight: Array, bias: Array, gate_weight: Array, gate_bias: Array, eps: float = 1e-5
) -> dict[str, Array]:
    """Return dx, dweight, dbias, dgate_weight and dgate_bias of :func:`mode_norm`.

    Write s_k = sqrt(sigma²_k + eps) and xhat_nk = (x_n − mu_k) / s_k, and take Algorithm 1 from its last line up.

    1. y_n = sum_k g_nk (alpha_k xhat_nk + beta_k), so
       dalpha_k = sum_np g_nk dy_n xhat_nk,  dbeta_k = sum_np g_nk dy_n,
       dxhat_nk = g_nk dy_n alpha_k,  dg_nk = sum_cp dy_n (alpha_k xhat_nk + beta_k).
       A shared alpha is the same for every k: its gradient is the sum over k. So is beta's.
    2. xhat_nk depends on x_n, mu_k and sigma²_k:
       dx_n += sum_k dxhat_nk / s_k,
       dsigma²_k = sum_np dxhat_nk (x_n − mu_k) · (−1/2) s_k⁻³,
       dmu_k = −sum_np dxhat_nk / s_k;
       sigma²_k depends on mu_k too, but its slope −2 sum_n w_nk mean_p (x_n − mu_k) is zero.
    3. mu_k = sum_n w_nk mean_p x_n and sigma²_k = sum_n w_nk mean_p (x_n − mu_k)²:
       dx_n += sum_k w_nk (dmu_k + dsigma²_k · 2 (x_n − mu_k)) / P,
       dw_nk = sum_c dmu_k (mean_p x_n − mu_k) + dsigma²_k mean_p (x_n − mu_k)².
       The − mu_k adds the same to dw_nk for every n, which step 4 removes again; it spares the cancellation.
    4. w_nk = g_nk / N_k with N_k = sum_n g_nk is a softmax over n of log g_nk, as g is one over k of the logits:
       dlog_g_nk = g_nk dg_nk + (w_nk dw_nk − w_nk sum_m w_mk dw_mk).
       (By hand: dN_k = −sum_n w_nk dw_nk / N_k and dg_nk += dw_nk / N_k + dN_k, times g_nk.)
    5. log g through Psi into gate_weight, gate_bias and x: `log_gates_backward`.
    """
    dy, x, weight, bias, gate_weight, gate_bias = common_precision(dy, x, weight, bias, gate_weight, gate_bias)
    where = "mode_norm_backward"
    check_shapes(where, dy=(dy, x.shape))
    shape, x, dy = x.shape, pixels(where, x), pixels(where, dy)
    N, _, P = x.shape
    log_g = log_gates(x, gate_weight, gate_bias)
    g = np.exp(log_g)  # (N, K)
    w = np.exp(log_softmax(log_g, axis=0))  # (N, K)
    alpha, beta = affine_by_mode(where, weight, bias, *gate_weight.shape)  # (K, C)
    dx, dalpha, dbeta = np.zeros_like(x), np.zeros_like(gate_weight), np.zeros_like(gate_weight)
    dg, dw = np.zeros_like(g), np.zeros_like(w)
    for k in range(len(gate_bias)):
        mu_k, var_k = mode_statistics(x, w[:, k])  # (C,)
        s_k = np.sqrt(var_k + eps)  # (C,)
        dvar_k, dmu_k = np.zeros_like(mu_k), np.zeros_like(mu_k)  # (C,)
        for n in range(N):
            centred = x[n] - mu_k[:, None]  # (C, P)
            xhat = centred / s_k[:, None]  # (C, P)
            # step 1
            dalpha[k] += g[n, k] * (dy[n] * xhat).sum(axis=-1)
            dbeta[k] += g[n, k] * dy[n].sum(axis=-1)
            dg[n, k] = (dy[n] * (alpha[k][:, None] * xhat + beta[k][:, None])).sum()
            dxhat = g[n, k] * dy[n] * alpha[k][:, None]  # (C, P)
            # step 2
            dx[n] += dxhat / s_k[:, None]
            dvar_k += (dxhat * centred).sum(axis=-1) * (-1 / 2) / s_k**3
            dmu_k -= dxhat.sum(axis=-1) / s_k
        for n in range(N):
            centred = x[n] - mu_k[:, None]  # (C, P)
            # step 3
            dx[n] += w[n, k] * (dmu_k[:, None] + dvar_k[:, None] * 2 * centred) / P
            dw[n, k] = (dmu_k * centred.mean(axis=-1) + dvar_k * (centred**2).mean(axis=-1)).sum()
    # step 4
    dlog_g = g * dg + log_softmax_backward(w * dw, w, axis=0)  # (N, K)
    # step 5
    grads = log_gates_backward(dlog_g, x, gate_weight, gate_bias)
    grads["dx"] = (grads["dx"] + dx).reshape(shape)
    grads["dweight"] = dalpha if weight.ndim == 2 else dalpha.sum(axis=0)
    grads["dbias"] = dbeta if bias.ndim == 2 else dbeta.sum(axis=0)
    return grads


def mode_statistics(x: Array, w_k: Array) -> tuple[Array, Array]:
    """Return mu_k and sigma²_k of one mode (equation 3), (C,) each, for x (N, C, P) and w_k (N,).

    >>> mode_statistics(np.array([[[0.0, 2.0]], [[9.0, 9.0]]]), np.array([1.0, 0.0]))
    (array([1.]), array([1.]))
    """
    N, C, _ = x.shape
    mu_k, var_k = np.zeros(C, x.dtype), np.zeros(C, x.dtype)
    for n in range(N):
        mu_k += w_k[n] * x[n].mean(axis=-1)
    for n in range(N):
        var_k += w_k[n] * ((x[n] - mu_k[:, None]) ** 2).mean(axis=-1)
    return mu_k, var_k


def affine_by_mode(where: str, weight: Array, bias: Array, K: int, C: int) -> tuple[Array, Array]:
    """Return alpha and beta per mode, (K, C) each: as given (footnote 3), or the shared pair K times.

    Since sum_k g_nk = 1, the shared pair taken inside the sum over k gives what Algorithm 1 takes outside of it.

    >>> affine_by_mode("mode_norm", np.array([3.0]), np.array([[4.0], [5.0]]), K=2, C=1)[0].tolist()
    [[3.0], [3.0]]
    """
    for name, array in (("weight", weight), ("bias", bias)):
        if array.shape not in ((C,), (K, C)):
            raise ValueError(
                f"{where}: {name} must be of shape {(C,)} or, one per mode, {(K, C)}, got {array.shape}; reshape {name}"
            )
    return np.broadcast_to(weight, (K, C)), np.broadcast_to(bias, (K, C))
