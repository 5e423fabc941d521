"""Winograd's F(4×2, 3×3), compiled: a 3×3 convolution of stride 1 with 3 products for an output where there were 9.

Lavin & Gray 2016: a tile of 4×2 outputs is Y = Aᵀ[(G w G'ᵀ) ⊙ (Bᵀ d B')]A' for the 6×4 inputs d that it meets. Summed
over channels the products ⊙ are 24 matrix products of (O, C) with (C, tiles·N). The transforms are sums of a few terms,
elementwise over the batch, which lies innermost. The gradient of w, by the same formula, is
Gᵀ[sum (A dy A'ᵀ) ⊙ (Bᵀ d B')]G'.

Rows are interpolated at 0, ±5/8, ±3/2, ∞ and columns at 0, ±1, ∞. The error is that of a direct convolution or twice as
large; the usual F(4×4) at 0, ±1, ±2, ∞ errs 10 times as much (Barabasz et al. 2020), and F(2×2) takes 4 products.

A value that is not finite spreads over its tile; `band` tells, and the caller computes anew.
"""

from __future__ import annotations

import numpy as np

from minidl.engines.numba.compile import jit
from minidl.engines.numba.correlate import PAIRS, all_dots, products
from minidl.engines.numba.jobs import shared
from minidl.engines.numba.vector import clear, fma, load, pick, spread_at, store, total, width, zeros

TILE = (4, 2)  # outputs
MEETS = (6, 4)  # inputs
PRODUCTS = 24
P, Q = 5 / 8, 3 / 2  # rows are interpolated at 0, ±P, ±Q, ∞; powers and products of these are exact
P2, Q2 = P * P, Q * Q
_AT_P, _AT_Q = 2 * P2 * (P2 - Q2), 2 * Q2 * (Q2 - P2)
G_ROWS = np.array(
    [
        [1 / (P2 * Q2), 0, 0],
        [1 / _AT_P, P / _AT_P, P2 / _AT_P],
        [1 / _AT_P, -P / _AT_P, P2 / _AT_P],
        [1 / _AT_Q, Q / _AT_Q, Q2 / _AT_Q],
        [1 / _AT_Q, -Q / _AT_Q, Q2 / _AT_Q],
        [0, 0, 1],
    ]
)
G_COLUMNS = np.array([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]])


@jit(inner=True)
def _b_rows(a, b, c, d, e, f):
    """Bᵀ times a column of d."""
    p, q, r, s = e - Q2 * c, P * (d - Q2 * b), e - P2 * c, Q * (d - P2 * b)
    return P2 * Q2 * a - (P2 + Q2) * c + e, p + q, p - q, r + s, r - s, P2 * Q2 * b - (P2 + Q2) * d + f


@jit(inner=True)
def _b_columns(a, b, c, d):
    """B'ᵀ times a row of d."""
    return a - c, b + c, c - b, b - d


@jit(inner=True)
def _a_rows(a, b, c, d):
    """A times a column of dy."""
    p, q, r, s = a + P2 * c, P * (b + P2 * d), a + Q2 * c, Q * (b + Q2 * d)
    return a, p + q, p - q, r + s, r - s, d


@jit(inner=True)
def _output_rows(a, b, c, d, e, f):
    """Aᵀ times a column of products."""
    p, q, r, s = b + c, P * (b - c), d + e, Q * (d - e)
    return a + p + r, q + s, P2 * p + Q2 * r, P2 * q + Q2 * s + f


@jit(inner=True)
def _part(x, at, n):
    if at < 0:
        return zeros(x)
    return load(x, at + n)


@jit(inner=True)
def _places(height, width, n, top, left, rows, columns, places):
    """Set places[i, j] to where x[top + i, left + j] begins in a plane of x, or to a negative number outside."""
    for i in range(rows):
        for j in range(columns):
            inside = 0 <= top + i < height and 0 <= left + j < width
            places[i * columns + j] = ((top + i) * width + left + j) * n if inside else -(1 << 60)


