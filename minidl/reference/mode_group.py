"""Mode group normalization: Algorithm 3, equation (5)."""

import numpy as np

from minidl.reference.arrays import Array, check_shapes, common_precision, pixels
from minidl.reference.gating import log_channel_gates, log_channel_gates_backward, log_softmax, log_softmax_backward


def mode_group_norm(
    x: Array,
    weight: Array,
    bias: Array,
    gate_weight: Array,
    gate_bias: Array,
    eps: float = 1e-5,
    moments: str = "spatial",
) -> Array:
    """Normalise each sample by the statistics of K modes of its channels, in training and inference alike.

    m_nc    = mean_p x_ncp,  g_nck = softmax_k(psi(m_nc)),  C_nk = sum_c g_nck,  w_nck = g_nck / C_nk
    mu_nk   = sum_c w_nck m_nc
    sigma²_nk = sum_c w_nck mean_p (x_ncp − mu_nk)²
    y_ncp   = (alpha_c / K) sum_k (x_ncp − mu_nk) / sqrt(sigma²_nk + eps) + beta_c

    Parameters
    ----------
    x : array
        The batch.
    weight, bias : array
        alpha and beta, one value per channel.
    gate_weight, gate_bias : array
        The affine map psi: R → R^K, which all channels share.
    eps : float
        Added to the variance, inside the root; C_nk has none.
    moments : {"spatial", "pooled"}
        Whether the variance sees every pixel, as in GN, or only the pooled m_nc, the literal reading
        of Algorithm 3: sigma²_nk = sum_c w_nck (m_nc − mu_nk)².

    Raises
    ------
    ValueError
        If a shape is not one of these, or `moments` is another word.

    Notes
    -----
    Shape: x, y : (N, C), (N, C, L) or (N, C, H, W);  weight, bias : (C,);  gate_weight : (K, 1);  gate_bias : (K,)

    The gates weigh the statistics; the sum over k in y has equal weights 1/K. On (N, C) both `moments` agree.

    With K = 1, this is group normalization with one group:

    >>> psi = np.zeros((1, 1)), np.zeros(1)
    >>> mode_group_norm(np.array([[-1.0, 1.0]]), np.array([4.0, 2.0]), np.array([5.0, 6.0]), *psi, eps=3.0)
    array([[3., 7.]])
    """
    x, weight, bias, gate_weight, gate_bias = common_precision(x, weight, bias, gate_weight, gate_bias)
    shape, x = x.shape, pixels("mode_group_norm", x)
    N, C, _ = x.shape
    check_shapes("mode_group_norm", weight=(weight, (C,)), bias=(bias, (C,)))
    w = np.exp(log_softmax(log_channel_gates(x, gate_weight, gate_bias), axis=1))  # (N, C, K), g_nck / C_nk
    K = len(gate_bias)
    y = np.zeros_like(x)
    for n in range(N):
        for k in range(K):
            mu, seen = _mode(x[n], w[n, :, k], moments)
            sigma = np.sqrt((w[n, :, k] * (seen**2).mean(axis=-1)).sum() + eps)
            y[n] += weight[:, None] / K * (x[n] - mu) / sigma
        y[n] += bias[:, None]
    return y.reshape(shape)


