"""Convolution: the im2col pair that says what it is, and the layer.

`conv2d` and `conv2d_backward` run on any array library with one two-dimensional GEMM each way. Engines have faster
twins of them, or of `im2col` and `col2im` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl import init, memory
from minidl.arguments import Pair, arithmetic, generator, images_cure, pair, whole
from minidl.backend import Array, array_module, gemm
from minidl.engine import engine
from minidl.layers.base import Layer, compute_dtype


def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Return (size + 2·padding − kernel) // stride + 1."""
    return (size + 2 * padding - kernel) // stride + 1


def taps(x: Array, kernel: Pair, stride: Pair) -> Iterator[Array]:
    """Yield a view of x (N, C, H, W) for each place (i, j) of the kernel, row by row: that value of every window."""
    (kh, kw), (sh, sw) = kernel, stride
    ho, wo = output_size(x.shape[2], kh, sh, 0), output_size(x.shape[3], kw, sw, 0)
    for i in range(kh):
        for j in range(kw):
            yield x[:, :, i : i + sh * (ho - 1) + 1 : sh, j : j + sw * (wo - 1) + 1 : sw]


def padded(x: Array, padding: Pair, value: float = 0) -> Array:
    """Return x (N, C, H, W) with ph rows and pw columns of this value around it, the batch innermost in memory."""
    (n, c, h, w), (ph, pw) = x.shape, padding
    wide = memory.images(array_module(x), (n, c, h + 2 * ph, w + 2 * pw), x.dtype)
    wide[...] = value
    wide[:, :, ph : ph + h, pw : pw + w] = x
    return wide


def without_padding(x: Array, padding: Pair) -> Array:
    """View the padded x (N, C, H, W) without its padding."""
    (ph, pw), (_, _, h, w) = padding, x.shape
    return x[:, :, ph : h - ph, pw : w - pw]


