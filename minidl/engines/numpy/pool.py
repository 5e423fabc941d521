"""Pooling in NumPy's calls: separable, first along the width, then along the height.

For the maximum this order picks, among equal values, the one that comes first row by row, and the last NaN, as
`minidl.layers.pool` does.
What forward keeps is who won along the width and who along the height.
"""

from __future__ import annotations

from math import isfinite, isnan
from typing import Any

import numpy as np

from minidl import memory, parallel
from minidl.arguments import Pair
from minidl.backend import Array
from minidl.engine import NUMPY
from minidl.layers import pool
from minidl.layers.conv import output_size
from minidl.layers.pool import Shape


@NUMPY.twin(pool.max_pool)
def max_pool(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Array, Any]:
    """y[n,c,h,w] = max_ij x[n, c, sh·h + i − ph, sw·w + j − pw]; returns y, and who won along width and height."""
    t, (c, ho, wo, n) = _padded(x, kernel, stride, padding, -np.inf)
    (kh, kw), (sh, sw), h = kernel, stride, t.shape[1]
    y = memory.empty(np, (c, ho, wo, n), t.dtype)
    won_w = memory.empty(np, (kw - 1, c, h, wo, n), bool)
    won_h = memory.empty(np, (kh - 1, c, ho, wo, n), bool)

    def share(some: slice) -> None:
        wide, high = parallel.scratch("wide", t[some, :, :wo].shape, t.dtype), y[some]
        max_along(t[some], 2, sw, wide, won_w[:, some], padding[1])
        max_along(wide, 1, sh, high, won_h[:, some], padding[0])
        if high.size and isnan(high.min()):  # rare: who won is found anew
            max_along(t[some], 2, sw, wide, won_w[:, some], padding[1], nans=True)
            max_along(wide, 1, sh, high, won_h[:, some], padding[0], nans=True)

    parallel.over(len(t), t.size, share)
    return memory.batch_first(y), (won_w, won_h)


