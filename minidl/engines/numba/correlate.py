"""Convolution as a matrix product without the matrix: the compiled loops of the direct convolution.

A convolution is a matrix product whose right-hand matrix has one row for each tap t = (c, i, j) of the kernel: that row
is a stretch of x, shifted. With the batch innermost in memory it begins `offset[t]` values after the first, and is
contiguous. So the product is taken from x itself: no lowered matrix is built (Georganas et al. 2018 do likewise in
NCHWc).

    y[o, m] = sum_t weight[o, t] · x[offset[t] + m],   dweight[o, t] = sum_m dy[o, m] · x[offset[t] + m].

`band` and `band_dweight` do some rows of the output: they copy the rows of x that these meet into a buffer, with zeros
at both ends of a row, a stride's columns apart (all that tap j meets lies side by side then), and an odd
number of cache lines from row to row, without which they all would fall into the same few places of the cache.
"""

from __future__ import annotations

import numpy as np

from minidl.engines.numba.blocks import dots2, dots6, four, four_twice, six, six_twice
from minidl.engines.numba.compile import jit
from minidl.engines.numba.jobs import shared
from minidl.engines.numba.vector import WIDE, clear, copy, load, pick, spread_at, store, width

PAIRS = 9  # of rows of dy that are taken in turn with the same rows of x
CHUNK = 256  # columns of the output computed at a time: they stay in the core's cache
SPARE = 64  # values after the rows of x, which the last vector reads


@jit(inner=True, call=True)
def copy_rows(x, first, last, left, step, positions, row, plane, buffer):
    """Copy rows first:last of x (C, H, W, N) to the buffer, zeros beyond their ends.

    A row there has the columns p − left, p − left + step, ... for each p < step in turn, `positions` of each.
    """
    channels, height, width, n = x.shape
    lo = min(max(0, left), positions) * n
    hi = max(lo, min(positions, width + left) * n)
    for c in range(channels):
        for r in range(first, last):
            start = c * plane + (r - first) * row
            source = (c * height + r) * width * n
            if step == 1:  # the columns lie side by side in x, too
                clear(buffer, start, lo)
                copy(buffer, start + lo, x, source + lo - left * n, hi - lo)
                clear(buffer, start + hi, row - hi)
                continue
            for p in range(step):
                for k in range(positions):
                    at, target = p - left + step * k, start + (p * positions + k) * n
                    if 0 <= at < width:
                        copy(buffer, target, x, source + at * n, n)
                    else:
                        clear(buffer, target, n)
            clear(buffer, start + step * positions * n, row - step * positions * n)


@jit(inner=True, call=True)
def products(x, x0, offset, t0, t1, weight, w0, skip, sixes, fours, depth, out, out0, ldo, columns, fresh):
    """out[o, m] (+)= sum over t0 <= t < t1 of weight[o, t] · x[x0 + offset[t] + m], for six or four rows o at a time.

    From w0 on `weight` holds for each six (four) rows `depth` times six (four) values, one for each tap; tap t0 is the
    one after the first `skip`.
    """
    lanes = width(out)
    m = 0
    if WIDE:
        while m + lanes < columns:
            for b in range(sixes):
                w = w0 + 6 * (b * depth + skip)
                six_twice(x, x0 + m, offset, t0, t1, weight, w, 1, 6, out, out0 + b * 6 * ldo + m, ldo, fresh)
            for b in range(fours):
                w, row = w0 + (sixes * 6 + b * 4) * depth + 4 * skip, sixes * 6 + b * 4
                four_twice(x, x0 + m, offset, t0, t1, weight, w, 1, 4, out, out0 + row * ldo + m, ldo, fresh)
            m += 2 * lanes
    while m < columns:
        for b in range(sixes):
            w = w0 + 6 * (b * depth + skip)
            six(x, x0 + m, offset, t0, t1, weight, w, 1, 6, out, out0 + b * 6 * ldo + m, ldo, fresh)
        for b in range(fours):
            w, row = w0 + (sixes * 6 + b * 4) * depth + 4 * skip, sixes * 6 + b * 4
            four(x, x0 + m, offset, t0, t1, weight, w, 1, 4, out, out0 + row * ldo + m, ldo, fresh)
        m += lanes


