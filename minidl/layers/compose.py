"""The two ways of composing layers: one after the other, and around a shortcut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from minidl.arguments import arithmetic
from minidl.backend import Array
from minidl.engine import engine
from minidl.layers.base import Layer


def forward_through(layers: Sequence[Layer], x: Array) -> Array:
    """y = f_n(... f_1(x))."""
    for layer in layers:
        x = layer.forward(x)
        layer._output_shape = x.shape
    return x


def backward_through(layers: Sequence[Layer], dy: Array) -> Array:
    """dx = f_1'(... f_n'(dy)), each f' as its forward left it."""
    for layer in reversed(layers):
        dy = layer.backward(dy)
    return dy


def _what(thing: Any) -> str:
    """Return what stands where a layer belongs, and the cure."""
    if isinstance(thing, list | tuple):
        return f"a {type(thing).__name__}; pass the layers one by one: Sequential(*layers)"
    if isinstance(thing, type):
        return f"the class {thing.__name__}; make one: {thing.__name__}()"
    return f"one of {type(thing).__name__}; derive a class from minidl.Layer"


class Sequential(Layer):
    """Layers one after the other: y = f_n(... f_1(x)).

    Parameters
    ----------
    *layers : Layer
        In the order of forward.

    Raises
    ------
    ValueError
        If one of them is no layer.

    Examples
    --------
    >>> import numpy as np
    >>> from minidl import Linear, ReLU
    >>> rng = np.random.default_rng(0)
    >>> net = Sequential(Linear(3, 5, rng=rng), ReLU(), Linear(5, 2, rng=rng))
    >>> net(np.ones((4, 3), np.float32)).shape
    (4, 2)
    >>> list(net.state())
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def __init__(self, *layers: Layer) -> None:
        super().__init__()
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise ValueError(f"Sequential: layer {i} must be a minidl.Layer, got {_what(layer)}")
        self.layers = list(layers)

    def children(self) -> Iterator[tuple[str, Layer]]:
        """Yield ("0", first layer), ("1", second layer), ..."""
        for i, layer in enumerate(self.layers):
            yield str(i), layer

    def forward(self, x: Array) -> Array:
        """Return the last layer's output."""
        return engine(x)(forward_through)(self.layers, x)

    def backward(self, dy: Array) -> Array:
        """Return dx, the layers taken in reverse."""
        return engine(dy)(backward_through)(self.layers, dy)


@arithmetic()
def _sum(branch: Array, shortcut: Array) -> Array:
    return engine(branch, shortcut)(add)(branch, shortcut)


def add(one: Array, other: Array) -> Array:
    """y = one + other, of the branch and the shortcut."""
    return one + other


class Residual(Layer):
    """A branch beside a shortcut (He et al. 2016): y = branch(x) + shortcut(x), the identity by default.

    dx = branch.backward(dy) + shortcut.backward(dy).

    Parameters
    ----------
    branch : Layer
        What is learned beside the shortcut.
    shortcut : Layer, optional
        What brings x to the branch's shape; the identity by default.

    Raises
    ------
    ValueError
        If one of them is no layer; in forward, if the two give different shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from minidl import ReLU
    >>> Residual(ReLU())(np.array([-1.0, 2.0]))
    array([-1.,  4.])
    """

    def __init__(self, branch: Layer, shortcut: Layer | None = None) -> None:
        super().__init__()
        for what, layer in (("branch", branch), ("shortcut", shortcut)):
            if not isinstance(layer, Layer) and not (what == "shortcut" and layer is None):
                raise ValueError(f"Residual: {what} must be a minidl.Layer, got {_what(layer)}")
        self.branch = branch
        if shortcut is not None:
            self.shortcut = shortcut

    def forward(self, x: Array) -> Array:
        """Return branch(x) + shortcut(x)."""
        shortcut = self.shortcut.forward(x) if hasattr(self, "shortcut") else x
        branch = self.branch.forward(x)
        self.branch._output_shape = branch.shape
        if hasattr(self, "shortcut"):
            self.shortcut._output_shape = shortcut.shape
        if branch.shape != shortcut.shape:
            raise ValueError(
                f"Residual.forward: branch and shortcut must give one shape, got {branch.shape} and {shortcut.shape}; "
                f"pass a shortcut that changes the shape as the branch does"
            )
        return _sum(branch, shortcut)

    def backward(self, dy: Array) -> Array:
        """Return the sum of both paths' dx."""
        shortcut = self.shortcut.backward(dy) if hasattr(self, "shortcut") else dy
        branch = self.branch.backward(dy)
        return _sum(branch, shortcut)
