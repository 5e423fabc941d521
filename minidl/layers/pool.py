"""Pooling: the largest value or the mean of each window.

Both are separable: first along the width, then along the height. For the maximum this order picks, among equal values,
the one that comes first row by row, as PyTorch does.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from minidl import memory
from minidl.backend import Array, array_module
from minidl.layers.base import Layer
from minidl.layers.conv import Pair, output_size, pair


def max_along(xp: ModuleType, x: Array, axis: int, kernel: int, stride: int, padding: int) -> tuple[Array, list[Array]]:
    """Return the running maximum over windows along an axis, and for each later tap the mask of where it won."""
    length = output_size(x.shape[axis], kernel, stride, padding)
    if padding:
        pad = [(0, 0)] * x.ndim
        pad[axis] = (padding, padding)
        x = xp.pad(x, pad, constant_values=-xp.inf)
    taps = [_tap(x, axis, j, stride, length) for j in range(kernel)]
    if kernel == 1:
        return taps[0], []
    won = [taps[1] > taps[0]]
    y = memory.empty(xp, taps[0].shape, x.dtype)
    xp.maximum(taps[0], taps[1], out=y)
    for tap in taps[2:]:
        won.append(tap > y)
        xp.maximum(y, tap, out=y)
    return y, won


def max_along_backward(
    xp: ModuleType, dy: Array, won: list[Array], shape: tuple[int, ...], axis: int, stride: int, padding: int
) -> Array:
    """Hand each dy to the last tap that won its window: the adjoint of `max_along`, for x of this shape."""
    kernel, length = len(won) + 1, dy.shape[axis]
    padded = list(shape)
    padded[axis] += 2 * padding
    dx = memory.empty(xp, tuple(padded), dy.dtype)
    if not (kernel == stride and kernel * length == padded[axis]):
        dx[...] = 0  # else the windows tile x, and every value is written once
    rest = dy
    for j in reversed(range(kernel)):
        share = rest * won[j - 1] if j else rest
        target = _tap(dx, axis, j, stride, length)
        if kernel <= stride:
            target[...] = share
        else:
            target += share
        if j:
            rest = rest - share
    if padding:
        dx = _cut(dx, axis, padding, shape[axis])
    return dx


def sum_along(xp: ModuleType, x: Array, axis: int, kernel: int, stride: int, padding: int) -> Array:
    """Return the sum over windows along an axis."""
    length = output_size(x.shape[axis], kernel, stride, padding)
    if padding:
        pad = [(0, 0)] * x.ndim
        pad[axis] = (padding, padding)
        x = xp.pad(x, pad)
    y = _tap(x, axis, 0, stride, length).copy()
    for j in range(1, kernel):
        y += _tap(x, axis, j, stride, length)
    return y


def sum_along_backward(
    xp: ModuleType, dy: Array, shape: tuple[int, ...], axis: int, kernel: int, stride: int, padding: int
) -> Array:
    """Add each dy to all values of its window: the adjoint of `sum_along`."""
    padded = list(shape)
    padded[axis] += 2 * padding
    dx = xp.zeros(tuple(padded), dy.dtype)
    for j in range(kernel):
        target = _tap(dx, axis, j, stride, dy.shape[axis])
        target += dy
    return _cut(dx, axis, padding, shape[axis])


def _tap(x: Array, axis: int, j: int, stride: int, length: int) -> Array:
    """View the j-th value of every window along an axis."""
    return x[(slice(None),) * axis + (slice(j, j + stride * (length - 1) + 1, stride),)]


def _cut(x: Array, axis: int, start: int, length: int) -> Array:
    return x[(slice(None),) * axis + (slice(start, start + length),)]


class _Pool2d(Layer):
    """What the two pooling layers share: their arguments and the check of x."""

    def __init__(self, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = pair(kernel_size, f"{name}: kernel_size", 1)
        self.stride = pair(kernel_size if stride is None else stride, f"{name}: stride", 1)
        self.padding = pair(padding, f"{name}: padding", 0)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(
                f"{name}: padding must be at most half of kernel_size {self.kernel_size}, got {padding}; "
                f"a window must hold a real pixel"
            )

    def _along(self, i: int) -> tuple[int, int, int]:
        """Return kernel, stride and padding along the height (0) or the width (1)."""
        return self.kernel_size[i], self.stride[i], self.padding[i]

    def _enter(self, x: Array) -> tuple[ModuleType, Array]:
        """Return xp and x as (C, H, W, N)."""
        xp = array_module(x=x)
        if x.ndim != 4 or any(
            size + 2 * p < k for size, p, k in zip(x.shape[2:], self.padding, self.kernel_size, strict=True)
        ):
            raise ValueError(
                f"{type(self).__name__}.forward: x must be (N, C, H, W) with H, W at least the kernel "
                f"{self.kernel_size}, got {x.shape}; use a larger image or a smaller kernel"
            )
        return xp, memory.batch_last(xp, x)


class MaxPool2d(_Pool2d):
    """The largest value of each window: y[n,c,h,w] = max_ij x[n, c, sh·h + i − ph, sw·w + j − pw], padding being −inf.

    Backward: dy goes to the place of the maximum, the first one row by row among equals.

    Parameters
    ----------
    kernel_size : int or pair (height, width)
    stride : int or pair, kernel_size by default
    padding : int or pair, at most half of the kernel

    Shape
    -----
    x (N, C, H, W) -> y (N, C, Ho, Wo), Ho = (H + 2·ph − kh) // sh + 1.

    Raises
    ------
    ValueError
        If a size is out of range or x is not a large enough (N, C, H, W).

    Examples
    --------
    >>> import numpy as np
    >>> MaxPool2d(2)(np.arange(8.0).reshape(1, 1, 2, 4))
    array([[[[5., 7.]]]])
    """

    def forward(self, x: Array) -> Array:
        """Return the maximum of each window."""
        xp, t = self._enter(x)
        wide, won_w = max_along(xp, t, 2, *self._along(1))
        y, won_h = max_along(xp, wide, 1, *self._along(0))
        self.keep(t.shape, wide.shape, won_w, won_h)
        return memory.batch_first(y)

    def backward(self, dy: Array) -> Array:
        """Return dy at the place of each window's maximum."""
        _, (shape, wide, won_w, won_h) = self.kept()
        xp = array_module(dy=dy)
        dwide = max_along_backward(xp, memory.batch_last(xp, dy), won_h, wide, 1, *self._along(0)[1:])
        return memory.batch_first(max_along_backward(xp, dwide, won_w, shape, 2, *self._along(1)[1:]))


