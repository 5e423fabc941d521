"""Pooling: the largest value, or the average, of each window."""

import numpy as np

from minidl.reference.arrays import Array, check_shapes, common_precision
from minidl.reference.windows import Pair, output_size, pair


def max_pool2d(x: Array, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Array:
    """Take the largest value of each window.

    y_ncij = max_ab x_n,c,i·stride+a−padding,j·stride+b−padding,  x being −inf outside the image

    Parameters
    ----------
    x : array
        The images.
    kernel_size, stride, padding : int or (int, int)
        For both directions, or for height and width; stride is the kernel's size unless given.
        The padding is at most half the kernel, so that every window touches the image.

    Raises
    ------
    ValueError
        If a shape is not one of these, no window fits, or a window could lie in the padding alone.

    >>> max_pool2d(np.array([[[[1.0, 5.0, 3.0, 4.0]]]]), kernel_size=(1, 2))
    array([[[[5., 4.]]]])

    Notes
    -----
    Shape: x : (N, C, H, W);  y : (N, C, Ho, Wo) with Ho = floor((H + 2·padding − kernel) / stride) + 1
    """
    (x,) = common_precision(x)
    Ho, Wo = _windows("max_pool2d", x, kernel_size, stride, padding)
    y = np.empty((*x.shape[:2], Ho, Wo), x.dtype)
    for n, c, i, j in np.ndindex(y.shape):
        y[n, c, i, j] = x[n, c][_first_maximum(x[n, c], i, j, kernel_size, stride, padding)]
    return y


def max_pool2d_backward(
    dy: Array, x: Array, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0
) -> dict[str, Array]:
    """Return dx of :func:`max_pool2d`: each dy goes to its window's maximum, the first in row-major order; NaN wins."""
    dy, x = common_precision(dy, x)
    Ho, Wo = _windows("max_pool2d_backward", x, kernel_size, stride, padding)
    check_shapes("max_pool2d_backward", dy=(dy, (*x.shape[:2], Ho, Wo)))
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(dy.shape):
        dx[n, c][_first_maximum(x[n, c], i, j, kernel_size, stride, padding)] += dy[n, c, i, j]
    return {"dx": dx}


def avg_pool2d(x: Array, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Array:
    """Take the average of each window, the zeros of the padding counted in.

    y_ncij = (1 / (kh·kw)) sum_ab x_n,c,i·stride+a−padding,j·stride+b−padding,  x being 0 outside the image

    Parameters, shapes and errors are those of :func:`max_pool2d`.

    >>> avg_pool2d(np.array([[[[1.0, 5.0, 3.0, 4.0]]]]), kernel_size=(1, 2))
    array([[[[3. , 3.5]]]])
    """
    (x,) = common_precision(x)
    Ho, Wo = _windows("avg_pool2d", x, kernel_size, stride, padding)
    kh, kw = pair(kernel_size)
    y = np.empty((*x.shape[:2], Ho, Wo), x.dtype)
    for n, c, i, j in np.ndindex(y.shape):
        y[n, c, i, j] = x[n, c][_window(i, j, kernel_size, stride, padding)].sum() / (kh * kw)
    return y


def avg_pool2d_backward(
    dy: Array, x: Array, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0
) -> dict[str, Array]:
    """Return dx of :func:`avg_pool2d`: each dy is shared out evenly over its window."""
    dy, x = common_precision(dy, x)
    Ho, Wo = _windows("avg_pool2d_backward", x, kernel_size, stride, padding)
    check_shapes("avg_pool2d_backward", dy=(dy, (*x.shape[:2], Ho, Wo)))
    kh, kw = pair(kernel_size)
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(dy.shape):
        dx[n, c][_window(i, j, kernel_size, stride, padding)] += dy[n, c, i, j] / (kh * kw)
    return {"dx": dx}


def _windows(where: str, x: Array, kernel_size: Pair, stride: Pair | None, padding: Pair) -> tuple[int, int]:
    """Return (Ho, Wo), or raise a ValueError."""
    (kh, kw), (ph, pw) = pair(kernel_size), pair(padding)
    if 2 * ph > kh or 2 * pw > kw:
        raise ValueError(
            f"{where}: padding must be at most half of kernel_size, got {padding} for {kernel_size}; use less padding"
        )
    return output_size(where, x, kernel_size, kernel_size if stride is None else stride, padding)


def _window(i: int, j: int, kernel_size: Pair, stride: Pair | None, padding: Pair) -> tuple[slice, slice]:
    """Return the rows and columns of window (i, j) that lie in the image."""
    (kh, kw), (ph, pw) = pair(kernel_size), pair(padding)
    sh, sw = pair(kernel_size if stride is None else stride)
    top, left = i * sh - ph, j * sw - pw
    return slice(max(top, 0), top + kh), slice(max(left, 0), left + kw)


def _first_maximum(x: Array, i: int, j: int, kernel_size: Pair, stride: Pair | None, padding: Pair) -> tuple[int, int]:
    """Return row and column of the maximum of window (i, j), the first in row-major order; of NaNs, the last."""
    rows, columns = _window(i, j, kernel_size, stride, padding)
    window = x[rows, columns].real
    nans = np.flatnonzero(np.isnan(window))
    a, b = np.unravel_index(nans[-1] if len(nans) else np.argmax(window), window.shape)
    return rows.start + int(a), columns.start + int(b)
