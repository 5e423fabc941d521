"""Losses: the end of the forward pass and the start of the backward one."""

from __future__ import annotations

from typing import Any

from minidl.arguments import arithmetic
from minidl.backend import Array, array_module, is_on_host, to_device
from minidl.engine import engine
from minidl.layers.base import check_arrays, check_floating


def softmax_cross_entropy(logits: Array, labels: Array, smoothing: float = 0.0) -> tuple[Array, Array]:
    """loss = −mean_n sum_k q_nk log p_nk, p = softmax(logits), for logits (N, K), labels (N,); returns loss and p.

    q = (1 − smoothing)·onehot(labels) + smoothing/K. Both are in the precision of the logits, and at least float32.
    """
    xp = array_module(logits=logits, labels=labels)
    dtype = xp.promote_types(logits.dtype, xp.float32)
    n = xp.arange(len(labels))
    logits = logits.astype(dtype, copy=False)
    z = logits - logits.max(axis=1, keepdims=True)
    p = xp.exp(z)
    total = p.sum(axis=1, keepdims=True)
    target = z[n, labels]
    if smoothing:
        target = (1 - smoothing) * target + smoothing * z.mean(axis=1)
    loss = (xp.log(total[:, 0]) - target).sum() / len(labels)  # since sum_k q = 1
    p /= total
    return loss, p


def softmax_cross_entropy_backward(p: Array, labels: Array, smoothing: float = 0.0) -> Array:
    """dlogits = (p − q) / N, q = (1 − smoothing)·onehot(labels) + smoothing/K."""
    xp = array_module(p=p)
    dlogits = p / p.dtype.type(len(labels))
    dlogits[xp.arange(len(labels)), labels] -= (1 - smoothing) / len(labels)
    if smoothing:
        dlogits -= smoothing / p.size
    return dlogits


class SoftmaxCrossEntropy:
    """Cross-entropy of softmax(logits) against class labels, averaged over the batch.

    With p = softmax(logits) and the target q = (1 − ε)·onehot(labels) + ε/K, where ε is the label smoothing of
    Szegedy et al. 2016 (Rethinking the inception architecture for computer vision, CVPR, section 7),

        loss = −(1/N) sum_n sum_k q_nk log p_nk,  which without smoothing is −(1/N) sum_n log p[n, labels_n];
        dlogits = (p − q) / N, since sum_k q_nk = 1.

    Parameters
    ----------
    label_smoothing : float
        ε: the share of a target that all classes divide among them.

    Raises
    ------
    ValueError
        If ε is outside [0, 1), the shapes do not fit, labels are no integers, or (on the host) a label is outside
        [0, K). Labels that are on a GPU already are not looked at: one outside [0, K) makes the loss NaN.

    Notes
    -----
    Shape: logits (N, K), labels (N,) integers in [0, K) -> a 0-d array of the logits' library: reading it with float()
    waits for a GPU, so the training loop does that only now and then.

    Examples
    --------
    >>> import numpy as np
    >>> loss = SoftmaxCrossEntropy()
    >>> float(loss.forward(np.zeros((1, 4)), np.array([2])))  # log 4
    1.3862943611198906
    >>> loss.backward()
    array([[ 0.25,  0.25, -0.75,  0.25]])
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"SoftmaxCrossEntropy: label_smoothing must lie in [0, 1), got {label_smoothing}; try 0.1")
        self.label_smoothing = label_smoothing
        self._kept: Any = None

    @arithmetic()
    def forward(self, logits: Array, labels: Array) -> Array:
        """Return the mean loss of the batch."""
        check_arrays(logits=logits, labels=labels)
        on = engine(logits)
        check_floating("SoftmaxCrossEntropy.forward", logits=logits)
        if logits.ndim != 2 or labels.shape != logits.shape[:1]:
            raise ValueError(
                f"SoftmaxCrossEntropy.forward: logits must be (N, K) and labels (N,), got {logits.shape} and "
                f"{labels.shape}; flatten the logits to one row per sample"
            )
        if len(labels) == 0:
            raise ValueError(
                "SoftmaxCrossEntropy.forward: logits must be of one sample at least, got none; "
                "an empty batch has no mean, leave it out"
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
        loss, p = on(softmax_cross_entropy)(logits, labels, self.label_smoothing)
        self._kept = on, p, labels.copy(), logits.dtype
        return loss

    @arithmetic()
    def backward(self) -> Array:
        """Return dlogits."""
        if self._kept is None:
            raise RuntimeError("SoftmaxCrossEntropy.backward: forward must come first, one backward for each")
        (on, p, labels, dtype), self._kept = self._kept, None
        return on(softmax_cross_entropy_backward)(p, labels, self.label_smoothing).astype(dtype, copy=False)
