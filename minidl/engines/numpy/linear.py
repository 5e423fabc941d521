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
    tasks: list[Callable[[], object]] = [lambda: gemm(np, dy.T, x, out=dweight)]
    dx = None
    if needs_dx:
        dx = memory.images(np, x.shape, weight.dtype)  # (N, I), the batch innermost
        tasks.append(lambda: gemm(np, weight.T, dy.T, out=dx.T))
    parallel.run(lambda i: tasks[i](), len(tasks), products=weight.size * len(dy))
    return dx, dweight, dy.sum(axis=0)