class AvgPool2d(_Pool2d):
    """The mean of each window: y[n,c,h,w] = (1/(kh·kw)) sum_ij x[n, c, sh·h + i − ph, sw·w + j − pw].

    Padded zeros count, as in PyTorch's default. Backward: each x receives dy/(kh·kw) of every window it lies in.

    Parameters
    ----------
    kernel_size : int or pair (height, width)
    stride : int or pair, kernel_size by default
    padding : int or pair, at most half of the kernel

    Shape
    -----
    x (N, C, H, W) -> y (N, C, Ho, Wo), Ho = (H + 2·ph − kh) // sh + 1.

    Raises
    ------
    ValueError
        If a size is out of range or x is not a large enough (N, C, H, W).

    Examples
    --------
    >>> import numpy as np
    >>> AvgPool2d(2)(np.arange(8.0).reshape(1, 1, 2, 4))
    array([[[[2.5, 4.5]]]])
    """

    def forward(self, x: Array) -> Array:
        """Return the mean of each window."""
        xp, t = self._enter(x)
        wide = sum_along(xp, t.astype(xp.promote_types(x.dtype, xp.float32), copy=False), 2, *self._along(1))
        y = sum_along(xp, wide, 1, *self._along(0))
        y /= y.dtype.type(self.kernel_size[0] * self.kernel_size[1])
        self.keep(t.shape, wide.shape)
        return memory.batch_first(y.astype(x.dtype, copy=False))

    def backward(self, dy: Array) -> Array:
        """Return dy/(kh·kw), added up over the windows of each x."""
        _, (shape, wide) = self.kept()
        xp = array_module(dy=dy)
        dy = memory.batch_last(xp, dy) / dy.dtype.type(self.kernel_size[0] * self.kernel_size[1])
        dwide = sum_along_backward(xp, dy, wide, 1, *self._along(0))
        return memory.batch_first(sum_along_backward(xp, dwide, shape, 2, *self._along(1)))


class GlobalAvgPool2d(Layer):
    """The mean of each channel's image: y[n,c] = mean_hw x[n,c,h,w]; backward: dx = dy/(H·W) everywhere.

    Shape
    -----
    x (N, C, H, W) -> y (N, C).

    Examples
    --------
    >>> import numpy as np
    >>> GlobalAvgPool2d()(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[1.5, 5.5]])
    """

    def forward(self, x: Array) -> Array:
        """Return mean_hw x."""
        if x.ndim != 4:
            raise ValueError(f"GlobalAvgPool2d.forward: x must be (N, C, H, W), got {x.shape}; give it images")
        self.keep(x.shape)
        xp = array_module(x=x)
        y = memory.batch_last(xp, x).mean(axis=(1, 2), dtype=xp.promote_types(x.dtype, xp.float32))  # (C, N)
        return y.astype(x.dtype, copy=False).T

    def backward(self, dy: Array) -> Array:
        """Return dy/(H·W) at every pixel."""
        _, (shape,) = self.kept()
        xp = array_module(dy=dy)
        dx: Any = memory.images(xp, shape, dy.dtype)
        dx[...] = (dy / dy.dtype.type(shape[2] * shape[3]))[:, :, None, None]
        return dx
