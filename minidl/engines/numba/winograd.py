"""Winograd's F(4×4, 3×3), compiled: a 3×3 convolution of stride 1 with 2.25 products for an output where there were 9.

Lavin & Gray 2016: each tile of 4×4 outputs is Y = Aᵀ[(G w Gᵀ) ⊙ (Bᵀ d B)]A for the 6×6 inputs d that it meets. Summed
over channels the products ⊙ are 36 matrix products of (O, C) with (C, tiles·N). The transforms are sums of a few terms,
elementwise over the batch, which lies innermost. The gradient of w, from the same formula: Gᵀ[sum (A dy Aᵀ) ⊙ (Bᵀ d B)]G.

A tile that has a non-finite value spreads it over all of its outputs; `output` tells, and the caller computes anew.
"""

from __future__ import annotations

import numpy as np

from minidl.engines.numba.correlate import dots, jit, products
from minidl.engines.numba.vector import fma, load, pick, spread_at, store, total, zeros

G = np.array([[1 / 4, 0, 0], [-1 / 6] * 3, [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]])


@jit
def _bt(a, b, c, d, e, f):
    """Bᵀ times a column."""
    p, q, r, s = e - 4 * c, d - 4 * b, e - c, 2 * (d - b)
    return 4 * a - 5 * c + e, p + q, p - q, r + s, r - s, 4 * b - 5 * d + f


@jit
def _at(a, b, c, d, e, f):
    """Aᵀ times a column."""
    p, q, r, s = b + c, b - c, d + e, d - e
    return a + p + r, q + 2 * s, p + 4 * r, q + 8 * s + f


@jit
def _a(a, b, c, d):
    """A times a column."""
    p, q, r, s = a + c, b + d, a + 4 * c, 2 * b + 8 * d
    return a, p + q, p - q, r + s, r - s, d


@jit
def _part(x, at, n):
    if at < 0:
        return zeros(x)
    return load(x, at + n)


@jit
def _places(height, width, n, top, left, size, places):
    """Set places[i, j] to where x[top + i, left + j] begins in a plane of x, or to a negative number outside."""
    for i in range(size):
        for j in range(size):
            inside = 0 <= top + i < height and 0 <= left + j < width
            places[i * size + j] = ((top + i) * width + left + j) * n if inside else -(1 << 60)


@jit
def input_tile(x, plane, places, n0, n1, u, u0, step, temp):
    """u[k·step + u0 + n − n0] = Bᵀ d B of one tile of one channel."""
    lanes = 64 // x.itemsize
    for at in range(n0, n1, lanes):
        n = min(at, n1 - lanes)
        for j in range(6):
            v = _bt(
                _part(x, plane + pick(places, j), n),
                _part(x, plane + pick(places, 6 + j), n),
                _part(x, plane + pick(places, 12 + j), n),
                _part(x, plane + pick(places, 18 + j), n),
                _part(x, plane + pick(places, 24 + j), n),
                _part(x, plane + pick(places, 30 + j), n),
            )
            for i in range(6):
                store(temp, (6 * i + j) * lanes, v[i])
        for i in range(6):
            t = 6 * i * lanes
            v = _bt(
                load(temp, t),
                load(temp, t + lanes),
                load(temp, t + 2 * lanes),
                load(temp, t + 3 * lanes),
                load(temp, t + 4 * lanes),
                load(temp, t + 5 * lanes),
            )
            w = u0 + n - n0 + 6 * i * step
            for j in range(6):
                store(u, w + j * step, v[j])


@jit
def gradient_tile(dy, plane, places, n0, n1, u, u0, step, temp):
    """u[k·step + u0 + n − n0] = A dy Aᵀ of one tile of one channel."""
    lanes = 64 // dy.itemsize
    for at in range(n0, n1, lanes):
        n = min(at, n1 - lanes)
        for j in range(4):
            v = _a(
                _part(dy, plane + pick(places, j), n),
                _part(dy, plane + pick(places, 4 + j), n),
                _part(dy, plane + pick(places, 8 + j), n),
                _part(dy, plane + pick(places, 12 + j), n),
            )
            for i in range(6):
                store(temp, (4 * i + j) * lanes, v[i])
        for i in range(6):
            t = 4 * i * lanes
            v = _a(load(temp, t), load(temp, t + lanes), load(temp, t + 2 * lanes), load(temp, t + 3 * lanes))
            w = u0 + n - n0 + 6 * i * step
            for j in range(6):
                store(u, w + j * step, v[j])


