"""A step of an optimiser on a GPU in one pass."""

from __future__ import annotations

import math

from minidl import adam, optim
from minidl.backend import Array, array_module
from minidl.engine import CUDA
from minidl.engines.cuda.launch import launch


@CUDA.twin(optim.sgd)
def sgd(
    p: Array, g: Array, v: Array, scratch: Array, lr: float, momentum: float, weight_decay: float, nesterov: bool
) -> None:
    """p ← p − lr·(momentum·v + g'), in one kernel for float32 and float64."""
    if p.dtype.itemsize <= 2:
        return optim.sgd(p, g, v, scratch, lr, momentum, weight_decay, nesterov)
    rates = map(float, (lr, momentum, weight_decay, lr * momentum))
    launch(array_module(p), "sgd", "sgd", p.size, p, g, v, *rates, nesterov, dtype=p.dtype)


@CUDA.twin(adam.adam)
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
    """p ← p − lr·m̂/(sqrt(v̂) + eps), in one kernel."""
    beta1, beta2 = betas
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    moments = beta1 / (1 - beta1), 1 - beta1, beta2, 1 - beta2
    rates = shrink, decay, *moments, 1 / math.sqrt(1 - beta2**step), eps, lr / (1 - beta1**step)
    launch(array_module(p), "adam", "adam", p.size, p, g, m, v, *map(float, rates), dtype=p.dtype)
