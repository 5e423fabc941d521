"""Windows of images on a GPU: im2col, pooling and their backwards, one kernel each.

Images are (N, C, H, W) by index and (C, H, W, N) in memory; `window` is (kernel, stride, padding), three pairs. The
kernels are for float32 and float64: float16 is made float32 on the way in, and what comes out is float16 again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import memory
from minidl.backend import Array, array_module
from minidl.engine import CUDA
from minidl.engines.cuda.launch import launch
from minidl.layers import conv, pool

Pair = tuple[int, int]


@CUDA.twin(conv.im2col)
def im2col(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Return the windows of x as the columns of a (C·kh·kw, Ho·Wo·N) matrix."""
    window = kernel, stride, padding
    n, c, *_ = x.shape
    (kh, kw), (ho, wo) = window[0], _out(x.shape, window)
    cols = array_module(x).empty((c * kh * kw, ho * wo * n), x.dtype)
    _launch("im2col", "im2col", c * ho * wo * n, (_dense(x), cols), x.shape, window)
    return cols


@CUDA.twin(conv.col2im)
def col2im(cols: Array, shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Add the columns back to the pixels they came from, for x of this shape."""
    window = kernel, stride, padding
    dx = memory.images(array_module(cols), shape, cols.dtype)
    _launch("col2im", "col2im", dx.size, (cols, dx), shape, window)
    return dx


@CUDA.twin(pool.max_pool)
def max_pool(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Array, Any]:
    """Return the maximum of each window, and its place i·kw + j in the window."""
    window = kernel, stride, padding
    xp, xt = array_module(x), _dense(x)
    shape = (*x.shape[:2], *_out(x.shape, window))
    y, first = memory.images(xp, shape, xt.dtype), memory.images(xp, shape, np.int32)
    _launch("max_pool", "max_pool", y.size, (xt, y, first), x.shape, window)
    return y.astype(x.dtype, copy=False), first


@CUDA.twin(pool.max_pool_backward)
def max_pool_backward(dy: Array, won: Any, shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Return dx, for x of this shape: dy at the place of each window's maximum."""
    window = kernel, stride, padding
    dyt = _dense(dy)
    dx = memory.images(array_module(dy), shape, dyt.dtype)
    _launch("max_pool", "max_pool_backward", dx.size, (dyt, won, dx), shape, window)
    return dx.astype(dy.dtype, copy=False)


@CUDA.twin(pool.avg_pool)
def avg_pool(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Return the mean of each window."""
    window = kernel, stride, padding
    xt = _dense(x)
    y = memory.images(array_module(x), (*x.shape[:2], *_out(x.shape, window)), xt.dtype)
    _launch("avg_pool", "avg_pool", y.size, (xt, y), x.shape, window)
    return y.astype(x.dtype, copy=False)


@CUDA.twin(pool.avg_pool_backward)
def avg_pool_backward(dy: Array, shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Return dx, for x of this shape: dy/(kh·kw), added up over the windows of each x."""
    window = kernel, stride, padding
    dyt = _dense(dy)
    dx = memory.images(array_module(dy), shape, dyt.dtype)
    _launch("avg_pool", "avg_pool_backward", dx.size, (dyt, dx), shape, window)
    return dx.astype(dy.dtype, copy=False)


def _dense(x: Array) -> Array:
    """Return x as the kernels read it: contiguous (C, H, W, N), float32 or float64."""
    xp = array_module(x)
    return memory.batch_last(xp, x, xp.promote_types(x.dtype, xp.float32))


def _out(shape: tuple[int, ...], window: tuple[Pair, ...]) -> list[int]:
    """Return Ho and Wo."""
    return [(size + 2 * p - k) // step + 1 for size, k, step, p in zip(shape[2:], *window, strict=True)]


def _launch(
    source: str, name: str, size: int, arrays: tuple[Array, ...], shape: tuple[int, ...], window: tuple[Pair, ...]
) -> None:
    """Launch with the parameters H, W, N, Ho, Wo, kh, kw, sh, sw, ph, pw that these kernels share."""
    n, _, h, w = shape
    sizes = (h, w, n, *_out(shape, window), *(number for pair in window for number in pair))
    launch(array_module(*arrays), source, name, size, *arrays, *sizes, dtype=arrays[0].dtype)
