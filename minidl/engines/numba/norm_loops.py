"""The compiled loops of the heavy passes of a norm.

A pass sees a channel as rows of L = r·N values, r pixels of all samples side by side, so that loops along a row are
long for small batches too; each place in the row has sums of its own, added up over the r places of a sample at the
end. Sums run over blocks of 32 rows in the precision of x, and over the blocks in float64.

`moments` takes the deviations in a block from the mean of the block before, so that x is read once. Nothing cancels,
however large the mean or the image: the squares of the jumps from mean to mean add up to at most four times those of
the deviations. x is kept as it is: x − m is (x − m0) − δ, with m0 and δ as in `minidl.norm.moments.Mean`.

x, dy, y, dx are flat; `at` is where a channel or a block begins; unsigned, an index needs no check.
"""

from __future__ import annotations

import numpy as np

from minidl.engines.numba.atomic import add
from minidl.engines.numba.compile import jit
from minidl.engines.numba.jobs import shared

_FIRST, _BLOCK = 8, 32  # rows in the first block and in the others


@jit(inner=True)
def is_last(done, c, parts):
    """Count that a part of channel c is done; tell whether it was the last: who did that sees what all others wrote."""
    return parts == 1 or add(done.ctypes.data, c, 1) == parts - 1


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
def write_moments(x, sums, done, widest, p, pixels, start, stop, thread):
    """Sum up the units start to stop, each a part of the pixels of a channel, about an origin of each sample.

    `sums` (parts, 3, C, N) has the origins, sum (x − origin) and sum (x − origin)². Where all parts of a channel are
    done, m0, δ and v stand in the first, and the largest v of the channel, or Inf, in `widest`.
    """
    parts, _, channels, n = sums.shape
    lanes, rows = pixels * n, p // pixels
    mean, first, second = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    origin, linear, squares = np.empty(lanes, x.dtype), np.empty(lanes), np.empty(lanes)
    for unit in range(start, stop):
        part, c = unit // channels, unit % channels
        top, end = part * rows // parts, (part + 1) * rows // parts
        at, begin = (c * p + top * pixels) * n, top
        rest = (p - rows * pixels) * n if end == rows else 0
        while top < end:
            size = end - top
            if top == begin:
                if size > _FIRST:
                    size = _FIRST
                _add(mean, x, at, size)
                for j in range(lanes):
                    mean[j] /= size
                    origin[j] = mean[j]
                    linear[j] = squares[j] = 0
            elif size > _BLOCK:
                size = _BLOCK
            _deviate(first, second, mean, x, at, size)
            _merge(linear, squares, origin, mean, first, second, size)
            at += size * lanes
            top += size
        for j in range(rest):
            t = np.float64(x[at + j]) - np.float64(origin[j])
            linear[j] += t
            squares[j] += t * t
        for i in range(n):
            o = np.float64(origin[i])
            total = square = 0.0
            for k in range(i, lanes, n):
                e = np.float64(origin[k]) - o
                count = end - begin + (k < rest)
                total += linear[k] + count * e
                square += squares[k] + e * (2 * linear[k] + count * e)
            sums[part, 0, c, i], sums[part, 1, c, i], sums[part, 2, c, i] = o, total, square
        if is_last(done, c, parts):
            _finish(x, sums, widest, p, pixels, c)


@jit(inner=True, in_order=True)
def _finish(x, sums, widest, p, pixels, c):
    """Put the sums of channel c together: m0, δ and v in sums[0], and the largest v, or Inf."""
    parts, n, rows, out = len(sums), sums.shape[3], p // pixels, sums[0]
    for i in range(n):
        o, total, square = out[0, c, i], out[1, c, i], out[2, c, i]
        for part in range(1, parts):
            first, last = part * rows // parts * pixels, (part + 1) * rows // parts * pixels
            count = (p if part == parts - 1 else last) - first
            those = sums[part]
            e = those[0, c, i] - o
            total += those[1, c, i] + count * e
            square += those[2, c, i] + e * (2 * those[1, c, i] + count * e)
        total /= p
        mean = x.dtype.type(o + total)
        spread = square / p - total * total
        out[0, c, i] = mean
        out[1, c, i] = (o - mean) + total
        if not spread < np.inf:  # squares or sums beyond the range of float32, or what is in x
            spread = _wide_variance(x, c * p * n + i, p, n)
            widest[c] = np.inf  # the mean is no number where a sum was beyond
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
def write_scale_shift(x, m0, delta, s, u, y, p, pixels, start, stop, thread):
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


@jit(inner=True, in_order=True)
def begin_sums(out, m, m0, c):
    """Set the sums of channel c (2, C, N) to 0, and m to m0, sample by sample, as often as the rows have room."""
    n = m0.shape[1]
    for i in range(n):
        m[i] = m0[c, i]
        out[0, c, i] = out[1, c, i] = 0
    for i in range(n, len(m)):
        m[i] = m[i - n]


@jit(inner=True, in_order=True)
def add_block(out, first, second, c):
    """Add a block's sums at each place of a row to those of channel c (2, C, N), sample by sample."""
    n = out.shape[2]
    for k in range(0, len(first), n):
        for i in range(n):
            out[0, c, i] += first[k + i]
            out[1, c, i] += second[k + i]


@shared(in_order=True)
def write_sums(dy, x, m0, delta, out, done, p, pixels, start, stop, thread):
    """Sum up the units start to stop, as `write_moments`: (parts, 2, C, N) has sum dy·(x − m0) and sum dy.

    Where all parts of a channel are done, ds and du stand in the first.
    """
    parts, (channels, n) = len(out), m0.shape
    lanes, rows = pixels * n, p // pixels
    m, first, second = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    for unit in range(start, stop):
        part, c = unit // channels, unit % channels
        begin_sums(out[part], m, m0, c)
        at, end = (c * p + part * rows // parts * pixels) * n, (c * p + (part + 1) * rows // parts * pixels) * n
        if part == parts - 1:
            end = (c + 1) * p * n
        while at < end:
            stop_at = min(at + _BLOCK * lanes, end)
            _dot(first, second, m, dy, x, at, stop_at)
            add_block(out[part], first, second, c)
            at = stop_at
        if is_last(done, c, parts):
            add_up(out, delta, c)


@jit(inner=True, in_order=True)
def add_up(sums, delta, c):
    """Put the sums of channel c together, as `write_sums` has them: ds and du in the first part."""
    ds, du = sums[0, 0, c], sums[0, 1, c]
    for part in range(1, len(sums)):
        for i in range(len(ds)):
            ds[i] += sums[part, 0, c, i]
            du[i] += sums[part, 1, c, i]
    for i in range(len(ds)):
        ds[i] -= delta[c, i] * du[i]


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
def write_backward(dy, x, m0, delta, s, du, dm, dv, dx, p, pixels, start, stop, thread):
    """Take the pixels start to stop of all channels."""
    channels, n = m0.shape
    lanes = pixels * n
    m, scale = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    slope, shift = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    for c in range(channels):
        backward_rows(m, scale, slope, shift, m0, delta, s, du, dm, dv, c, p)
        _back(dx, dy, x, (c * p + start) * n, (c * p + stop) * n, m, scale, slope, shift)
