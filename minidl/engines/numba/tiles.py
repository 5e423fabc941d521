"""3×3 convolutions of stride 1 by tiles: how `winograd` is called for y, dx and dweight."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from minidl import memory, parallel
from minidl.engines.numba import correlate, winograd
from minidl.engines.numba.direct import added_up, odd_lines, tiles, zeros
from minidl.engines.numba.share import Workspace, share, share_pieces
from minidl.parallel import scratch

Pair = tuple[int, int]
Shape = tuple[int, ...]

K = winograd.PRODUCTS
_G = np.kron(winograd.G_ROWS, winograd.G_COLUMNS)  # (24, 9)
_WORK = 1 << 17  # transformed values of a unit, about: they stay in the second cache
_BLAS = 64 * 64  # channels O·C beyond which the products of the weight gradient are BLAS's
_COLUMNS = 512  # columns of such a product, about; of few channels 8 times as many as channels


@cache
def _g(dtype: Any) -> np.ndarray:
    return _G.astype(dtype)


class _Plan(NamedTuple):
    geometry: Shape
    units: int
    parts: int
    space: int  # values of a thread's own: a unit's transformed input, its products, and some more
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
    space = odd_lines(K * (c + padded) * ld + K * 16)
    return _Plan((*padding, samples, sixes, fours, ld, space), units, len(parts), space, np.arange(c) * ld)


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
    weights = kernels.reshape(-1), o * c, (0, *strides), (o, c, 1, 1), c, sixes, fours, packed
    share(K, K * o * c, correlate.pack, *weights)
    shift = zeros(o, xt.dtype) if bias is None else bias
    failed = np.zeros(plan.units, xt.dtype)
    share_pieces(
        plan.parts, plan.units, True, Workspace("convolution", plan.space, xt.dtype),
        winograd.band, xt.reshape(-1), xt.shape, packed, plan.offset, shift, out.reshape(-1), out.shape, plan.geometry,
        failed,
    )  # fmt: skip
    return not failed.any()


@lru_cache(maxsize=1024)
def _weight_plan(o: int, x: Shape, padding: Pair, size: Pair) -> _Plan:
    c, _, _, n = x
    blas = o * c > _BLAS
    count = _count(size)
    samples = max(s for s in range(16, 129, 16) if n % s == 0)
    together = max(1, min(count, min(_COLUMNS, 8 * max(o, c)) // samples))
    if together == count and samples == n:  # one unit: two of half the tiles, or half the samples, for two threads
        together, samples = (-(-count // 2), samples) if count > 1 else (1, n // 2 if n % 32 == 0 else n)
    units = -(-count // together) * (n // samples)
    ld = odd_lines(samples * together)
    parts = parallel.partition(units, -(-units // (2 if blas else 8)))
    rows = (c, o) if blas else (c + -c % 3, o + o % 2)
    space = odd_lines(K * sum(rows) * ld + K * 16)
    return _Plan((*padding, samples, together, ld, *rows), units, len(parts), space, np.empty(0))


def weight_gradient(dyt: np.ndarray, xt: np.ndarray, padding: Pair) -> tuple[np.ndarray, bool]:
    """Return dweight (O, C, 3, 3) = sum_hwn dy[o, h, w, n] · x[c, h + i − ph, w + j − pw, n], and whether it is finite.

    N is a multiple of 16.
    """
    o, c = len(dyt), len(xt)
    plan = _weight_plan(o, xt.shape, padding, dyt.shape[1:3])
    arrays = (xt.reshape(-1), xt.shape, dyt.reshape(-1), dyt.shape, plan.geometry)
    if o * c > _BLAS:
        total = _sums_of_blas(arrays, plan, o, c)
    else:
        sums = np.zeros((plan.parts, K * ((o + 1) // 2) * ((c + 2) // 3), 64 // xt.itemsize), xt.dtype)
        share_pieces(
            plan.parts, plan.parts, True, Workspace("convolution", plan.space, xt.dtype),
            winograd.band_dweight, *arrays, (plan.units, plan.parts, plan.space), sums.reshape(-1),
        )  # fmt: skip
        total = np.empty((K, o, c), xt.dtype)
        added_up(sums, total[..., None])
    dweight: np.ndarray = np.matmul(_g(xt.dtype).T, total.reshape(K, -1)).reshape(3, 3, o, c)
    return dweight.transpose(2, 3, 0, 1), bool(np.isfinite(dweight).all())


def _sums_of_blas(arrays: tuple[Any, Any, Any, Any, Any], plan: _Plan, o: int, c: int) -> np.ndarray:
    """Return sums[k, o, c] over all units, by products of BLAS."""
    dtype = arrays[0].dtype
    sums = memory.empty(np, (plan.parts, K, o, c), dtype)
    ld = plan.geometry[4]
    rows = K * c * ld

    def task(i: int) -> None:
        space, places = scratch("convolution", plan.space, dtype), scratch("places", K + 8, np.int64)
        u, g, temp = space[:rows], space[rows : rows + K * o * ld], space[rows + K * o * ld :]
        for unit in range(i * plan.units // plan.parts, (i + 1) * plan.units // plan.parts):
            columns = winograd.band_transforms(*arrays, unit, u, g, temp, places[K:], places[:K])
            left = g.reshape(K, o, -1)[:, :, :columns]
            right = u.reshape(K, c, -1)[:, :, :columns].transpose(0, 2, 1)
            if unit == i * plan.units // plan.parts:
                np.matmul(left, right, out=sums[i])
            else:
                sums[i] += np.matmul(left, right, out=scratch("product", (K, o, c), dtype))

    parallel.run(task, plan.parts)
    total: np.ndarray = np.add.reduce(sums, axis=0)
    return total
