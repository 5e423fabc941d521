"""Mode group normalization (eq. 5, Algorithm 3 of the paper)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minidl import init
from minidl.arguments import generator, whole
from minidl.backend import Array, array_module, products
from minidl.norm.base import Norm
from minidl.norm.moments import Mean
from minidl.norm.shapes import OfChannels, PerChannel

MOMENTS = ("spatial", "pooled")


def channel_gates(m: Array, gate_weight: Array, gate_bias: Array) -> tuple[Array, Array]:
    """g_nc = softmax(psi(m_nc)), psi: R -> R^K affine: return g (N, C, K) and log g, for weight (K, 1), bias (K,)."""
    xp = array_module(m=m)
    z = m[:, :, None] * gate_weight[:, 0] + gate_bias
    z -= z.max(axis=2, keepdims=True)
    log_g = z - xp.log(xp.exp(z).sum(axis=2, keepdims=True))
    return xp.exp(log_g), log_g


def channel_weights(log_g: Array) -> Array:
    """w_nck = g_nck / C_nk, C_nk = sum_c g_nck: a softmax over the channels."""
    xp = array_module(log_g=log_g)
    w = xp.exp(log_g - log_g.max(axis=1, keepdims=True))
    w /= w.sum(axis=1, keepdims=True)
    return w


class Scaled(NamedTuple):
    """What `mode_group_norm` keeps for its backward."""

    v: PerChannel
    w: Array  # (N, C, K)
    d: Array  # (N, C, K)
    rstd: Array  # (N, 1, K)
    scale: Array  # (N, 1)
    shift: PerChannel
    weight: OfChannels


def mode_group_norm(
    m: PerChannel, v: PerChannel, w: Array, weight: OfChannels, bias: OfChannels, eps: float
) -> tuple[PerChannel, PerChannel, Scaled]:
    """Scale and shift of eq. 5: s = (weight/K) sum_k rstd_k, u = (weight/K) sum_k rstd_k (m − mu_k) + bias.

    mu_nk = sum_c w_nck m_nc and var_nk = sum_c w_nck [v_nc + (m_nc − mu_nk)²]; m, v, s, u (N, C), w (N, C, K).
    """
    xp = array_module(m=m)
    mu = (w * m[:, :, None]).sum(axis=1, keepdims=True)  # (N, 1, K)
    d = m[:, :, None] - mu  # (N, C, K)
    var = (w * (v[:, :, None] + d**2)).sum(axis=1, keepdims=True)
    rstd = 1 / xp.sqrt(var + eps)
    scale = rstd.mean(axis=2)  # (N, 1)
    shift = (rstd * d).mean(axis=2)  # (N, C)
    return weight * scale, weight * shift + bias, Scaled(v, w, d, rstd, scale, shift, weight)


def mode_group_norm_backward(
    ds: PerChannel, du: PerChannel, g: Array, gate_input: PerChannel, gate_weight: Array, spatial: bool, scaled: Scaled
) -> tuple[PerChannel, PerChannel, dict[str, Array]]:
    """Return dm, dv and the gradients of weight, bias and the gating map, step by step back."""
    v, w, d, rstd, scale, shift, weight = scaled
    grads = {"weight": (ds * scale + du * shift).sum(axis=0), "bias": du.sum(axis=0)}

    # s = weight·mean_k rstd,  u = weight·mean_k rstd·d + bias
    k = d.shape[2]
    ds, du = weight * ds / k, weight * du / k  # (N, C)
    drstd = (ds[:, :, None] + du[:, :, None] * d).sum(axis=1, keepdims=True)  # (N, 1, K)
    dd = du[:, :, None] * rstd  # (N, C, K): d = m − mu
    dmu = -dd.sum(axis=1, keepdims=True)
    dvar = -(rstd**3) / 2 * drstd

    # var = sum_c w (v + d²),  mu = sum_c w m;  var does not move with mu: sum_c w d = 0
    dv = (w * dvar).sum(axis=2)
    dm = (dd + w * (dmu + 2 * dvar * d)).sum(axis=2)
    dw = dmu * d + dvar * (v[:, :, None] + d**2)  # up to a constant of each mode
    dlog_g = w * (dw - (w * dw).sum(axis=1, keepdims=True))  # w is a softmax over c of log g

    dz = dlog_g - g * dlog_g.sum(axis=2, keepdims=True)  # log g is a log-softmax over k of z
    grads["gate.weight"] = (dz * gate_input[:, :, None]).sum(axis=(0, 1))[:, None]
    grads["gate.bias"] = dz.sum(axis=(0, 1))
    dm += products(dz, gate_weight)[:, :, 0]
    return dm, dv if spatial else 0 * dv, grads


class Kept(NamedTuple):
    """What `ModeGroupNorm.small` keeps: the last arguments of `mode_group_norm_backward`."""

    g: Array  # (N, C, K)
    gate_input: PerChannel
    gate_weight: Array  # (K, 1)
    spatial: bool
    scaled: Scaled


class ModeGroupNorm(Norm):
    """Mode group normalization: y_n = (weight/K) sum_k (x_n − mu_nk)/sqrt(var_nk + eps) + bias (eq. 5, Algorithm 3).

    Each channel of each sample has gates g_nc = softmax(psi(mean_hw x_nc)) over K modes, psi: R -> R^K affine and
    shared by all channels. C_nk = sum_c g_nck, mu_nk = (1/C_nk) sum_c g_nck mean_hw x_nc, and
    var_nk = (1/C_nk) sum_c g_nck mean_hw (x_nc − mu_nk)². Training and inference are the same.
    Backward goes through the gates, C_nk, mu_nk and var_nk: see `mode_group_norm_backward`, line by line.

    Parameters
    ----------
    num_channels : int
    num_modes : int
        The number K of modes. With one mode this is LayerNorm, GroupNorm with one group.
    eps : float
    moments : {"spatial", "pooled"}
        "spatial" takes the variance over pixels as GroupNorm does; "pooled" reads Algorithm 3 literally, x_c being the
        channel's spatial mean: var_nk = (1/C_nk) sum_c g_nck (mean_hw x_nc − mu_nk)².
    rng : numpy.random.Generator or a seed, optional
        Draws psi: gate.weight = 1/K + 0.01·N(0, 1), gate.bias uniform in ±1.
    dtype : dtype of the parameters

    Attributes
    ----------
    params : weight (C,), bias (C,), gate.weight (K, 1), gate.bias (K,)
    gates : (N, C, K) of the last forward

    Raises
    ------
    ValueError
        If an argument is out of range or x has another shape.

    Notes
    -----
    Shape: x (N, C), (N, C, L) or (N, C, H, W) -> y of the same shape and dtype.

    The biased variance normalises; nothing is stored.

    Examples
    --------
    >>> layer = ModeGroupNorm(4, num_modes=1)
    >>> np.round(layer(np.array([[1.0, 1.0, 3.0, 3.0]])), 4)
    array([[-1., -1.,  1.,  1.]])
    """

    _features = "num_channels"

    def __init__(
        self,
        num_channels: int,
        num_modes: int = 2,
        eps: float = 1e-5,
        moments: str = "spatial",
        rng: np.random.Generator | int | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(num_channels, eps, dtype)
        num_modes = whole(num_modes, "ModeGroupNorm: num_modes", cure="1 is LayerNorm")
        if moments not in MOMENTS:
            raise ValueError(f"ModeGroupNorm: moments must be one of {', '.join(MOMENTS)}, got {moments!r}; choose one")
        self.num_modes = num_modes
        self.moments = moments
        gate_weight, gate_bias = init.mode_gate(num_modes, 1, generator(rng, "ModeGroupNorm"), dtype)
        self.add_param("gate.weight", gate_weight)
        self.add_param("gate.bias", gate_bias)
        self.gates: Array = None

    def small(self, m: Mean, v: PerChannel, values: int) -> tuple[PerChannel, PerChannel, Kept]:
        """Return s and u."""
        spatial = self.moments == "spatial"
        gate_weight, gate_bias = (self.params[f"gate.{name}"].astype(np.float64) for name in ("weight", "bias"))
        value = m.value()
        g, log_g = channel_gates(value, gate_weight, gate_bias)
        near = m.since(m.m0[:, :1])  # means are counted from each sample's first
        s, u, scaled = mode_group_norm(near, v if spatial else 0 * v, channel_weights(log_g), *self._affine(), self.eps)
        self.gates = g
        return s, u, Kept(g, value, gate_weight, spatial, scaled)

    def small_backward(
        self, ds: PerChannel, du: PerChannel, training: bool, kept: Kept
    ) -> tuple[PerChannel, PerChannel]:
        """Return dm and dv; add the parameters' gradients."""
        dm, dv, gradients = mode_group_norm_backward(ds, du, *kept)
        self._add_gradients(**gradients)
        return dm, dv