@jit(inner=True)
def input_tile(x, plane, places, n0, n1, u, u0, step, temp):
    """u[k·step + u0 + n − n0] = Bᵀ d B' of one tile of one channel, k = 4·row + column."""
    lanes = width(x)
    for at in range(n0, n1, lanes):
        n = min(at, n1 - lanes)
        for i in range(6):
            p = 4 * i
            t = p * lanes
            w0, w1, w2, w3 = _b_columns(
                _part(x, plane + pick(places, p), n),
                _part(x, plane + pick(places, p + 1), n),
                _part(x, plane + pick(places, p + 2), n),
                _part(x, plane + pick(places, p + 3), n),
            )
            store(temp, t, w0)
            store(temp, t + lanes, w1)
            store(temp, t + 2 * lanes, w2)
            store(temp, t + 3 * lanes, w3)
        for j in range(4):
            t = j * lanes
            w0, w1, w2, w3, w4, w5 = _b_rows(
                load(temp, t),
                load(temp, t + 4 * lanes),
                load(temp, t + 8 * lanes),
                load(temp, t + 12 * lanes),
                load(temp, t + 16 * lanes),
                load(temp, t + 20 * lanes),
            )
            k = u0 + n - n0 + j * step
            store(u, k, w0)
            store(u, k + 4 * step, w1)
            store(u, k + 8 * step, w2)
            store(u, k + 12 * step, w3)
            store(u, k + 16 * step, w4)
            store(u, k + 20 * step, w5)


@jit(inner=True)
def gradient_tile(dy, plane, places, n0, n1, u, u0, step):
    """u[k·step + u0 + n − n0] = A dy A'ᵀ of one tile of one channel."""
    lanes = width(dy)
    for at in range(n0, n1, lanes):
        n = min(at, n1 - lanes)
        l0, l1, l2, l3, l4, l5 = _a_rows(
            _part(dy, plane + pick(places, 0), n),
            _part(dy, plane + pick(places, 2), n),
            _part(dy, plane + pick(places, 4), n),
            _part(dy, plane + pick(places, 6), n),
        )
        r0, r1, r2, r3, r4, r5 = _a_rows(
            _part(dy, plane + pick(places, 1), n),
            _part(dy, plane + pick(places, 3), n),
            _part(dy, plane + pick(places, 5), n),
            _part(dy, plane + pick(places, 7), n),
        )
        k = u0 + n - n0
        _gradient_row(u, k, step, l0, r0)
        _gradient_row(u, k + 4 * step, step, l1, r1)
        _gradient_row(u, k + 8 * step, step, l2, r2)
        _gradient_row(u, k + 12 * step, step, l3, r3)
        _gradient_row(u, k + 16 * step, step, l4, r4)
        _gradient_row(u, k + 20 * step, step, l5, r5)


@jit(inner=True)
def _gradient_row(u, k, step, left, right):
    """Store a row times A'ᵀ."""
    store(u, k, left)
    store(u, k + step, left + right)
    store(u, k + 2 * step, left - right)
    store(u, k + 3 * step, -1 * right)


@jit(inner=True)
def output_tile(m, m0, step, n0, n1, y, plane, places, shift, temp):
    """y = Aᵀ m A' + shift at one tile of one channel; return 0, or NaN where a value is not finite."""
    lanes = width(y)
    nothing = wrong = zeros(y)
    for at in range(n0, n1, lanes):
        n = min(at, n1 - lanes)
        w = m0 + n - n0
        for j in range(4):
            k = w + j * step
            w0, w1, w2, w3 = _output_rows(
                load(m, k),
                load(m, k + 4 * step),
                load(m, k + 8 * step),
                load(m, k + 12 * step),
                load(m, k + 16 * step),
                load(m, k + 20 * step),
            )
            t = j * lanes
            store(temp, t, w0)
            store(temp, t + 4 * lanes, w1)
            store(temp, t + 8 * lanes, w2)
            store(temp, t + 12 * lanes, w3)
        for i in range(4):
            t = 4 * i * lanes
            b, c = load(temp, t + lanes), load(temp, t + 2 * lanes)
            left = load(temp, t) + b + c + shift
            right = b - c - load(temp, t + 3 * lanes) + shift
            place = pick(places, 2 * i)
            if place >= 0:
                wrong = fma(left, nothing, wrong)
                store(y, plane + place + n, left)
            place = pick(places, 2 * i + 1)
            if place >= 0:
                wrong = fma(right, nothing, wrong)
                store(y, plane + place + n, right)
    return total(wrong)