@shared
def band(space, x, weight, bias, offset, geometry, out, start, step, a, b, thread):
    """Compute the output's rows a:b: out[o, start + step·(h, w), n] = bias[o] + the correlation at (h, w).

    `geometry`: kernel (kh, kw), stride (sh, sw), first row and column that the kernel meets (above, left; padding
    makes them negative), rows and columns of the result (ho, wo); then `_plan`'s row, plane, positions, block, sixes,
    fours, ldo and the size of a thread's own space. That holds rows of x, and then some columns of the result.
    """
    kh, kw, sh, sw, above, left, _, wo, row, plane, positions, block, sixes, fours, ldo, size = geometry
    space = space[thread * size : (thread + 1) * size]
    channels, height, _, n = x.shape
    o, rows, columns = out.shape[:3]
    lanes = width(x)
    buffer, work = space[: channels * plane + SPARE], space[channels * plane + SPARE :]
    first = max(0, sh * a + above)
    last = min(height, sh * (b - 1) + above + kh)
    copy_rows(x, first, last, -left, sw, positions, row, plane, buffer)
    padded = 6 * sixes + 4 * fours
    for h in range(a, b):
        top = sh * h + above
        i0, i1 = max(0, -top), max(max(0, -top), min(kh, height - top))
        for m0 in range(0, wo * n, CHUNK):
            m1 = min(wo * n, m0 + CHUNK)
            at = (top - first) * row + m0
            for c in range(0, channels, block):
                taps = min(block, channels - c) * kw  # in one row of the kernel
                t = c * kh * kw
                products(
                    buffer,
                    at,
                    offset,
                    t + i0 * taps,
                    t + i1 * taps,
                    weight,
                    t * padded,
                    i0 * taps,
                    sixes,
                    fours,
                    taps * kh,
                    work,
                    0,
                    ldo,
                    m1 - m0,
                    c == 0,
                )
            r = start[0] + step[0] * h
            for k in range(o):
                shift = spread_at(bias, k)
                for m in range(k * ldo, k * ldo + m1 - m0, lanes):
                    store(work, m, load(work, m) + shift)
                y = (k * rows + r) * columns * n
                if step[1] == 1:
                    copy(out, y + m0, work, k * ldo, m1 - m0)
                    continue
                for q in range(m0 // n, (m1 - 1) // n + 1):
                    lo, hi = max(m0, q * n), min(m1, (q + 1) * n)
                    at = y + (start[1] + step[1] * q) * n + lo - q * n
                    copy(out, at, work, k * ldo + lo - m0, hi - lo)


@shared
def pack(weight, size, strides, shape, block, sixes, fours, packed, start, stop, thread):
    """Lay weights out as `products` reads them: blocks of channels, six or four rows, taps (i, c, j), row.

    Weight k of start:stop begins at k·size + its offset, the first of `strides`, and its value at (o, c, i, j) lies the
    sum of index times stride, the others, after that; rows that `shape` lacks are zeros.
    """
    o, channels, kh, kw = shape
    offset, so, sc, si, sj = strides
    padded = (6 * sixes + 4 * fours) * channels * kh * kw
    for k in range(start, stop):
        at = k * padded
        begin = k * size + offset
        for c0 in range(0, channels, block):
            c1 = min(channels, c0 + block)
            for tile in range(sixes + fours):
                rows = 6 if tile < sixes else 4
                k0 = 6 * tile if tile < sixes else 6 * sixes + 4 * (tile - sixes)
                there = max(0, min(rows, o - k0))
                for i in range(kh):
                    for c in range(c0, c1):
                        for j in range(kw):
                            source = begin + c * sc + i * si + j * sj + k0 * so
                            for r in range(there):
                                packed[at + r] = pick(weight, source + r * so)
                            for r in range(there, rows):
                                packed[at + r] = 0
                            at += rows


@jit(inner=True, call=True)
def all_dots(dy, d0, ld, d_step, x, ta, tb, tc, x_step, count, columns, sums, s0, s_step, pairs):
    """Do as `dots2` for some pairs of rows of dy, whose sums are `s_step` apart."""
    p = 0
    if WIDE:
        while p + 3 <= pairs:
            place = s0 + p * s_step
            dots6(dy, d0 + 2 * p * ld, ld, d_step, x, ta, tb, tc, x_step, count, columns, sums, place, s_step)
            p += 3
    while p < pairs:
        dots2(dy, d0 + 2 * p * ld, ld, d_step, x, ta, tb, tc, x_step, count, columns, sums, s0 + p * s_step, s_step)
        p += 1


@jit(in_order=True)  # where it may regroup the sum of products with 0, LLVM 14 (Numba 0.60) loses a NaN
def add_up(sums, total):
    """Write to (kernels, o, c, columns) the sums of all tasks; return 0, or NaN where one is not finite.

    Of each task `sums` has a vector of `dots2` for each kernel, each two o and each three (c, column).
    """
    tasks, _, lanes = sums.shape
    kernels, o, channels, columns = total.shape
    threes, parts = (channels * columns + 2) // 3, lanes // 8
    wrong = sums.dtype.type(0)
    row = np.empty(lanes, sums.dtype)
    place = 0
    for i in range(kernels):
        for k in range(0, o, 2):
            rows = min(2, o - k)
            c = j = 0
            for _ in range(threes):
                for lane in range(lanes):
                    row[lane] = sums[0, place, lane]
                for task in range(1, tasks):
                    for lane in range(lanes):
                        row[lane] += sums[task, place, lane]
                for t in range(3):
                    if c == channels:  # the last three have fewer
                        break
                    for r in range(rows):
                        lane = (r * 3 + t) * parts
                        value = row[lane]
                        if parts == 2:
                            value += row[lane + 1]
                        total[i, k + r, c, j] = value
                        wrong += value * 0
                    j += 1
                    if j == columns:
                        c, j = c + 1, 0
                place += 1
    return wrong


@shared
def band_dweight(space, x, dy, offset, geometry, sums, start, stop, thread):
    """Add band `start` of dy to its sums[i, o, (c, j)] = sum_hm dy[o, h, m] · x[the row of tap i at h][offset + m].

    A thread's own space holds rows of x, and then some columns of some rows of dy, followed by zeros. For each band
    `sums` has a vector of `dots2` for each i, two o, three (c, j). `geometry` ends with the number of bands and the
    size of a thread's space.
    """
    kh, _, sh, sw, above, left, ho, wo, row, plane, positions, threes, group, chunk, ldg, bands, size = geometry
    a, b = start * ho // bands, (start + 1) * ho // bands
    space = space[thread * size : (thread + 1) * size]
    channels, height, _, n = x.shape
    o, every = dy.shape[:2]
    buffer, rows = space[: channels * plane + SPARE], space[channels * plane + SPARE :]
    pairs = (o + 1) // 2
    lanes = width(x)
    first = max(0, sh * a + above)
    last = min(height, sh * (b - 1) + above + kh)
    copy_rows(x, first, last, -left, sw, positions, row, plane, buffer)
    for h0 in range(a, b, group):
        h1 = min(b, h0 + group)
        for m0 in range(0, wo * n, chunk):
            m1 = min(wo * n, m0 + chunk)
            for h in range(h0, h1):
                for k in range(o):
                    at = ((h - h0) * 2 * pairs + k) * ldg
                    copy(rows, at, dy, (k * every + h) * wo * n + m0, m1 - m0)
                    clear(rows, at + m1 - m0, lanes)
                if o % 2 == 1:
                    clear(rows, ((h - h0) * 2 * pairs + o) * ldg, ldg)  # the last channel's partner
            for i in range(kh):
                # rows h whose tap i meets a row of x: 0 <= sh·h + above + i < height
                g0 = max(h0, -((above + i) // sh))
                g1 = min(h1, (height - 1 - above - i) // sh + 1)
                if g0 >= g1:
                    continue
                x0 = (sh * g0 + above + i - first) * row + m0
                for p in range(0, pairs, PAIRS):
                    for t in range(threes):
                        ta, tb, tc = x0 + offset[3 * t], x0 + offset[3 * t + 1], x0 + offset[3 * t + 2]
                        all_dots(
                            rows,
                            ((g0 - h0) * pairs + p) * 2 * ldg,
                            ldg,
                            2 * pairs * ldg,
                            buffer,
                            ta,
                            tb,
                            tc,
                            sh * row,
                            g1 - g0,
                            m1 - m0,
                            sums,
                            (((start * kh + i) * pairs + p) * threes + t) * lanes,
                            threes * lanes,
                            min(PAIRS, pairs - p),
                        )
