"""ReLU, compiled."""

from __future__ import annotations

import numpy as np

from minidl import memory
from minidl.backend import Array
from minidl.engine import NUMBA, NUMPY
from minidl.engines.numba.jobs import shared
from minidl.engines.numba.share import share
from minidl.layers import activation


@NUMBA.twin(activation.relu)
def relu(x: Array) -> Array:
    """y = max(x, 0); NaN stays NaN."""
    if x.dtype.itemsize < 4:
        return NUMPY(activation.relu)(x)
    t = memory.batch_last(np, x)
    y = memory.empty(np, t.shape, x.dtype)
    flat, out = planes(t), planes(y)
    share(flat.shape[1], flat.size, _relu, flat, out)
    return memory.batch_first(y)


@NUMBA.twin(activation.relu_backward)
def relu_backward(dy: Array, y: Array) -> Array:
    """dx = dy where y > 0, else 0."""
    if dy.dtype != y.dtype or y.dtype.itemsize < 4:
        return NUMPY(activation.relu_backward)(dy, y)
    dyt, yt = memory.batch_last(np, dy), memory.batch_last(np, y)
    dx = memory.empty(np, dyt.shape, dy.dtype)
    flat, kept, out = map(planes, (dyt, yt, dx))
    share(flat.shape[1], flat.size, _relu_backward, flat, kept, out)
    return memory.batch_first(dx)


def planes(t: Array) -> Array:
    """View (C, H, W, N) as (C, H·W·N), and anything else as one row."""
    return t.reshape(len(t) if t.ndim == 4 else 1, -1)


# -- compiled: (channels, pixels and samples), shared out along the pixels as a convolution is -------------------------


@shared
def _relu(x, y, start, stop, thread):
    zero = x.dtype.type(0)
    for c in range(len(x)):
        a, b = x[c, start:stop], y[c, start:stop]
        for i in range(len(a)):
            b[i] = zero if a[i] <= zero else a[i]


@shared
def _relu_backward(dy, y, dx, start, stop, thread):
    zero = dy.dtype.type(0)
    for c in range(len(dy)):
        g, kept, out = dy[c, start:stop], y[c, start:stop], dx[c, start:stop]
        for i in range(len(g)):
            out[i] = g[i] * (kept[i] > zero)
