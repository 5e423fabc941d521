"""The steps of the optimisers, compiled: one pass over parameters, gradients and what is kept for them."""

from __future__ import annotations

import math

import numpy as np

from minidl import adam, optim
from minidl.backend import Array
from minidl.engine import NUMBA
from minidl.engines.numba.jobs import shared
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


@shared(in_order=True, apart=True)
def _sgd(p, g, v, rates, kept, ahead, start, stop, thread):
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


@NUMBA.twin(adam.adam)
def adam_step(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    scratch: Array,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
    step: int,
) -> None:
    """Change the parameters p and the moments m, v in place, along the gradients g, for flat arrays."""
    beta1, beta2 = betas
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    corrected = 1 / math.sqrt(1 - beta2**step), eps, lr / (1 - beta1**step)
    rates = np.array((shrink, decay, beta1, 1 - beta1, beta2, 1 - beta2, *corrected), p.dtype)
    share(p.size, p.size, _adam, p, g, m, v, rates)


@shared(in_order=True, apart=True)
def _adam(p, g, m, v, rates, start, stop, thread):
    shrink, decay, beta1, rest1, beta2, rest2 = rates[0], rates[1], rates[2], rates[3], rates[4], rates[5]
    correction, eps, lr = rates[6], rates[7], rates[8]
    start, stop = np.uint64(start), np.uint64(stop)
    for i in range(start, stop):
        own = shrink * p[i]
        step = g[i] + decay * own
        m[i] = beta1 * m[i] + rest1 * step
        v[i] = beta2 * v[i] + rest2 * (step * step)
        p[i] = own - lr * (m[i] / (np.sqrt(v[i]) * correction + eps))
