"""The convolution compiled: direct for most, by Winograd's algorithm for 3×3 kernels of stride 1."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minidl import memory, parallel
from minidl.engines.numba import correlate, winograd
from minidl.parallel import scratch

Pair = tuple[int, int]


class _Plan(NamedTuple):
    """What `correlate.band` needs beside the arrays, for one correlation."""

    offset: np.ndarray
    geometry: tuple[int, ...]
    bands: list[tuple[int, ...]]
    padded: int  # rows of the packed weight
    buffer: int  # values of the buffer for x
    products: int


def _odd(size: int) -> int:
    """Return the least odd number of cache lines for `size` values, in values (of float32)."""
    return 16 * (-(-size // 16) | 1)


@lru_cache(maxsize=1024)
def _plan(o: int, x: tuple[int, ...], kernel: Pair, stride: Pair, corner: Pair, size: Pair) -> _Plan:
    (kh, kw), (sh, sw), (ho, wo), (c, _, _, samples) = kernel, stride, size, x
    slices = _slices(samples, kw)
    n = slices[0][1]
    positions = wo + (kw - 1) // sw
    row = _odd(sw * positions * n + 16)
    tall = max(1, min(ho, (1 << 19) // max(1, c * sh * row)))
    bands = parallel.partition(ho, min(tall, -(-ho // 2) if len(slices) == 1 else ho))
    most = max(b - a for a, b in bands)
    bands = [(*band, *some) for some in slices for band in bands]
    plane = _odd(((most - 1) * sh + kh) * row)
    block = max(1, 384 // (kh * kw))
    taps = [
        k * plane + i * row + ((j % sw) * positions + j // sw) * n
        for c0 in range(0, c, block)
        for i in range(kh)
        for k in range(c0, min(c, c0 + block))
        for j in range(kw)
    ]
    sixes, fours = _tiles(o)
    padded = 6 * sixes + 4 * fours
    geometry = (kh, kw, sh, sw, *corner, ho, wo, row, plane, positions, block, sixes, fours, correlate.CHUNK + 16)
    return _Plan(np.array(taps), geometry, bands, padded, c * plane + 64, o * c * kh * kw * ho * wo * samples)


import os
NB = int(os.environ.get("NB", "10000"))
def _slices(n: int, kw: int) -> list[Pair]:
    """Cut the batch so that what neighbouring taps share stays in the core's cache."""
    width = n if kw == 1 else -(-n // max(1, round(n / NB)))
    return [(a, min(n, a + width)) for a in range(0, n, width)]


def _tiles(o: int) -> Pair:
    """Return how many sixes and fours cover o with the least waste."""
    _, sixes, fours = min((6 * s + 4 * f, -s, f) for s in range(o // 6 + 2) for f in (max(0, -(-(o - 6 * s) // 4)),))
    return -sixes, fours


def correlation(
    xt: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    corner: Pair,
    size: Pair,
    out: np.ndarray,
    start: Pair = (0, 0),
    step: Pair = (1, 1),
) -> None:
    """out[o, start + step·(h, w), n] = sum weight[o, c, i, j] · xt[c, stride·(h, w) + corner + (i, j), n] + bias[o]."""
    o, kernel = len(weight), weight.shape[2:]
    plan = _plan(o, xt.shape, kernel, stride, corner, size)
    sixes, fours = plan.geometry[12:14]
    packed = memory.empty(np, (plan.padded * weight[0].size,), xt.dtype)
    correlate.pack(weight, plan.geometry[11], sixes, fours, packed)
    if bias is None:
        bias = np.zeros(o, xt.dtype)

    def task(i: int) -> None:
        buffer = scratch("x", (plan.buffer,), xt.dtype)
        work = scratch("y", (plan.padded * (correlate.CHUNK + 16),), xt.dtype)
        part = plan.bands[i]
        correlate.band(xt, packed, bias, plan.offset, plan.geometry, out, start, step, *part, buffer, work)

    parallel.run(task, len(plan.bands), products=plan.products)


def direct(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, stride: Pair, padding: Pair) -> np.ndarray:
    """y as `conv2d` gives it."""
    xt = memory.batch_last(np, x, weight.dtype)
    size = tuple((s + 2 * p - k) // step + 1 for s, p, k, step in zip(x.shape[2:], padding, weight.shape[2:], stride, strict=True))
    y = memory.images(np, (len(x), len(weight), *size), weight.dtype)
    correlation(xt, weight, bias, stride, (-padding[0], -padding[1]), size, memory.batch_last(np, y))
    return y


def direct_dx(dyt: np.ndarray, shape: tuple[int, ...], weight: np.ndarray, stride: Pair, padding: Pair) -> np.ndarray:
    """dx: for each place within a stride, the correlation of dy with the turned taps that meet it."""
    (sh, sw), (h, w), (kh, kw) = stride, shape[2:], weight.shape[2:]
    dx = memory.images(np, shape, weight.dtype)
    out = memory.batch_last(np, dx)
    turned = weight.transpose(1, 0, 2, 3)
    for a in range(min(sh, h)):
        i0 = (a + padding[0]) % sh
        rows = range(i0, kh, sh)
        for b in range(min(sw, w)):
            j0 = (b + padding[1]) % sw
            columns = range(j0, kw, sw)
            size = (len(range(a, h, sh)), len(range(b, w, sw)))
            if not rows or not columns:
                out[:, a::sh, b::sw] = 0
                continue
            part = np.ascontiguousarray(turned[:, :, i0::sh, j0::sw][:, :, ::-1, ::-1])
            corner = ((a + padding[0] - rows[-1]) // sh, (b + padding[1] - columns[-1]) // sw)
            correlation(dyt, part, None, (1, 1), corner, size, out, (a, b), stride)
    return dx


class _WeightPlan(NamedTuple):
    offset: np.ndarray
    geometry: tuple[int, ...]
    bands: list[tuple[int, ...]]
    sums: tuple[int, ...]
    buffer: int
    rows: int
    products: int


@lru_cache(maxsize=1024)
def _weight_plan(o: int, x: tuple[int, ...], kernel: Pair, stride: Pair, corner: Pair, size: Pair) -> _WeightPlan:
    (kh, kw), (sh, sw), (ho, wo), (c, _, _, samples) = kernel, stride, size, x
    slices = _slices(samples, kw)
    n = slices[0][1]
    positions = wo + (kw - 1) // sw
    row = _odd(sw * positions * n + 16)
    tall = max(1, min(ho, (1 << 19) // max(1, c * sh * row)))
    bands = parallel.partition(ho, min(tall, -(-ho // 2) if len(slices) == 1 else ho))
    most = max(b - a for a, b in bands)
    bands = [(*band, *some) for some in slices for band in bands]
    plane = _odd(((most - 1) * sh + kh) * row)
    taps = [k * plane + ((j % sw) * positions + j // sw) * n for k in range(c) for j in range(kw)]
    taps += taps[:1] * (-len(taps) % 3)
    columns = -(-wo * n // 16) * 16
    chunk = min(columns, 512 if o <= 8 else 256)
    group = max(1, min(most, 512 // columns))
    ldg = _odd(chunk + 16)
    pairs = (o + 1) // 2
    geometry = (kh, kw, sh, sw, *corner, ho, wo, row, plane, positions, len(taps) // 3, group, chunk, ldg)
    sums = (len(bands), kh * pairs * (len(taps) // 3))
    return _WeightPlan(
        np.array(taps), geometry, bands, sums, c * plane + 64, group * 2 * pairs * ldg, o * c * kh * kw * ho * wo * samples
    )


def direct_dweight(
    dyt: np.ndarray, xt: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair
) -> np.ndarray:
    """dweight[o, c, i, j] = sum over h, w, n of dy[o, h, w, n] · x[c, stride·(h, w) + (i, j) − padding, n]."""
    o, c, kh, kw = weight.shape
    plan = _weight_plan(o, xt.shape, (kh, kw), stride, (-padding[0], -padding[1]), dyt.shape[1:3])
    lanes = 64 // xt.itemsize
    sums = np.zeros((*plan.sums, lanes), xt.dtype)

    def task(i: int) -> None:
        buffer = scratch("x", (plan.buffer,), xt.dtype)
        rows = scratch("dy", (plan.rows,), xt.dtype)
        correlate.band_dweight(xt, dyt, plan.offset, plan.geometry, *plan.bands[i], buffer, rows, sums[i].reshape(-1))

    parallel.run(task, len(plan.bands), products=plan.products)
    return _unfold(sums, kh, o, c * kw).reshape(kh, o, c, kw).transpose(1, 2, 0, 3)


def _unfold(sums: np.ndarray, kernels: int, o: int, c: int) -> np.ndarray:
    """Add up what the tasks summed as `correlate.dots` lays it out; return (kernels, o, c)."""
    total = np.add.reduce(sums, axis=0)
    pairs, threes = (o + 1) // 2, (c + 2) // 3
    total = np.add.reduce(total.reshape(kernels, pairs, threes, 8, -1), axis=-1)[..., :6]
    total = total.reshape(kernels, pairs, threes, 2, 3).transpose(0, 1, 3, 2, 4)
    return total.reshape(kernels, 2 * pairs, 3 * threes)[:, :o, :c]


_G = np.kron(winograd.G_ROWS, winograd.G_COLUMNS)  # (24, 9)


class _TilePlan(NamedTuple):
    geometry: tuple[int, ...]
    units: list[Pair]
    u: int
    m: int
    offset: np.ndarray


L1 = int(os.environ.get("L1", "96"))
L2 = int(os.environ.get("L2", "128"))
KB = int(os.environ.get("KB", "512")) * 256


@lru_cache(maxsize=1024)
def _tile_plan(o: int, x: tuple[int, ...], padding: Pair) -> _TilePlan:
    c, h, w, n = x
    ho, wo = h + 2 * padding[0] - 2, w + 2 * padding[1] - 2
    sixes, fours = _tiles(o)
    padded = 6 * sixes + 4 * fours
    samples = max(32, min(256, KB // (24 * (c + padded))) // 16 * 16)
    samples = min(samples, n // 16 * 16)
    units = -(-ho // 4) * -(-wo // 2) * -(-n // samples)
    ld = _odd(samples)
    units = parallel.partition(units, max(1, -(-units // 16)))
    geometry = (*padding, samples, sixes, fours, ld)
    return _TilePlan(geometry, units, 24 * c * ld + 64, 24 * padded * ld, np.arange(c) * ld)


def winograd_conv(xt: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, padding: Pair, out: np.ndarray) -> bool:
    """Set out (O, Ho, Wo, N) to the 3×3 correlation of xt; return False where some value of it is not finite."""
    o, c = weight.shape[:2]
    plan = _tile_plan(o, xt.shape, padding)
    kernels = np.matmul(_G.astype(xt.dtype), weight.reshape(o * c, 9).T)  # (24, O·C)
    sixes, fours = plan.geometry[3:5]
    packed = memory.empty(np, (24 * (6 * sixes + 4 * fours) * c,), xt.dtype)
    for k, part in enumerate(packed.reshape(24, -1)):
        correlate.pack(kernels[k].reshape(o, c, 1, 1), c, sixes, fours, part)
    if bias is None:
        bias = np.zeros(o, xt.dtype)
    wrong = [0.0] * len(plan.units)

    def task(i: int) -> None:
        u, m = scratch("u", (plan.u,), xt.dtype), scratch("m", (plan.m,), xt.dtype)
        temp = scratch("temp", (24 * 16,), xt.dtype)
        places = scratch("places", (52,), np.int64)
        wrong[i] = winograd.band(
            xt.reshape(-1), xt.shape, packed, plan.offset, bias, out.reshape(-1), out.shape, plan.geometry,
            *plan.units[i], u, m, temp, places[24:], places[:24],
        )

    parallel.run(task, len(plan.units))
    return sum(wrong) == 0


@lru_cache(maxsize=1024)
def _tile_weight_plan(o: int, x: tuple[int, ...], padding: Pair) -> _TilePlan:
    c, h, w, n = x
    ho, wo = h + 2 * padding[0] - 2, w + 2 * padding[1] - 2
    samples = max(s for s in range(16, 129, 16) if n % s == 0)
    every = -(-ho // 4) * -(-wo // 2)
    pairs, threes = (o + 1) // 2, (c + 2) // 3
    tiles = max(1, min(every, L2 // samples))
    units = -(-every // tiles) * (n // samples)
    ld = _odd(samples * tiles)
    return _TilePlan(
        (*padding, samples, tiles, ld),
        parallel.partition(units, max(1, -(-units // 8))),
        24 * 3 * threes * ld,
        24 * 2 * pairs * ld,
        np.array([24 * pairs * threes]),
    )


def winograd_dweight(dyt: np.ndarray, xt: np.ndarray, padding: Pair) -> np.ndarray:
    o, c = len(dyt), len(xt)
    plan = _tile_weight_plan(o, xt.shape, padding)
    lanes = 64 // xt.itemsize
    sums = np.zeros((len(plan.units), int(plan.offset[0]), lanes), xt.dtype)

    def task(i: int) -> None:
        u, m = scratch("u", (plan.u,), xt.dtype), scratch("m", (plan.m,), xt.dtype)
        temp = scratch("temp", (24 * 16,), xt.dtype)
        places = scratch("places", (52,), np.int64)
        winograd.band_dweight(
            xt.reshape(-1), xt.shape, dyt.reshape(-1), dyt.shape, plan.geometry, *plan.units[i],
            u, m, sums[i].reshape(-1), temp, places[24:], places[:24],
        )

    parallel.run(task, len(plan.units))
    s = _unfold(sums, 24, o, c).reshape(24, -1)
    return np.matmul(_G.T.astype(xt.dtype), s).reshape(3, 3, o, c).transpose(2, 3, 0, 1)


def conv2d(x, weight, bias, stride, padding):
    if _tiled(x, weight, stride):
        xt = memory.batch_last(np, x, weight.dtype)
        size = tuple(s + 2 * p - 2 for s, p in zip(x.shape[2:], padding, strict=True))
        y = memory.images(np, (len(x), len(weight), *size), weight.dtype)
        if winograd_conv(xt, weight, bias, padding, memory.batch_last(np, y)):
            return y
    return direct(x, weight, bias, stride, padding)


def _tiled(x, weight, stride):
    return weight.shape[2:] == (3, 3) and stride == (1, 1) and len(x) >= 16 and min(weight.shape[:2]) >= 8


def conv2d_dx(dyt, xt, weight, stride, padding):
    shape = (xt.shape[-1], *xt.shape[:-1])
    if weight.shape[2:] == (3, 3) and stride == (1, 1) and dyt.shape[-1] >= 16 and min(weight.shape[:2]) >= 8:
        dx = memory.images(np, shape, weight.dtype)
        turned = np.ascontiguousarray(weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])
        if winograd_conv(dyt, turned, None, (2 - padding[0], 2 - padding[1]), memory.batch_last(np, dx)):
            return dx
    return direct_dx(dyt, shape, weight, stride, padding)


def conv2d_dweight(dyt, xt, weight, stride, padding):
    if weight.shape[2:] == (3, 3) and stride == (1, 1) and dyt.shape[-1] % 16 == 0 and min(weight.shape[:2]) >= 8:
        dw = winograd_dweight(dyt, xt, padding)
        if np.isfinite(dw).all():
            return dw
    return direct_dweight(dyt, xt, weight, stride, padding)
