"""The rectifier, and the hyperbolic tangent of the networks before it."""

from __future__ import annotations

from minidl.arguments import arithmetic
from minidl.backend import Array, array_module
from minidl.layers.base import Layer, read_only


def relu(x: Array) -> Array:
    """y = max(x, 0); NaN stays NaN."""
    return array_module(x).maximum(x, 0)


def relu_backward(dy: Array, y: Array) -> Array:
    """dx = dy where y > 0, else 0."""
    return dy * (y > 0)


class ReLU(Layer):
    """The rectifier: y = max(x, 0), read-only, as backward needs it; backward: dx = dy where x > 0, else 0.

    Examples
    --------
    >>> import numpy as np
    >>> ReLU()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    def forward(self, x: Array) -> Array:
        """Return max(x, 0)."""
        on = self.engine(x)
        y = read_only(on(relu)(x))
        self.keep(on, y, shape=y.shape)
        return y

    @arithmetic()
    def backward(self, dy: Array) -> Array:
        """Return dy where the output was positive, else 0."""
        _, (on, y) = self.kept(dy)
        array_module(dy=dy, y=y)
        return on(relu_backward)(dy, y)


def tanh(x: Array) -> Array:
    """y = tanh(x)."""
    return array_module(x).tanh(x)


def tanh_backward(dy: Array, y: Array) -> Array:
    """dx = dy·(1 − y²)."""
    return dy * (1 - y**2)


class Tanh(Layer):
    """The hyperbolic tangent: y = tanh(x), read-only, as backward needs it; backward: dx = dy·(1 − y²).

    Examples
    --------
    >>> import numpy as np
    >>> Tanh()(np.array([0.0, 100.0]))
    array([0., 1.])
    """

    @arithmetic()
    def forward(self, x: Array) -> Array:
        """Return tanh(x)."""
        on = self.engine(x)
        y = read_only(on(tanh)(x))
        self.keep(on, y, shape=y.shape)
        return y

    @arithmetic()
    def backward(self, dy: Array) -> Array:
        """Return dy·(1 − y²)."""
        _, (on, y) = self.kept(dy)
        array_module(dy=dy, y=y)
        return on(tanh_backward)(dy, y)
