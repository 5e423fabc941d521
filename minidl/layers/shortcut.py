"""The shortcut of residual networks that changes the shape and has no parameters."""

from __future__ import annotations

from minidl import memory
from minidl.arguments import whole
from minidl.backend import Array, array_module
from minidl.layers.base import Layer


class ZeroPaddedShortcut(Layer):
    """Every `stride`-th pixel of x, between channels of zeros: option A of He et al. 2016.

    y[n, p + c, h, w] = x[n, c, s·h, s·w] for the C channels of x, p = (O − C) // 2, and 0 in the other channels.
    Backward: dx[n, c, s·h, s·w] = dy[n, p + c, h, w], and 0 at the pixels that were left out.

    Parameters
    ----------
    out_channels : int
        The number O of channels of y, at least those of x.
    stride : int

    Raises
    ------
    ValueError
        If stride is below 1, or x is not (N, C, H, W) with at most O channels.

    Notes
    -----
    Shape: x (N, C, H, W) -> y (N, O, ceil(H / s), ceil(W / s)).

    He et al. do not say on which side the zeros go. Half of them go before and half behind, as in the public PyTorch
    networks for CIFAR, whose weights then give the same outputs here.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(1.0, 5.0).reshape(1, 1, 1, 4)
    >>> ZeroPaddedShortcut(3, stride=2)(x)[0, :, 0]
    array([[0., 0.],
           [1., 3.],
           [0., 0.]])
    """

    def __init__(self, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.out_channels = whole(out_channels, "ZeroPaddedShortcut: out_channels", cure="pass that of the branch")
        self.stride = whole(stride, "ZeroPaddedShortcut: stride", cure="pass that of the branch")

    def forward(self, x: Array) -> Array:
        """Return the pixels of x that the stride keeps, between channels of zeros."""
        self.engine(x)
        if x.ndim != 4 or x.shape[1] > self.out_channels:
            raise ValueError(
                f"ZeroPaddedShortcut.forward: x must be (N, C, H, W) with C <= {self.out_channels}, got {x.shape}; "
                f"build it with more out_channels"
            )
        kept = x[:, :, :: self.stride, :: self.stride]
        y = memory.images(array_module(x=x), (len(x), self.out_channels, *kept.shape[2:]), x.dtype)
        self.keep(x.shape, shape=y.shape)
        y[...] = 0
        y[:, self._real(x.shape[1])] = kept
        return y

    def backward(self, dy: Array) -> Array:
        """Return dy at the pixels that y was made of, 0 elsewhere."""
        _, (shape,) = self.kept(dy)
        dx = memory.images(array_module(dy=dy), shape, dy.dtype)
        dx[...] = 0
        dx[:, :, :: self.stride, :: self.stride] = dy[:, self._real(shape[1])]
        return dx

    def _real(self, channels: int) -> slice:
        """Return which channels of y are those of x."""
        before = (self.out_channels - channels) // 2
        return slice(before, before + channels)
