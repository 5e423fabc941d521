"""Activations in NumPy's calls, large arrays shared out to the threads."""

from __future__ import annotations

import numpy as np

from minidl import memory, parallel
from minidl.backend import Array
from minidl.engine import NUMPY
from minidl.layers import activation

_SMALL = 1 << 13  # values; fewer are not worth a thread or memory of their own


@NUMPY.twin(activation.relu)
def relu(x: Array) -> Array:
    """y = max(x, 0); NaN stays NaN."""
    if x.size < _SMALL:
        return np.maximum(x, 0)
    t = memory.batch_last(np, x)
    y = memory.empty(np, t.shape, x.dtype)
    zero, infinity = x.dtype.type(0), x.dtype.type(np.inf)
    # clip is vectorised in NumPy, where maximum(x, 0) is not
    parallel.over(len(t), t.size, lambda some: np.clip(t[some], zero, infinity, out=y[some]))
    return memory.batch_first(y)


@NUMPY.twin(activation.relu_backward)
def relu_backward(dy: Array, y: Array) -> Array:
    """dx = dy where y > 0, else 0."""
    if y.size < _SMALL:
        return dy * (y > 0)
    dyt, yt = memory.batch_last(np, dy), memory.batch_last(np, y)
    dx = memory.empty(np, dyt.shape, dy.dtype)
    parallel.over(len(dyt), dyt.size, lambda some: np.multiply(dyt[some], yt[some] > 0, out=dx[some]))
    return memory.batch_first(dx)


@NUMPY.twin(activation.tanh)
def tanh(x: Array) -> Array:
    """y = tanh(x)."""
    t = memory.batch_last(np, x)
    y = memory.empty(np, t.shape, x.dtype)
    parallel.over(len(t), t.size, lambda some: np.tanh(t[some], out=y[some]))
    return memory.batch_first(y)
