"""3×3 convolutions of stride 1 by tiles: how `winograd` is called for y, dx and dweight."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from minidl import memory, parallel
from minidl.engines.numba import correlate, winograd
from minidl.engines.numba.direct import added_up, odd_lines, tiles, zeros
from minidl.parallel import scratch

Pair = tuple[int, int]
Shape = tuple[int, ...]

K = winograd.PRODUCTS
_G = np.kron(winograd.G_ROWS, winograd.G_COLUMNS)  # (24, 9)
_WORK = 1 << 17  # transformed values of a unit, about: they stay in the second cache
_BLAS = 64 * 64  # channels O·C from which the products of the weight gradient are BLAS's
_COLUMNS = 512  # columns of such a product, about


@cache
def _g(dtype: Any) -> np.ndarray:
    return _G.astype(dtype)


class _Plan(NamedTuple):
    geometry: Shape
    units: list[Pair]
    u: int  # values of the transformed input of a unit
    m: int  # of its products, or of its transformed gradient
    offset: np.ndarray


def _count(size: Pair) -> int:
    return -(-size[0] // winograd.TILE[0]) * -(-size[1] // winograd.TILE[1])


@lru_cache(maxsize=1024)
def _plan(o: int, x: Shape, padding: Pair, size: Pair) -> _Plan:
    c, _, _, n = x
    sixes, fours = tiles(o)
    padded = 6 * sixes + 4 * fours
    samples = min(max(32, min(256, _WORK // (K * (c + padded)))), n) // 16 * 16
    units = _count(size) * -(-n // samples)
    ld = odd_lines(samples)
    parts = parallel.partition(units, -(-units // 16))
    geometry = (*padding, samples, sixes, fours, ld)
    return _Plan(geometry, parts, K * c * ld, K * padded * ld, np.arange(c) * ld)


def correlation(
    xt: np.ndarray, weight: np.ndarray, turned: bool, bias: np.ndarray | None, padding: Pair, out: np.ndarray
) -> bool:
    """Set out (O, Ho, Wo, N) to the 3×3 correlation of xt plus bias; return False where a value is not finite.

    Turned, the weight is (C, O, 3, 3) and taken from its end.
    """
    o, c = len(out), len(xt)
    plan = _plan(o, xt.shape, padding, out.shape[1:3])
    g = _g(xt.dtype)[:, ::-1] if turned else _g(xt.dtype)
    kernels = memory.empty(np, (K, o * c), xt.dtype)
    np.matmul(g, weight.reshape(o * c, 9).T, out=kernels)
    strides = (1, o, 0, 0) if turned else (c, 1, 0, 0)
    sixes, fours = plan.geometry[3:5]
    size = (6 * sixes + 4 * fours) * c
    packed = memory.empty(np, (K * size,), xt.dtype)
    flat = kernels.reshape(-1)

    def pack(k: int) -> None:
        correlate.pack(flat, k * o * c, strides, (o, c, 1, 1), c, sixes, fours, packed, k * size)

    parallel.run(pack, K, products=K * o * c << 4)
    shift = zeros(o, xt.dtype) if bias is None else bias
    wrong = [0.0] * len(plan.units)

    def task(i: int) -> None:
        u, m = scratch("u", (plan.u,), xt.dtype), scratch("m", (plan.m,), xt.dtype)
        temp, places = scratch("temp", (K * 16,), xt.dtype), scratch("places", (K + 8,), np.int64)
        wrong[i] = winograd.band(
            xt.reshape(-1), xt.shape, packed, plan.offset, shift, out.reshape(-1), out.shape, plan.geometry,
            *plan.units[i], u, m, temp, places[K:], places[:K],
        )  # fmt: skip

    parallel.run(task, len(plan.units))
    return all(value == 0 for value in wrong)


@lru_cache(maxsize=1024)
def _weight_plan(o: int, x: Shape, padding: Pair, size: Pair) -> _Plan:
    c, _, _, n = x
    blas = o * c >= _BLAS
    samples = max(s for s in range(16, 129, 16) if n % s == 0)
    count = _count(size)
    together = max(1, min(count, (_COLUMNS if blas else 128) // samples))
    units = -(-count // together) * (n // samples)
    ld = odd_lines(samples * together)
    parts = parallel.partition(units, -(-units // (2 if blas else 8)))
    rows = (c, o) if blas else (c + -c % 3, o + o % 2)
    geometry = (*padding, samples, together, ld, *rows)
    return _Plan(geometry, parts, K * rows[0] * ld, K * rows[1] * ld, np.empty(0))


def weight_gradient(dyt: np.ndarray, xt: np.ndarray, padding: Pair) -> tuple[np.ndarray, bool]:
    """Return dweight (O, C, 3, 3) = sum_hwn dy[o, h, w, n] · x[c, h + i − ph, w + j − pw, n], and whether it is finite.

    N is a multiple of 16.
    """
    o, c = len(dyt), len(xt)
    plan = _weight_plan(o, xt.shape, padding, dyt.shape[1:3])
    if o * c >= _BLAS:
        sums = memory.empty(np, (len(plan.units), K, o, c), xt.dtype)
    else:
        sums = np.zeros((len(plan.units), K * ((o + 1) // 2) * ((c + 2) // 3), 64 // xt.itemsize), xt.dtype)

    def task(i: int) -> None:
        u, g = scratch("u", (plan.u,), xt.dtype), scratch("m", (plan.m,), xt.dtype)
        temp, places = scratch("temp", (K * 16,), xt.dtype), scratch("places", (K + 8,), np.int64)
        arrays = (xt.reshape(-1), xt.shape, dyt.reshape(-1), dyt.shape, plan.geometry)
        first, last = plan.units[i]
        if o * c < _BLAS:
            u[:] = g[:] = 0
            winograd.band_dweight(*arrays, first, last, u, g, sums[i].reshape(-1), temp, places[K:], places[:K])
            return
        for unit in range(first, last):
            columns = winograd.band_transforms(*arrays, unit, u, g, temp, places[K:], places[:K])
            left = g.reshape(K, o, -1)[:, :, :columns]
            right = u.reshape(K, c, -1)[:, :, :columns].transpose(0, 2, 1)
            if unit == first:
                np.matmul(left, right, out=sums[i])
            else:
                sums[i] += np.matmul(left, right, out=scratch("product", (K, o, c), xt.dtype))

    parallel.run(task, len(plan.units))
    if o * c >= _BLAS:
        total = np.add.reduce(sums, axis=0)
    else:
        total = np.empty((K, o, c), xt.dtype)
        added_up(sums, total[..., None])
    dweight: np.ndarray = np.matmul(_g(xt.dtype).T, total.reshape(K, -1)).reshape(3, 3, o, c)
    return dweight.transpose(2, 3, 0, 1), bool(np.isfinite(dweight).all())
