"""Pooling, compiled: each window's taps read once, the batch innermost.

Forward of the maximum keeps which tap won, one byte a value of y: the first one row by row among equals, and NaN over
any number. Rows of windows are shared out to the threads; in backward channels are, where windows overlap.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minidl import memory
from minidl.arguments import Pair
from minidl.backend import Array
from minidl.engine import NUMBA, NUMPY
from minidl.engines.numba.compile import jit
from minidl.engines.numba.jobs import shared
from minidl.engines.numba.share import share
from minidl.layers import pool
from minidl.layers.conv import output_size

Shape = tuple[int, ...]


class _Other(NamedTuple):
    """What NumPy's engine kept, where it stood in."""

    won: Any


@NUMBA.twin(pool.max_pool)
def max_pool(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Array, Any]:
    """y[n,c,h,w] = max_ij x[n, c, sh·h + i − ph, sw·w + j − pw]; returns y, and who won."""
    if x.dtype.itemsize < 4 or kernel[0] * kernel[1] > 256 or x.dtype.kind != "f":
        y, won = NUMPY(pool.max_pool)(x, kernel, stride, padding)
        return y, _Other(won)
    t, shape = _windows(x, kernel, stride, padding)
    y, won = memory.empty(np, shape, x.dtype), memory.empty(np, shape, np.uint8)
    c, ho, wo, _ = shape
    arrays = t.reshape(-1), y.reshape(-1), won.reshape(-1)
    if kernel == stride == (2, 2) and padding == (0, 0):
        _, h, w, n = t.shape
        share(c * ho, t.size, _max_2x2, *arrays, h, w, n, ho, wo)
    else:
        window = np.array((t.shape[1:], (ho, wo, 0), (*kernel, 0), (*stride, 0), (*padding, 0)))
        share(c * ho, t.size, _max, *arrays, window)
    return memory.batch_first(y), won