def mode_group_norm_backward(
    dy: Array,
    x: Array,
    weight: Array,
    bias: Array,
    gate_weight: Array,
    gate_bias: Array,
    eps: float = 1e-5,
    moments: str = "spatial",
) -> dict[str, Array]:
    """Return dx, dweight, dbias, dgate_weight and dgate_bias of :func:`mode_group_norm`.

    Write s_nk = sqrt(sigma²_nk + eps) and xhat_nk = (x_n − mu_nk) / s_nk, and take Algorithm 3 from its last line up.

    1. y_nc = (alpha_c / K) sum_k xhat_nck + beta_c, so
       dalpha_c = sum_np dy · (1/K) sum_k xhat_nck,  dbeta_c = sum_np dy,  dxhat_nck = dy_nc alpha_c / K.
    2. dx_n += sum_k dxhat_nk / s_nk,
       dsigma²_nk = sum_cp dxhat_nk (x_n − mu_nk) · (−1/2) s_nk⁻³,
       dmu_nk = −sum_cp dxhat_nk / s_nk;
       sigma²_nk depends on mu_nk too, but its slope −2 sum_c w_nck (m_nc − mu_nk) is zero.
    3. mu_nk = sum_c w_nck m_nc and sigma²_nk = sum_c w_nck mean_p (x_nc − mu_nk)²:
       dx_nc += sum_k w_nck (dmu_nk + dsigma²_nk · 2 (x_nc − mu_nk)) / P,
       dw_nck = dmu_nk (m_nc − mu_nk) + dsigma²_nk mean_p (x_nc − mu_nk)².
       With pooled moments, m_nc stands for x_nc in both lines.
       (The − mu_nk beside dmu_nk adds the same for every c, which step 4 removes again; it spares the cancellation.)
    4. w_nck = g_nck / C_nk is a softmax over c of log g_nck:
       dlog_g_nck = w_nck dw_nck − w_nck sum_d w_ndk dw_ndk.
    5. log g through psi into gate_weight, gate_bias and x: `log_channel_gates_backward`.
    """
    dy, x, weight, bias, gate_weight, gate_bias = common_precision(dy, x, weight, bias, gate_weight, gate_bias)
    where = "mode_group_norm_backward"
    check_shapes(where, dy=(dy, x.shape))
    shape, x, dy = x.shape, pixels(where, x), pixels(where, dy)
    N, C, P = x.shape
    check_shapes(where, weight=(weight, (C,)), bias=(bias, (C,)))
    w = np.exp(log_softmax(log_channel_gates(x, gate_weight, gate_bias), axis=1))  # (N, C, K)
    K = len(gate_bias)
    dx, dweight, dbias, dw = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(bias), np.zeros_like(w)
    for n in range(N):
        dbias += dy[n].sum(axis=-1)
        for k in range(K):
            mu, seen = _mode(x[n], w[n, :, k], moments)
            s = np.sqrt((w[n, :, k] * (seen**2).mean(axis=-1)).sum() + eps)
            # step 1
            dweight += (dy[n] * (x[n] - mu) / s / K).sum(axis=-1)
            dxhat = dy[n] * weight[:, None] / K  # (C, P)
            # step 2
            dx[n] += dxhat / s
            dvar = (dxhat * (x[n] - mu)).sum() * (-1 / 2) / s**3
            dmu = -dxhat.sum() / s
            # step 3
            dx[n] += w[n, :, k, None] * (dmu + dvar * 2 * seen) / P
            dw[n, :, k] = dmu * seen.mean(axis=-1) + dvar * (seen**2).mean(axis=-1)
    # step 4
    dlog_g = log_softmax_backward(w * dw, w, axis=1)  # (N, C, K)
    # step 5
    grads = log_channel_gates_backward(dlog_g, x, gate_weight, gate_bias)
    grads["dx"] = (grads["dx"] + dx).reshape(shape)
    grads["dweight"] = dweight
    grads["dbias"] = dbias
    return grads


def _mode(x_n: Array, w_nk: Array, moments: str) -> tuple[Array, Array]:
    """Return mu_nk and what the variance sees: x_nc − mu_nk (C, P) or, pooled, m_nc − mu_nk (C, 1)."""
    if moments not in ("spatial", "pooled"):
        raise ValueError(
            f'mode_group_norm: moments must be "spatial" or "pooled", got {moments!r}; "spatial" is the default'
        )
    m = x_n.mean(axis=-1)  # (C,)
    mu = (w_nk * m).sum()
    return mu, x_n - mu if moments == "spatial" else (m - mu)[:, None]
