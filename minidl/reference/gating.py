"""The gating networks: g = softmax(Psi(mean_p x)), for samples (MN) and for channels (MGN).

Everything is done with log g. A gate can underflow to 0 for a whole batch, and g_nk / N_k would then be 0/0;
log g stays finite, and w_nk = g_nk / N_k = exp(log g_nk − log sum_n g_nk) is a softmax over the batch of log g_nk.
"""

import numpy as np

from minidl.reference.arrays import Array, check_shapes, common_precision, pixels


def log_softmax(z: Array, axis: int) -> Array:
    """Return z − log sum exp z, the sum taken along the axis.

    >>> np.exp(log_softmax(np.log([[1.0, 3.0]]), axis=1)).round(3)
    array([[0.25, 0.75]])
    """
    z = z - z.real.max(axis=axis, keepdims=True)
    shifted: Array = z - np.log(np.exp(z).sum(axis=axis, keepdims=True))
    return shifted


def log_softmax_backward(dlog_g: Array, g: Array, axis: int) -> Array:
    """Carry the gradient of log g back to z, given g = softmax(z).

    d log g_k / d z_j = [j = k] − g_j,  so  dz_j = dlog_g_j − g_j · sum_k dlog_g_k

    >>> log_softmax_backward(np.array([[1.0, 0.0]]), np.array([[0.25, 0.75]]), axis=1)
    array([[ 0.75, -0.75]])
    """
    dz: Array = dlog_g - g * dlog_g.sum(axis=axis, keepdims=True)
    return dz


def log_gates(x: Array, gate_weight: Array, gate_bias: Array) -> Array:
    """Return log g_nk, the logarithm of each sample's gates.

    z_nk = sum_c A_kc · m_nc + b_k  with  m_nc = mean_p x_ncp;  log g_n = log_softmax(z_n) over the modes

    Parameters
    ----------
    x : array
        The batch.
    gate_weight, gate_bias : array
        A and b of the affine map Psi.

    Raises
    ------
    ValueError
        If a shape is not one of these.

    >>> log_gates(np.array([[2.0]]), gate_weight=np.array([[0.0], [-400.0]]), gate_bias=np.zeros(2))
    array([[   0., -800.]])

    Notes
    -----
    Shape: x : (N, C), (N, C, L) or (N, C, H, W);  gate_weight : (K, C);  gate_bias : (K,);  log g : (N, K)
    """
    x, gate_weight, gate_bias = common_precision(x, gate_weight, gate_bias)
    x = pixels("gates", x)
    N, C, _ = x.shape
    K = len(np.atleast_1d(gate_bias))
    check_shapes("gates", gate_weight=(gate_weight, (K, C)), gate_bias=(gate_bias, (K,)))
    z = np.empty((N, K), x.dtype)
    for n in range(N):
        m = x[n].mean(axis=-1)  # (C,)
        for k in range(K):
            z[n, k] = (gate_weight[k] * m).sum() + gate_bias[k]
    return log_softmax(z, axis=1)


def log_gates_backward(dlog_g: Array, x: Array, gate_weight: Array, gate_bias: Array) -> dict[str, Array]:
    """Return dx, dgate_weight and dgate_bias of :func:`log_gates`.

    dz through `log_softmax_backward`;  dA_kc = sum_n dz_nk m_nc,  db_k = sum_n dz_nk,
    dm_nc = sum_k dz_nk A_kc,  dx_ncp = dm_nc / P
    """
    dlog_g, x, gate_weight, gate_bias = common_precision(dlog_g, x, gate_weight, gate_bias)
    shape, x = x.shape, pixels("log_gates_backward", x)
    N, _, P = x.shape
    dz = log_softmax_backward(dlog_g, np.exp(log_gates(x, gate_weight, gate_bias)), axis=1)  # (N, K)
    dx, dgate_weight, dgate_bias = np.zeros_like(x), np.zeros_like(gate_weight), np.zeros_like(gate_bias)
    for n in range(N):
        m = x[n].mean(axis=-1)  # (C,)
        for k in range(len(gate_bias)):
            dgate_weight[k] += dz[n, k] * m
            dgate_bias[k] += dz[n, k]
            dx[n] += (dz[n, k] * gate_weight[k] / P)[:, None]
    return {"dx": dx.reshape(shape), "dgate_weight": dgate_weight, "dgate_bias": dgate_bias}


