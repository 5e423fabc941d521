"""Mode normalization (eq. 2-4, Algorithms 1 and 2 of the paper)."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import init
from minidl.backend import Array, array_module, products
from minidl.norm.base import BatchStatistics
from minidl.norm.moments import Mean


def gates(m: Array, gate_weight: Array, gate_bias: Array) -> tuple[Array, Array]:
    """g_n = softmax(Psi(m_n)), Psi affine: return g (N, K) and log g, for m (N, C), weight (K, C), bias (K,)."""
    xp = array_module(m)
    z = (gate_weight @ m.T + gate_bias[:, None]).T  # the batch innermost in memory, as in every small array here
    z -= z.max(axis=1, keepdims=True)
    log_g = z - xp.log(xp.exp(z).sum(axis=1, keepdims=True))
    return xp.exp(log_g), log_g


def mode_weights(log_g: Array) -> Array:
    """w_nk = g_nk / N_k, N_k = sum_n g_nk: a softmax over the batch, finite for modes that hardly any sample takes."""
    xp = array_module(log_g)
    w = xp.exp(log_g - log_g.max(axis=0))
    w /= w.sum(axis=0)
    return w


def mode_moments(m: Array, v: Array, w: Array) -> tuple[Array, Array, Array]:
    """mu_kc = sum_n w_nk m_nc (eq. 3), var_kc = sum_n w_nk [v_nc + (m_nc − mu_kc)²]; also (m − mu_k)² (K, N, C)."""
    mu = w.T @ m
    spread = (m - mu[:, None]) ** 2
    var = w.T @ v + products(w.T[:, None], spread)[:, 0]
    return mu, var, spread


def mode_norm(
    g: Array, m: Array, mu: Array, var: Array, weight: Array, bias: Array, eps: float
) -> tuple[Array, Array, Any]:
    """Scale and shift of eq. 2: s = sum_k g_k scale_k, u = sum_k g_k [scale_k (m − mu_k) + bias_k], scale weight·rstd.

    s, u, m are (N, C), g (N, K), mu and var (K, C); weight and bias (K, C), or (1, C) where the modes share them.
    Only differences m − mu enter, so both may be counted from any origin.
    """
    xp = array_module(m)
    rstd = 1 / xp.sqrt(var + eps)
    scale = weight * rstd  # (K, C)
    s = g @ scale
    u = m * s - g @ (scale * mu - bias)
    return s, u, (g, m, mu, rstd, scale, s, weight, bias)


def mode_norm_backward(
    ds: Array,
    du: Array,
    training: bool,
    v: Array,
    w: Array,
    spread: Array,
    gate_input: Array,
    gate_weight: Array,
    cache: Any,
) -> tuple[Array, Array, dict[str, Array]]:
    """Return dm, dv and the gradients of weight, bias and the gating map.

    Step by step back through `mode_norm`, `mode_moments`, `mode_weights` and `gates`; in inference mu and var are
    constants.
    """
    g, m, mu, rstd, scale, s, weight, bias = cache

    # s = g @ scale,  u = m·s − g @ (scale·mu − bias)
    t = ds + du * m  # all of dL/ds: s is in u too
    g_du = g.T @ du  # (K, C)
    dscale = g.T @ t - mu * g_du
    dg = t @ scale.T - du @ (scale * mu - bias).T
    dm = s * du
    grads = {"weight": _as_weight(dscale * rstd, weight), "bias": _as_weight(g_du, bias)}
    dlog_g = g * dg

    dv = 0 * dm
    if training:
        # scale = weight·(var + eps)^(−1/2),  var = wᵀ (v + (m − mu)²),  mu = wᵀ m;  d var/d mu = −2 wᵀ (m − mu) = 0
        dmu = -scale * g_du
        dvar = -(rstd**3) / 2 * weight * dscale
        dv = w @ dvar
        dm = dm + w @ (dmu - 2 * dvar * mu) + 2 * dv * m
        dw = m @ dmu.T + v @ dvar.T + products(spread, dvar[:, :, None])[:, :, 0].T
        dlog_g += w * (dw - (w * dw).sum(axis=0))  # w is a softmax over n of log g

    dz = dlog_g - g * dlog_g.sum(axis=1, keepdims=True)  # log g is a log-softmax over k of z
    grads["gate.weight"] = dz.T @ gate_input
    grads["gate.bias"] = dz.sum(axis=0)
    return dm + dz @ gate_weight, dv, grads


def _as_weight(gradient: Array, param: Array) -> Array:
    """Sum a (K, C) gradient over the modes where they share the parameter (1, C)."""
    return gradient.sum(axis=0) if len(param) == 1 else gradient


class ModeNorm(BatchStatistics):
    """Mode normalization: y_n = weight · sum_k g_nk (x_n − mu_k)/sqrt(var_k + eps) + bias.

    Each sample has one gate vector g_n = softmax(Psi(mean_hw x_n)) over K modes, Psi affine and learned. In training
    N_k = sum_n g_nk, mu_k = (1/N_k) sum_n g_nk mean_hw x_n (eq. 3), var_k = (1/N_k) sum_n g_nk mean_hw (x_n − mu_k)².
    In inference mu_k and var_k come from running estimates of the two moments (Algorithm 2).
    Backward goes through the gates, N_k, mu_k and var_k, and through Psi into x: `mode_norm_backward`, line by line.

    Parameters
    ----------
    num_features : int
        The number C of channels.
    num_modes : int
        The number K of modes. With one mode this is BatchNorm.
    eps : float
    momentum : float
        The paper's lambda: the weight of the **new** batch in eq. 4.
    per_mode_affine : bool
        Footnote 3 of the paper: weight and bias (K, C), those of each mode gated like the rest.
    rng : numpy.random.Generator, optional
        Draws Psi: gate.weight = 1/K + 0.01·N(0, 1), gate.bias uniform in ±1/sqrt(C), as the authors' released code.
    dtype : dtype of the parameters

    Attributes
    ----------
    params : weight (C,), bias (C,) (both (K, C) with per_mode_affine), gate.weight (K, C), gate.bias (K,)
    buffers : running_mean <x>_k, running_mean_square <x²>_k, (K, C) in float64
    gates : (N, K) of the last forward
    mean, var : mu_k and var_k (K, C) of the last forward

    Shape
    -----
    x (N, C), (N, C, L) or (N, C, H, W) -> y of the same shape and dtype.

    Raises
    ------
    ValueError
        If an argument is out of range, x has another shape, or training sees a single value a channel.

    Notes
    -----
    The biased variance normalises. Stored are the moments, <x>_k ← momentum·<x>_k(batch) + (1 − momentum)·<x>_k and
    <x²>_k likewise, so that the variance <x²>_k − <x>_k² (never below 0) also holds the spread of the batch means: in
    inference one mode gives BatchNorm(running="second_moment"). They start at 0 and 1: evaluation before any training
    is the identity.
    The cost does not depend on K: modes exist on (N, K), (K, C) and (K, N, C) arrays alone (`minidl.norm.moments`).

    Examples
    --------
    >>> layer = ModeNorm(1, num_modes=2, rng=np.random.default_rng(0))
    >>> layer.params["gate.weight"][...] = [[-100], [100]]  # two modes: below 0 and above
    >>> y = layer(np.array([[-3.0], [-2.0], [5.0], [7.0]]))
    >>> np.round(y[:, 0], 3)
    array([-1.,  1., -1.,  1.])
    """

    def __init__(
        self,
        num_features: int,
        num_modes: int = 2,
        eps: float = 1e-5,
        momentum: float = 0.1,
        per_mode_affine: bool = False,
        rng: np.random.Generator | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(num_features, eps, momentum, dtype)
        if num_modes < 1:
            raise ValueError(f"ModeNorm: num_modes must be >= 1, got {num_modes}; 1 is BatchNorm, the paper takes 2")
        self.num_modes = num_modes
        if per_mode_affine:
            self.add_param("weight", np.ones((num_modes, num_features), dtype))
            self.add_param("bias", np.zeros((num_modes, num_features), dtype))
        gate_weight, gate_bias = init.mode_gate(num_modes, num_features, rng or np.random.default_rng(), dtype)
        self.add_param("gate.weight", gate_weight)
        self.add_param("gate.bias", gate_bias)
        self._add_buffer("running_mean", np.zeros((num_modes, num_features)))
        self._add_buffer("running_mean_square", np.ones((num_modes, num_features)))
        self.gates: Array = None
        self.mean: Array = None
        self.var: Array = None

    def small(self, m: Mean, v: Array, values: int) -> tuple[Array, Array, Any]:
        """Return s and u; update the running statistics in training."""
        xp = array_module(v)
        gate_weight, gate_bias = (self.params[f"gate.{name}"].astype(np.float64) for name in ("weight", "bias"))
        weight, bias = (a.reshape(-1, self.num_features) for a in self._affine())
        value = m.value()
        g, log_g = gates(value, gate_weight, gate_bias)
        w = spread = None
        if self.training:
            origin = value.sum(axis=0) / len(value)  # means are counted from here
            near = m.since(origin)
            w = mode_weights(log_g)
            mu, var, spread = mode_moments(near, v, w)
            mean = mu + origin
            self._update("running_mean", mean)
            self._update("running_mean_square", var + mean**2)
        else:
            mean = self.buffers["running_mean"]
            origin = mean.mean(axis=0)
            near, mu = m.since(origin), mean - origin
            var = xp.maximum(self.buffers["running_mean_square"] - mean**2, 0)
        self.gates, self.mean, self.var = g, mean, var
        s, u, cache = mode_norm(g, near, mu, var, weight, bias, self.eps)
        return s, u, (v, w, spread, value, gate_weight, cache)

    def small_backward(self, ds: Array, du: Array, training: bool, kept: Any) -> tuple[Array, Array]:
        """Return dm and dv; add the parameters' gradients."""
        dm, dv, gradients = mode_norm_backward(ds, du, training, *kept)
        self._add_gradients(gradients)
        return dm, dv
