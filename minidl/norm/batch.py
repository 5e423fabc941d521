"""Batch normalization (Ioffe & Szegedy 2015; eq. 1 of the Mode Normalization paper).

m and v (N, C) are the mean and the variance of each channel of each sample, mu and var (C,) those of the batch; s and u
(N, C) are scale and shift, y = (x − m)·s + u.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minidl.backend import Array, array_module
from minidl.norm.base import Across, BatchStatistics, own
from minidl.norm.moments import Mean
from minidl.norm.shapes import OfChannels, PerChannel

RUNNING = ("unbiased", "biased", "second_moment")


def batch_moments(m: PerChannel, v: PerChannel) -> tuple[OfChannels, OfChannels]:
    """mu_c = mean_n m and var_c = mean_n [v + (m − mu)²]: the law of total variance, without cancellation."""
    mu = m.sum(axis=0) / len(m)
    return mu, (v + (m - mu) ** 2).sum(axis=0) / len(m)


def join_batches(across: Across, n: int, mu: Array, var: Array) -> tuple[Array, Array, Array, Array]:
    """Return N, an origin, mu − origin and var of a batch that lies on R processes, from those of each part.

    A part is to the batch what a sample is to its part: with w_r = n_r/N, mu = sum_r w_r mu_r and
    var = sum_r w_r [var_r + (mu_r − mu)²], the law of total variance once more.
    """
    sizes, mu, var = across.each(n, mu, var)  # (R,), (R, C), (R, C)
    w = (sizes / sizes.sum())[:, None]
    origin = mu[0]
    near = mu - origin
    mu = (w * near).sum(axis=0)
    return sizes.sum(), origin, mu, (w * (var + (near - mu) ** 2)).sum(axis=0)


class Kept(NamedTuple):
    """What `batch_norm` keeps for its backward."""

    d: PerChannel
    s: PerChannel
    rstd: OfChannels
    weight: OfChannels


def batch_norm(
    d: PerChannel, weight: OfChannels, bias: OfChannels, var: OfChannels, eps: float
) -> tuple[PerChannel, PerChannel, Kept]:
    """s = weight·rstd and u = bias + s·d, d = m − mu, rstd = 1/sqrt(var + eps); all per channel but d, s, u (N, C)."""
    xp = array_module(d)
    rstd = 1 / xp.sqrt(var + eps)
    s = weight * rstd + xp.zeros_like(d)
    return s, bias + s * d, Kept(d, s, rstd, weight)


def batch_norm_backward(
    ds: PerChannel, du: PerChannel, training: bool, kept: Kept, total: Callable[..., Any] = own
) -> tuple[PerChannel, PerChannel, dict[str, OfChannels]]:
    """Return dm, dv and the gradients of weight and bias; in inference mu and var are constants.

    `total` sums over the parts of the batch. The gradients of weight and bias are those of this part.
    """
    d, s, rstd, weight = kept
    dscale = (ds + du * d).sum(axis=0)  # of weight·rstd, which s and u share; (C,)
    grads = {"weight": rstd * dscale, "bias": du.sum(axis=0)}
    dm = s * du
    if not training:
        return dm, 0 * dm, grads
    n, dscale, dmu = total(len(d), dscale, -dm.sum(axis=0))
    dvar = -(rstd**3) / 2 * weight * dscale
    dm += dmu / n + (2 / n) * dvar * d
    return dm, dm * 0 + dvar / n, grads


class BatchNorm(BatchStatistics):
    """Batch normalization: y = weight·(x − mu_c)/sqrt(var_c + eps) + bias.

    In training mu_c and var_c (biased) are the mean and variance over N, H, W of the batch; in inference they are the
    running estimates. Backward in training, with xh = (x − mu)·rstd and M = N·H·W:
    dx = weight·rstd·(dy − mean(dy) − xh·mean(dy·xh)), the means over N, H, W; dweight = sum dy·xh, dbias = sum dy.
    In inference dx = weight·rstd·dy.

    Parameters
    ----------
    num_features : int
        The number C of channels.
    eps : float
    momentum : float
        The weight of the **new** batch: running ← momentum·batch + (1 − momentum)·running.
    running : {"unbiased", "biased", "second_moment"}
        What is stored: the variance with divisor M − 1 (PyTorch's convention), with divisor M, or the mean of squares,
        so that running_mean_square − running_mean² also holds the spread of the batch means, as in ModeNorm.
    dtype : dtype of the parameters

    Attributes
    ----------
    params : weight (C,), bias (C,)
    buffers : running_mean, and running_var or running_mean_square, (C,) in float64

    Raises
    ------
    ValueError
        If an argument is out of range, x has another shape, or training sees a single value per channel.

    Notes
    -----
    Shape: x (N, C), (N, C, L) or (N, C, H, W) -> y of the same shape and dtype.

    The biased variance normalises, whatever is stored. Evaluation before any training is the identity.

    Examples
    --------
    >>> y = BatchNorm(1)(np.array([[1.0], [3.0]]))
    >>> np.round(y, 4)
    array([[-1.],
           [ 1.]])
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        running: str = "unbiased",
        dtype: Any = "float32",
    ) -> None:
        super().__init__(num_features, eps, momentum, dtype)
        if running not in RUNNING:
            raise ValueError(f"BatchNorm: running must be one of {', '.join(RUNNING)}, got {running!r}; choose one")
        self.running = running
        self._add_buffer("running_mean", np.zeros(num_features))
        self._spread = "running_mean_square" if running == "second_moment" else "running_var"
        self._add_buffer(self._spread, np.ones(num_features))

    def small(self, m: Mean, v: PerChannel, values: int) -> tuple[PerChannel, PerChannel, Any]:
        """Return s and u; update the running statistics in training."""
        if self.training:
            origin = m.m0[0]
            near = m.since(origin)
            mu, var = batch_moments(near, v)
            n: Any = len(v)
            if self.across is not None:
                n, origin, mu, var = join_batches(self.across, n, mu + origin, var)
                near = m.since(origin)
            d, mean = near - mu, mu + origin
            values = n * (values // len(v))
            self._update("running_mean", mean)
            if self.running == "second_moment":
                self._update("running_mean_square", var + mean**2)
            else:
                self._update("running_var", var * (values / (values - 1)) if self.running == "unbiased" else var)
        else:
            mean, var = self._running_moments()
            d = m.since(mean)
        return batch_norm(d, *self._affine(), var, self.eps)

    def small_backward(
        self, ds: PerChannel, du: PerChannel, training: bool, kept: Any
    ) -> tuple[PerChannel, PerChannel]:
        """Return dm and dv; add the parameters' gradients."""
        total = own if self.across is None else self.across.total
        dm, dv, gradients = batch_norm_backward(ds, du, training, kept, total)
        self._add_gradients(**gradients)
        return dm, dv

    def _running_moments(self) -> tuple[OfChannels, OfChannels]:
        mean = self.buffers["running_mean"]
        if self.running != "second_moment":
            return mean, self.buffers["running_var"]
        xp = array_module(mean=mean)
        return mean, xp.maximum(self.buffers["running_mean_square"] - mean**2, 0)
