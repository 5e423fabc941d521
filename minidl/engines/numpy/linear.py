"""The backward of a fully connected layer, its two products on two threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minidl import memory, parallel
from minidl.backend import Array, gemm
from minidl.engine import NUMPY
from minidl.layers import linear


@NUMPY.twin(linear.linear_backward)
def linear_backward(dy: Array, x: Array, weight: Array, needs_dx: bool = True) -> tuple[Array | None, Array, Array]:
    """dx = dy W, dW = dyᵀ x, db = sum_n dy."""
    dweight = memory.empty(np, weight.shape, weight.dtype)
    xt, dyt = memory.batch_last(np, x), memory.batch_last(np, dy)
    tasks: list[Callable[[], object]] = [lambda: gemm(np, dyt, xt.T, out=dweight)]
    dx = None
    if needs_dx:
        dx = memory.images(np, x.shape, weight.dtype)  # (N, I), the batch innermost
        tasks.append(lambda: gemm(np, weight.T, dyt, out=dx.T))
    parallel.run(lambda i: tasks[i](), len(tasks), products=weight.size * len(dy))
    return dx, dweight, dyt.sum(axis=1)
