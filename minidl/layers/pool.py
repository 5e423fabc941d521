"""Pooling: the largest value or the mean of each window."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import memory
from minidl.arguments import Pair, arithmetic, images_cure, pair
from minidl.backend import Array, array_module
from minidl.engine import Engine
from minidl.layers.base import Layer
from minidl.layers.conv import padded, taps, without_padding

Shape = tuple[int, ...]


def max_pool(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Array, Any]:
    """y[n,c,h,w] = max_ij x[n, c, sh·h + i − ph, sw·w + j − pw]; also the place i·kw + j of the first maximum.

    NaN wins over all before it.
    """
    xp = array_module(x)
    first, *others = taps(padded(x, padding, -xp.inf), kernel, stride)
    y, won = first.copy(), xp.zeros(first.shape, xp.int32)
    won += xp.asarray(_first_pixels(first.shape[2:], kernel, stride, padding))  # where all are -inf, a real one wins
    for place, value in enumerate(others, 1):
        won = xp.where((value > y) | xp.isnan(value), xp.int32(place), won)
        y = xp.maximum(y, value)
    return y, won


def _first_pixels(windows: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """Return the place i·kw + j of each window's (Ho, Wo) first pixel that is not padding."""
    i, j = (np.maximum(p - s * np.arange(n), 0) for n, s, p in zip(windows, stride, padding, strict=True))
    return (i[:, None] * kernel[1] + j).astype(np.int32)