def im2col(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Return the windows of x (N, C, H, W) as the columns of a (C·kh·kw, Ho·Wo·N) matrix."""
    xp = array_module(x=x)
    n, c, *_ = x.shape
    views = list(taps(padded(x, padding), kernel, stride))
    cols = xp.empty((c, len(views), *views[0].shape[2:], n), x.dtype)  # (C, kh·kw, Ho, Wo, N)
    for place, view in enumerate(views):
        cols[:, place] = view.transpose(1, 2, 3, 0)
    return cols.reshape(c * len(views), -1)


def col2im(cols: Array, shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Add the columns back to the pixels they came from: the adjoint of `im2col`, for x of this shape."""
    x = padded(array_module(cols=cols).zeros(shape, cols.dtype), padding)
    n, c, _, _ = shape
    views = list(taps(x, kernel, stride))
    cols = cols.reshape(c, len(views), *views[0].shape[2:], n)
    for place, view in enumerate(views):
        view += cols[:, place].transpose(3, 0, 1, 2)
    return without_padding(x, padding)


def conv2d(x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair) -> Array:
    """y[n,o] = sum_cij weight[o,c,i,j] · x[n, c, sh·h + i − ph, sw·w + j − pw] + bias[o], as W2 @ cols."""
    xp = array_module(x=x, weight=weight)
    o, _, kh, kw = weight.shape
    n, _, h, w = x.shape
    ho, wo = output_size(h, kh, stride[0], padding[0]), output_size(w, kw, stride[1], padding[1])
    y = gemm(xp, weight.reshape(o, -1), engine(x)(im2col)(x, (kh, kw), stride, padding))  # (O, Ho·Wo·N)
    if bias is not None:
        y += bias[:, None]
    return memory.batch_first(y.reshape(o, ho, wo, n))


def conv2d_backward(
    dy: Array,
    x: Array,
    weight: Array,
    stride: Pair,
    padding: Pair,
    needs_dx: bool = True,
    needs_dbias: bool = True,
) -> tuple[Array | None, Array, Array | None]:
    """dW = dY2 @ colsᵀ, dcols = W2ᵀ @ dY2, db = sum over n, h, w of dy; returns dx, dW, db."""
    xp, on = array_module(dy=dy, x=x, weight=weight), engine(x)
    o, _, kh, kw = weight.shape
    dy2 = memory.batch_last(xp, dy).reshape(o, -1)  # (O, Ho·Wo·N)
    dweight = gemm(xp, dy2, on(im2col)(x, (kh, kw), stride, padding).T).reshape(weight.shape)
    dbias = dy2.sum(axis=1) if needs_dbias else None
    if not needs_dx:
        return None, dweight, dbias
    dcols = gemm(xp, weight.reshape(o, -1).T, dy2)  # (C·kh·kw, Ho·Wo·N)
    return on(col2im)(dcols, x.shape, (kh, kw), stride, padding), dweight, dbias


class Conv2d(Layer):
    """A two-dimensional convolution (cross-correlation, as everywhere in deep learning).

    y[n,o,h,w] = sum_cij weight[o,c,i,j] · x[n, c, sh·h + i − ph, sw·w + j − pw] + bias[o], x being zero outside.
    Backward: dweight[o,c,i,j] = sum_nhw dy[n,o,h,w] · x[n, c, sh·h + i − ph, sw·w + j − pw];
    dx[n,c,a,b] = sum of dy[n,o,h,w] · weight[o,c,i,j] over all o and all (h,i), (w,j) that meet (a,b);
    dbias = sum_nhw dy.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding : int or pair (height, width)
    bias : bool
    needs_dx : bool
        False for the first layer of a network, whose dx is not used: backward then returns None.
    rng : numpy.random.Generator or a seed, optional
    dtype : dtype of the parameters

    Raises
    ------
    ValueError
        If a size is out of range, x is not a floating (N, in_channels, H, W), or the kernel is larger than the padded
        image.

    Notes
    -----
    Shape: x (N, C, H, W) -> y (N, O, Ho, Wo) of x's dtype, Ho = (H + 2·ph − kh) // sh + 1; weight (O, C, kh, kw),
    bias (O,).

    Weight and bias start uniform in ±1/sqrt(C·kh·kw), as in PyTorch. docs/convolution.md explains the fast path.

    Examples
    --------
    >>> layer = Conv2d(1, 1, 2, bias=False)
    >>> layer.params["weight"][...] = 1
    >>> layer(np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3))
    array([[[[ 8., 12.]]]], dtype=float32)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        bias: bool = True,
        needs_dx: bool = True,
        rng: np.random.Generator | int | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        in_channels = whole(in_channels, "Conv2d: in_channels", cure="pass the channels of x")
        out_channels = whole(out_channels, "Conv2d: out_channels", cure="pass the channels of y")
        rng = generator(rng, "Conv2d")
        self.kernel_size = pair(kernel_size, "Conv2d: kernel_size", 1)
        self.stride = pair(stride, "Conv2d: stride", 1)
        self.padding = pair(padding, "Conv2d: padding", 0)
        self.needs_dx = needs_dx
        shape = (out_channels, in_channels, *self.kernel_size)
        self.add_param("weight", init.uniform_fan_in(shape, rng, dtype))
        if bias:
            self.add_param("bias", init.uniform_fan_in(shape, rng, dtype, size=(out_channels,)))

    @arithmetic()
    def forward(self, x: Array) -> Array:
        """Return the convolution of x."""
        weight, bias = self.params["weight"], self.params.get("bias")
        on = self.engine(x)
        self._check(x.shape, weight.shape)
        dtype = compute_dtype(x, weight)
        wide = x.astype(dtype, copy=False), weight.astype(dtype, copy=False)
        y = on(conv2d)(*wide, bias, self.stride, self.padding).astype(x.dtype, copy=False)
        self.keep(on, x, of=x, shape=y.shape)
        return y

    @arithmetic()
    def backward(self, dy: Array) -> Array:
        """Return dx, or None where `needs_dx` is False; add dweight and dbias to the gradients."""
        _, (on, x) = self.kept(dy)
        weight = self.params["weight"]
        array_module(dy=dy, x=x)
        dtype = compute_dtype(x, weight)
        d, x, weight = dy.astype(dtype, copy=False), x.astype(dtype, copy=False), weight.astype(dtype, copy=False)
        has_bias = "bias" in self.grads
        dx, dweight, dbias = on(conv2d_backward)(d, x, weight, self.stride, self.padding, self.needs_dx, has_bias)
        self.grads["weight"] += dweight
        if has_bias:
            self.grads["bias"] += dbias
        return None if dx is None else dx.astype(dy.dtype, copy=False)

    def _check(self, x: tuple[int, ...], weight: tuple[int, ...]) -> None:
        if len(x) != 4 or x[1] != weight[1]:
            cure = "give it that many channels" if len(x) == 4 else images_cure(x)
            raise ValueError(f"Conv2d.forward: x must be (N, {weight[1]}, H, W), got {x}; {cure}")
        padded = x[2] + 2 * self.padding[0], x[3] + 2 * self.padding[1]
        if padded[0] < self.kernel_size[0] or padded[1] < self.kernel_size[1]:
            raise ValueError(
                f"Conv2d.forward: the padded image must be at least the kernel {self.kernel_size}, got {padded}; "
                f"use a larger image or more padding"
            )
