"""Mode normalization (eq. 2 and 3, Algorithms 1 and 2 of the paper; eq. 4 is `update_running` in norm/base.py).

To be read beside the paper:

    m, v    (N, C)   mean and variance over the pixels of each channel of each sample: <x_n> and <x_n²> − <x_n>²
    g       (N, K)   the paper's gates g_nk = g_k(x_n), a softmax over the modes
    w       (N, K)   g_nk / N_k, what a mode's mean weighs the samples with (eq. 3)
    mu, var (K, C)   the paper's <x>_k and sigma_k²; rstd = 1/sqrt(var + eps)
    weight, bias     the paper's alpha and beta
    s, u    (N, C)   scale and shift: y_n = (x_n − m_n)·s_n + u_n is the paper's eq. 2
    d…               the loss's derivative by …

Each backward is right below its forward.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minidl import init
from minidl.arguments import generator, whole
from minidl.backend import Array, array_module, products
from minidl.norm.base import Across
from minidl.norm.gated import Gated
from minidl.norm.moments import Mean
from minidl.norm.shapes import OfChannels, PerChannel, PerGate, PerMode, PerModeOrShared


def gates(m: PerChannel, gate_weight: PerMode, gate_bias: Array) -> tuple[PerGate, PerGate]:
    """g_n = softmax(Psi(m_n)), Psi affine: return g and log g; gate_bias (K,)."""
    xp = array_module(m)
    z = (gate_weight @ m.T + gate_bias[:, None]).T  # the batch innermost in memory, as in every small array here
    z -= z.max(axis=1, keepdims=True)
    log_g = z - xp.log(xp.exp(z).sum(axis=1, keepdims=True))
    return xp.exp(log_g), log_g


def gates_backward(
    dlog_g: PerGate, g: PerGate, m: PerChannel, gate_weight: PerMode
) -> tuple[PerChannel, PerMode, Array]:
    """Return dm, dgate_weight and dgate_bias."""
    dz = dlog_g - g * dlog_g.sum(axis=1, keepdims=True)  # log g is a log-softmax over k of z
    return dz @ gate_weight, dz.T @ m, dz.sum(axis=0)


def mode_weights(log_g: PerGate) -> PerGate:
    """w_nk = g_nk / N_k, N_k = sum_n g_nk: a softmax over the batch, finite for modes that hardly any sample takes."""
    xp = array_module(log_g)
    w = xp.exp(log_g - log_g.max(axis=0))
    w /= w.sum(axis=0)
    return w


def mode_weights_backward(dw: PerGate, w: PerGate, mean_dw: Array = None) -> PerGate:
    """Return dlog_g; `mean_dw` (K,) is sum_n w_nk dw_nk, where it is over more samples than these."""
    return w * (dw - ((w * dw).sum(axis=0) if mean_dw is None else mean_dw))


def mode_moments(m: PerChannel, v: PerChannel, w: PerGate) -> tuple[PerMode, PerMode, Array]:
    """mu_kc = sum_n w_nk m_nc (eq. 3), var_kc = sum_n w_nk [v_nc + (m_nc − mu_kc)²]; also that bracket, (K, N, C)."""
    mu = w.T @ m
    square = v + (m - mu[:, None]) ** 2  # the mean over a sample's pixels of (x − mu_k)²
    return mu, products(w.T[:, None], square)[:, 0], square


def mode_moments_backward(
    dmu: PerMode, dvar: PerMode, m: PerChannel, w: PerGate, mu: PerMode, square: Array
) -> tuple[PerChannel, PerChannel, PerChannel, PerGate]:
    """Return dm in two terms, then dv and dw; var does not move with mu, as d var/d mu = −2 sum_n w (m − mu) = 0.

    dm = w·dmu + 2·w·dvar·(m − mu), sorted into what has the factor m, the second term, and what has not.
    """
    dv = w @ dvar
    through_mu = w @ (dmu - 2 * dvar * mu)
    through_m = 2 * dv * m
    dw = m @ dmu.T + products(square, dvar[:, :, None])[:, :, 0].T
    return through_mu, through_m, dv, dw


def join_modes(across: Across, log_g: PerGate, mu: PerMode, var: PerMode) -> tuple[Array, OfChannels, PerMode, PerMode]:
    """Return N_rk/N_k, an origin, mu − origin and var of a batch that lies on R processes, r this one.

    From those of each part: a part is to the batch what a sample is to its part. With w_rk = N_rk/N_k, again a softmax
    of logarithms, mu_k = sum_r w_rk mu_rk and var_k = sum_r w_rk [var_rk + (mu_rk − mu_k)²].
    """
    xp = array_module(log_g)
    most = log_g.max(axis=0)
    log_n = most + xp.log(xp.exp(log_g - most).sum(axis=0))  # log N_rk
    log_n, mu, var = across.each(log_n, mu, var)  # (R, K), (R, K, C), (R, K, C)
    w = mode_weights(log_n)
    origin = mu.mean(axis=(0, 1))
    near = mu - origin
    mu = (w[:, :, None] * near).sum(axis=0)
    return w[across.rank], origin, mu, (w[:, :, None] * (var + (near - mu) ** 2)).sum(axis=0)


def joined_mean_dw(dmu: PerMode, dvar: PerMode, mu: PerMode, var: PerMode) -> Array:
    """sum_n w_nk dw_nk over all parts: dw = m·dmu + [v + (m − mu)²]·dvar, whose means over the mode are mu and var."""
    return (mu * dmu + var * dvar).sum(axis=1)


class OfModeNorm(NamedTuple):
    """The gradients that `mode_norm_backward` returns."""

    dg: PerGate
    dm: PerChannel
    dmu: PerMode
    dvar: PerMode
    dweight: PerModeOrShared
    dbias: PerModeOrShared


def mode_norm(
    g: PerGate, m: PerChannel, mu: PerMode, rstd: PerMode, weight: PerModeOrShared, bias: PerModeOrShared
) -> tuple[PerChannel, PerChannel]:
    """Scale and shift of eq. 2: s = sum_k g_k scale_k, u = sum_k g_k [scale_k (m − mu_k) + bias_k], scale weight·rstd.

    Only differences m − mu enter, so both may be counted from any origin.
    """
    scale = weight * rstd
    s = g @ scale
    u = m * s - g @ (scale * mu - bias)
    return s, u


def mode_norm_backward(
    ds: PerChannel,
    du: PerChannel,
    g: PerGate,
    m: PerChannel,
    mu: PerMode,
    rstd: PerMode,
    weight: PerModeOrShared,
    bias: PerModeOrShared,
) -> OfModeNorm:
    """Return the gradients, that of var through rstd = (var + eps)^(−1/2)."""
    scale = weight * rstd
    t = ds + du * m  # all of dL/ds: s is in u too
    g_du = g.T @ du
    dscale = g.T @ t - mu * g_du
    dg = t @ scale.T - du @ (scale * mu - bias).T
    dvar = -(rstd**3) / 2 * weight * dscale
    dweight, dbias = dscale * rstd, g_du
    if len(weight) == 1:  # the modes share them
        dweight, dbias = dweight.sum(axis=0), dbias.sum(axis=0)
    return OfModeNorm(dg, (g @ scale) * du, -scale * g_du, dvar, dweight, dbias)


def running_moments(mean: PerMode, mean_square: PerMode) -> tuple[PerMode, PerMode]:
    """Algorithm 2, inference: return mu and var from the running estimates of <x>_k and <x²>_k."""
    return mean, array_module(mean).maximum(mean_square - mean**2, 0)


class Kept(NamedTuple):
    """What `ModeNorm.small` keeps for its backward; w and square are None in inference."""

    g: PerGate
    m: PerChannel  # counted from an origin near by, as mu is
    w: PerGate
    mu: PerMode
    rstd: PerMode
    square: Array
    weight: PerModeOrShared
    bias: PerModeOrShared
    gate_input: PerChannel
    gate_weight: PerMode
    var: PerMode = None  # where the batch lies on several processes


class ModeNorm(Gated):
    """Mode normalization: y_n = weight · sum_k g_nk (x_n − mu_k)/sqrt(var_k + eps) + bias.

    Each sample has one gate vector g_n = softmax(Psi(mean_hw x_n)) over K modes, Psi affine and learned. In training
    N_k = sum_n g_nk, mu_k = (1/N_k) sum_n g_nk mean_hw x_n (eq. 3), var_k = (1/N_k) sum_n g_nk mean_hw (x_n − mu_k)².
    In inference mu_k and var_k come from running estimates of the two moments (Algorithm 2).
    Backward goes through the gates, N_k, mu_k and var_k, and through Psi into x: `small_backward`, step by step.

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
    rng : numpy.random.Generator or a seed, optional
        Draws Psi: gate.weight = 1/K + 0.01·N(0, 1), gate.bias uniform in ±1/sqrt(C), as the authors' released code.
    dtype : dtype of the parameters
    gate_input : {"plain", "normalised"}
        Ours: "normalised" subtracts from Psi's input its mean over the batch and divides by its standard deviation, in
        inference by running estimates. "plain" is the paper's form.
    gate_temperature : float
        Ours: g_n = softmax(Psi(mean_hw x_n) / gate_temperature). 1 is the paper's form.

    Attributes
    ----------
    params : weight (C,), bias (C,) (both (K, C) with per_mode_affine), gate.weight (K, C), gate.bias (K,)
    buffers : running_mean <x>_k, running_mean_square <x²>_k, (K, C) in float64; with a normalised gate input also
        gate.running_mean and gate.running_var, (C,)
    num_modes : K, which `minidl.norm.select` may change
    gate_penalty : float
        The strength ρ of a penalty ρ·H on the entropy of the batch's mean gate (`minidl.norm.gate_entropy`), whose
        gradient backward adds in training; 0 at first.
    gates : (N, K) of the last forward
    mean, var : mu_k and var_k (K, C) of the last forward

    Raises
    ------
    ValueError
        If an argument is out of range, x has another shape, or training sees a single value per channel.

    Notes
    -----
    Shape: x (N, C), (N, C, L) or (N, C, H, W) -> y of the same shape and dtype.

    The biased variance normalises. Stored are the moments, <x>_k ← momentum·<x>_k(batch) + (1 − momentum)·<x>_k and
    <x²>_k likewise, so that the variance <x²>_k − <x>_k² (never below 0) also holds the spread of the batch means: in
    inference one mode gives BatchNorm(running="second_moment"). They start at 0 and 1: evaluation before any training
    is the identity.
    The cost does not depend on K: modes exist only on (N, K), (K, C) and (K, N, C) arrays (`minidl.norm.moments`).

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
        rng: np.random.Generator | int | None = None,
        dtype: Any = "float32",
        gate_input: str = "plain",
        gate_temperature: float = 1.0,
    ) -> None:
        super().__init__(num_features, eps, momentum, dtype, gate_input, gate_temperature)
        num_modes = self.num_modes = whole(num_modes, "ModeNorm: num_modes", cure="1 is BatchNorm, the paper takes 2")
        if per_mode_affine:
            self.add_param("weight", np.ones((num_modes, num_features), dtype))
            self.add_param("bias", np.zeros((num_modes, num_features), dtype))
        gate_weight, gate_bias = init.mode_gate(num_modes, num_features, generator(rng, "ModeNorm"), dtype)
        self.add_param("gate.weight", gate_weight)
        self.add_param("gate.bias", gate_bias)
        self._add_buffer("running_mean", np.zeros((num_modes, num_features)))
        self._add_buffer("running_mean_square", np.ones((num_modes, num_features)))
        self._add_gate_statistics()
        self.mean: Array = None
        self.var: Array = None

    def small(self, m: Mean, v: PerChannel, values: int) -> tuple[PerChannel, PerChannel, Kept]:
        """Return s and u; update the running statistics in training."""
        psi = self.psi()
        gate_weight, gate_bias = psi.weight.astype(np.float64), psi.bias.astype(np.float64)
        weight, bias = (a.reshape(-1, self.num_features) for a in self._affine())
        value = m.value()
        g, log_g = gates(value, gate_weight, gate_bias)
        w = square = None
        if self.training:
            origin = value.sum(axis=0) / len(value)  # means are counted from here
            near = m.since(origin)
            w = mode_weights(log_g)
            mu, var, square = mode_moments(near, v, w)
            if self.across is not None:
                share, origin, mu, var = join_modes(self.across, log_g, mu + origin, var)
                near, w = m.since(origin), w * share
                square = v + (near - mu[:, None]) ** 2
            mean = mu + origin
            self._update("running_mean", mean)
            self._update("running_mean_square", var + mean**2)
        else:
            mean, var = running_moments(self.buffers["running_mean"], self.buffers["running_mean_square"])
            origin = mean.mean(axis=0)
            near, mu = m.since(origin), mean - origin
        self.gates, self.mean, self.var = g, mean, var
        rstd = 1 / array_module(var).sqrt(var + self.eps)
        s, u = mode_norm(g, near, mu, rstd, weight, bias)
        joined = var if self.training and self.across is not None else None
        return s, u, Kept(g, near, w, mu, rstd, square, weight, bias, value, gate_weight, joined)

    def small_backward(
        self, ds: PerChannel, du: PerChannel, training: bool, kept: Kept
    ) -> tuple[PerChannel, PerChannel]:
        """Return dm and dv; add the parameters' gradients."""
        k = kept
        dg, dm, dmu, dvar, dweight, dbias = mode_norm_backward(ds, du, k.g, k.m, k.mu, k.rstd, k.weight, k.bias)
        dlog_g = k.g * dg
        if training:
            mean_dw = None
            if self.across is not None:
                dmu, dvar = self.across.total(dmu, dvar)
                mean_dw = joined_mean_dw(dmu, dvar, k.mu, k.var)
            through_mu, through_m, dv, dw = mode_moments_backward(dmu, dvar, k.m, k.w, k.mu, k.square)
            dm = dm + through_mu + through_m
            dlog_g += mode_weights_backward(dw, k.w, mean_dw)
        else:  # mu and var are constants
            dv = 0 * dm
        through_gates, dgate_weight, dgate_bias = gates_backward(dlog_g, k.g, k.gate_input, k.gate_weight)
        self._add_gradients(weight=dweight, bias=dbias)
        _, _, dpsi_weight, dpsi_bias = self.psi()
        dpsi_weight += dgate_weight
        dpsi_bias += dgate_bias
        return dm + through_gates, dv
