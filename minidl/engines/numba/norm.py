"""The heavy passes of `minidl.norm.moments`, each one reading of its arrays.

The numbers of a sample and channel (m, v, s, u and their gradients) are float64, laid out (C, N). See `norm_loops`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minidl import memory
from minidl.backend import Array
from minidl.engine import NUMBA
from minidl.engines.numba.norm_loops import write_backward, write_moments, write_scale_shift, write_sums
from minidl.engines.numba.share import share
from minidl.norm import moments as written
from minidl.norm.moments import Mean

_LANES = 64  # values in a row, at least, where the image has as many
_MANY, _LARGE = 128, 1 << 17  # rows, and values
_NOTHING = np.zeros(0, np.int64)


class Centred(NamedTuple):
    """x − m as x, flat and in its own precision, and m0, δ (C, N) in float64 with x − m = (x − m0) − δ."""

    x: Array
    m0: Array
    delta: Array
    shape: tuple[int, ...]  # (C, ..., N)
    layout: tuple[int, int]  # P, and the pixels in a row
    behind: Any = None  # what came of the layers behind the norm, where they are fused with it


@NUMBA.twin(written.moments)
def moments(x: Array) -> tuple[Mean, Array, Any]:
    """Return m, v (N, C) in float64 and x − m, for x (N, C, ...)."""
    t = memory.batch_last(np, x, np.float32 if x.dtype.itemsize == 2 else x.dtype)
    shape = t.shape
    c, layout = shape[0], _layout(shape)
    flat = t.reshape(-1)
    some = parts(t.size, *layout)
    sums, widest = np.empty((some, 3, c, shape[-1])), np.zeros(c)
    share(some * c, t.size, write_moments, flat, sums, counts(some, c), widest, *layout)
    m0, delta, v = sums[0]
    if x.dtype != np.float64 and not max(widest.tolist()) < written.WIDE:
        return written.moments(x)
    return Mean(m0.T, delta.T), v.T, Centred(flat, m0, delta, shape, layout)


@NUMBA.twin(written.scale_shift)
def scale_shift(centred: Any, s: Array, u: Array, dtype: np.dtype) -> Array:
    """y = (x − m)·s + u, for s, u (N, C); y has this dtype."""
    if not isinstance(centred, Centred):
        return written.scale_shift(centred, s, u, dtype)
    x, m0, delta, shape, layout, _ = centred
    y = memory.empty(np, shape, x.dtype)
    share(layout[0], x.size, write_scale_shift, x, m0, delta, rows(s), rows(u), y.reshape(-1), *layout)
    return memory.batch_first(y.astype(dtype, copy=False))


@NUMBA.twin(written.scale_shift_sums)
def scale_shift_sums(dy: Array, centred: Any) -> tuple[Array, Array]:
    """Return ds = sum_p dy·(x − m) and du = sum_p dy, (N, C) in float64."""
    if not isinstance(centred, Centred):
        return written.scale_shift_sums(dy, centred)
    x, m0, delta, _, layout, _ = centred
    some = parts(x.size, *layout)
    sums = np.empty((some, 2, *m0.shape))
    dyt = memory.batch_last(np, dy, x.dtype).reshape(-1)
    share(some * len(m0), x.size, write_sums, dyt, x, m0, delta, sums, counts(some, len(m0)), *layout)
    ds, du = sums[0]
    return ds.T, du.T


@NUMBA.twin(written.scale_shift_backward)
def scale_shift_backward(dy: Array, centred: Any, s: Array, du: Array, dm: Array, dv: Array) -> Array:
    """dx = s·(dy − du/P) + (2·dv/P)·(x − m) + dm/P, for s, du, dm, dv (N, C)."""
    if not isinstance(centred, Centred):
        return written.scale_shift_backward(dy, centred, s, du, dm, dv)
    x, m0, delta, shape, layout, _ = centred
    dx = memory.empty(np, shape, x.dtype)
    dyt = memory.batch_last(np, dy, x.dtype).reshape(-1)
    small = m0, delta, rows(s), rows(du), rows(dm), rows(dv)
    share(layout[0], x.size, write_backward, dyt, x, *small, dx.reshape(-1), *layout)
    return memory.batch_first(dx.astype(dy.dtype, copy=False))


def rows(small: Array) -> Array:
    """View (N, C) as (C, N), or copy it."""
    t = small.T
    return t if t.flags.c_contiguous else np.ascontiguousarray(t)


@lru_cache
def _layout(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return P and the pixels of a row, for x (C, ..., N): whole vectors where the batch allows it, few left over.

    >>> _layout((6, 28, 28, 4)), _layout((6, 28, 28, 5)), _layout((6, 28, 28, 512)), _layout((6, 4))
    ((784, 16), (784, 16), (784, 1), (1, 1))
    """
    p, n = math.prod(shape[1:-1]), shape[-1]
    pixels = max(1, -(-_LANES // n))
    if n < 64:
        step = 16 // math.gcd(n, 16)
        pixels = -(-pixels // step) * step
        pixels = p // -(-p // pixels) // step * step or pixels
    return p, min(pixels, p)


def parts(size: int, p: int, pixels: int) -> int:
    """Return how many parts of the pixels are summed up apart: two where there are many.

    Two threads then read the pixels that they wrote and will write, as those of a convolution are shared out.
    """
    return 2 if size >= _LARGE and p // pixels >= _MANY else 1


def counts(parts: int, channels: int) -> Array:
    """Return what `is_last` counts by."""
    return np.zeros(channels, np.int64) if parts > 1 else _NOTHING