def max_pool_backward(dy: Array, won: Any, shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Return dx, for x of this shape: dy at the place of each window's maximum."""
    xp = array_module(dy)
    dx = padded(xp.zeros(shape, dy.dtype), padding)
    for place, target in enumerate(taps(dx, kernel, stride)):
        target += xp.where(won == place, dy, dy.dtype.type(0))
    return without_padding(dx, padding)


def avg_pool(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """y[n,c,h,w] = (1/(kh·kw)) sum_ij x[n, c, sh·h + i − ph, sw·w + j − pw]."""
    xp = array_module(x)
    wide = padded(x, padding).astype(xp.promote_types(x.dtype, xp.float32))  # a sum of float16 may overflow
    total = sum(taps(wide, kernel, stride), xp.zeros((), wide.dtype))
    return (total / (kernel[0] * kernel[1])).astype(x.dtype)


def avg_pool_backward(dy: Array, shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Return dx, for x of this shape: dy/(kh·kw), added up over the windows of each x."""
    dx = padded(array_module(dy).zeros(shape, dy.dtype), padding)
    for target in taps(dx, kernel, stride):
        target += dy / (kernel[0] * kernel[1])
    return without_padding(dx, padding)


# -- the layers --------------------------------------------------------------------------------------------------------


class _Pool2d(Layer):
    """What the two pooling layers share: their arguments and the check of x."""

    def __init__(self, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = pair(kernel_size, f"{name}: kernel_size", 1)
        self.stride = pair(kernel_size if stride is None else stride, f"{name}: stride", 1)
        self.padding = pair(padding, f"{name}: padding", 0)
        self._window = self.kernel_size, self.stride, self.padding
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(
                f"{name}: padding must be at most half of kernel_size {self.kernel_size}, got {padding}; "
                f"a window must hold a real pixel"
            )

    def _check(self, x: Array) -> Engine:
        """Return the engine for x, which must have the right shape."""
        on = self.engine(x)
        name = type(self).__name__
        if x.ndim != 4 or any(
            size + 2 * p < k for size, p, k in zip(x.shape[2:], self.padding, self.kernel_size, strict=True)
        ):
            cure = "use a larger image or a smaller kernel" if x.ndim == 4 else images_cure(x.shape)
            raise ValueError(
                f"{name}.forward: x must be (N, C, H, W) with H, W at least the kernel {self.kernel_size}, "
                f"got {x.shape}; {cure}"
            )
        return on


class MaxPool2d(_Pool2d):
    """The largest value of each window: y[n,c,h,w] = max_ij x[n, c, sh·h + i − ph, sw·w + j − pw], padding being −inf.

    Backward: dy goes to the place of the maximum, the first one row by row among equals; NaN wins over all before it.

    Parameters
    ----------
    kernel_size : int or pair (height, width)
    stride : int or pair, kernel_size by default
    padding : int or pair, at most half of the kernel

    Raises
    ------
    ValueError
        If a size is out of range or x is not a large enough (N, C, H, W).

    Notes
    -----
    Shape: x (N, C, H, W) -> y (N, C, Ho, Wo), Ho = (H + 2·ph − kh) // sh + 1.

    Examples
    --------
    >>> import numpy as np
    >>> MaxPool2d(2)(np.arange(8.0).reshape(1, 1, 2, 4))
    array([[[[5., 7.]]]])
    """

    def forward(self, x: Array) -> Array:
        """Return the maximum of each window."""
        on = self._check(x)
        y, won = on(max_pool)(x, *self._window)
        self.keep(on, array_module(x).empty(0), x.shape, won, shape=y.shape)
        return y

    @arithmetic()
    def backward(self, dy: Array) -> Array:
        """Return dy at the place of each window's maximum."""
        _, (on, of, shape, won) = self.kept(dy)
        array_module(dy=dy, x=of)
        return on(max_pool_backward)(dy, won, shape, *self._window)


class AvgPool2d(_Pool2d):
    """The mean of each window: y[n,c,h,w] = (1/(kh·kw)) sum_ij x[n, c, sh·h + i − ph, sw·w + j − pw].

    Padded zeros count, as in PyTorch's default. Backward: each x receives dy/(kh·kw) of every window it lies in.

    Parameters
    ----------
    kernel_size : int or pair (height, width)
    stride : int or pair, kernel_size by default
    padding : int or pair, at most half of the kernel

    Raises
    ------
    ValueError
        If a size is out of range or x is not a large enough (N, C, H, W).

    Notes
    -----
    Shape: x (N, C, H, W) -> y (N, C, Ho, Wo), Ho = (H + 2·ph − kh) // sh + 1.

    Examples
    --------
    >>> import numpy as np
    >>> AvgPool2d(2)(np.arange(8.0).reshape(1, 1, 2, 4))
    array([[[[2.5, 4.5]]]])
    """

    @arithmetic()
    def forward(self, x: Array) -> Array:
        """Return the mean of each window."""
        on = self._check(x)
        y = on(avg_pool)(x, *self._window)
        self.keep(on, array_module(x).empty(0), x.shape, shape=y.shape)
        return y

    @arithmetic()
    def backward(self, dy: Array) -> Array:
        """Return dy/(kh·kw), added up over the windows of each x."""
        _, (on, of, shape) = self.kept(dy)
        array_module(dy=dy, x=of)
        return on(avg_pool_backward)(dy, shape, *self._window)


class GlobalAvgPool2d(Layer):
    """The mean of each channel's image: y[n,c] = mean_hw x[n,c,h,w]; backward: dx = dy/(H·W) everywhere.

    Notes
    -----
    Shape: x (N, C, H, W) -> y (N, C).

    Examples
    --------
    >>> import numpy as np
    >>> GlobalAvgPool2d()(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[1.5, 5.5]])
    """

    @arithmetic()
    def forward(self, x: Array) -> Array:
        """Return mean_hw x."""
        self.engine(x)
        if x.ndim != 4:
            raise ValueError(f"GlobalAvgPool2d.forward: x must be (N, C, H, W), got {x.shape}; {images_cure(x.shape)}")
        self.keep(x.shape, shape=x.shape[:2])
        xp = array_module(x)
        total = memory.batch_last(xp, x).sum(axis=(1, 2), dtype=xp.promote_types(x.dtype, xp.float32))  # (C, N)
        return (total / total.dtype.type(x.shape[2] * x.shape[3])).astype(x.dtype, copy=False).T

    @arithmetic()
    def backward(self, dy: Array) -> Array:
        """Return dy/(H·W) at every pixel."""
        _, (shape,) = self.kept(dy)
        xp = array_module(dy=dy)
        dx = memory.images(xp, shape, dy.dtype)
        dx[...] = (dy / dy.dtype.type(shape[2] * shape[3]))[:, :, None, None]
        return dx
