"""A matrix product, compiled: for factors that are used a few hundred times, where BLAS copies more than it computes.

out = A B + bias, for A (rows, taps), B (taps, columns), out (rows, columns). A strip of B, two vectors wide, is copied
to a buffer that stays in the first cache; all rows of A meet it there, six at a time. Long sums are taken in
blocks of taps, which are then added up.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minidl import parallel
from minidl.engines.numba.blocks import six, six_twice
from minidl.engines.numba.direct import zeros
from minidl.engines.numba.jobs import shared
from minidl.engines.numba.share import Workspace, share_pieces
from minidl.engines.numba.vector import BYTES, WIDE, clear, copy, load, spread_at, store, turn, width

_DEPTH = 224 if WIDE else 448  # taps of a block: their strip of B stays in the first cache
_WORTH = 1 << 18  # multiplications; BLAS is called sooner than this
_FITS = 1 << 19  # values of A, which each strip of B meets
_WORTH_WAKING = 1 << 22  # multiplications that are worth the time to wake a thread


def matmul(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, out: np.ndarray) -> None:
    """Set out (rows, columns) to A B + bias, or to A B; BLAS does what does not fit here.

    `out` is contiguous; so is bias (rows,), and of its dtype.
    """
    (rows, taps), columns = a.shape, b.shape[1]
    work = rows * columns * taps
    flat, strides = _flat(a)
    other, (step, _) = _flat(b)
    fits = a.dtype == b.dtype == out.dtype and out.dtype.char in "fd" and min(rows, taps) >= 16 and strides[0] and step
    if not fits or work < _WORTH or a.size > _FITS:
        halves = slice(rows // 2), slice(rows // 2, rows)  # however many threads, for the same bits
        if work < _WORTH_WAKING or rows < 2:
            np.matmul(a, b, out=out)
        else:
            parallel.run(lambda i: np.matmul(a[halves[i]], b, out=out[halves[i]]), 2)
        if bias is not None:
            out += bias[:, None]
        return
    depth, sixes, strips, groups, size, offset = _plan(rows, columns, taps, out.dtype)
    sizes = rows, columns, taps, depth, sixes, groups, size
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
def _plan(rows: int, columns: int, taps: int, dtype: Any) -> tuple[int, int, int, int, int, np.ndarray]:
    """Return the taps of a block, the sixes that cover the rows, strips, groups of sixes, a thread's space, offsets.

    The last six rows are computed together, whichever of them the sixes before have.
    """
    lanes = BYTES // dtype.itemsize
    depth = -(-taps // -(-taps // _DEPTH))
    sixes = -(-rows // 6)
    strips = -(-columns // (2 * lanes))
    groups = 1 if strips % 2 == 0 or strips > 8 else min(2, sixes)
    ld = 3 * lanes  # an odd number of cache lines
    return depth, sixes, strips, groups, (depth + 6 * sixes + 1) * ld, np.arange(depth) * ld


@shared
def _multiply(space, a, strides, b, turned, bias, out, offset, sizes, start, stop, thread):
    """Take the units start to stop, each the rows of a group in one strip."""
    rows, columns, taps, depth, sixes, groups, size = sizes
    row, tap = strides
    lanes = width(out)
    ld = 3 * lanes
    space = space[thread * size : (thread + 1) * size]
    sums = space[depth * ld :]
    for unit in range(start, stop):
        c0 = unit // groups * 2 * lanes
        count = min(2 * lanes, columns - c0)
        first, last = unit % groups * sixes // groups, (unit % groups + 1) * sixes // groups
        clear(sums, 6 * first * ld, 6 * (last - first) * ld)
        for t0 in range(0, taps, depth):
            t1 = min(taps, t0 + depth)
            if turned:
                for c in range(0, count, lanes):
                    for t in range(t0, t1, lanes):
                        k = min(t, t1 - lanes)
                        turn(space, (k - t0) * ld + c, ld, b, (c0 + c) * taps + k, taps, count - c)
            else:
                for t in range(t0, t1):
                    copy(space, (t - t0) * ld, b, t * columns + c0, count)
            for tile in range(first, last):
                w, y = min(6 * tile, rows - 6) * row + t0 * tap, 6 * tile * ld
                if WIDE and count > lanes:
                    six_twice(space, 0, offset, 0, t1 - t0, a, w, row, tap, sums, y, ld, False)
                else:
                    for m in range(0, count, lanes):
                        six(space, m, offset, 0, t1 - t0, a, w, row, tap, sums, y + m, ld, False)
        for tile in range(first, last):
            r = min(6 * tile, rows - 6)
            for i in range(6):
                shift, s = spread_at(bias, r + i), (6 * tile + i) * ld
                for m in range(0, count, lanes):
                    store(sums, s + m, load(sums, s + m) + shift)
                copy(out, (r + i) * columns + c0, sums, s, count)
