"""The direct convolution: how `correlate` is called for y, dx and dweight, for any kernel, stride and padding."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minidl import parallel
from minidl.engines.numba import correlate
from minidl.engines.numba.share import Workspace, share_pieces
from minidl.engines.numba.vector import WIDE
from minidl.parallel import scratch

Pair = tuple[int, int]
Shape = tuple[int, ...]

_BUFFER = 1 << 19  # values of x that a band copies, about
_DEPTH = 224 if WIDE else 448  # taps of one product, about: their values of x then stay in the first cache
_ROWS = 1 << 15  # values of dy that are met by one row of x after the other, about: they stay in the second cache
_ALONE = 1 << 17  # products of a convolution that one thread computes in one piece
_WORTH_WAKING = 1 << 21  # products that are worth the time to wake a thread


class _Plan(NamedTuple):
    offset: np.ndarray  # where the row of each tap begins in the buffer
    geometry: Shape  # what correlate.band unpacks
    bands: int  # of rows of the output
    space: int  # values of a thread's own, for rows of x and of the result
    packed: int
    wakes: bool


def odd_lines(size: int) -> int:
    """Return the least odd number of cache lines that holds `size` values, in values (of float32)."""
    return 16 * (-(-size // 16) | 1)


def tiles(rows: int) -> Pair:
    """Return how many groups of six and of four rows cover `rows` with the least waste.

    >>> tiles(16), tiles(6), tiles(5)
    ((2, 1), (1, 0), (1, 0))
    """
    choices = [(s, max(0, -(-(rows - 6 * s) // 4))) for s in range(-(-rows // 6) + 1)]
    return min(choices, key=lambda c: (6 * c[0] + 4 * c[1], c[1]))


@lru_cache(maxsize=64)
def zeros(size: int, dtype: Any) -> np.ndarray:
    """Return zeros that nobody writes to."""
    return np.zeros(size, dtype)


@lru_cache(maxsize=8)
def ones(size: int, dtype: Any) -> np.ndarray:
    """Return ones that nobody writes to: the factor of a sum that BLAS takes."""
    return np.ones(size, dtype)


def _bands(channels: int, rows: int, row: int, products: int) -> list[Pair]:
    if products < _ALONE:
        return [(0, rows)]
    return parallel.partition(rows, min(-(-rows // 2), max(1, _BUFFER // (channels * row))))


@lru_cache(maxsize=1024)
def _plan(o: int, x: Shape, kernel: Pair, stride: Pair, corner: Pair, size: Pair) -> _Plan:
    (kh, kw), (sh, sw), (ho, wo), (c, _, _, n) = kernel, stride, size, x
    positions = wo + (kw - 1) // sw
    row = odd_lines(sw * positions * n + 16)
    products = o * c * kh * kw * ho * wo * n
    bands = _bands(c, ho, sh * row, products)
    plane = odd_lines(((max(b - a for a, b in bands) - 1) * sh + kh) * row)
    block = -(-c // -(-c * kh * kw // _DEPTH))  # channels of one product
    offset = [
        k * plane + i * row + ((j % sw) * positions + j // sw) * n
        for c0 in range(0, c, block)
        for i in range(kh)
        for k in range(c0, min(c, c0 + block))
        for j in range(kw)
    ]
    sixes, fours = tiles(o)
    padded = 6 * sixes + 4 * fours
    ldo = correlate.CHUNK + 16
    space = odd_lines(c * plane + correlate.SPARE + padded * ldo)
    geometry = (kh, kw, sh, sw, *corner, ho, wo, row, plane, positions, block, sixes, fours, ldo, space)
    return _Plan(np.array(offset), geometry, len(bands), space, padded * c * kh * kw, products >= _WORTH_WAKING)


def correlation(
    xt: np.ndarray,
    weight: np.ndarray,
    turned: tuple[int, Shape, Shape],
    bias: np.ndarray | None,
    stride: Pair,
    corner: Pair,
    size: Pair,
    out: np.ndarray,
    start: Pair = (0, 0),
    step: Pair = (1, 1),
) -> None:
    """out[o, start + step·(h, w), n] = sum_cij w[o, c, i, j] · xt[c, stride·(h, w) + corner + (i, j), n] + bias[o].

    w is a view of the contiguous `weight`: `turned` has the place of its first value, its strides and its shape. A
    range over (h, w) has `size`; xt is zero outside.
    """
    place, strides, shape = turned
    plan = _plan(shape[0], xt.shape, shape[2:], stride, corner, size)
    block, sixes, fours = plan.geometry[11:14]
    packed = scratch("packed", plan.packed, xt.dtype)
    correlate.pack(weight.reshape(-1), 0, (place, *strides), shape, block, sixes, fours, packed, 0, 1, 0)
    shift = zeros(len(out), xt.dtype) if bias is None else bias
    share_pieces(
        plan.bands, size[0], plan.wakes, Workspace("convolution", plan.space, xt.dtype),
        correlate.band, xt, packed, shift, plan.offset, plan.geometry, out, start, step,
    )  # fmt: skip


def forward(
    xt: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, stride: Pair, padding: Pair, yt: np.ndarray
) -> None:
    """Set yt (O, Ho, Wo, N) to the convolution of xt (C, H, W, N)."""
    _, c, kh, kw = weight.shape
    turned = (0, (c * kh * kw, kh * kw, kw, 1), weight.shape)
    correlation(xt, weight, turned, bias, stride, (-padding[0], -padding[1]), yt.shape[1:3], yt)


def input_gradient(dyt: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, dxt: np.ndarray) -> None:
    """Set dxt (C, H, W, N): for each place within a stride, the correlation of dy with the turned taps that meet it."""
    (sh, sw), (h, w) = stride, dxt.shape[1:3]
    for (a, b), part in _phases(weight.shape, stride, padding, (h, w)):
        if part is None:
            dxt[:, a::sh, b::sw] = 0
        else:
            turned, corner, size = part
            correlation(dyt, weight, turned, None, (1, 1), corner, size, dxt, (a, b), stride)


@lru_cache(maxsize=1024)
def _phases(weight: Shape, stride: Pair, padding: Pair, image: Pair) -> list[tuple[Pair, Any]]:
    """Return for each place within a stride what `correlation` takes, or None where no tap meets it."""
    (o, c, kh, kw), (sh, sw), (h, w) = weight, stride, image
    phases: list[tuple[Pair, Any]] = []
    for a in range(min(sh, h)):
        rows = range((a + padding[0]) % sh, kh, sh)
        for b in range(min(sw, w)):
            columns = range((b + padding[1]) % sw, kw, sw)
            if not rows or not columns:
                phases.append(((a, b), None))
                continue
            turned = (
                rows[-1] * kw + columns[-1],
                (kh * kw, c * kh * kw, -sh * kw, -sw),
                (c, o, len(rows), len(columns)),
            )
            corner = ((a + padding[0] - rows[-1]) // sh, (b + padding[1] - columns[-1]) // sw)
            size = (len(range(a, h, sh)), len(range(b, w, sw)))
            phases.append(((a, b), (turned, corner, size)))
    return phases


class _WeightPlan(NamedTuple):
    offset: np.ndarray
    geometry: Shape
    bands: int
    sums: int
    space: int
    wakes: bool


@lru_cache(maxsize=1024)
def _weight_plan(o: int, x: Shape, kernel: Pair, stride: Pair, corner: Pair, size: Pair) -> _WeightPlan:
    (kh, kw), (sh, sw), (ho, wo), (c, _, _, n) = kernel, stride, size, x
    positions = wo + (kw - 1) // sw
    row = odd_lines(sw * positions * n + 16)
    products = o * c * kh * kw * ho * wo * n
    bands = _bands(c, ho, sh * row, products)
    most = max(b - a for a, b in bands)
    plane = odd_lines(((most - 1) * sh + kh) * row)
    offset = [k * plane + ((j % sw) * positions + j // sw) * n for k in range(c) for j in range(kw)]
    offset += offset[:1] * (-len(offset) % 3)
    pairs, threes = (o + 1) // 2, len(offset) // 3
    columns = -(-wo * n // 16) * 16
    longest = max(512, min(2048, _ROWS // o // 16 * 16))
    chunk = min(columns, longest)
    group = max(1, min(most, longest // columns))  # short rows of dy are taken several at a time
    ldg = odd_lines(chunk + 16)
    space = odd_lines(c * plane + correlate.SPARE + group * 2 * pairs * ldg)
    geometry = (kh, kw, sh, sw, *corner, ho, wo, row, plane, positions, threes, group, chunk, ldg, len(bands), space)
    return _WeightPlan(np.array(offset), geometry, len(bands), kh * pairs * threes, space, products >= _WORTH_WAKING)


def weight_gradient(
    dyt: np.ndarray, xt: np.ndarray, shape: Shape, stride: Pair, padding: Pair
) -> tuple[np.ndarray, bool]:
    """Return dweight[o, c, i, j] = sum_hwn dy[o, h, w, n] · x[c, stride·(h, w) + (i, j) − padding, n]; is it finite?"""
    o, _, kh, kw = shape
    plan = _weight_plan(o, xt.shape, (kh, kw), stride, (-padding[0], -padding[1]), dyt.shape[1:3])
    sums = np.zeros((plan.bands, plan.sums, 64 // xt.itemsize), xt.dtype)
    share_pieces(
        plan.bands, plan.bands, plan.wakes, Workspace("convolution", plan.space, xt.dtype),
        correlate.band_dweight, xt, dyt, plan.offset, plan.geometry, sums.reshape(-1),
    )  # fmt: skip
    dweight = np.empty(shape, xt.dtype)
    return dweight, added_up(sums, dweight.transpose(2, 0, 1, 3))


def added_up(sums: np.ndarray, total: np.ndarray) -> bool:
    """Write to (kernels, o, c, columns) what the tasks summed, laid out as `correlate.dots` does; is it finite?"""
    return bool(correlate.add_up(sums, total) == 0)
