"""The rectifier, and the hyperbolic tangent of the networks before it."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from minidl import memory, parallel
from minidl.backend import Array, array_module
from minidl.kernels import launch
from minidl.layers.base import Layer

_SMALL = 1 << 13  # values; fewer are not worth a thread, nor memory of their own


def relu(x: Array) -> Array:
    """y = max(x, 0); NaN stays NaN."""
    xp = array_module(x)
    if xp is not np:
        return _on_device(xp, "relu", x)
    if x.size < _SMALL:
        return np.maximum(x, 0)
    t = memory.batch_last(np, x)
    y = memory.empty(np, t.shape, x.dtype)
    zero, infinity = x.dtype.type(0), x.dtype.type(np.inf)
    # clip is vectorised in NumPy, where maximum(x, 0) is not
    parallel.over(len(t), t.size, lambda some: np.clip(t[some], zero, infinity, out=y[some]))
    return memory.batch_first(y)


def relu_backward(dy: Array, y: Array) -> Array:
    """dx = dy where y > 0, else 0."""
    xp = array_module(dy=dy, y=y)
    if xp is not np:
        return _on_device(xp, "relu_backward", dy, y)
    if y.size < _SMALL:
        return dy * (y > 0)
    dyt, yt = memory.batch_last(np, dy), memory.batch_last(np, y)
    dx = memory.empty(np, dyt.shape, dy.dtype)
    parallel.over(len(dyt), dyt.size, lambda some: np.multiply(dyt[some], yt[some] > 0, out=dx[some]))
    return memory.batch_first(dx)


def _on_device(xp: ModuleType, kernel: str, *arrays: Array) -> Array:
    """Run a kernel of relu.cu on arrays of one shape, value by value; the result has the dtype of the first."""
    dtype = xp.result_type(*(a.dtype for a in arrays), xp.float32)
    flat = [memory.batch_last(xp, a, dtype) for a in arrays]
    out = xp.empty(flat[0].shape, dtype)
    launch(xp, "relu", kernel, out.size, *flat, out, dtype=dtype)
    return memory.batch_first(out.astype(arrays[0].dtype, copy=False))


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


def tanh(x: Array) -> Array:
    """y = tanh(x)."""
    xp = array_module(x)
    t = memory.batch_last(xp, x)
    y = memory.empty(xp, t.shape, x.dtype)
    parallel.over(len(t), t.size, lambda some: xp.tanh(t[some], out=y[some]))
    return memory.batch_first(y)


def tanh_backward(dy: Array, y: Array) -> Array:
    """dx = dy·(1 − y²)."""
    xp = array_module(dy=dy, y=y)
    return dy * (1 - xp.square(y))


class Tanh(Layer):
    """y = tanh(x); backward: dx = dy·(1 − y²).

    Examples
    --------
    >>> import numpy as np
    >>> Tanh()(np.array([0.0, 100.0]))
    array([0., 1.])
    """

    def forward(self, x: Array) -> Array:
        """Return tanh(x)."""
        y = tanh(x)
        self.keep(y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dy·(1 − y²)."""
        _, (y,) = self.kept()
        return tanh_backward(dy, y)