@NUMBA.twin(pool.max_pool_backward)
def max_pool_backward(dy: Array, won: Any, shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Return dx, for x of this shape: dy at the place of each window's maximum."""
    if isinstance(won, _Other):
        return NUMPY(pool.max_pool_backward)(dy, won.won, shape, kernel, stride, padding)
    if dy.dtype.itemsize < 4:  # of a forward that was wider
        wide: Array = max_pool_backward(dy.astype(np.float32), won, shape, kernel, stride, padding)
        return wide.astype(dy.dtype)
    n, c, h, w = shape
    dyt = memory.batch_last(np, dy)
    dx = memory.empty(np, (c, h, w, n), dy.dtype)
    _, ho, wo, _ = dyt.shape
    arrays = dyt.reshape(-1), won.reshape(-1), dx.reshape(-1)
    if kernel == stride == (2, 2) and padding == (0, 0):
        share(c, dx.size, _max_2x2_backward, *arrays, h, w, n, ho, wo)
    else:
        window = np.array(((h, w, n), (ho, wo, 0), (*kernel, 0), (*stride, 0), (*padding, 0)))
        share(c, dx.size, _max_backward, *arrays, window)
    return memory.batch_first(dx)


@NUMBA.twin(pool.avg_pool)
def avg_pool(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """y[n,c,h,w] = (1/(kh·kw)) sum_ij x[n, c, sh·h + i − ph, sw·w + j − pw]."""
    if x.dtype.itemsize < 4 or x.dtype.kind != "f":
        return NUMPY(pool.avg_pool)(x, kernel, stride, padding)
    t, shape = _windows(x, kernel, stride, padding)
    y = memory.empty(np, shape, x.dtype)
    c, ho, wo, _ = shape
    flat, out = t.reshape(-1), y.reshape(-1)
    window = np.array((t.shape[1:], (ho, wo, 0), (*kernel, 0), (*stride, 0), (*padding, 0)))
    share(c * ho, t.size, _mean, flat, out, window)
    return memory.batch_first(y)


@NUMBA.twin(pool.avg_pool_backward)
def avg_pool_backward(dy: Array, shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Return dx, for x of this shape: dy/(kh·kw), added up over the windows of each x."""
    if dy.dtype.itemsize < 4 or dy.dtype.kind != "f":
        return NUMPY(pool.avg_pool_backward)(dy, shape, kernel, stride, padding)
    n, c, h, w = shape
    dyt = memory.batch_last(np, dy)
    dx = memory.empty(np, (c, h, w, n), dy.dtype)
    _, ho, wo, _ = dyt.shape
    flat, out = dyt.reshape(-1), dx.reshape(-1)
    window = np.array(((h, w, n), (ho, wo, 0), (*kernel, 0), (*stride, 0), (*padding, 0)))
    share(c, dx.size, _mean_backward, flat, out, window)
    return memory.batch_first(dx)


def _windows(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Array, Shape]:
    """Return x as (C, H, W, N), and the shape (C, Ho, Wo, N) of y."""
    t = memory.batch_last(np, x)
    ho, wo = (output_size(t.shape[i + 1], kernel[i], stride[i], padding[i]) for i in (0, 1))
    return t, (t.shape[0], ho, wo, t.shape[3])


# -- compiled: arrays are flat, unsigned indices need no check; `window` holds sizes in rows ---------------------------


@shared(apart=True)
def _max_2x2(x, y, won, h, w, n, ho, wo, start, stop, thread):
    """Take the rows of windows start to stop, counted over the channels."""
    size = np.uint64(n)
    for r in range(start, stop):
        a, out = np.uint64((r // ho * h + r % ho * 2) * w * n), np.uint64(r * wo * n)
        for _ in range(wo):
            b = a + size
            c, d = a + np.uint64(w * n), b + np.uint64(w * n)
            for i in range(size):
                best, tap = x[a + i], np.uint8(0)
                v = x[b + i]
                take = (v > best) | (v != v)
                best, tap = v if take else best, np.uint8(1) if take else tap
                v = x[c + i]
                take = (v > best) | (v != v)
                best, tap = v if take else best, np.uint8(2) if take else tap
                v = x[d + i]
                take = (v > best) | (v != v)
                best, tap = v if take else best, np.uint8(3) if take else tap
                y[out + i], won[out + i] = best, tap
            a, out = b + size, out + size


@jit(inner=True)
def _spread(dy, won, a, b, c, d):
    zero = dy.dtype.type(0)
    for i in range(len(dy)):
        g, tap = dy[i], won[i]
        a[i] = g if tap == 0 else zero
        b[i] = g if tap == 1 else zero
        c[i] = g if tap == 2 else zero
        d[i] = g if tap == 3 else zero


@shared
def _max_2x2_backward(dy, won, dx, h, w, n, ho, wo, start, stop, thread):
    zero, size = dy.dtype.type(0), np.uint64(n)
    for channel in range(start, stop):
        for r in range(ho):
            a, at = (channel * h + r * 2) * w * n, (channel * ho + r) * wo * n
            for _ in range(wo):
                b = a + n
                c, d = a + w * n, b + w * n
                _spread(dy[at : at + n], won[at : at + n], dx[a : a + n], dx[b : b + n], dx[c : c + n], dx[d : d + n])
                a, at = b + n, at + n
            if w > 2 * wo:  # a column that no window reaches
                for row in range(2):
                    end = np.uint64(((channel * h + r * 2 + row) * w + w - 1) * n)
                    for i in range(size):
                        dx[end + i] = zero
        for i in range(np.uint64((channel * h + 2 * ho) * w * n), np.uint64((channel + 1) * h * w * n)):
            dx[i] = zero


@jit(inner=True)
def _take(y, won, x, tap):
    for i in range(len(y)):
        v, best, last = x[i], y[i], won[i]
        take = (v > best) | (v != v)
        y[i], won[i] = v if take else best, tap if take else last


@shared
def _max(x, y, won, window, start, stop, thread):
    h, w, n, ho, wo = window[0, 0], window[0, 1], window[0, 2], window[1, 0], window[1, 1]
    kh, kw, sh, sw, ph, pw = window[2, 0], window[2, 1], window[3, 0], window[3, 1], window[4, 0], window[4, 1]
    for r in range(start, stop):
        channel, top = r // ho, r % ho * sh - ph
        for q in range(wo):
            left, out, first = q * sw - pw, (r * wo + q) * n, True
            best, taps = y[out : out + n], won[out : out + n]
            for i in range(max(0, -top), min(kh, h - top)):
                for j in range(max(0, -left), min(kw, w - left)):
                    at, tap = ((channel * h + top + i) * w + left + j) * n, np.uint8(i * kw + j)
                    row = x[at : at + n]
                    if first:
                        for k in range(n):
                            best[k], taps[k] = row[k], tap
                        first = False
                    else:
                        _take(best, taps, row, tap)


@jit(inner=True)
def _give(dy, won, dx, tap):
    zero = dy.dtype.type(0)
    for i in range(len(dy)):
        dx[i] += dy[i] if won[i] == tap else zero


@shared
def _max_backward(dy, won, dx, window, start, stop, thread):
    h, w, n, ho, wo = window[0, 0], window[0, 1], window[0, 2], window[1, 0], window[1, 1]
    kh, kw, sh, sw, ph, pw = window[2, 0], window[2, 1], window[3, 0], window[3, 1], window[4, 0], window[4, 1]
    for i in range(np.uint64(start * h * w * n), np.uint64(stop * h * w * n)):
        dx[i] = 0
    for r in range(start * ho, stop * ho):
        channel, top = r // ho, r % ho * sh - ph
        for q in range(wo):
            left, out = q * sw - pw, (r * wo + q) * n
            for i in range(max(0, -top), min(kh, h - top)):
                for j in range(max(0, -left), min(kw, w - left)):
                    at = ((channel * h + top + i) * w + left + j) * n
                    _give(dy[out : out + n], won[out : out + n], dx[at : at + n], np.uint8(i * kw + j))


@shared(apart=True)
def _mean(x, y, window, start, stop, thread):
    h, w, n, ho, wo = window[0, 0], window[0, 1], window[0, 2], window[1, 0], window[1, 1]
    kh, kw, sh, sw, ph, pw = window[2, 0], window[2, 1], window[3, 0], window[3, 1], window[4, 0], window[4, 1]
    size, taps = np.uint64(n), y.dtype.type(kh * kw)
    for r in range(start, stop):
        channel, top = r // ho, r % ho * sh - ph
        for q in range(wo):
            left, out = q * sw - pw, np.uint64((r * wo + q) * n)
            for k in range(size):
                y[out + k] = 0
            for i in range(max(0, -top), min(kh, h - top)):
                for j in range(max(0, -left), min(kw, w - left)):
                    at = np.uint64(((channel * h + top + i) * w + left + j) * n)
                    for k in range(size):
                        y[out + k] += x[at + k]
            for k in range(size):
                y[out + k] /= taps


@shared(apart=True)
def _mean_backward(dy, dx, window, start, stop, thread):
    h, w, n, ho, wo = window[0, 0], window[0, 1], window[0, 2], window[1, 0], window[1, 1]
    kh, kw, sh, sw, ph, pw = window[2, 0], window[2, 1], window[3, 0], window[3, 1], window[4, 0], window[4, 1]
    size, taps = np.uint64(n), dy.dtype.type(kh * kw)
    for i in range(np.uint64(start * h * w * n), np.uint64(stop * h * w * n)):
        dx[i] = 0
    for r in range(start * ho, stop * ho):
        channel, top = r // ho, r % ho * sh - ph
        for q in range(wo):
            left, out = q * sw - pw, np.uint64((r * wo + q) * n)
            for i in range(max(0, -top), min(kh, h - top)):
                for j in range(max(0, -left), min(kw, w - left)):
                    at = np.uint64(((channel * h + top + i) * w + left + j) * n)
                    for k in range(size):
                        dx[at + k] += dy[out + k] / taps
