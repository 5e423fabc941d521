"""The heavy passes that the six norms share.

Every norm here maps per-sample channel moments to a scale and a shift. With P values per channel of a sample,

    m_nc = mean_p x_ncp,   v_nc = mean_p (x_ncp − m_nc)²            (`moments`)
    (m, v) -> (s, u)                                                the norm itself, on (N, C) arrays
    y = (x − m)·s + u                                               (`scale_shift`)

and backwards, with D0 = sum_p dy and D1 = sum_p dy·(x − m),

    du = D0,   ds = D1                                              (`scale_shift_sums`)
    (ds, du) -> (dm, dv)                                            the norm's backward, on (N, C) arrays
    dx = s·(dy − D0/P) + (2·dv/P)·(x − m) + dm/P                    (`scale_shift_backward`)

So the cost of a norm is these passes, whatever it does in between: modes exist only on (N, K) and (K, C) arrays.

The functions are written here for any array library, in float64. Each engine has twins of them in the precision of x.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minidl.backend import Array
from minidl.norm.shapes import Images, PerChannel

WIDE = 1e24  # a variance from which on float32 lacks the range: for squares of x, and for gradients of the variance

Centred = Any  # x − m, in the form that the engine whose `moments` made it likes; here an array of x's shape


class Mean(NamedTuple):
    """m in two parts, (N, C) in float64: m = m0 + δ, with δ what rounding left of the mean."""

    m0: PerChannel
    delta: PerChannel

    def since(self, origin: Array) -> PerChannel:
        """Return m − origin: exact to the rounding of the difference, however large the mean is."""
        return (self.m0 - origin) + self.delta

    def value(self) -> PerChannel:
        """Return m, rounded."""
        return self.m0 + self.delta


def moments(x: Images) -> tuple[Mean, PerChannel, Centred]:
    """Return m, v (N, C) in float64 and x − m, for x (N, C, ...)."""
    x = x.astype(np.float64, copy=False)
    pixels = tuple(range(2, x.ndim))
    m0 = x.mean(axis=pixels)
    centred = x - _each(m0, x)
    delta = centred.mean(axis=pixels)
    centred = centred - _each(delta, x)
    return Mean(m0, delta), (centred**2).mean(axis=pixels), centred


def scale_shift(centred: Centred, s: PerChannel, u: PerChannel, dtype: np.dtype) -> Images:
    """y = (x − m)·s + u, for s, u (N, C); y has this dtype."""
    return (centred * _each(s, centred) + _each(u, centred)).astype(dtype)


def scale_shift_sums(dy: Images, centred: Centred) -> tuple[PerChannel, PerChannel]:
    """Return ds = sum_p dy·(x − m) and du = sum_p dy, (N, C) in float64."""
    dy = dy.astype(np.float64, copy=False)
    pixels = tuple(range(2, dy.ndim))
    return (dy * centred).sum(axis=pixels), dy.sum(axis=pixels)


def scale_shift_backward(
    dy: Images, centred: Centred, s: PerChannel, du: PerChannel, dm: PerChannel, dv: PerChannel
) -> Images:
    """dx = s·(dy − du/P) + (2·dv/P)·(x − m) + dm/P, for s, du, dm, dv (N, C)."""
    p = math.prod(dy.shape[2:])
    s, du, dm, dv = (_each(a, dy) for a in (s, du, dm, dv))
    return (s * (dy - du / p) + (2 / p) * dv * centred + dm / p).astype(dy.dtype)


def _each(a: Array, x: Array) -> Array:
    """View a (N, C) so that it meets each pixel of x (N, C, ...)."""
    return a.reshape(a.shape + (1,) * (x.ndim - 2))
