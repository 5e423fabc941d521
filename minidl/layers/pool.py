"""Pooling: the largest value or the mean of each window.

Both are separable: first along the width, then along the height. For the maximum this order picks, among equal values,
the one that comes first row by row, as PyTorch does. On a GPU `images_cuda.py` does the same in one kernel a pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl import memory, parallel
from minidl.backend import Array, array_module
from minidl.layers import images_cuda
from minidl.layers.base import Layer
from minidl.layers.conv import Pair, output_size, pair

Shape = tuple[int, ...]


def max_pool(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Array, tuple[Array, ...]]:
    """y[n,c,h,w] = max_ij x[n, c, sh·h + i − ph, sw·w + j − pw]; returns y, and who won along width and height."""
    t, (c, ho, wo, n) = _padded(x, kernel, stride, padding, -np.inf)
    (kh, kw), (sh, sw), h = kernel, stride, t.shape[1]
    y = memory.empty(np, (c, ho, wo, n), t.dtype)
    won_w = memory.empty(np, (kw - 1, c, h, wo, n), bool)
    won_h = memory.empty(np, (kh - 1, c, ho, wo, n), bool)

    def share(some: slice) -> None:
        wide = parallel.scratch("wide", t[some, :, :wo].shape, t.dtype)
        max_along(t[some], 2, sw, wide, won_w[:, some])
        max_along(wide, 1, sh, y[some], won_h[:, some])

    parallel.over(len(t), t.size, share)
    return memory.batch_first(y), (won_w, won_h)


def max_pool_backward(
    dy: Array, won: tuple[Array, ...], shape: Shape, kernel: Pair, stride: Pair, padding: Pair
) -> Array:
    """Return dx, for x of this shape: dy at the place of each window's maximum."""
    (won_w, won_h), (sh, sw) = won, stride
    dyt = memory.batch_last(np, dy)
    dx = memory.empty(np, _padded_shape(shape, padding), dy.dtype)

    def share(some: slice) -> None:
        dwide = parallel.scratch("wide", dx[some, :, : dyt.shape[2]].shape, dy.dtype)
        max_along_backward(dyt[some], won_h[:, some], 1, sh, dwide)
        max_along_backward(dwide, won_w[:, some], 2, sw, dx[some])

    parallel.over(len(dx), dx.size, share)
    return _without_padding(dx, padding)


