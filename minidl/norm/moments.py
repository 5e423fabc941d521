"""The heavy passes that the six norms share.

Every norm here maps per-sample channel moments to a scale and a shift. With P values a channel of a sample,

    m_nc = mean_p x_ncp,   v_nc = mean_p (x_ncp − m_nc)²            (`moments`)
    (m, v) -> (s, u)                                                the norm itself, on (N, C) arrays
    y = (x − m)·s + u                                               (`scale_shift`)

and backwards, with D0 = sum_p dy and D1 = sum_p dy·(x − m),

    du = D0,   ds = D1                                              (`scale_shift_sums`)
    (ds, du) -> (dm, dv)                                            the norm's backward, on (N, C) arrays
    dx = s·(dy − D0/P) + (2·dv/P)·(x − m) + dm/P                    (`scale_shift_backward`)

So the cost of a norm is these passes, whatever it does in between: modes exist on (N, K) and (K, C) arrays alone.

The small arrays are float64. x − m is kept as xc = x − m0, with m0 the mean rounded to x's precision, and the remainder
δ = mean_p xc puts m and v right: m = m0 + δ, v = mean_p xc² − δ². The error of y then does not grow with the mean.

The shapes inside: the fast memory format as (C, A, R), R = B·N the row length, A·B = P; small arrays are tiled along a
row, (C, 1, R), so that NumPy's inner loops are long for small batches too. Blocks of channels go to the threads.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import NamedTuple

import numpy as np

from minidl import memory, parallel
from minidl.backend import Array, array_module

_ROW = 512  # values in a row, at least, where P allows it
_BLOCK = 1 << 16  # values in a block of channels, about


class Centred(NamedTuple):
    """x − m in two parts: xc = x − m0 as (C, ..., N), and δ (N, C) with x − m = xc − δ."""

    xc: Array
    delta: Array


def moments(x: Array) -> tuple[Array, Array, Centred]:
    """Return m (N, C), v (N, C) in float64 and x − m, for x (N, C, ...)."""
    xp = array_module(x=x)
    dtype = xp.promote_types(x.dtype, xp.float32)  # float16 is computed in float32
    xt = memory.batch_last(xp, x, dtype)  # (C, ..., N)
    c, a, r, n = _rows(xt.shape)
    x3 = xt.reshape(c, a, r)
    xc = memory.empty(xp, xt.shape, dtype)
    xc3 = xc.reshape(c, a, r)
    first, delta, square = (xp.empty((c, n), xp.float64) for _ in range(3))

    def block(lo: int, hi: int) -> None:
        some = slice(lo, hi)
        first[some] = _sum(xp, x3[some], n)
        first[some] /= a * r // n
        m0 = first[some].astype(dtype)
        xp.subtract(x3[some], _tile(xp, m0, r), out=xc3[some])
        first[some] = m0
        delta[some] = _sum(xp, xc3[some], n)
        square[some] = _sum_of_products(xp, xc3[some], xc3[some], n)

    _over_channels(block, c, a * r)
    delta /= a * r // n
    square /= a * r // n
    square -= delta * delta
    return (first + delta).T, xp.maximum(square, 0).T, Centred(xc, delta.T)


def scale_shift(centred: Centred, s: Array, u: Array, dtype: np.dtype) -> Array:
    """y = (x − m)·s + u, for s, u (N, C); y has this dtype."""
    xc, delta = centred
    xp = array_module(xc=xc)
    c, a, r, _ = _rows(xc.shape)
    y = memory.empty(xp, xc.shape, xc.dtype)
    xc3, y3 = xc.reshape(c, a, r), y.reshape(c, a, r)
    shift = (u - delta * s).T.astype(xc.dtype)
    scale = s.T.astype(xc.dtype)

    def block(lo: int, hi: int) -> None:
        some = slice(lo, hi)
        xp.multiply(xc3[some], _tile(xp, scale[some], r), out=y3[some])
        xp.add(y3[some], _tile(xp, shift[some], r), out=y3[some])

    _over_channels(block, c, a * r)
    return memory.batch_first(y.astype(dtype, copy=False))


def scale_shift_sums(dy: Array, centred: Centred) -> tuple[Array, Array]:
    """Return ds = sum_p dy·(x − m) and du = sum_p dy, (N, C) in float64."""
    xc, delta = centred
    xp = array_module(dy=dy, x=xc)
    dyt = memory.batch_last(xp, dy, xc.dtype)
    c, a, r, n = _rows(xc.shape)
    dy3, xc3 = dyt.reshape(c, a, r), xc.reshape(c, a, r)
    ds, du = (xp.empty((c, n), xp.float64) for _ in range(2))

    def block(lo: int, hi: int) -> None:
        some = slice(lo, hi)
        du[some] = _sum(xp, dy3[some], n)
        ds[some] = _sum_of_products(xp, dy3[some], xc3[some], n)

    _over_channels(block, c, a * r)
    du = du.T
    return ds.T - delta * du, du


def scale_shift_backward(dy: Array, centred: Centred, s: Array, du: Array, dm: Array, dv: Array) -> Array:
    """dx = s·(dy − du/P) + (2·dv/P)·(x − m) + dm/P, for s, du, dm, dv (N, C)."""
    xc, delta = centred
    xp = array_module(dy=dy, x=xc)
    dyt = memory.batch_last(xp, dy, xc.dtype)
    c, a, r, n = _rows(xc.shape)
    p = a * r // n
    dx = memory.empty(xp, xc.shape, xc.dtype)
    dy3, xc3, dx3 = dyt.reshape(c, a, r), xc.reshape(c, a, r), dx.reshape(c, a, r)
    slope = 2 * dv / p
    shift = ((dm - s * du) / p - slope * delta).T.astype(xc.dtype)
    scale, slope = s.T.astype(xc.dtype), slope.T.astype(xc.dtype)

    def block(lo: int, hi: int) -> None:
        some = slice(lo, hi)
        xp.multiply(dy3[some], _tile(xp, scale[some], r), out=dx3[some])
        product = _temporary(xp, xc3[some])
        xp.multiply(xc3[some], _tile(xp, slope[some], r), out=product)
        xp.add(dx3[some], product, out=dx3[some])
        xp.add(dx3[some], _tile(xp, shift[some], r), out=dx3[some])

    _over_channels(block, c, a * r)
    return memory.batch_first(dx.astype(dy.dtype, copy=False))


# -- how a pass is laid out ------------------------------------------------------------------------------------------


def _rows(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return C, A, R, N for a (C, ..., N) array: R = B·N, B from the innermost axes, at least _ROW if they allow."""
    c, *inner, n = shape
    b = 1
    while inner and b * n < _ROW:
        size = inner.pop()
        whole = next(d for d in range(1, size + 1) if size % d == 0 and (d == size or b * d * n >= _ROW))
        b *= whole
        if whole < size:
            inner.append(size // whole)
    return c, math.prod(inner), b * n, n


def _over_channels(block: object, channels: int, size: int) -> None:
    """Call block(lo, hi) for blocks of channels, `size` values each, on the threads."""
    pieces = parallel.partition(channels, _BLOCK // size)
    parallel.run(lambda i: block(*pieces[i]), len(pieces))  # type: ignore[operator]


def _sum(xp: ModuleType, x: Array, n: int) -> Array:
    """Sum (c, A, R) over A and over the B values of each sample in a row -> (c, N), by BLAS."""
    rows = xp.ones(x.shape[1], x.dtype) @ x  # (c, R)
    return rows.reshape(len(x), -1, n).sum(axis=1, dtype=xp.float64) if rows.shape[1] > n else rows


def _sum_of_products(xp: ModuleType, x: Array, y: Array, n: int) -> Array:
    """Sum x·y as `_sum` does."""
    product = _temporary(xp, x)
    xp.multiply(x, y, out=product)
    return _sum(xp, product, n)


def _temporary(xp: ModuleType, x: Array) -> Array:
    return parallel.scratch("norm", x.shape, x.dtype) if xp is np else xp.empty_like(x)


def _tile(xp: ModuleType, small: Array, r: int) -> Array:
    """Repeat a (c, N) array along rows of r values: (c, 1, r)."""
    c, n = small.shape
    tiled = xp.empty((c, r // n, n), small.dtype)
    tiled[...] = small[:, None]
    return tiled.reshape(c, 1, r)
