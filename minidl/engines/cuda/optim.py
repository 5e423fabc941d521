"""A step of SGD on a GPU in one pass."""

from __future__ import annotations

from minidl import optim
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
