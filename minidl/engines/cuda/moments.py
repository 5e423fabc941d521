"""The heavy passes of `minidl.norm.moments` on a GPU: the same four functions, in two kernels, one, two and one.

x is not centred in memory here: `xc` is x itself, and each kernel takes m0 off as it reads. Arrays are (C, P, N) and
(C, N). A thread takes every S-th of the P pixels; S depends only on the shapes, and so do the bits of a sum.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minidl import memory
from minidl.backend import Array, array_module
from minidl.engine import CUDA
from minidl.engines.cuda.launch import launch
from minidl.norm import moments as written
from minidl.norm.moments import Mean

_WANTED = 1 << 17  # threads, about what a large GPU holds at once
_WORTH = 8  # pixels that a thread should take, at least
_SPLITS = 256  # at most, for one thread adds them up


class Centred(NamedTuple):
    """x − m as x (C, ..., N), m0 and δ (N, C) with x − m = x − m0 − δ."""

    x: Array
    m0: Array
    delta: Array


@CUDA.twin(written.moments)
def moments(x: Array) -> tuple[Mean, Array, Any]:
    """Return m, v (N, C) in float64 and x − m, for x (N, C, ...)."""
    xp = array_module(x)
    x = memory.batch_last(xp, x, xp.promote_types(x.dtype, xp.float32))
    c, p, s, n = _layout(x.shape)
    sums, squares = xp.empty((2, c, s, n), np.float64)
    launch(xp, "moments", "moments_partial", c * s * n, x, sums, squares, p, n, s, dtype=x.dtype)
    m0, delta, v = xp.empty((3, c, n), np.float64)
    launch(xp, "moments", "moments", c * n, x, sums, squares, m0, delta, v, p, n, s, dtype=x.dtype)
    return Mean(m0.T, delta.T), v.T, Centred(x, m0.T, delta.T)


@CUDA.twin(written.scale_shift)
def scale_shift(centred: Any, s: Array, u: Array, dtype: np.dtype) -> Array:
    """y = (x − m)·s + u, for s, u (N, C); y has this dtype."""
    x = centred.x
    xp = array_module(x, s)
    c, p, splits, n = _layout(x.shape)
    y = xp.empty(x.shape, x.dtype)
    small = (memory.batch_last(xp, a, np.float64) for a in (centred.m0, centred.delta, s, u))
    launch(xp, "scale_shift", "scale_shift", c * splits * n, x, *small, y, p, n, splits, dtype=x.dtype)
    return memory.batch_first(y.astype(dtype, copy=False))


@CUDA.twin(written.scale_shift_sums)
def scale_shift_sums(dy: Array, centred: Any) -> tuple[Array, Array]:
    """Return ds = sum_p dy·(x − m) and du = sum_p dy, (N, C) in float64."""
    x = centred.x
    xp = array_module(dy=dy, x=x)
    dy = memory.batch_last(xp, dy, x.dtype)
    m0, delta = (memory.batch_last(xp, a) for a in (centred.m0, centred.delta))
    c, p, s, n = _layout(x.shape)
    products, sums = xp.empty((2, c, s, n), np.float64)
    run = ("scale_shift_sums", "scale_shift_sums_partial", c * s * n)
    launch(xp, *run, dy, x, m0, products, sums, p, n, s, dtype=x.dtype)
    ds, du = xp.empty((2, c, n), np.float64)
    launch(xp, "scale_shift_sums", "scale_shift_sums", c * n, products, sums, delta, ds, du, n, s, dtype=x.dtype)
    return ds.T, du.T


@CUDA.twin(written.scale_shift_backward)
def scale_shift_backward(dy: Array, centred: Any, s: Array, du: Array, dm: Array, dv: Array) -> Array:
    """dx = s·(dy − du/P) + (2·dv/P)·(x − m) + dm/P, for s, du, dm, dv (N, C)."""
    x = centred.x
    xp = array_module(dy=dy, x=x)
    c, p, splits, n = _layout(x.shape)
    dx = xp.empty(x.shape, x.dtype)
    small = (memory.batch_last(xp, a, np.float64) for a in (centred.m0, centred.delta, s, du, dm, dv))
    run = ("scale_shift_backward", "scale_shift_backward", c * splits * n)
    launch(xp, *run, memory.batch_last(xp, dy, x.dtype), x, *small, dx, p, n, splits, dtype=x.dtype)
    return memory.batch_first(dx.astype(dy.dtype, copy=False))


@lru_cache
def _layout(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return C, P, S, N for a (C, ..., N) array."""
    c, *inner, n = shape
    p = math.prod(inner)
    return c, p, max(1, min(_WANTED // (c * n), -(-p // _WORTH), _SPLITS)), n
