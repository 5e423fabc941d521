"""ReLU, compiled."""

from __future__ import annotations

import numpy as np

from minidl import memory
from minidl.backend import Array
from minidl.engine import NUMBA, NUMPY
from minidl.engines.numba.compile import jit
from minidl.engines.numba.share import share
from minidl.layers import activation


@NUMBA.twin(activation.relu)
def relu(x: Array) -> Array:
    """y = max(x, 0); NaN stays NaN."""
    if x.dtype.itemsize < 4:
        return NUMPY(activation.relu)(x)
    t = memory.batch_last(np, x)
    y = memory.empty(np, t.shape, x.dtype)
    flat, out = t.reshape(-1), y.reshape(-1)
    share(len(flat), len(flat), _relu, flat, out)
    return memory.batch_first(y)


@NUMBA.twin(activation.relu_backward)
def relu_backward(dy: Array, y: Array) -> Array:
    """dx = dy where y > 0, else 0."""
    if dy.dtype != y.dtype or y.dtype.itemsize < 4:
        return NUMPY(activation.relu_backward)(dy, y)
    dyt, yt = memory.batch_last(np, dy), memory.batch_last(np, y)
    dx = memory.empty(np, dyt.shape, dy.dtype)
    flat, kept, out = dyt.reshape(-1), yt.reshape(-1), dx.reshape(-1)
    share(len(flat), len(flat), _relu_backward, flat, kept, out)
    return memory.batch_first(dx)


@jit
def _relu(x, y, start, stop):
    zero = x.dtype.type(0)
    for i in range(np.uint64(start), np.uint64(stop)):
        y[i] = zero if x[i] <= zero else x[i]


@jit
def _relu_backward(dy, y, dx, start, stop):
    zero = dy.dtype.type(0)
    for i in range(np.uint64(start), np.uint64(stop)):
        dx[i] = dy[i] * (y[i] > zero)
