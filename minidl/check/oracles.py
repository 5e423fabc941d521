"""A second way to compute what ``minidl.reference`` does not have: vectors are written only where the two agree.

The last axis is normalised row by row, and the gradient of a row is dy times its Jacobian; a convolution with dilation
and groups is one dot product after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minidl import reference

Array = np.ndarray[Any, Any]
Grads = Mapping[str, Array]


def layer_norm_last(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """Layer normalization of each row of the last axis: that of (rows, C)."""
    return np.asarray(reference.layer_norm(x.reshape(-1, x.shape[-1]), weight, bias, eps)).reshape(x.shape)


def layer_norm_last_backward(dy: Array, x: Array, weight: Array, bias: Array, eps: float) -> Grads:
    """Return dx, dweight and dbias of :func:`layer_norm_last`."""
    rows = -1, x.shape[-1]
    grads = reference.layer_norm_backward(dy.reshape(rows), x.reshape(rows), weight, bias, eps)
    return {**grads, "dx": grads["dx"].reshape(x.shape)}


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """Each row of the last axis divided by its root mean square, y_c = weight_c x_c / sqrt(x·x / C + eps)."""
    rows = [weight * row / np.sqrt(np.dot(row, row) / len(row) + eps) for row in x.reshape(-1, x.shape[-1])]
    return np.array(rows).reshape(x.shape)


def rms_norm_backward(dy: Array, x: Array, weight: Array, eps: float) -> Grads:
    """Return dx and dweight of :func:`rms_norm`, from the Jacobian (I − x xᵀ / (C s²)) / s of each row, s the root."""
    dx, dweight = [], np.zeros_like(weight * x.reshape(-1)[0])
    for row, given in zip(x.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1]), strict=True):
        s = np.sqrt(np.dot(row, row) / len(row) + eps)
        jacobian = (np.eye(len(row)) - np.outer(row, row) / (len(row) * s * s)) / s
        dx.append((weight * given) @ jacobian)
        dweight = dweight + given * row / s
    return {"dx": np.array(dx).reshape(x.shape), "dweight": dweight}


Reach = tuple[Any, Any, Any]


def reaches(x: Array, weight: Array, stride: Any, padding: Any, dilation: Any, groups: int) -> Iterator[Reach]:
    """Yield (element of y, pixels of the padded x, kernel) of every dot product."""
    (sh, sw), (ph, pw), (dh, dw) = both(stride), both(padding), both(dilation)
    out, into, kh, kw = weight.shape
    high, wide = x.shape[2] + 2 * ph - (kh - 1) * dh, x.shape[3] + 2 * pw - (kw - 1) * dw
    for n, o, i, j in np.ndindex(len(x), out, (high - 1) // sh + 1, (wide - 1) // sw + 1):
        first = o * groups // out * into
        rows, columns = slice(i * sh, i * sh + (kh - 1) * dh + 1, dh), slice(j * sw, j * sw + (kw - 1) * dw + 1, dw)
        yield (n, o, i, j), (n, slice(first, first + into), rows, columns), o


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """Convolution with dilation and groups, one dot product after the other."""
    (ph, pw), values = both(padding), {}
    image = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    for at, here, o in reaches(x, weight, stride, padding, dilation, int(groups)):
        values[at] = np.sum(image[here] * weight[o]) + (0 if bias is None else bias[o])
    shape = tuple(n + 1 for n in max(values))
    return np.array(list(values.values())).reshape(shape)


def conv2d_backward(
    dy: Array,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Grads:
    """Return dx, dweight and, unless bias is None, dbias of :func:`conv2d`."""
    ph, pw = both(padding)
    image = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    dimage, dweight = np.zeros_like(image), np.zeros_like(weight)
    for at, here, o in reaches(x, weight, stride, padding, dilation, int(groups)):
        dimage[here] += dy[at] * weight[o]
        dweight[o] += dy[at] * image[here]
    dx = dimage[:, :, ph : ph + x.shape[2], pw : pw + x.shape[3]]
    return {"dx": dx, "dweight": dweight} | ({} if bias is None else {"dbias": np.einsum("nohw->o", dy)})


def both(value: Any) -> tuple[int, int]:
    """A number for both directions, or one for each."""
    high, wide = (value, value) if np.ndim(value) == 0 else value
    return int(high), int(wide)
