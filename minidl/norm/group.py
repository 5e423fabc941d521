"""Group normalization (Wu & He 2018), and the function that layer and instance normalization share with it."""

from __future__ import annotations

from typing import Any, NamedTuple

from minidl.arguments import whole
from minidl.backend import Array, array_module
from minidl.norm.base import Norm
from minidl.norm.moments import Mean
from minidl.norm.shapes import OfChannels, PerChannel


class Kept(NamedTuple):
    """What `group_norm` keeps for its backward."""

    d: Array  # (N, G, C/G)
    s: Array  # (N, G, C/G)
    rstd: Array  # (N, G, 1)
    weight: Array  # (G, C/G)


def group_norm(
    m: PerChannel, v: PerChannel, weight: OfChannels, bias: OfChannels, groups: int, eps: float
) -> tuple[PerChannel, PerChannel, Kept]:
    """s = weight·rstd and u = bias + s·(m − mu), with mu and var of each sample over the channels of each group.

    mu_ng = mean_{c in g} m and var_ng = mean_{c in g} [v + (m − mu)²]; m, v, s, u are (N, C).
    """
    xp = array_module(m=m)
    n, c = m.shape
    m, v = m.reshape(n, groups, -1), v.reshape(n, groups, -1)  # (N, G, C/G)
    size = m.shape[2]
    d = m - m.sum(axis=2, keepdims=True) / size
    rstd = 1 / xp.sqrt((v + d**2).sum(axis=2, keepdims=True) / size + eps)  # (N, G, 1)
    weight = weight.reshape(groups, -1)
    s = weight * rstd
    u = bias.reshape(groups, -1) + s * d
    return s.reshape(n, c), u.reshape(n, c), Kept(d, s, rstd, weight)


def group_norm_backward(
    ds: PerChannel, du: PerChannel, kept: Kept
) -> tuple[PerChannel, PerChannel, dict[str, OfChannels]]:
    """Return dm, dv and the gradients of weight and bias."""
    d, s, rstd, weight = kept
    n, c = ds.shape
    ds, du = ds.reshape(d.shape), du.reshape(d.shape)
    size = d.shape[2]
    dscale = ds + du * d  # of weight·rstd, which s and u share; (N, G, C/G)
    grads = {"weight": (rstd * dscale).sum(axis=0).reshape(c), "bias": du.sum(axis=0).reshape(c)}
    dvar = -(rstd**3) / 2 * (weight * dscale).sum(axis=2, keepdims=True)  # (N, G, 1)
    dm = s * du
    dmu = -dm.sum(axis=2, keepdims=True)
    dm += dmu / size + (2 / size) * dvar * d
    dv = dm * 0 + dvar / size
    return dm.reshape(n, c), dv.reshape(n, c), grads


class GroupNorm(Norm):
    """Group normalization: y = weight·(x − mu_ng)/sqrt(var_ng + eps) + bias, the same in training and inference.

    The mean and the (biased) variance of each sample are taken over H, W and the C/G neighbouring channels of a group.
    Backward, with xh = (x − mu)·rstd and dyh = weight·dy: dx = rstd·(dyh − mean(dyh) − xh·mean(dyh·xh)), the means
    over the group; dweight_c = sum_nhw dy·xh, dbias_c = sum_nhw dy.

    Parameters
    ----------
    num_groups : int, a divisor of num_channels
    num_channels : int
    eps : float
    dtype : dtype of the parameters

    Attributes
    ----------
    params : weight (C,), bias (C,), one value per channel (not a group)

    Raises
    ------
    ValueError
        If num_groups does not divide num_channels, an argument is out of range, or x has another shape.

    Notes
    -----
    Shape: x (N, C), (N, C, L) or (N, C, H, W) -> y of the same shape and dtype.

    Examples
    --------
    >>> import numpy as np
    >>> y = GroupNorm(1, 2)(np.array([[1.0, 3.0]]))
    >>> np.round(y, 4)
    array([[-1.,  1.]])
    """

    _features = "num_channels"

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, dtype: Any = "float32") -> None:
        super().__init__(num_channels, eps, dtype)
        num_channels, num_groups = self.num_features, whole(num_groups, f"{type(self).__name__}: num_groups")
        if num_channels % num_groups:
            divisors = [g for g in range(1, num_channels + 1) if num_channels % g == 0]
            raise ValueError(
                f"{type(self).__name__}: num_groups must divide num_channels {num_channels}, got {num_groups}; "
                f"use one of {', '.join(map(str, divisors))}"
            )
        self.num_groups = num_groups

    def small(self, m: Mean, v: PerChannel, values: int) -> tuple[PerChannel, PerChannel, Any]:
        """Return s and u."""
        xp = array_module(v)
        size = self.num_features // self.num_groups
        origin = xp.repeat(m.m0[:, ::size], size, axis=1)  # means are counted from each group's first channel
        return group_norm(m.since(origin), v, *self._affine(), self.num_groups, self.eps)

    def small_backward(
        self, ds: PerChannel, du: PerChannel, training: bool, kept: Any
    ) -> tuple[PerChannel, PerChannel]:
        """Return dm and dv; add the parameters' gradients."""
        dm, dv, gradients = group_norm_backward(ds, du, kept)
        self._add_gradients(**gradients)
        return dm, dv
