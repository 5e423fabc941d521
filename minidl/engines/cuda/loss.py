"""Softmax cross-entropy on a GPU, one kernel each way. A label outside of the classes makes the loss NaN."""

from __future__ import annotations

from minidl import losses, memory
from minidl.backend import Array, array_module
from minidl.engine import CUDA
from minidl.engines.cuda.launch import launch

_SOURCE = "softmax_cross_entropy"


@CUDA.twin(losses.softmax_cross_entropy)
def softmax_cross_entropy(logits: Array, labels: Array, smoothing: float = 0.0) -> tuple[Array, Array]:
    """loss = −mean_n sum_k q[n, k] log p[n, k]; returns loss and p."""
    xp = array_module(logits=logits, labels=labels)
    dtype = xp.promote_types(logits.dtype, xp.float32)
    p, each = memory.images(xp, logits.shape, dtype), xp.empty(len(labels), dtype)
    arrays = (memory.batch_last(xp, logits, dtype), xp.ascontiguousarray(labels, xp.int64), p, each)
    classes = logits.shape[1]
    shares = 1.0 - smoothing, smoothing / classes
    launch(xp, _SOURCE, "softmax_cross_entropy", len(labels), *arrays, *shares, classes, dtype=dtype)
    return each.mean(), p


@CUDA.twin(losses.softmax_cross_entropy_backward)
def softmax_cross_entropy_backward(p: Array, labels: Array, smoothing: float = 0.0) -> Array:
    """dlogits = (p − q) / N, q = (1 − smoothing)·onehot(labels) + smoothing/K."""
    xp = array_module(p=p)
    dlogits = memory.images(xp, p.shape, p.dtype)
    arrays = (memory.batch_last(xp, p), xp.ascontiguousarray(labels, xp.int64), dlogits)
    shares = (1 - smoothing) / len(labels), smoothing / p.size
    launch(xp, _SOURCE, "softmax_cross_entropy_backward", p.size, *arrays, *shares, len(labels), dtype=p.dtype)
    return dlogits
