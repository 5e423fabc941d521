"""The heavy passes of the norms in NumPy's calls, in the precision of x (`minidl.norm.moments` says what they are).

The small arrays are float64. x − m is kept as xc = x − m0, with m0 the mean rounded to x's precision, and the remainder
δ = mean_p xc puts m and v right: m = m0 + δ, v = mean_p xc² − δ². A norm needs differences of means alone, and takes
them as `Mean.since` an origin near by. The error of y then does not grow with the mean.

The shapes inside: the fast memory format as (C, P, N); sums over P are BLAS products with a vector of ones. A small
array is tiled along rows of B·N values, (C, A, B·N) against (C, 1, B·N) with A·B = P, so that NumPy's inner loops are
long for small batches too. The channels are shared out to the threads; no result depends on how.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minidl import memory, parallel
from minidl.backend import Array
from minidl.engine import NUMPY
from minidl.norm import moments as written
from minidl.norm.moments import Mean
from minidl.parallel import scratch

_ROW = 6144  # values in a row, at least, where P allows it: measured, shorter rows cost up to half as much again
_REPEATS = 128  # times that a small array is repeated in a row, at most
_FEWER = range(16, 64), 32  # and for these batches
_BLOCK = 4096  # pixels that are summed in one go in the precision of x; more are summed in parts
_PART = 512


class Centred(NamedTuple):
    """x − m in two parts: xc = x − m0 as (C, ..., N), and δ (N, C) with x − m = xc − δ."""

    xc: Array
    delta: Array


@NUMPY.twin(written.moments)
def moments(x: Array) -> tuple[Mean, Array, Any]:
    """Return m, v (N, C) in float64 and x − m, for x (N, C, ...)."""
    dtype = np.promote_types(x.dtype, np.float32)  # float16 is computed in float32
    xt = memory.batch_last(np, x, dtype)  # (C, ..., N)
    xc = memory.empty(np, xt.shape, dtype)
    c, p, b, n = _layout(xt.shape)
    sums = np.empty((3, c, n), _precision(p, dtype))  # of x, then m0; of xc; of xc²

    def share(some: slice) -> None:
        first, rest, square = sums[:, some]
        x3, xc3 = xt[some].reshape(-1, p, n), xc[some].reshape(-1, p, n)
        _sum(x3, out=first)
        first /= p
        (m0,) = _tiles(first[None].astype(dtype, copy=False), b)
        np.subtract(_rows(x3, b), m0, out=_rows(xc3, b))
        _sum(xc3, out=rest)
        _sum_of_products(xc3, xc3, out=square)  # overflow is seen to below

    parallel.over(c, xt.size, share)
    m0, delta, square = sums.astype(np.float64, copy=False).transpose(0, 2, 1)  # (N, C) each
    if sums.dtype != dtype:
        m0[...] = m0.astype(dtype)
    delta /= p
    v = square / p - delta * delta
    np.maximum(v, 0, out=v)
    if dtype == np.float32 and not v.max() < written.WIDE:
        return written.moments(x)
    return Mean(m0, delta), v, Centred(xc, delta)


@NUMPY.twin(written.scale_shift)
def scale_shift(centred: Any, s: Array, u: Array, dtype: np.dtype) -> Array:
    """y = (x − m)·s + u, for s, u (N, C); y has this dtype."""
    if not isinstance(centred, Centred):
        return written.scale_shift(centred, s, u, dtype)
    xc, delta = centred
    y = memory.empty(np, xc.shape, xc.dtype)
    _, _, b, _ = _layout(xc.shape)
    small = _small(xc.dtype, s, u - delta * s)

    def share(some: slice) -> None:
        scale, shift = _tiles(small[:, some], b)
        y3 = _rows(y[some], b)
        np.multiply(_rows(xc[some], b), scale, out=y3)
        np.add(y3, shift, out=y3)

    parallel.over(len(xc), xc.size, share)
    return memory.batch_first(y.astype(dtype, copy=False))


@NUMPY.twin(written.scale_shift_sums)
def scale_shift_sums(dy: Array, centred: Any) -> tuple[Array, Array]:
    """Return ds = sum_p dy·(x − m) and du = sum_p dy, (N, C) in float64."""
    if not isinstance(centred, Centred):
        return written.scale_shift_sums(dy, centred)
    xc, delta = centred
    dyt = memory.batch_last(np, dy, xc.dtype)
    c, p, _, n = _layout(xc.shape)
    sums = np.empty((2, c, n), _precision(p, xc.dtype))

    def share(some: slice) -> None:
        ds, du = sums[:, some]
        dy3 = dyt[some].reshape(-1, p, n)
        _sum(dy3, out=du)
        _sum_of_products(dy3, xc[some].reshape(-1, p, n), out=ds)

    parallel.over(c, xc.size, share)
    ds, du = sums.astype(np.float64, copy=False).transpose(0, 2, 1)
    ds -= delta * du
    return ds, du


@NUMPY.twin(written.scale_shift_backward)
def scale_shift_backward(dy: Array, centred: Any, s: Array, du: Array, dm: Array, dv: Array) -> Array:
    """dx = s·(dy − du/P) + (2·dv/P)·(x − m) + dm/P, for s, du, dm, dv (N, C)."""
    if not isinstance(centred, Centred):
        return written.scale_shift_backward(dy, centred, s, du, dm, dv)
    xc, delta = centred
    dyt = memory.batch_last(np, dy, xc.dtype)
    dx = memory.empty(np, xc.shape, xc.dtype)
    _, p, b, _ = _layout(xc.shape)
    slope = (2 / p) * dv
    small = _small(xc.dtype, s, slope, (dm - s * du) / p - slope * delta)

    def share(some: slice) -> None:
        scale, slope, shift = _tiles(small[:, some], b)
        dx3, xc3 = _rows(dx[some], b), _rows(xc[some], b)
        product = scratch("product", xc3.shape, xc3.dtype)
        np.multiply(_rows(dyt[some], b), scale, out=dx3)
        np.multiply(xc3, slope, out=product)
        np.add(dx3, product, out=dx3)
        np.add(dx3, shift, out=dx3)

    parallel.over(len(xc), xc.size, share)
    return memory.batch_first(dx.astype(dy.dtype, copy=False))


# -- how a pass is laid out ------------------------------------------------------------------------------------------


@lru_cache
def _layout(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return C, P, B, N for a (C, ..., N) array: B, a divisor of P, is how often small arrays are repeated in a row."""
    c, *inner, n = shape
    b = 1
    for size in reversed(inner):
        wanted = min((_FEWER[1] if n in _FEWER[0] else _REPEATS) // b, -(-_ROW // (b * n)))
        divisor = next(d for d in range(max(1, min(wanted, size)), 0, -1) if size % d == 0)
        b *= divisor
        if divisor < size:
            break
    return c, math.prod(inner), b, n


def _precision(p: int, dtype: np.dtype) -> np.dtype:
    """Return the precision of sums over P values: float64 beyond one block, whose sum is in that of the values."""
    return dtype if p <= _BLOCK else np.dtype(np.float64)


def _sum(x: Array, out: Array) -> None:
    """Sum (c, P, N) over P -> (c, N), by BLAS, which reads memory twice as fast as np.sum; in blocks where P is large.

    One float32 after another would lose a thousandth of a mean over 10⁷ values.
    """
    p = x.shape[1]
    if p <= _BLOCK:
        np.matmul(_ones(p, x.dtype), x, out=out)
        return
    whole = p - p % _PART
    parts = np.matmul(_ones(_PART, x.dtype), x[:, :whole].reshape(len(x), -1, _PART, x.shape[2]))
    np.sum(parts, axis=1, dtype=np.float64, out=out)
    if whole < p:
        out += np.matmul(_ones(p - whole, x.dtype), x[:, whole:])


@lru_cache
def _ones(p: int, dtype: np.dtype) -> np.ndarray:
    return np.ones(p, dtype)


def _sum_of_products(x: Array, y: Array, out: Array) -> None:
    """Sum x·y as `_sum` does."""
    product = scratch("product", x.shape, x.dtype)
    np.multiply(x, y, out=product)
    _sum(product, out)


def _rows(x: Array, b: int) -> Array:
    """View (c, ..., N) as (c, A, B·N)."""
    return x.reshape(len(x), -1, b * x.shape[-1])


def _small(dtype: np.dtype, *arrays: Array) -> Array:
    """Stack (N, C) arrays as (len(arrays), C, N), in the precision of the passes."""
    n, c = arrays[0].shape
    stack = np.empty((len(arrays), c, n), dtype)
    for row, array in zip(stack, arrays, strict=True):
        row[...] = array.T
    return stack


def _tiles(small: Array, b: int) -> Array:
    """Repeat (k, c, N) arrays b times along a row: (k, c, 1, B·N)."""
    k, c, n = small.shape
    tiles = scratch("tiles", (k, c, b, n), small.dtype)
    memory.pixels(tiles)[...] = memory.pixels(small[:, :, None])
    return tiles.reshape(k, c, 1, b * n)
