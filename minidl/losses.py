"""Losses: the end of the forward pass and the start of the backward one."""

from __future__ import annotations

from typing import Any

from minidl.backend import Array, array_module, is_on_host, to_device
from minidl.engine import engine
from minidl.layers.base import check_floating


def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[Array, Array]:
    """loss = −mean_n log p[n, labels_n], p = softmax(logits), for logits (N, K), labels (N,); returns loss and p.

    Both are in the precision of the logits, and at least float32.
    """
    xp = array_module(logits=logits, labels=labels)
    dtype = xp.promote_types(logits.dtype, xp.float32)
    n = xp.arange(len(labels))
    logits = logits.astype(dtype, copy=False)
    z = logits - logits.max(axis=1, keepdims=True)
    p = xp.exp(z)
    total = p.sum(axis=1, keepdims=True)
    loss = (xp.log(total[:, 0]) - z[n, labels]).mean()
    p /= total
    return loss, p


def softmax_cross_entropy_backward(p: Array, labels: Array) -> Array:
    """dlogits = (p − onehot(labels)) / N."""
    xp = array_module(p=p)
    dlogits = p / p.dtype.type(len(labels))
    dlogits[xp.arange(len(labels)), labels] -= 1 / len(labels)
    return dlogits


class SoftmaxCrossEntropy:
    """Cross-entropy of softmax(logits) against class labels, averaged over the batch.

    loss = −(1/N) sum_n log softmax(logits_n)[labels_n]; backward: dlogits = (softmax(logits) − onehot(labels)) / N.

    Shape
    -----
    logits (N, K), labels (N,) integers in [0, K) -> a 0-d array of the logits' library: reading it with float()
    waits for a GPU, so the training loop does that only now and then.

    Raises
    ------
    ValueError
        If the shapes do not fit, labels are no integers, or (on the host) a label is outside [0, K). Labels that are on
        a GPU already are not looked at: one outside [0, K) makes the loss NaN.

    Examples
    --------
    >>> import numpy as np
    >>> loss = SoftmaxCrossEntropy()
    >>> float(loss.forward(np.zeros((1, 4)), np.array([2])))  # log 4
    1.3862943611198906
    >>> loss.backward()
    array([[ 0.25,  0.25, -0.75,  0.25]])
    """

    def __init__(self) -> None:
        self._kept: Any = None

    def forward(self, logits: Array, labels: Array) -> Array:
        """Return the mean loss of the batch."""
        on = engine(logits)
        check_floating("SoftmaxCrossEntropy.forward", logits=logits)
        if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
            raise ValueError(
                f"SoftmaxCrossEntropy.forward: logits must be (N, K) and labels (N,), got {logits.shape} and "
                f"{labels.shape}; flatten the logits to one row a sample"
            )
        if labels.dtype.kind not in "iu":
            raise ValueError(
                f"SoftmaxCrossEntropy.forward: labels must be of an integer dtype, got {labels.dtype}; "
                f"use labels.astype('int64')"
            )
        if is_on_host(labels):
            if labels.min() < 0 or labels.max() >= logits.shape[1]:
                raise ValueError(
                    f"SoftmaxCrossEntropy.forward: labels must be in [0, {logits.shape[1]}), got "
                    f"{labels.min()} to {labels.max()}; give the network that many classes"
                )
            labels = to_device(labels, like=logits)
        array_module(logits=logits, labels=labels)
        loss, p = on(softmax_cross_entropy)(logits, labels)
        self._kept = on, p, labels, logits.dtype
        return loss

    def backward(self) -> Array:
        """Return dlogits."""
        if self._kept is None:
            raise RuntimeError("SoftmaxCrossEntropy.backward: forward must come first, one backward for each")
        (on, p, labels, dtype), self._kept = self._kept, None
        return on(softmax_cross_entropy_backward)(p, labels).astype(dtype, copy=False)
