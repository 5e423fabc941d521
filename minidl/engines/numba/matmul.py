"""A matrix product, compiled: for factors that are used a few hundred times, where BLAS copies more than it computes.

out = A B + bias, for A (rows, taps), B (taps, columns), out (rows, columns). A strip of B, two vectors wide, is copied
to a buffer that stays in the first cache; all rows of A meet it there, six or four at a time. Long sums are taken in
blocks of taps, which are then added up.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minidl import parallel
from minidl.engines.numba.blocks import four, four_twice, six, six_twice
from minidl.engines.numba.compile import jit
from minidl.engines.numba.direct import tiles, zeros
from minidl.engines.numba.jobs import shared
from minidl.engines.numba.share import Workspace, share_pieces
from minidl.engines.numba.vector import BYTES, WIDE, copy, load, spread_at, store, turn, width

_DEPTH = 224 if WIDE else 448  # taps of a block: their strip of B stays in the first cache
_WORTH = 1 << 18  # multiplications; BLAS is called sooner than this
_FITS = 1 << 19  # values of A, which each strip of B meets
_WORTH_WAKING = 1 << 22  # multiplications that are worth the time to wake a thread


def matmul(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, out: np.ndarray) -> None:
    """Set out (rows, columns) to A B + bias, or to A B; BLAS does what does not fit here.

    `out` is contiguous, and bias (rows,) is of its dtype.
    """
    (rows, taps), columns = a.shape, b.shape[1]
    work = rows * columns * taps
    flat, strides = _flat(a)
    other, (step, _) = _flat(b)
    fits = a.dtype == b.dtype == out.dtype and out.dtype.char in "fd" and strides and step
    if not fits or work < _WORTH or a.size > _FITS or rows < 4:
        halves = slice(rows // 2), slice(rows // 2, rows)  # however many threads, for the same bits
        if work < _WORTH_WAKING or rows < 2:
            np.matmul(a, b, out=out)
        else:
            parallel.run(lambda i: np.matmul(a[halves[i]], b, out=out[halves[i]]), 2)
        if bias is not None:
            out += bias[:, None]
        return
    sixes, fours, strips, groups, size, offset = _plan(rows, columns, taps, out.dtype)
    sizes = rows, columns, taps, sixes, fours, groups, size
    shift = zeros(rows, out.dtype) if bias is None else bias
    units = strips * groups
    share_pieces(
        min(parallel.get_num_threads(), units), units, work >= _WORTH_WAKING, Workspace("product", size, out.dtype),
        _multiply, flat, strides, other, step == 1, shift, out.reshape(-1), offset, sizes,
    )  # fmt: skip


def _flat(a: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Return a matrix's values as they lie in memory, and the strides of rows and columns, 0 where it has gaps."""
    if a.flags.c_contiguous:
        return a.reshape(-1), (a.shape[1], 1)
    if a.flags.f_contiguous:
        return a.T.reshape(-1), (1, a.shape[0])
    return a, (0, 0)


@lru_cache(1024)
def _plan(rows: int, columns: int, taps: int, dtype: Any) -> tuple[Any, ...]:
    """Return how the rows are covered, the strips, the groups of rows, a thread's space, and where taps lie in it."""
    lanes = BYTES // dtype.itemsize
    sixes, fours = tiles(rows)
    strips = -(-columns // (2 * lanes))
    groups = 1 if strips % 2 == 0 or strips > 8 else min(2, sixes + fours)
    ld = 3 * lanes  # an odd number of cache lines
    return sixes, fours, strips, groups, (min(taps, _DEPTH) + 6 * sixes + 4 * fours + 1) * ld, np.arange(_DEPTH) * ld


@shared
def _multiply(space, a, strides, b, turned, bias, out, offset, sizes, start, stop, thread):
    """Take the units start to stop, each the rows of a group in one strip."""
    rows, columns, taps, sixes, fours, groups, size = sizes
    row, tap = strides
    lanes = width(out)
    ld = 3 * lanes
    space = space[thread * size : (thread + 1) * size]
    sums = space[min(taps, _DEPTH) * ld :]
    for unit in range(start, stop):
        c0 = unit // groups * 2 * lanes
        count = min(2 * lanes, columns - c0)
        first, last = unit % groups * (sixes + fours) // groups, (unit % groups + 1) * (sixes + fours) // groups
        for t0 in range(0, taps, _DEPTH):
            t1 = min(taps, t0 + _DEPTH)
            if turned:
                _copy_turned(space, ld, b, c0, count, t0, t1, taps)
            else:
                for t in range(t0, t1):
                    copy(space, (t - t0) * ld, b, t * columns + c0, count)
            for tile in range(first, last):
                if tile < sixes:
                    r = min(6 * tile, rows - 6)
                    w, y = r * row + t0 * tap, 6 * tile * ld
                    if WIDE and count > lanes:
                        six_twice(space, 0, offset, 0, t1 - t0, a, w, row, tap, sums, y, ld, t0 == 0)
                    else:
                        for m in range(0, count, lanes):
                            six(space, m, offset, 0, t1 - t0, a, w, row, tap, sums, y + m, ld, t0 == 0)
                else:
                    k = 6 * sixes + 4 * (tile - sixes)
                    w, y = min(k, rows - 4) * row + t0 * tap, k * ld
                    if WIDE and count > lanes:
                        four_twice(space, 0, offset, 0, t1 - t0, a, w, row, tap, sums, y, ld, t0 == 0)
                    else:
                        for m in range(0, count, lanes):
                            four(space, m, offset, 0, t1 - t0, a, w, row, tap, sums, y + m, ld, t0 == 0)
        for tile in range(first, last):
            k = 6 * tile if tile < sixes else 6 * sixes + 4 * (tile - sixes)
            there = 6 if tile < sixes else 4
            r = min(k, rows - there)
            for i in range(there):
                shift, y, s = spread_at(bias, r + i), (r + i) * columns + c0, (k + i) * ld
                for m in range(0, count - lanes + 1, lanes):
                    store(out, y + m, load(sums, s + m) + shift)
                for m in range(count // lanes * lanes, count):
                    out[y + m] = sums[s + m] + bias[r + i]


@jit(inner=True)
def _copy_turned(buffer, ld, b, c0, count, t0, t1, taps):
    """Set buffer[t − t0, c − c0] to b[c, t]: whole squares in registers, and what is left value by value."""
    lanes = width(buffer)
    whole = (t1 - t0) // lanes * lanes
    squares = count // lanes * lanes
    for c in range(0, squares, lanes):
        for t in range(0, whole, lanes):
            turn(buffer, t * ld + c, ld, b, (c0 + c) * taps + t0 + t, taps)
        for t in range(whole, t1 - t0):
            for j in range(c, c + lanes):
                buffer[t * ld + j] = b[(c0 + j) * taps + t0 + t]
    for t in range(t1 - t0):
        for j in range(squares, count):
            buffer[t * ld + j] = b[(c0 + j) * taps + t0 + t]