def gates(x: Array, gate_weight: Array, gate_bias: Array) -> Array:
    """Return g_nk = softmax_k(Psi(mean_p x_n)), the share of mode k in sample n.

    Parameters, shapes and errors are those of :func:`log_gates`.

    >>> gates(np.array([[2.0]]), gate_weight=np.zeros((2, 1)), gate_bias=np.log([1.0, 3.0])).round(3)
    array([[0.25, 0.75]])
    """
    g: Array = np.exp(log_gates(x, gate_weight, gate_bias))
    return g


def gates_backward(dg: Array, x: Array, gate_weight: Array, gate_bias: Array) -> dict[str, Array]:
    """Return dx, dgate_weight and dgate_bias of :func:`gates`: dlog_g = g · dg."""
    return log_gates_backward(gates(x, gate_weight, gate_bias) * dg, x, gate_weight, gate_bias)


def log_channel_gates(x: Array, gate_weight: Array, gate_bias: Array) -> Array:
    """Return log g_nck, the logarithm of the gates of each channel of each sample.

    z_nck = a_k · m_nc + b_k  with  m_nc = mean_p x_ncp;  log g_nc = log_softmax(z_nc) over the modes

    Parameters
    ----------
    x : array
        The batch.
    gate_weight, gate_bias : array
        a and b of the affine map Psi: R → R^K, which all channels share.

    Raises
    ------
    ValueError
        If a shape is not one of these.

    >>> log_channel_gates(np.array([[2.0, 4.0]]), gate_weight=np.array([[0.0], [-400.0]]), gate_bias=np.zeros(2))
    array([[[    0.,  -800.],
            [    0., -1600.]]])

    Notes
    -----
    Shape: x : (N, C), (N, C, L) or (N, C, H, W);  gate_weight : (K, 1);  gate_bias : (K,);  log g : (N, C, K)
    """
    x, gate_weight, gate_bias = common_precision(x, gate_weight, gate_bias)
    x = pixels("channel_gates", x)
    N, C, _ = x.shape
    K = len(np.atleast_1d(gate_bias))
    check_shapes("channel_gates", gate_weight=(gate_weight, (K, 1)), gate_bias=(gate_bias, (K,)))
    z = np.empty((N, C, K), x.dtype)
    for n in range(N):
        for c in range(C):
            m = x[n, c].mean()
            for k in range(K):
                z[n, c, k] = gate_weight[k, 0] * m + gate_bias[k]
    return log_softmax(z, axis=2)


def log_channel_gates_backward(dlog_g: Array, x: Array, gate_weight: Array, gate_bias: Array) -> dict[str, Array]:
    """Return dx, dgate_weight and dgate_bias of :func:`log_channel_gates`.

    dz through `log_softmax_backward`;  da_k = sum_nc dz_nck m_nc,  db_k = sum_nc dz_nck,
    dm_nc = sum_k dz_nck a_k,  dx_ncp = dm_nc / P
    """
    dlog_g, x, gate_weight, gate_bias = common_precision(dlog_g, x, gate_weight, gate_bias)
    shape, x = x.shape, pixels("log_channel_gates_backward", x)
    N, C, P = x.shape
    dz = log_softmax_backward(dlog_g, np.exp(log_channel_gates(x, gate_weight, gate_bias)), axis=2)  # (N, C, K)
    dx, dgate_weight, dgate_bias = np.zeros_like(x), np.zeros_like(gate_weight), np.zeros_like(gate_bias)
    for n in range(N):
        for c in range(C):
            m = x[n, c].mean()
            for k in range(len(gate_bias)):
                dgate_weight[k, 0] += dz[n, c, k] * m
                dgate_bias[k] += dz[n, c, k]
                dx[n, c] += dz[n, c, k] * gate_weight[k, 0] / P
    return {"dx": dx.reshape(shape), "dgate_weight": dgate_weight, "dgate_bias": dgate_bias}


def channel_gates(x: Array, gate_weight: Array, gate_bias: Array) -> Array:
    """Return g_nck = softmax_k(psi(mean_p x_nc)), the share of mode k in channel c of sample n.

    Parameters, shapes and errors are those of :func:`log_channel_gates`.

    >>> channel_gates(np.array([[2.0]]), gate_weight=np.zeros((2, 1)), gate_bias=np.log([1.0, 3.0])).round(3)
    array([[[0.25, 0.75]]])
    """
    g: Array = np.exp(log_channel_gates(x, gate_weight, gate_bias))
    return g


def channel_gates_backward(dg: Array, x: Array, gate_weight: Array, gate_bias: Array) -> dict[str, Array]:
    """Return dx, dgate_weight and dgate_bias of :func:`channel_gates`: dlog_g = g · dg."""
    return log_channel_gates_backward(channel_gates(x, gate_weight, gate_bias) * dg, x, gate_weight, gate_bias)
