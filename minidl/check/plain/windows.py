"""Windows of an image as a convolution or a pooling sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.check.plain.arith import Array

Pair = tuple[int, int]


def pair(value: Any) -> Pair:
    """An option that holds for both directions, or for each."""
    h, w = (value, value) if np.ndim(value) == 0 else value
    return int(h), int(w)


def padded(x: Array, padding: Pair, value: float) -> Array:
    """x with a border."""
    n, c, h, w = x.shape
    border = np.full_like(x, value, shape=(n, c, h + 2 * padding[0], w + 2 * padding[1]))
    border[:, :, padding[0] : padding[0] + h, padding[1] : padding[1] + w] = x
    return border


def cropped(x: Array, padding: Pair) -> Array:
    """x without its border."""
    start, high, wide = padding, x.shape[2] - 2 * padding[0], x.shape[3] - 2 * padding[1]
    return x[:, :, start[0] : start[0] + high, start[1] : start[1] + wide]


def places(shape: tuple[int, ...], kernel: Pair, stride: Pair) -> Iterator[tuple[int, int, Any]]:
    """Yield (a, b, index): the pixels that element (a, b) of the window meets, in row-major order."""
    rows, columns = (shape[2] - kernel[0]) // stride[0] + 1, (shape[3] - kernel[1]) // stride[1] + 1
    for a in range(kernel[0]):
        for b in range(kernel[1]):
            across = slice(b, b + (columns - 1) * stride[1] + 1, stride[1])
            yield a, b, (slice(None), slice(None), slice(a, a + (rows - 1) * stride[0] + 1, stride[0]), across)


def taps(shape: tuple[int, ...], kernel: Pair, stride: Pair, dilation: Pair) -> Iterator[tuple[int, int, Any]]:
    """Yield (a, b, index) as ``places`` does, of a window whose elements are ``dilation`` pixels apart."""
    high, wide = (kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1
    rows, columns = (shape[2] - high) // stride[0] + 1, (shape[3] - wide) // stride[1] + 1
    for a in range(kernel[0]):
        for b in range(kernel[1]):
            top, left = a * dilation[0], b * dilation[1]
            down = slice(top, top + (rows - 1) * stride[0] + 1, stride[0])
            across = slice(left, left + (columns - 1) * stride[1] + 1, stride[1])
            yield a, b, (slice(None), slice(None), down, across)
