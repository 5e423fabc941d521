"""The backward of a fully connected layer: two products of BLAS, on two threads where that is worth it."""

from __future__ import annotations

import numpy as np

from minidl import memory, parallel
from minidl.backend import Array
from minidl.engine import NUMBA
from minidl.engines.numba.direct import ones
from minidl.layers import linear

_WORTH = 1 << 22  # multiplications of one of the products, which take longer than to wake a thread


@NUMBA.twin(linear.linear_backward)
def linear_backward(dy: Array, x: Array, weight: Array, needs_dx: bool = True) -> tuple[Array | None, Array, Array]:
    """dx = dy W, dW = dyᵀ x, db = sum_n dy."""
    dyt, dx = dy.T, None
    dweight = memory.recycled(weight.shape, weight.dtype)
    products = [(dyt, x, dweight)]
    if needs_dx:
        dxt = memory.recycled(weight.shape[1:] + dy.shape[:1], weight.dtype)
        dx = dxt.T  # (N, I), the batch innermost
        products.append((weight.T, dyt, dxt))
    if needs_dx and weight.size * len(dy) >= _WORTH:
        parallel.run(lambda i: np.matmul(*products[i]), 2)
    else:
        for a, b, out in products:
            np.matmul(a, b, out=out)
    return dx, dweight, dyt @ ones(len(dy), dy.dtype)