@shared
def band(space, x, xs, packed, offset, bias, y, ys, geometry, failed, first, last, thread):
    """Compute the units first:last of y; a unit is some samples of some tiles. failed[first] is 0, or NaN as it were.

    x and y are flat, xs and ys their shapes (C, H, W, N). `geometry`: padding, samples in a unit, sixes, fours, their
    columns, the size of a thread's own space.
    """
    ph, pw, samples, sixes, fours, ld, size = geometry
    channels, height, width, n = xs
    o, ho, wo, _ = ys
    across = (wo + 1) // 2
    slices = (n + samples - 1) // samples
    padded = 6 * sixes + 4 * fours
    u = space[thread * size : (thread + 1) * size]
    m = u[24 * channels * ld :]
    temp = m[24 * padded * ld :]
    places, places6 = np.empty(8, np.int64), np.empty(24, np.int64)
    wrong = zeros(y)
    wrong = total(wrong)
    for unit in range(first, last):
        tile, n0 = unit // slices, unit % slices * samples
        n1 = min(n, n0 + samples)
        n0 = min(n0, n1 - samples)
        r, q = tile // across * 4, tile % across * 2
        _places(height, width, n, r - ph, q - pw, 6, 4, places6)
        _places(ho, wo, n, r, q, 4, 2, places)
        for c in range(channels):
            input_tile(x, c * height * width * n, places6, n0, n1, u, c * ld, channels * ld, temp)
        for k in range(24):
            products(
                u,
                k * channels * ld,
                offset,
                0,
                channels,
                packed,
                k * padded * channels,
                0,
                sixes,
                fours,
                channels,
                m,
                k * padded * ld,
                ld,
                n1 - n0,
                True,
            )
        for c in range(o):
            wrong += output_tile(m, c * ld, padded * ld, n0, n1, y, c * ho * wo * n, places, spread_at(bias, c), temp)
    failed[first] = wrong


@jit(inner=True)
def _transforms(x, xs, dy, ys, geometry, unit, u, g, temp, places, places6):
    """Set u = Bᵀ d B' and g = A dy A'ᵀ of the tiles of one unit; return how many columns they have.

    `geometry`: padding, samples and tiles in a unit, columns, rows of u and of g for each of the 24 products.
    """
    ph, pw, samples, tiles, ld, u_rows, g_rows = geometry
    channels, height, width, n = xs
    o, ho, wo, _ = ys
    across = (wo + 1) // 2
    slices = n // samples
    n0 = unit % slices * samples
    n1 = n0 + samples
    t0 = unit // slices * tiles
    t1 = min(across * ((ho + 3) // 4), t0 + tiles)
    for tile in range(t0, t1):
        at = (tile - t0) * samples
        r, q = tile // across * 4, tile % across * 2
        _places(height, width, n, r - ph, q - pw, 6, 4, places6)
        _places(ho, wo, n, r, q, 4, 2, places)
        for c in range(channels):
            input_tile(x, c * height * width * n, places6, n0, n1, u, c * ld + at, u_rows * ld, temp)
        for c in range(o):
            gradient_tile(dy, c * ho * wo * n, places, n0, n1, g, c * ld + at, g_rows * ld)
    return (t1 - t0) * samples


@jit
def band_transforms(x, xs, dy, ys, geometry, unit, u, g, temp, places, places6):
    """Do as `_transforms`: for the caller that takes the products elsewhere."""
    return _transforms(x, xs, dy, ys, geometry, unit, u, g, temp, places, places6)


@shared
def band_dweight(space, x, xs, dy, ys, geometry, cut, sums, start, stop, thread):
    """Add part `start` of the units to its sums[k, o, c] = sum over tiles and samples of (A dy A'ᵀ)[k] · (Bᵀ d B')[k].

    The sums are laid out as `dots` does. u and g have channels that fill up the last group of three, and of two, with
    zeros. `cut`: units, parts, the size of a thread's own space.
    """
    units, parts, size = cut
    ld, u_rows, g_rows = geometry[4:]
    u = space[thread * size : (thread + 1) * size]
    g = u[24 * u_rows * ld :]
    temp = g[24 * g_rows * ld :]
    clear(u, 0, 24 * (u_rows + g_rows) * ld)
    places, places6 = np.empty(8, np.int64), np.empty(24, np.int64)
    lanes = width(x)
    pairs, threes = g_rows // 2, u_rows // 3
    for unit in range(start * units // parts, (start + 1) * units // parts):
        columns = _transforms(x, xs, dy, ys, geometry, unit, u, g, temp, places, places6)
        for k in range(24):
            u0 = k * u_rows * ld
            g0 = k * g_rows * ld
            for p in range(0, pairs, PAIRS):
                for t in range(threes):
                    ta = u0 + 3 * t * ld
                    all_dots(
                        g,
                        g0 + 2 * p * ld,
                        ld,
                        0,
                        u,
                        ta,
                        ta + ld,
                        ta + 2 * ld,
                        0,
                        1,
                        columns,
                        sums,
                        (((start * 24 + k) * pairs + p) * threes + t) * lanes,
                        threes * lanes,
                        min(PAIRS, pairs - p),
                    )