def avg_pool(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """y[n,c,h,w] = (1/(kh·kw)) sum_ij x[n, c, sh·h + i − ph, sw·w + j − pw]."""
    t, (c, ho, wo, n) = _padded(x, kernel, stride, padding, 0)
    (kh, kw), (sh, sw) = kernel, stride
    t = t.astype(np.promote_types(x.dtype, np.float32), copy=False)  # a sum of float16 may overflow
    y = memory.empty(np, (c, ho, wo, n), t.dtype)

    def share(some: slice) -> None:
        wide = parallel.scratch("wide", t[some, :, :wo].shape, t.dtype)
        sum_along(t[some], 2, sw, kw, wide)
        sum_along(wide, 1, sh, kh, y[some])
        y[some] /= t.dtype.type(kh * kw)

    parallel.over(len(t), t.size, share)
    return memory.batch_first(y.astype(x.dtype, copy=False))


def avg_pool_backward(dy: Array, shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Return dx, for x of this shape: dy/(kh·kw), added up over the windows of each x."""
    (kh, kw), (sh, sw) = kernel, stride
    dyt = memory.batch_last(np, dy) / dy.dtype.type(kh * kw)
    dx = memory.empty(np, _padded_shape(shape, padding), dy.dtype)

    def share(some: slice) -> None:
        dwide = parallel.scratch("wide", dx[some, :, : dyt.shape[2]].shape, dyt.dtype)
        sum_along_backward(dyt[some], 1, sh, kh, dwide)
        sum_along_backward(dwide, 2, sw, kw, dx[some])

    parallel.over(len(dx), dx.size, share)
    return _without_padding(dx, padding)


# -- one axis ----------------------------------------------------------------------------------------------------------


def max_along(x: Array, axis: int, stride: int, y: Array, won: Array) -> None:
    """Write the maximum over windows along an axis into y, and into won[j − 1] whether tap j beat all before it."""
    best = _tap(x, axis, 0, stride, y)
    if len(won) == 0:
        y[...] = best
    for j in range(1, len(won) + 1):
        tap = _tap(x, axis, j, stride, y)
        np.greater(tap, best, out=won[j - 1])
        best = np.maximum(best, tap, out=y)


def max_along_backward(dy: Array, won: Array, axis: int, stride: int, dx: Array) -> None:
    """Write into dx each dy at the last tap that won its window: the adjoint of `max_along`."""
    kernel = len(won) + 1
    if kernel != stride or kernel * dy.shape[axis] != dx.shape[axis]:
        dx[...] = 0  # else the windows tile x, and every value is written once
    taps = [_tap(dx, axis, j, stride, dy) for j in range(kernel)]
    if kernel > stride:  # windows overlap
        for j in reversed(range(1, kernel)):
            share = dy * won[j - 1]
            taps[j] += share
            dy = dy - share
        taps[0] += dy
        return
    for j in reversed(range(1, kernel)):
        np.multiply(dy, won[j - 1], out=taps[j])
        dy = np.subtract(dy, taps[j], out=taps[0])
    if kernel == 1:
        taps[0][...] = dy


def sum_along(x: Array, axis: int, stride: int, kernel: int, y: Array) -> None:
    """Write the sum over windows along an axis into y."""
    y[...] = _tap(x, axis, 0, stride, y)
    for j in range(1, kernel):
        y += _tap(x, axis, j, stride, y)


def sum_along_backward(dy: Array, axis: int, stride: int, kernel: int, dx: Array) -> None:
    """Add each dy to all values of its window in dx: the adjoint of `sum_along`."""
    dx[...] = 0
    for j in range(kernel):
        target = _tap(dx, axis, j, stride, dy)
        target += dy


def _tap(x: Array, axis: int, j: int, stride: int, y: Array) -> Array:
    """View the j-th value of every window along an axis; y has one value a window."""
    return x[(slice(None),) * axis + (slice(j, j + stride * (y.shape[axis] - 1) + 1, stride),)]


def _padded(x: Array, kernel: Pair, stride: Pair, padding: Pair, fill: float) -> tuple[Array, Shape]:
    """Return the padded x as (C, H, W, N), and the shape (C, Ho, Wo, N) of y."""
    ph, pw = padding
    t = memory.batch_last(np, x)
    if ph or pw:
        t = np.pad(t, ((0, 0), (ph, ph), (pw, pw), (0, 0)), constant_values=fill)
    ho, wo = (output_size(t.shape[i + 1], kernel[i], stride[i], 0) for i in (0, 1))
    return t, (t.shape[0], ho, wo, t.shape[3])


def _padded_shape(shape: Shape, padding: Pair) -> Shape:
    (n, c, h, w), (ph, pw) = shape, padding
    return c, h + 2 * ph, w + 2 * pw, n


def _without_padding(dx: Array, padding: Pair) -> Array:
    """Return the padded dx (C, H, W, N) as (N, C, H, W) without its padding."""
    (ph, pw), (_, h, w, _) = padding, dx.shape
    return memory.batch_first(dx[:, ph : h - ph, pw : w - pw])


# -- the layers --------------------------------------------------------------------------------------------------------


def _engine(on_host: Callable[..., Any], on_device: Callable[..., Any], **arrays: Array) -> Any:
    """Return the function for the library of these arrays."""
    return on_host if array_module(**arrays) is np else on_device


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

    def _check(self, x: Array) -> None:
        name = type(self).__name__
        if x.ndim != 4 or any(
            size + 2 * p < k for size, p, k in zip(x.shape[2:], self.padding, self.kernel_size, strict=True)
        ):
            raise ValueError(
                f"{name}.forward: x must be (N, C, H, W) with H, W at least the kernel {self.kernel_size}, "
                f"got {x.shape}; use a larger image or a smaller kernel"
            )


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
        forward = _engine(max_pool, images_cuda.max_pool, x=x)
        self._check(x)
        y, won = forward(x, *self._window)
        self.keep(x.shape, won)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dy at the place of each window's maximum."""
        _, (shape, won) = self.kept()
        backward = _engine(max_pool_backward, images_cuda.max_pool_backward, dy=dy, won=won[0])
        return backward(dy, won, shape, *self._window)


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
        forward = _engine(avg_pool, images_cuda.avg_pool, x=x)
        self._check(x)
        self.keep(x.shape)
        return forward(x, *self._window)

    def backward(self, dy: Array) -> Array:
        """Return dy/(kh·kw), added up over the windows of each x."""
        _, (shape,) = self.kept()
        backward = _engine(avg_pool_backward, images_cuda.avg_pool_backward, dy=dy)
        return backward(dy, shape, *self._window)


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
        dx = memory.images(xp, shape, dy.dtype)
        dx[...] = (dy / dy.dtype.type(shape[2] * shape[3]))[:, :, None, None]
        return dx