@jit
def output_tile(m, m0, step, n0, n1, y, plane, places, shift, temp):
    """y = Aᵀ m A + shift at one tile of one channel; return 0, or NaN where a value is not finite."""
    lanes = 64 // y.itemsize
    nothing = zeros(y)
    wrong = zeros(y)
    for at in range(n0, n1, lanes):
        n = min(at, n1 - lanes)
        w = m0 + n - n0
        for j in range(6):
            k = w + j * step
            v = _at(
                load(m, k),
                load(m, k + 6 * step),
                load(m, k + 12 * step),
                load(m, k + 18 * step),
                load(m, k + 24 * step),
                load(m, k + 30 * step),
            )
            for i in range(4):
                store(temp, (6 * i + j) * lanes, v[i])
        for i in range(4):
            t = 6 * i * lanes
            v = _at(
                load(temp, t),
                load(temp, t + lanes),
                load(temp, t + 2 * lanes),
                load(temp, t + 3 * lanes),
                load(temp, t + 4 * lanes),
                load(temp, t + 5 * lanes),
            )
            for j in range(4):
                place = pick(places, 4 * i + j)
                if place >= 0:
                    value = v[j] + shift
                    wrong = fma(value, nothing, wrong)
                    store(y, plane + place + n, value)
    return total(wrong)


@jit
def band(x, xs, packed, offset, bias, y, ys, geometry, first, last, u, m, temp, places, places6):
    """Compute the units first:last of y; a unit is some samples of some tiles. Return 0, or NaN as `output_tile`.

    x and y are flat, xs and ys their shapes (C, H, W, N). `geometry`: padding, samples in a unit, sixes, fours, columns.
    """
    ph, pw, samples, sixes, fours, ld = geometry
    channels, height, width, n = xs
    o, ho, wo, _ = ys
    across = (wo + 3) // 4
    slices = (n + samples - 1) // samples
    padded = 6 * sixes + 4 * fours
    wrong = zeros(y)
    wrong = total(wrong)
    for unit in range(first, last):
        tile, n0 = unit // slices, unit % slices * samples
        n1 = min(n, n0 + samples)
        n0 = min(n0, n1 - samples)
        r, q = tile // across * 4, tile % across * 4
        _places(height, width, n, r - ph, q - pw, 6, places6)
        _places(ho, wo, n, r, q, 4, places)
        for c in range(channels):
            input_tile(x, c * height * width * n, places6, n0, n1, u, c * ld, channels * ld, temp)
        for k in range(36):
            products(
                u, k * channels * ld, offset, 0, channels, packed, k * padded * channels, 0,
                sixes, fours, channels, m, k * padded * ld, ld, n1 - n0, True,
            )
        for c in range(o):
            wrong += output_tile(m, c * ld, padded * ld, n0, n1, y, c * ho * wo * n, places, spread_at(bias, c), temp)
    return wrong


@jit
def band_dweight(x, xs, dy, ys, geometry, first, last, u, g, sums, temp, places, places6):
    """Add units first:last to sums[k, o, c] = sum over tiles and samples of (A dy Aᵀ)[k] · (Bᵀ d B)[k], as `dots` does.

    `geometry`: padding, samples and tiles in a unit, columns.
    """
    ph, pw, samples, tiles, ld = geometry
    channels, height, width, n = xs
    o, ho, wo, _ = ys
    across = (wo + 3) // 4
    every = across * ((ho + 3) // 4)
    slices = n // samples
    lanes = 64 // x.itemsize
    pairs, threes = (o + 1) // 2, (channels + 2) // 3
    for unit in range(first, last):
        n0 = unit % slices * samples
        n1 = n0 + samples
        t0 = unit // slices * tiles
        t1 = min(every, t0 + tiles)
        for tile in range(t0, t1):
            at = (tile - t0) * samples
            r, q = tile // across * 4, tile % across * 4
            _places(height, width, n, r - ph, q - pw, 6, places6)
            _places(ho, wo, n, r, q, 4, places)
            for c in range(channels):
                input_tile(x, c * height * width * n, places6, n0, n1, u, c * ld + at, 3 * threes * ld, temp)
            for c in range(o):
                gradient_tile(dy, c * ho * wo * n, places, n0, n1, g, c * ld + at, 2 * pairs * ld, temp)
        columns = (t1 - t0) * samples
        for k in range(36):
            u0 = k * 3 * threes * ld
            g0 = k * 2 * pairs * ld
            for p0 in range(0, pairs, 8):
                for t in range(threes):
                    ta = u0 + 3 * t * ld
                    for p in range(p0, min(pairs, p0 + 8)):
                        dots(
                            g, g0 + 2 * p * ld, ld, 0, u, ta, ta + ld, ta + 2 * ld, 0, 1, columns,
                            sums, ((k * pairs + p) * threes + t) * lanes,
                        )
