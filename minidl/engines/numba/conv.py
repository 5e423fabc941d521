"""The convolution compiled: by tiles for 3×3 kernels of stride 1 over many channels and samples, else directly.

Both take float32 and float64 in the batch-innermost format; other strides cost one copy. What has no values is left to
the written functions. A value of x or dy that is not finite spreads over a tile, and to the sums over a vector's last
values: where a result is not finite it is computed anew in the way that keeps NaN and Inf to their windows.
"""

from __future__ import annotations

import numpy as np

from minidl import memory
from minidl.engine import NUMBA
from minidl.engines.numba import direct, tiles
from minidl.engines.numpy import mec
from minidl.layers import conv

Pair = tuple[int, int]

_SAMPLES = 16  # a vector of float32
_CHANNELS = 8  # fewer on either side are not worth the transforms


@NUMBA.twin(conv.conv2d)
def conv2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, stride: Pair, padding: Pair) -> np.ndarray:
    """y[n,o] = sum_cij weight[o,c,i,j] · x[n, c, sh·h + i − ph, sw·w + j − pw] + bias[o]."""
    (n, _, h, w), (o, _, kh, kw) = x.shape, weight.shape
    size = ((h + 2 * padding[0] - kh) // stride[0] + 1, (w + 2 * padding[1] - kw) // stride[1] + 1)
    if not _compiled(x.size, weight):
        written: np.ndarray = conv.conv2d(x, weight, bias, stride, padding)
        return written
    xt, weight = _batch_last(x, weight), np.ascontiguousarray(weight)
    if bias is not None:
        bias = np.ascontiguousarray(bias, weight.dtype)
    y: np.ndarray = memory.images(np, (n, o, *size), weight.dtype)
    yt = y.transpose(1, 2, 3, 0)
    if not (_tiled(weight.shape, stride, n, size) and tiles.correlation(xt, weight, False, bias, padding, yt)):
        direct.forward(xt, weight, bias, stride, padding, yt)
    return y


@NUMBA.twin(conv.conv2d_backward)
def conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stride: Pair,
    padding: Pair,
    needs_dx: bool = True,
    needs_dbias: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Return dx, dweight and dbias of `conv2d`; dx and dbias are None unless needed."""
    if not _compiled(min(x.size, dy.size), weight):
        return conv.conv2d_backward(dy, x, weight, stride, padding, needs_dx, needs_dbias)
    n, size = len(x), dy.shape[2:]
    xt, dyt = _batch_last(x, weight), _batch_last(dy, weight)
    weight = np.ascontiguousarray(weight)
    dbias = dyt.reshape(len(dyt), -1) @ direct.ones(dyt[0].size, dyt.dtype) if needs_dbias else None

    tiled = _tiled(weight.shape, stride, n, size)
    if tiled and n % _SAMPLES == 0:
        dweight, finite = tiles.weight_gradient(dyt, xt, padding)
    else:
        dweight, finite = direct.weight_gradient(dyt, xt, weight.shape, stride, padding)
    if not finite:
        _, dweight, _ = mec.conv2d_backward(dy, x, weight, stride, padding, False, False)

    if not needs_dx:
        return None, dweight, dbias
    dx: np.ndarray = memory.images(np, x.shape, weight.dtype)
    dxt = dx.transpose(1, 2, 3, 0)
    turned = (2 - padding[0], 2 - padding[1])
    if not (tiled and tiles.correlation(dyt, weight, True, None, turned, dxt)):
        direct.input_gradient(dyt, weight, stride, padding, dxt)
    return dx, dweight, dbias


def _batch_last(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return x as (C, H, W, N): contiguous, of the weight's dtype, and writable, else Numba compiles once more."""
    xt: np.ndarray = memory.batch_last(np, x, weight.dtype)
    if not xt.flags.writeable:
        try:
            xt.flags.writeable = True  # this view alone, which nobody writes to
        except ValueError:  # of memory that is read-only itself
            return xt.copy()
    return xt


def _compiled(values: int, weight: np.ndarray) -> bool:
    return values > 0 and weight.size > 0 and weight.dtype.char in "fd"


def _tiled(weight: tuple[int, ...], stride: Pair, n: int, size: tuple[int, ...]) -> bool:
    """Whether tiles are worth it."""
    return weight[2:] == (3, 3) and stride == (1, 1) and n >= _SAMPLES and min(weight[:2]) >= _CHANNELS