@NUMPY.twin(pool.max_pool_backward)
def max_pool_backward(dy: Array, won: Any, shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Return dx, for x of this shape: dy at the place of each window's maximum."""
    (won_w, won_h), (sh, sw) = won, stride
    dyt = memory.batch_last(np, dy)
    dx = memory.empty(np, _padded_shape(shape, padding), dy.dtype)

    def share(some: slice) -> None:
        dwide = parallel.scratch("wide", dx[some, :, : dyt.shape[2]].shape, dy.dtype)
        finite = isfinite(dyt[some].sum())  # else a value is not, perhaps, and 0 · dy is not 0
        max_along_backward(dyt[some], won_h[:, some], 1, sh, dwide, finite)
        max_along_backward(dwide, won_w[:, some], 2, sw, dx[some], finite)

    parallel.over(len(dx), dx.size, share)
    return _without_padding(dx, padding)


@NUMPY.twin(pool.avg_pool)
def avg_pool(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """y[n,c,h,w] = (1/(kh·kw)) sum_ij x[n, c, sh·h + i − ph, sw·w + j − pw]."""
    t, (c, ho, wo, n) = _padded(x, kernel, stride, padding, 0)
    (kh, kw), (sh, sw) = kernel, stride
    t = t.astype(np.promote_types(x.dtype, np.float32), copy=False)  # a sum of float16 may overflow
    y = memory.empty(np, (c, ho, wo, n), t.dtype)

    def share(some: slice) -> None:
        wide = parallel.scratch("wide", t[some, :, :wo].shape, t.dtype)
        sum_along(t[some], 2, sw, kw, wide)
        sum_along(wide, 1, sh, kh, y[some])
        y[some] /= t.dtype.type(kh * kw)

    parallel.over(len(t), t.size, share)
    return memory.batch_first(y.astype(x.dtype, copy=False))


@NUMPY.twin(pool.avg_pool_backward)
def avg_pool_backward(dy: Array, shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Return dx, for x of this shape: dy/(kh·kw), added up over the windows of each x."""
    (kh, kw), (sh, sw) = kernel, stride
    dyt = memory.batch_last(np, dy) / dy.dtype.type(kh * kw)
    dx = memory.empty(np, _padded_shape(shape, padding), dy.dtype)

    def share(some: slice) -> None:
        dwide = parallel.scratch("wide", dx[some, :, : dyt.shape[2]].shape, dyt.dtype)
        sum_along_backward(dyt[some], 1, sh, kh, dwide)
        sum_along_backward(dwide, 2, sw, kw, dx[some])

    parallel.over(len(dx), dx.size, share)
    return _without_padding(dx, padding)


# -- one axis ----------------------------------------------------------------------------------------------------------


def max_along(x: Array, axis: int, stride: int, y: Array, won: Array, padding: int, nans: bool = False) -> None:
    """Write the maximum over windows along an axis into y, and into won[j − 1] whether tap j beat all before it.

    A tap beats padding, also where it is −inf as padding is: the first `padding` values of the axis. With `nans`, a NaN
    beats all before it.
    """
    best = _tap(x, axis, 0, stride, y)
    if len(won) == 0 or not _has_long_rows(best):
        best = _copy(best, y)
    for j in range(1, len(won) + 1):
        tap = _packed(_tap(x, axis, j, stride, y))
        np.greater(tap, best, out=won[j - 1])
        if nans:
            won[j - 1] |= np.isnan(tap)
        if j <= padding:  # of the windows that begin in the padding, tap j − 1 is padding still
            won[j - 1][(slice(None),) * axis + (slice((padding - j) // stride + 1),)] = True
        best = np.maximum(best, tap, out=y)


def max_along_backward(dy: Array, won: Array, axis: int, stride: int, dx: Array, finite: bool = True) -> None:
    """Write into dx each dy at the last tap that won its window: the adjoint of `max_along`.

    Where the taps have no long rows, dy is written over.
    """
    if not finite:
        dx[...] = 0
        for j in reversed(range(len(won) + 1)):
            target, wins = _tap(dx, axis, j, stride, dy), won[j - 1] if j else np.True_
            target += np.where(wins, dy, 0)
            dy = np.where(wins, 0, dy)
        return
    kernel = len(won) + 1
    if kernel != stride or kernel * dy.shape[axis] != dx.shape[axis]:
        dx[...] = 0  # else the windows tile x, and every value is written once
    taps = [_tap(dx, axis, j, stride, dy) for j in range(kernel)]
    if kernel > stride:  # windows overlap
        for j in reversed(range(1, kernel)):
            share = dy * won[j - 1]
            taps[j] += share
            dy = dy - share
        taps[0] += dy
        return
    direct = _has_long_rows(taps[0])
    rest = taps[0] if direct else dy
    for j in reversed(range(1, kernel)):
        share = np.multiply(dy, won[j - 1], out=taps[j] if direct else parallel.scratch("tap", dy.shape, dy.dtype))
        dy = np.subtract(dy, share, out=rest)
        if not direct:
            _copy(share, taps[j])
    if not direct or kernel == 1:
        _copy(dy, taps[0])


def sum_along(x: Array, axis: int, stride: int, kernel: int, y: Array) -> None:
    """Write the sum over windows along an axis into y."""
    _copy(_tap(x, axis, 0, stride, y), y)
    for j in range(1, kernel):
        y += _packed(_tap(x, axis, j, stride, y))


def sum_along_backward(dy: Array, axis: int, stride: int, kernel: int, dx: Array) -> None:
    """Add each dy to all values of its window in dx: the adjoint of `sum_along`."""
    dx[...] = 0
    for j in range(kernel):
        target = _tap(dx, axis, j, stride, dy)
        target += dy


# Arithmetic on every other pixel runs in loops over the N values of one pixel, which cost more to begin than to do. To
# copy pixels as wholes takes a tenth of that, so a tap along the width is computed with in one piece of memory.


def _has_long_rows(tap: Array) -> bool:
    """Tell whether neighbouring pixels of (C, H, W, N) lie side by side."""
    return tap.strides[2] == tap.shape[3] * tap.itemsize  # type: ignore[no-any-return]


def _packed(tap: Array) -> Array:
    """Return the tap where its rows are long, else a copy in this thread's workspace."""
    return tap if _has_long_rows(tap) else _copy(tap, parallel.scratch("tap", tap.shape, tap.dtype))


def _copy(source: Array, to: Array) -> Array:
    """Copy (C, H, W, N) pixel by pixel, each the N values that lie side by side; return `to`."""
    memory.pixels(to)[...] = memory.pixels(source)
    return to


def _tap(x: Array, axis: int, j: int, stride: int, y: Array) -> Array:
    """View the j-th value of every window along an axis; y has one value a window."""
    return x[(slice(None),) * axis + (slice(j, j + stride * (y.shape[axis] - 1) + 1, stride),)]


def _padded(x: Array, kernel: Pair, stride: Pair, padding: Pair, fill: float) -> tuple[Array, Shape]:
    """Return the padded x as (C, H, W, N), and the shape (C, Ho, Wo, N) of y."""
    ph, pw = padding
    t = memory.batch_last(np, x)
    if ph or pw:
        t = np.pad(t, ((0, 0), (ph, ph), (pw, pw), (0, 0)), constant_values=fill)
    ho, wo = (output_size(t.shape[i + 1], kernel[i], stride[i], 0) for i in (0, 1))
    return t, (t.shape[0], ho, wo, t.shape[3])


def _padded_shape(shape: Shape, padding: Pair) -> Shape:
    (n, c, h, w), (ph, pw) = shape, padding
    return c, h + 2 * ph, w + 2 * pw, n


def _without_padding(dx: Array, padding: Pair) -> Array:
    """Return the padded dx (C, H, W, N) as (N, C, H, W) without its padding."""
    (ph, pw), (_, h, w, _) = padding, dx.shape
    return memory.batch_first(dx[:, ph : h - ph, pw : w - pw])
