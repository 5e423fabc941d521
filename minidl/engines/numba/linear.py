"""The backward of a fully connected layer: for small layers BLAS alone, as all else costs as much as the products."""

from __future__ import annotations

import numpy as np

from minidl import memory
from minidl.backend import Array
from minidl.engine import NUMBA, NUMPY
from minidl.engines.numba.direct import ones
from minidl.layers import linear

_SMALL = 1 << 23  # products of one matrix product that one thread computes sooner than another is woken


@NUMBA.twin(linear.linear_backward)
def linear_backward(dy: Array, x: Array, weight: Array, needs_dx: bool = True) -> tuple[Array | None, Array, Array]:
    """dx = dy W, dW = dyᵀ x, db = sum_n dy."""
    if weight.size * len(dy) >= _SMALL:
        return NUMPY(linear.linear_backward)(dy, x, weight, needs_dx)
    dyt, dx = dy.T, None
    dweight = memory.recycled(weight.shape, weight.dtype)
    np.matmul(dyt, x, out=dweight)
    if needs_dx:
        dxt = memory.recycled(weight.shape[1:] + dy.shape[:1], weight.dtype)
        dx = np.matmul(weight.T, dyt, out=dxt).T  # (N, I), the batch innermost
    return dx, dweight, dyt @ ones(len(dy), dy.dtype)
