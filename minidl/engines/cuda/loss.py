"""Softmax cross-entropy on a GPU, one kernel each way. A label outside of the classes makes the loss NaN."""

from __future__ import annotations

from minidl import losses, memory
from minidl.backend import Array, array_module
from minidl.engine import CUDA
from minidl.engines.cuda.launch import launch

_SOURCE = "softmax_cross_entropy"


@CUDA.twin(losses.softmax_cross_entropy)
def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[Array, Array]:
    """loss = −mean_n log p[n, labels_n]; returns loss and p."""
    xp = array_module(logits=logits, labels=labels)
    dtype = xp.promote_types(logits.dtype, xp.float32)
    p, each = memory.images(xp, logits.shape, dtype), xp.empty(len(labels), dtype)
    arrays = (memory.batch_last(xp, logits, dtype), xp.ascontiguousarray(labels, xp.int64), p, each)
    launch(xp, _SOURCE, "softmax_cross_entropy", len(labels), *arrays, logits.shape[1], dtype=dtype)
    return each.mean(), p


@CUDA.twin(losses.softmax_cross_entropy_backward)
def softmax_cross_entropy_backward(p: Array, labels: Array) -> Array:
    """dlogits = (p − onehot(labels)) / N."""
    xp = array_module(p=p)
    dlogits = memory.images(xp, p.shape, p.dtype)
    arrays = (memory.batch_last(xp, p), xp.ascontiguousarray(labels, xp.int64), dlogits)
    launch(xp, _SOURCE, "softmax_cross_entropy_backward", p.size, *arrays, len(labels), dtype=p.dtype)
    return dlogits
