"""Softmax cross-entropy, compiled around NumPy's exponential, which is vectorised."""

from __future__ import annotations

import numpy as np

from minidl import losses, memory
from minidl.backend import Array
from minidl.engine import NUMBA
from minidl.engines.numba.compile import jit


@NUMBA.twin(losses.softmax_cross_entropy)
def softmax_cross_entropy(logits: Array, labels: Array, smoothing: float = 0.0) -> tuple[Array, Array]:
    """loss = −mean_n sum_k q[n, k] log p[n, k], p = softmax(logits); returns loss and p."""
    dtype = np.float32 if logits.dtype.itemsize == 2 else logits.dtype
    t = memory.batch_last(np, logits, dtype)  # (K, N)
    z, p = np.empty(t.shape, dtype), memory.empty(np, t.shape, dtype)
    _below_top(t, z)
    np.exp(z, out=p)
    loss = _normalise(z, p, labels.astype(np.int64, copy=False), float(smoothing))
    return z.dtype.type(loss), p.T


@NUMBA.twin(losses.softmax_cross_entropy_backward)
def softmax_cross_entropy_backward(p: Array, labels: Array, smoothing: float = 0.0) -> Array:
    """dlogits = (p − q) / N, q = (1 − smoothing)·onehot(labels) + smoothing/K."""
    pt = memory.batch_last(np, p)
    dlogits = memory.empty(np, pt.shape, p.dtype)
    _less_target(pt, labels.astype(np.int64, copy=False), float(smoothing), dlogits)
    return dlogits.T


@jit
def _below_top(logits, z):
    """z = logits less the largest of each sample; NaN is larger than all."""
    classes, n = z.shape
    top = logits[0].copy()
    for k in range(1, classes):
        row = logits[k]
        for i in range(n):
            top[i] = row[i] if (row[i] > top[i]) | (row[i] != row[i]) else top[i]
    for k in range(classes):
        row, out = logits[k], z[k]
        for i in range(n):
            out[i] = row[i] - top[i]


@jit
def _normalise(z, p, labels, smoothing):
    """Divide p by its sums over the classes; return the loss."""
    classes, n = p.shape
    total = np.zeros(n, p.dtype)
    for k in range(classes):
        row = p[k]
        for i in range(n):
            total[i] += row[i]
    loss = 0.0
    for i in range(n):
        loss += np.log(np.float64(total[i])) - (1 - smoothing) * np.float64(z[labels[i], i])
    if smoothing != 0:
        for k in range(classes):
            row, spread = z[k], 0.0
            for i in range(n):
                spread += np.float64(row[i])
            loss -= smoothing / classes * spread
    for k in range(classes):
        row = p[k]
        for i in range(n):
            row[i] /= total[i]
    return loss / n


@jit
def _less_target(p, labels, smoothing, dlogits):
    classes, n = p.shape
    one, own, rest = p.dtype.type(1 / n), p.dtype.type((1 - smoothing) / n), p.dtype.type(smoothing / n / classes)
    for k in range(classes):
        row, out = p[k], dlogits[k]
        for i in range(n):
            out[i] = row[i] * one - rest
    for i in range(n):
        dlogits[labels[i], i] -= own
