"""The heavy passes of `minidl.norm.moments`, each one reading of its arrays.

A pass sees a channel as rows of L = r·N values, r pixels of all samples side by side, so that loops along a row are
long for small batches too; each place in the row has sums of its own, added up over the r places of a sample at the
end. Sums run over blocks of 32 rows in the precision of x, and over the blocks in float64.

`moments` takes the deviations in a block from the mean of the block before, so that x is read once. Nothing cancels,
however large the mean or the image: the squares of the jumps from mean to mean add up to at most four times those of
the deviations. x is kept as it is: x − m is (x − m0) − δ, with m0 and δ as in `minidl.norm.moments.Mean`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minidl import memory
from minidl.backend import Array
from minidl.engine import NUMBA
from minidl.engines.numba.compile import jit
from minidl.engines.numba.jobs import shared
from minidl.engines.numba.share import share
from minidl.norm import moments as written
from minidl.norm.moments import Mean

_LANES = 64  # values in a row, at least, where the image has as many
_FIRST, _BLOCK = 8, 32  # rows in the first block and in the others


class Centred(NamedTuple):
    """x − m as x, flat and in its own precision, and m0, δ (C, N) in float64 with x − m = (x − m0) − δ."""

    x: Array
    m0: Array
    delta: Array
    shape: tuple[int, ...]  # (C, ..., N)
    layout: tuple[int, int]  # P, and the pixels in a row
    behind: Any = None  # what came of the layers behind the norm, where they are fused with it


@NUMBA.twin(written.moments)
def moments(x: Array) -> tuple[Mean, Array, Any]:
    """Return m, v (N, C) in float64 and x − m, for x (N, C, ...)."""
    t = memory.batch_last(np, x, np.float32 if x.dtype.itemsize == 2 else x.dtype)
    shape = t.shape
    c, layout = shape[0], _layout(shape)
    flat = t.reshape(-1)
    small = np.empty((3, c, shape[-1]))
    widest = np.zeros(c)
    share(c, t.size, _moments, flat, small, widest, *layout)
    m0, delta, v = small
    if x.dtype != np.float64 and not max(widest.tolist()) < written.WIDE:
        return written.moments(x)
    return Mean(m0.T, delta.T), v.T, Centred(flat, m0, delta, shape, layout)


@NUMBA.twin(written.scale_shift)
def scale_shift(centred: Any, s: Array, u: Array, dtype: np.dtype) -> Array:
    """y = (x − m)·s + u, for s, u (N, C); y has this dtype."""
    if not isinstance(centred, Centred):
        return written.scale_shift(centred, s, u, dtype)
    x, m0, delta, shape, layout, _ = centred
    y = memory.empty(np, shape, x.dtype)
    share(layout[0], x.size, _scale_shift, x, m0, delta, rows(s), rows(u), y.reshape(-1), *layout)
    return memory.batch_first(y.astype(dtype, copy=False))


@NUMBA.twin(written.scale_shift_sums)
def scale_shift_sums(dy: Array, centred: Any) -> tuple[Array, Array]:
    """Return ds = sum_p dy·(x − m) and du = sum_p dy, (N, C) in float64."""
    if not isinstance(centred, Centred):
        return written.scale_shift_sums(dy, centred)
    x, m0, delta, _, layout, _ = centred
    sums = np.empty((2, *m0.shape))
    dyt = memory.batch_last(np, dy, x.dtype).reshape(-1)
    share(len(m0), x.size, _sums, dyt, x, m0, delta, sums, *layout)
    ds, du = sums
    return ds.T, du.T


@NUMBA.twin(written.scale_shift_backward)
def scale_shift_backward(dy: Array, centred: Any, s: Array, du: Array, dm: Array, dv: Array) -> Array:
    """dx = s·(dy − du/P) + (2·dv/P)·(x − m) + dm/P, for s, du, dm, dv (N, C)."""
    if not isinstance(centred, Centred):
        return written.scale_shift_backward(dy, centred, s, du, dm, dv)
    x, m0, delta, shape, layout, _ = centred
    dx = memory.empty(np, shape, x.dtype)
    dyt = memory.batch_last(np, dy, x.dtype).reshape(-1)
    small = m0, delta, rows(s), rows(du), rows(dm), rows(dv)
    share(layout[0], x.size, _backward, dyt, x, *small, dx.reshape(-1), *layout)
    return memory.batch_first(dx.astype(dy.dtype, copy=False))


def rows(small: Array) -> Array:
    """View (N, C) as (C, N), or copy it."""
    t = small.T
    return t if t.flags.c_contiguous else np.ascontiguousarray(t)


@lru_cache
def _layout(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return P and the pixels of a row, for x (C, ..., N): whole vectors where the batch allows it, few left over.

    >>> _layout((6, 28, 28, 4)), _layout((6, 28, 28, 5)), _layout((6, 28, 28, 512)), _layout((6, 4))
    ((784, 16), (784, 16), (784, 1), (1, 1))
    """
    p, n = math.prod(shape[1:-1]), shape[-1]
    pixels = max(1, -(-_LANES // n))
    if n < 64:
        step = 16 // math.gcd(n, 16)
        pixels = -(-pixels // step) * step
        pixels = p // -(-p // pixels) // step * step or pixels
    return p, min(pixels, p)


# -- compiled: x, dy, y, dx are flat; `at` is where a channel or a block begins; unsigned, an index needs no check -----


@jit(inner=True, in_order=True)
def _add(total, x, at, rows):
    """Write the sum of the rows."""
    lanes = np.uint64(len(total))
    at = np.uint64(at)
    for j in range(lanes):
        total[j] = x[at + j]
    for _ in range(1, rows):
        at += lanes
        for j in range(lanes):
            total[j] += x[at + j]


@jit(inner=True, in_order=True)
def _deviate(first, second, mean, x, at, rows):
    """Write the sums of x − mean and of its square over the rows."""
    lanes = np.uint64(len(mean))
    a = np.uint64(at)
    for j in range(lanes):
        first[j] = 0
        second[j] = 0
    for _ in range(rows // 4):
        b = a + lanes
        c = b + lanes
        d = c + lanes
        for j in range(lanes):
            m = mean[j]
            t0, t1, t2, t3 = x[a + j] - m, x[b + j] - m, x[c + j] - m, x[d + j] - m
            first[j] += (t0 + t1) + (t2 + t3)
            second[j] += (t0 * t0 + t1 * t1) + (t2 * t2 + t3 * t3)
        a = d + lanes
    for _ in range(rows % 4):
        for j in range(lanes):
            t = x[a + j] - mean[j]
            first[j] += t
            second[j] += t * t
        a += lanes


@jit(inner=True, in_order=True)
def _merge(sums, squares, origin, mean, first, second, rows):
    """Add a block's sums about its `mean` to those about the origin, and make the mean its own."""
    count = np.float64(rows)
    for j in range(len(mean)):
        e = np.float64(mean[j]) - np.float64(origin[j])
        d = np.float64(first[j])
        sums[j] += d + count * e
        squares[j] += np.float64(second[j]) + e * (2 * d + count * e)
        mean[j] += np.float64(first[j]) / count


@jit(inner=True)
def _wide_variance(x, at, p, n):
    """Return the variance of every n-th value from `at` on, p of them, in float64 throughout."""
    at, n = np.uint64(at), np.uint64(n)
    mean = square = 0.0
    for k in range(np.uint64(p)):
        mean += x[at + k * n]
    mean /= p
    for k in range(np.uint64(p)):
        t = x[at + k * n] - mean
        square += t * t
    return square / p


@shared(in_order=True)
def _moments(x, out, widest, p, pixels, start, stop, thread):
    """Write m0, δ and v (3, C, N), for the channels start to stop, and the largest v of a channel, or Inf."""
    n = out.shape[2]
    lanes, rows = pixels * n, p // pixels
    rest = (p - rows * pixels) * n
    mean, first, second = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    origin, sums, squares = np.empty(lanes, x.dtype), np.empty(lanes), np.empty(lanes)
    for c in range(start, stop):
        at, top = c * p * n, 0
        while top < rows:
            size = rows - top
            if top == 0:
                if size > _FIRST:
                    size = _FIRST
                _add(mean, x, at, size)
                for j in range(lanes):
                    mean[j] /= size
                    origin[j] = mean[j]
                    sums[j] = squares[j] = 0
            elif size > _BLOCK:
                size = _BLOCK
            _deviate(first, second, mean, x, at, size)
            _merge(sums, squares, origin, mean, first, second, size)
            at += size * lanes
            top += size
        for j in range(rest):
            t = np.float64(x[at + j]) - np.float64(origin[j])
            sums[j] += t
            squares[j] += t * t
        for i in range(n):
            o = np.float64(origin[i])
            total = square = 0.0
            for k in range(i, lanes, n):
                e = np.float64(origin[k]) - o
                count = rows + 1 if k < rest else rows
                total += sums[k] + count * e
                square += squares[k] + e * (2 * sums[k] + count * e)
            total /= p
            mean[i] = o + total
            spread = square / p - total * total
            out[0, c, i] = mean[i]
            out[1, c, i] = (o - mean[i]) + total
            if not spread < np.inf:  # squares beyond the range of float32, or what is in x
                spread = _wide_variance(x, c * p * n + i, p, n)
            out[2, c, i] = 0.0 if spread < 0 else spread
            if not spread <= widest[c]:
                widest[c] = spread if spread == spread else np.inf


@jit(inner=True, in_order=True)
def scale_shift_rows(m, scale, shift, m0, delta, s, u, c):
    """Write what y = (x − m)·scale + shift takes for channel c, sample by sample, as often as the rows have room."""
    n = m0.shape[1]
    for i in range(n):
        m[i] = m0[c, i]
        scale[i] = s[c, i]
        shift[i] = u[c, i] - delta[c, i] * s[c, i]
    for i in range(n, len(m)):
        m[i], scale[i], shift[i] = m[i - n], scale[i - n], shift[i - n]


@jit(inner=True, in_order=True)
def backward_rows(m, scale, slope, shift, m0, delta, s, du, dm, dv, c, p):
    """Write what dx = dy·scale + ((x − m)·slope + shift) takes for channel c, likewise."""
    n = m0.shape[1]
    for i in range(n):
        k = 2 / p * dv[c, i]
        m[i] = m0[c, i]
        scale[i] = s[c, i]
        slope[i] = k
        shift[i] = (dm[c, i] - s[c, i] * du[c, i]) / p - k * delta[c, i]
    for i in range(n, len(m)):
        m[i], slope[i], shift[i] = m[i - n], slope[i - n], shift[i - n]
    for i in range(n, len(scale)):
        scale[i] = scale[i - n]


@jit(inner=True, in_order=True)
def _scale(y, x, at, end, m, s, u):
    lanes = np.uint64(len(m))
    a, end = np.uint64(at), np.uint64(end)
    while a + lanes + lanes <= end:
        b = a + lanes
        for j in range(lanes):
            y[a + j] = (x[a + j] - m[j]) * s[j] + u[j]
            y[b + j] = (x[b + j] - m[j]) * s[j] + u[j]
        a = b + lanes
    while a < end:
        for j in range(min(lanes, end - a)):
            y[a + j] = (x[a + j] - m[j]) * s[j] + u[j]
        a += lanes


@shared(in_order=True)
def _scale_shift(x, m0, delta, s, u, y, p, pixels, start, stop, thread):
    """Take the pixels start to stop of all channels, as a convolution is shared out."""
    channels, n = m0.shape
    lanes = pixels * n
    m, scale, shift = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    for c in range(channels):
        scale_shift_rows(m, scale, shift, m0, delta, s, u, c)
        _scale(y, x, (c * p + start) * n, (c * p + stop) * n, m, scale, shift)


@jit(inner=True, in_order=True)
def _dot(first, second, m, dy, x, at, end):
    """Write the sums of dy·(x − m) and of dy over the rows; the last may be a part of one."""
    lanes = np.uint64(len(m))
    a, end = np.uint64(at), np.uint64(end)
    for j in range(lanes):
        first[j] = 0
        second[j] = 0
    while a + lanes + lanes <= end:
        b = a + lanes
        for j in range(lanes):
            first[j] += dy[a + j] * (x[a + j] - m[j]) + dy[b + j] * (x[b + j] - m[j])
            second[j] += dy[a + j] + dy[b + j]
        a = b + lanes
    while a < end:
        for j in range(min(lanes, end - a)):
            first[j] += dy[a + j] * (x[a + j] - m[j])
            second[j] += dy[a + j]
        a += lanes


@shared(in_order=True)
def _sums(dy, x, m0, delta, out, p, pixels, start, stop, thread):
    """Write ds and du (2, C, N)."""
    n = m0.shape[1]
    lanes = pixels * n
    m, first, second = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    for c in range(start, stop):
        for i in range(n):
            m[i] = m0[c, i]
            out[0, c, i] = out[1, c, i] = 0
        for i in range(n, lanes):
            m[i] = m[i - n]
        at, end = c * p * n, (c + 1) * p * n
        while at < end:
            stop_at = min(at + _BLOCK * lanes, end)
            _dot(first, second, m, dy, x, at, stop_at)
            for k in range(0, lanes, n):
                for i in range(n):
                    out[0, c, i] += first[k + i]
                    out[1, c, i] += second[k + i]
            at = stop_at
        for i in range(n):
            out[0, c, i] -= delta[c, i] * out[1, c, i]


@jit(inner=True, in_order=True)
def _back(dx, dy, x, at, end, m, scale, slope, shift):
    lanes = np.uint64(len(m))
    a, end = np.uint64(at), np.uint64(end)
    while a + lanes + lanes <= end:
        b = a + lanes
        for j in range(lanes):
            dx[a + j] = dy[a + j] * scale[j] + ((x[a + j] - m[j]) * slope[j] + shift[j])
            dx[b + j] = dy[b + j] * scale[j] + ((x[b + j] - m[j]) * slope[j] + shift[j])
        a = b + lanes
    while a < end:
        for j in range(min(lanes, end - a)):
            dx[a + j] = dy[a + j] * scale[j] + ((x[a + j] - m[j]) * slope[j] + shift[j])
        a += lanes


@shared(in_order=True)
def _backward(dy, x, m0, delta, s, du, dm, dv, dx, p, pixels, start, stop, thread):
    """Take the pixels start to stop of all channels."""
    channels, n = m0.shape
    lanes = pixels * n
    m, scale = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    slope, shift = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    for c in range(channels):
        backward_rows(m, scale, slope, shift, m0, delta, s, du, dm, dv, c, p)
        _back(dx, dy, x, (c * p + start) * n, (c * p + stop) * n, m, scale, slope, shift)
