"""The rectifier."""

from __future__ import annotations

from minidl import memory, parallel
from minidl.backend import Array, array_module
from minidl.layers.base import Layer

_SMALL = 1 << 13  # values; fewer are not worth a thread, nor memory of their own


def relu(x: Array) -> Array:
    """y = max(x, 0); NaN stays NaN."""
    xp = array_module(x)
    if x.size < _SMALL:
        return xp.maximum(x, 0)
    t = memory.batch_last(xp, x)
    y = memory.empty(xp, t.shape, x.dtype)
    zero, infinity = x.dtype.type(0), x.dtype.type(xp.inf)
    # clip is vectorised in NumPy, where maximum(x, 0) is not
    parallel.over(len(t), t.size, lambda some: xp.clip(t[some], zero, infinity, out=y[some]))
    return memory.batch_first(y)


def relu_backward(dy: Array, y: Array) -> Array:
    """dx = dy where y > 0, else 0."""
    xp = array_module(dy, y)
    if y.size < _SMALL:
        return dy * (y > 0)
    dyt, yt = memory.batch_last(xp, dy), memory.batch_last(xp, y)
    dx = memory.empty(xp, dyt.shape, dy.dtype)
    parallel.over(len(dyt), dyt.size, lambda some: xp.multiply(dyt[some], yt[some] > 0, out=dx[some]))
    return memory.batch_first(dx)


class ReLU(Layer):
    """y = max(x, 0); backward: dx = dy where x > 0, else 0.

    Examples
    --------
    >>> import numpy as np
    >>> ReLU()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    def forward(self, x: Array) -> Array:
        """Return max(x, 0)."""
        y = relu(x)
        self.keep(y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dy where the output was positive, else 0."""
        _, (y,) = self.kept()
        return relu_backward(dy, y)
