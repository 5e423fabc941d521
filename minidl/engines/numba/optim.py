"""Stochastic gradient descent, compiled: one pass over parameters, gradients and velocities."""

from __future__ import annotations

import numpy as np

from minidl import optim
from minidl.backend import Array
from minidl.engine import NUMBA
from minidl.engines.numba.compile import jit
from minidl.engines.numba.share import share


@NUMBA.twin(optim.sgd)
def sgd(
    p: Array, g: Array, v: Array, scratch: Array, lr: float, momentum: float, weight_decay: float, nesterov: bool
) -> None:
    """Change the parameters p and the velocities v in place, along the gradients g, for flat arrays."""
    if p.dtype.itemsize < 4:
        return optim.sgd(p, g, v, scratch, lr, momentum, weight_decay, nesterov)
    rates = np.array((lr, momentum, weight_decay, lr * momentum), p.dtype)
    share(p.size, p.size, _sgd, p, g, v, rates, momentum != 0, nesterov)


@jit(in_order=True, apart=True)
def _sgd(p, g, v, rates, kept, ahead, start, stop):
    lr, momentum, decay, ahead_rate = rates[0], rates[1], rates[2], rates[3]
    start, stop = np.uint64(start), np.uint64(stop)
    if not kept:
        for i in range(start, stop):
            p[i] -= lr * (g[i] + decay * p[i])
    elif not ahead:
        for i in range(start, stop):
            v[i] = momentum * v[i] + (g[i] + decay * p[i])
            p[i] -= lr * v[i]
    else:
        for i in range(start, stop):
            step = g[i] + decay * p[i]
            v[i] = momentum * v[i] + step
            p[i] -= lr * step + ahead_rate * v[i]
