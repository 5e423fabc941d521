"""ReLU, compiled."""

from __future__ import annotations

from typing import Any

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
    return each_value(_relu, x)


@NUMBA.twin(activation.relu_backward)
def relu_backward(dy: Array, y: Array) -> Array:
    """dx = dy where y > 0, else 0."""
    if dy.dtype != y.dtype or y.dtype.itemsize < 4:
        return NUMPY(activation.relu_backward)(dy, y)
    return each_value(_relu_backward, dy, y)


def each_value(kernel: Any, *arrays: Array) -> Array:
    """Return what a pass that takes each value for itself writes, for arrays of one shape and dtype."""
    ts = [memory.batch_last(np, array) for array in arrays]
    y = memory.empty(np, ts[0].shape, ts[0].dtype)
    flat = [_planes(t) for t in (*ts, y)]
    share(flat[0].shape[1], y.size, kernel, *flat)
    return memory.batch_first(y)


def _planes(t: Array) -> Array:
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
